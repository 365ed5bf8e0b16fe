"""A name becomes a network with attention in chosen places.

Takes names, modules and sites, gives modules, graphs and what was recognised in them. Imports plan/ (names, spellings).
"""
