"""`vera model`: make, convert and export models."""

from vera.core.cli.group import run_group

COMMANDS = {
    "from-wan": ("vera.core.model.wan.checkpoint", "a Vera directory from a Wan2.1 checkpoint, or a Vera written anew"),
    "export": ("vera.core.training.mini.export", "an edition of mini from its training state"),
    "cost": ("vera.core.training.full.cost", "what full-size training takes, by arithmetic"),
    "sheet": ("vera.core.evaluation.sheet", "what a model makes of a list of instructions, as one picture"),
}


def main(argv: list[str]) -> int:
    """Run a subcommand; returns its exit code."""
    return run_group("model", COMMANDS, argv)
