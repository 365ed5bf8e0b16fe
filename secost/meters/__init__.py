"""What a network costs: counts, time, and the machine that the time is of.

Takes networks and settings, gives counts, rounds of times and facts of the machine. Imports networks/ and plan/.
"""
