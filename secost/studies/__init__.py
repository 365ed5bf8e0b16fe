"""Studies: what counting and measuring one network can't answer. Each is one file over the public parts."""
