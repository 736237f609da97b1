"""Splits and folds: assignments, groups that are never divided, splits as recorded."""
