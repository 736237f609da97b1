"""Experiment trackers: what they are told, and one module for each."""
