"""Carries a plan out: one comparison, one training, over processes of this machine or workers of a cluster.

Takes a spec, gives records as they are made, kept in a run. Imports all of torch's side, and runs/ to keep them.
"""
