"""A run that several processes train: each fold together, or folds side by side."""
