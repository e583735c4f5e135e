"""`vera model`: make, convert and export models."""

from vera.core.cli.group import run_group

COMMANDS = {
    "from-wan": ("vera.core.cli.model_from_wan", "a Vera directory from a Wan2.1 checkpoint, or a rewritten Vera"),
    "export": ("vera.core.cli.model_export", "an edition of mini from its training state"),
    "cost": ("vera.core.cli.model_cost", "calculated cost of full-size training"),
    "sheet": ("vera.core.cli.model_sheet", "a contact sheet of a model's results"),
}


def main(argv: list[str]) -> int:
    """Run a subcommand; returns its exit code."""
    return run_group("model", COMMANDS, argv)
