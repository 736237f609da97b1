"""Train a run, from the beginning or from where it stopped."""
