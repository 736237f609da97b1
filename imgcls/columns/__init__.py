"""Columns of very many rows in few bytes: texts, rows of texts, and how they are sorted."""
