"""`python -m sweep`."""

import os
import sys

# Python has put the working folder first, where a `click.py` would be taken for the real one. It
# stays where this package itself is run from it.
if __name__ == "__main__" and not sys.flags.safe_path:
    folder = sys.path.pop(0)
    if os.path.samefile(folder or ".", os.path.dirname(os.path.dirname(__file__))):  # noqa: PTH120, PTH121
        sys.path.insert(0, folder)

from sweep.cli import main

if __name__ == "__main__":
    main()
