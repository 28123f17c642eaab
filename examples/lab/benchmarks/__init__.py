"""Measure the cost of a step, of inference and of reading pictures."""
