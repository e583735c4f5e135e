"""The command `vera`: a table of subcommands, one module each."""

import importlib
import sys

from vera import __version__

# Subcommand -> its line in `vera --help`; its module has the same name.
COMMANDS = {
    "render": "plate and prompt in, edit layer out",
    "lift": "the edit layer between a plate and any edited version of it",
    "inspect": "how a plate and a mask are read; list of colour spaces",
    "serve": "the resident service with its queue and page",
    "farm": "many shots on many machines",
    "plan": "GPU memory of a shot",
    "compare": "the paper's benchmark, for models and for other editors' results",
    "evaluate": "how well a model follows prompts",
    "train": "train mini or a full-size Vera",
    "data": "check a dataset, cut clips, or make a sheet of the data engine",
    "model": "make, export and convert models",
}


def usage() -> str:
    """The text of `vera --help`."""
    lines = [f"  {name:10}{text}" for name, text in COMMANDS.items()]
    return "\n".join(["usage: vera COMMAND ...", "", *lines, "", "vera COMMAND --help has the options; vera --version"])


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
