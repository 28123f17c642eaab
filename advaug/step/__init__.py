"""One step's learning: losses and gradients, optimizer steps, and the loan of the detector."""
