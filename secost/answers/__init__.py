"""From records to values: overheads, fronts, gains, a budget's choice, what changed between runs. pandas lives here.

Takes records, gives values that hold no sentences. Imports runs/, plan/ and the plain modules; no torch.
"""
