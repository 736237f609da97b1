"""The catalogue of architectures, and building one with a new classifier."""
