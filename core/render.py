"""`python -m core.render`: the command `vera render`, from a checkout."""

import sys
from pathlib import Path

# `python -m` searches the current folder first. The checkout's `kernels` would then hide Hugging Face's package of that
# name, which transformers and diffusers import if it is installed. So the checkout is searched last.
_CHECKOUT = str(Path(__file__).resolve().parent.parent)
if sys.path[0] == _CHECKOUT:
    sys.path.append(sys.path.pop(0))

from vera.core.cli.render import main  # noqa: E402

if __name__ == "__main__":
    sys.exit(main())
