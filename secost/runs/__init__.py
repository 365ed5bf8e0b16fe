"""The waist: what was found, as plain data, and how it is kept. Records, gains, the store of a run, documents.

Takes records, keeps them in a folder, gives them back checked. Imports the plain modules and plan/; no torch.
"""
