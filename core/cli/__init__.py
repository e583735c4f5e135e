"""The command `vera`: one module a subcommand, in one table."""

import importlib
import sys

from vera import __version__

# Subcommand: its module in this package, and what `vera --help` says of it.
COMMANDS = {
    "render": "plate and prompt in, edit layer out",
    "lift": "the edit layer between a plate and any edited version of it",
    "inspect": "how a plate and a mask are read; the colour spaces that there are",
    "serve": "the resident service with its queue and page",
    "farm": "many shots on many machines",
    "plan": "what a shot takes of a GPU's memory",
    "compare": "the paper's benchmark, for models and for other editors' results",
    "evaluate": "whether a model does what prompts say",
    "train": "train mini or a full-size Vera",
    "data": "check a dataset, or look at what the data engine makes",
    "model": "make, export and convert models",
}


def usage() -> str:
    """The text of `vera --help`."""
    lines = [f"  {name:10}{text}" for name, text in COMMANDS.items()]
    return "\n".join(["usage: vera COMMAND ...", "", *lines, "", "vera COMMAND --help tells the rest; vera --version"])


def main(argv: list[str] | None = None) -> int:
    """Run a subcommand; returns its exit code."""
    arguments = sys.argv[1:] if argv is None else argv
    if not arguments or arguments[0] in ("-h", "--help"):
        print(usage())
        return 0 if arguments else 2
    if arguments[0] == "--version":
        print(f"vera {__version__}")
        return 0
    command, *rest = arguments
    if command not in COMMANDS:
        from vera.core.errors import InputError
        from vera.core.job.run import failed

        return failed(InputError(f"vera has no command {command[:100]!r}; there are {', '.join(COMMANDS)}"))
    return importlib.import_module(f"{__name__}.{command}").main(rest)
