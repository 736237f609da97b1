"""The families of timm, without importing it."""
