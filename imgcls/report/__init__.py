"""Results as files, screens and pictures."""
