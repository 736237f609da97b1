"""Classify pictures without labels."""
