"""`vera model`: make, convert and export models."""

from vera.core.cli.group import run_group

COMMANDS = {
    "from-wan": ("vera.core.cli.model_from_wan", "a Vera directory from a Wan2.1 checkpoint, or a Vera written anew"),
    "export": ("vera.core.cli.model_export", "an edition of mini from its training state"),
    "cost": ("vera.core.cli.model_cost", "what full-size training takes, by arithmetic"),
    "sheet": ("vera.core.cli.model_sheet", "what a model makes of a list of instructions, as one picture"),
}


def main(argv: list[str]) -> int:
    """Run a subcommand; returns its exit code."""
    return run_group("model", COMMANDS, argv)
