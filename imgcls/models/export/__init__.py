"""Turns a model into other formats.

A new format is one module here, and one line in formats.py.
"""
