"""For every test, before anything imports torch: one thread. Several, that wait for one another, are slower."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
