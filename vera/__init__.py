"""Vera: generative edit layers for compositors.

In an installation, `vera.core` and `vera.kernels` are in this folder. In a checkout they are the folders `core/` and
`kernels/` beside it, and this package's path is extended by the checkout's root. The names are the same.
"""

import os
from pathlib import Path

__version__ = "0.2.0"

_checkout = Path(__file__).resolve().parent.parent
if not (Path(__file__).parent / "core").is_dir() and (_checkout / "core").is_dir():
    __path__.append(str(_checkout))

# torch reads this when it is loaded, which is after this package. By OpenMP's default, waiting threads spin. On a busy
# machine, a step of mini then takes more than ten times as long.
if not {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME"} & os.environ.keys():
    os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
