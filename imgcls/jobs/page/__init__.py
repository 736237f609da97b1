"""One page of an evaluated split, from what the evaluation left on disk."""
