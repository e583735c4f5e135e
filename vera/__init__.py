"""Vera: generative edit layers for compositors.

Installed, `vera.core` and `vera.kernels` lie in this folder. In a checkout they are the folders `core/` and
`kernels/` beside it: then this package's path goes on to the checkout's root, and the names are the same.
"""

import os
from pathlib import Path

__version__ = "0.2.0"

_checkout = Path(__file__).resolve().parent.parent
if not (Path(__file__).parent / "core").is_dir() and (_checkout / "core").is_dir():
    __path__.append(str(_checkout))

# torch reads this when it is loaded, after this package in each of its programs. By OpenMP's default a thread that
# waits for the others spins: beside other work on the machine a step of mini then takes ten and more times as long.
if not {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME"} & os.environ.keys():
    os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
