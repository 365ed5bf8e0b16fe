"""A page in a format: terminal, Markdown, HTML, JSON, CSV, Parquet, pictures; and the writing of files.

Takes pages, gives text and bytes. Imports pages/ and figures/, knows nothing of what a page is about.
"""
