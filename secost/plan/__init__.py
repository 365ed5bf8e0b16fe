"""What is asked for, as plain data: options (one table), a spec (a grid), its trials, the Plan; mixes and spellings.

Takes words and numbers, gives specs, trials with their keys, and the Plan that all who carry it out are handed.
Imports nothing of secost but the plain modules.
"""
