"""What can go wrong, by whose hand."""


class InputError(ValueError):
    """The input is wrong: one line that names what, where and the fix. Exit code 2.

    Raised before any work starts, so nothing has been written.
    """


class OutOfMemoryError(Exception):
    """Memory ran out, and with every cheaper means too: one line that names them and the fix. Exit code 1."""


class StoppedError(Exception):
    """The user stopped the work; the same command resumes it. Exit code 3."""


MAX_LINE = 300  # characters of a message; a longer one loses its middle


def printable(text: object) -> str:
    """Text as it may be shown: control characters, those that turn the direction of writing, and bytes of a file name
    that are no text stand as escapes (\\x1b, \\u202e, \\udc80), so that none acts on a terminal or a page."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in str(text))


def one_line(text: object) -> str:
    """A message as it is shown: one printable line of at most MAX_LINE characters."""
    line = printable(" ".join(str(text).split()))
    if len(line) <= MAX_LINE:
        return line
    ending = MAX_LINE // 3  # where the fix stands
    return f"{line[: MAX_LINE - ending - 3]}...{line[-ending:]}"
