"""`imgcls export`: the model as files that other programs run, each compared with its checkpoint.

A new format is a Target in targets.py, and a word in `ExportFormat` of config/export.py.
"""
