"""`python -m secost`: the command line, without the working directory on the import path."""

import sys

if not sys.flags.safe_path:
    # `python -m` puts the working directory first, where a user's random.py would shadow the library's.
    del sys.path[0]

from secost.cli import main

if __name__ == "__main__":
    sys.exit(main())
