"""Compute kernels, each beside its plain reference."""


class NativeVersionError(Exception):
    """The built native module does not fit the Python code. The message is one line with the fix. Exit code 1."""
