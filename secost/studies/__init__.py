"""Studies and the search: what counting and measuring one network can't answer. They compute; pages/ says it.

Takes a request, gives a result that is kept in runs/. Imports everything but cli/ and render/.
"""
