"""`python -m core.render`: the command `vera render`, from a checkout."""

import sys

from vera.core.cli.render import main

if __name__ == "__main__":
    sys.exit(main())
