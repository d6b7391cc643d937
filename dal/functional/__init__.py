"""Pure tensor functions: information, geometry, gradients, ranking, checks."""
