"""`python -m tests.recorded [PACKAGE ...]`: write the records again, and print what has changed."""

import json
import os
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

from tests.recorded.packages import RECORDS  # noqa: E402
from tests.recorded.recording import differences, plain, save, stored  # noqa: E402

os.fsync = lambda descriptor: None
for package in sys.argv[1:] or RECORDS:
    results = {}
    for name, made in RECORDS[package].items():
        start = time.process_time()
        with tempfile.TemporaryDirectory() as folder:
            place = Path(folder).resolve()
            results[name] = json.loads(json.dumps(plain(made(place), place)))
        lines = differences(stored(package).get(name), results[name])
        print(f"{package} {name}: {time.process_time() - start:.2f} s, {len(lines)} differences", flush=True)
        print("".join(f"    {line[:300]}\n" for line in lines[:10]), end="")
    save(package, results)
