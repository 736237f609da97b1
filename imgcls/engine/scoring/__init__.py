"""Models asked about pictures."""
