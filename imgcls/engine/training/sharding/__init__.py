"""Training with weights, gradients and optimizer state divided among processes."""
