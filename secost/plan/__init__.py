"""What is asked for, as plain data: options, a spec (a grid), its comparisons and their trials, mixes, spellings.

Takes words and numbers, gives specs and trials with their keys. Imports nothing of secost but the plain modules.
"""
