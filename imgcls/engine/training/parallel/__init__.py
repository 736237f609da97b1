"""Several processes that make the same updates."""
