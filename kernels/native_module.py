"""The native kernels, or None if they are not built. A module of another version is refused."""

from importlib import import_module
from typing import Any

from vera.kernels import NativeVersionError

# Version of the functions in kernels/native/module.cpp and of their arguments; that file has the same number. Raise
# both when they change.
VERSION = 4


def with_right_version(module: Any) -> Any:
    """The module itself. Raises NativeVersionError for one of another version, whose functions differ."""
    version = getattr(module, "VERSION", 1)
    if version != VERSION:
        raise NativeVersionError(
            f"the native kernels ({module.__file__}) are of version {version}, and this code needs version {VERSION};"
            " build them again: make setup, or pip install of this folder"
        )
    return module


native: Any = None
try:
    native = with_right_version(import_module("vera.kernels._native"))
except ImportError:  # not built: each kernel has a reference that does the same, slower
    pass
