"""Frozen records that jobs return: one value for the screen, the JSON and the Python API."""
