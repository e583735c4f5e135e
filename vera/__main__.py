"""`python -m vera`: the command `vera`."""

import sys

from vera.core.cli import main

sys.exit(main())
