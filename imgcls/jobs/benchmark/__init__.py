"""Timing: what is timed, in which settings, against what, and which setting is best.

run       from config to report
subject   the models, and one setting of one of them
settings  the settings asked for, and the largest batch that fits
single    one setting: its steps, its time, and whether its outputs agree
pipeline  from files to logits, and what limits
verdicts  the best setting, and the comparison with an earlier report
"""
