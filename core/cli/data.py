"""`vera data`: datasets and the data engine."""

from vera.core.cli.group import run_group

COMMANDS = {
    "check": ("vera.core.cli.data_check", "which rows of a layered dataset can be used"),
    "clips": ("vera.core.cli.data_clips", "training clips out of layered shots of your own"),
    "sheet": ("vera.core.cli.data_sheet", "a contact sheet of what the data engine makes"),
}


def main(argv: list[str]) -> int:
    """Run a subcommand; returns its exit code."""
    return run_group("data", COMMANDS, argv)
