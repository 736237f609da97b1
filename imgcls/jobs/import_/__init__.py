"""Checkpoints out of the files that other trainers saved."""
