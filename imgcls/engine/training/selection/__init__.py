"""Which weights are the best: what they score, and how they are compared."""
