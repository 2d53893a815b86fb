"""`python -m bcdx` lists the verbs or runs one; also the console script `bcdx`."""

from __future__ import annotations

import sys

from bcdx._cli import main

if __name__ == "__main__":
    sys.exit(main())
