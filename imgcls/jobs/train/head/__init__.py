"""The classifier alone: the features that it sees, and its fit to them."""
