"""`vera data`: datasets and the data engine."""

from vera.core.cli.group import run_group

COMMANDS = {
    "check": ("vera.core.cli.data_check", "rows of a layered dataset that cannot be used"),
    "clips": ("vera.core.cli.data_clips", "training clips from your own layered shots"),
    "sheet": ("vera.core.cli.data_sheet", "a contact sheet of the data engine"),
}


def main(argv: list[str]) -> int:
    """Run a subcommand; returns its exit code."""
    return run_group("data", COMMANDS, argv)
