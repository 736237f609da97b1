"""The command line: parse, call one job, render. Heavy imports live inside function bodies."""
