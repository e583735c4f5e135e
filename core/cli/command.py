"""The end of every command: an exception becomes an exit code and one line."""

import functools
import sys
from collections.abc import Callable

from vera.core.errors import StoppedError, one_line
from vera.core.job.run import failed

Main = Callable[[list[str] | None], int]


def command(main: Main) -> Callable[..., int]:
    """Wrap a command's main so that an exception becomes one line on standard error and an exit code."""

    @functools.wraps(main)
    def run(argv: list[str] | None = None) -> int:
        try:
            return main(argv)
        except KeyboardInterrupt:
            return failed(StoppedError("stopped"))
        except Exception as error:
            return failed(error)

    return run


def tell(text: object) -> None:
    """Print a line on standard error."""
    print(one_line(text), file=sys.stderr, flush=True)
