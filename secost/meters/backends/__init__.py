"""What runs a network: a file for each runtime, the conversion to it, and the registry of all (`offered`).

Takes a network and a request, gives a pass that can be timed. Imports networks/ and meters' `conditions`.
"""
