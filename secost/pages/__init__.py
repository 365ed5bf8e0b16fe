"""From values to one page: what is said, a file for each kind of page.

Takes answers and figures, gives a Page: headings, sentences, tables, figures, no markup. Imports answers/ and figures/.
"""
