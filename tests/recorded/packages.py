"""Imports every module of records, so that they are registered."""

import importlib

from tests.recorded.recording import HERE, RECORDS

for _path in sorted(HERE.glob("of_*.py")):
    importlib.import_module(f"tests.recorded.{_path.stem}")

__all__ = ["RECORDS"]
