"""Studies and the search: what counting and measuring one network can't answer. They compute; pages/ says it.

Takes a request, gives a result that is kept in runs/. Imports work/, answers/ and those below; no page.
"""
