"""`python -m basinet`: the command line, as torchrun starts it on every rank."""

import sys

from basinet.launch.cli import main

if __name__ == "__main__":
    sys.exit(main())
