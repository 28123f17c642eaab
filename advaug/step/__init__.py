"""One step: draw a scene, judge it, learn from it, and the loan of the detector."""
