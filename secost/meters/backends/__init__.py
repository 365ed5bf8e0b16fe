"""What runs a network: PyTorch itself, the runtimes that take its export, and the registry of all (`offered`).

Takes a network and a request, gives a pass that can be timed. Imports networks/ and meters' `conditions`.
"""
