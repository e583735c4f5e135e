"""What can go wrong, by whose hand."""


class InputError(ValueError):
    """The input is wrong: one line that names what, where and the mend. Exit code 2.

    Raised before any work starts, so nothing has been written.
    """


class Stopped(Exception):
    """The user stopped the work; the same command resumes it. Exit code 3."""
