"""Score models on pictures."""
