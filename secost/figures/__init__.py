"""A file for each figure: its numbers as plain values, and its drawing. Style, marks and labels stand apart.

Takes groups of records and other answers, gives drawings. Imports answers/ and the plain modules; no torch.
"""
