"""What can go wrong, by whose hand."""


class InputError(ValueError):
    """The input is wrong: one line that names what, where and the mend. Exit code 2.

    Raised before any work starts, so nothing has been written.
    """


class OutOfMemory(Exception):
    """Memory ran out, and with every cheaper means too: one line that names them and the mend. Exit code 1."""


class Stopped(Exception):
    """The user stopped the work; the same command resumes it. Exit code 3."""
