"""The errors that Vera raises for wrong input, exhausted memory and a stopped job."""


class InputError(ValueError):
    """The input is wrong. The message is one line: what is wrong, where, and how to fix it. Exit code 2.

    It is raised before any work starts; nothing has been written.
    """


class OutOfMemoryError(Exception):
    """Memory ran out with every cheaper setting too. The message is one line with them and the fix. Exit code 1."""


class StoppedError(Exception):
    """The user stopped the work; the same command resumes it. Exit code 3."""


MAX_LINE = 300  # characters of a message; of a longer one, the middle is left out


def printable(text: object) -> str:
    """Text that is safe to show on a terminal or a page.

    Control characters, characters that change the direction of writing, and bytes of file names that are no text are
    replaced by escapes (\\x1b, \\u202e, \\udc80).
    """
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in str(text))


def one_line(text: object) -> str:
    """A message as one printable line of at most MAX_LINE characters."""
    line = printable(" ".join(str(text).split()))
    if len(line) <= MAX_LINE:
        return line
    ending = MAX_LINE // 3  # the end has the fix
    return f"{line[: MAX_LINE - ending - 3]}...{line[-ending:]}"
