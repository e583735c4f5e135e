"""A command with subcommands of its own, such as `vera data check`."""

import importlib
from collections.abc import Mapping

from vera.core.errors import InputError
from vera.core.job.run import failed


def run_group(name: str, commands: Mapping[str, tuple[str, str]], argv: list[str]) -> int:
    """Run `vera NAME SUBCOMMAND ...`; returns the exit code.

    commands: {subcommand: (module with a main, help line)}
    """
    usage = [f"usage: vera {name} COMMAND ...", "", *(f"  {n:12}{text}" for n, (_, text) in commands.items())]
    if not argv or argv[0] in ("-h", "--help"):
        print("\n".join(usage))
        return 0 if argv else 2
    if argv[0] not in commands:
        return failed(InputError(f"vera {name} has no command {argv[0][:100]!r}; there are {', '.join(commands)}"))
    return importlib.import_module(commands[argv[0]][0]).main(argv[1:])
