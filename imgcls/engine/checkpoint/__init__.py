"""Checkpoints: folders that are complete or not there."""
