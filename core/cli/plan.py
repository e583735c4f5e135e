"""`vera plan`: plan a shot's GPU memory for a full-size model."""

import argparse
from collections.abc import Callable
from pathlib import Path

from vera.core.cli.arguments import Parser
from vera.core.cli.command import command
from vera.core.errors import InputError
from vera.core.recipe import OFFLOADS, WEIGHTS

DESCRIPTION = "Estimates a shot's GPU memory, and chooses how a full-size model is stored and offloaded."


def pair(text: str) -> tuple[int, int]:
    width, x, height = text.partition("x")
    if not (width.isdigit() and height.isdigit() and int(width) and int(height)):
        raise argparse.ArgumentTypeError(f"'{text}' is not WIDTHxHEIGHT, such as 1920x1080")
    return int(width), int(height)


def positive(kind: Callable[[str], float]) -> Callable[[str], float]:
    def read(text: str) -> float:
        value = kind(text)
        if not 0 < value < 1e9:
            raise argparse.ArgumentTypeError(f"{text} is not a number above 0")
        return value

    return read


def plan_training(args: argparse.Namespace) -> int:
    """Print the memory of each GPU in training and, if it does not fit, settings that do. Raises InputError."""
    import json
    from dataclasses import replace

    import torch

    from vera.core.model.footprint import GIB
    from vera.core.training.full.full_settings import Settings
    from vera.core.training.full.memory_estimate import lines, what_would_fit
    from vera.core.training.full.trainer import need_of

    try:
        settings = Settings.of(json.loads(args.train.read_text(encoding="utf-8")))
    except (OSError, ValueError) as error:
        raise InputError(f"{args.train}: not a readable configuration ({error})") from None
    if not Path(settings.model).is_dir():
        settings = replace(settings, model=args.model)
    settings.check_ranks(args.gpus)
    memory = None if args.memory is None else int(args.memory * GIB)
    if memory is None and torch.cuda.is_available():
        memory = torch.cuda.get_device_properties(0).total_memory
    need = need_of(settings)
    found = need(settings, args.gpus)
    for line in lines(found, memory):
        print(line)
    if memory is None or found.peak <= memory:
        return 0
    for way in what_would_fit(need, settings, args.gpus, memory):
        print(f"would fit: {way}")
    return 1


@command
def main(argv: list[str] | None = None) -> int:
    parser = Parser(prog="vera plan", description=DESCRIPTION)
    parser.add_argument(
        "--model",
        default="1.3b",
        help="a model directory, 1.3b (default) or 14b; with --train, used if the configuration's does not exist",
    )
    parser.add_argument("--size", type=pair, default=(1920, 1080), metavar="WxH", help="size of the plate or region")
    parser.add_argument("--frames", type=positive(int), default=81, help="frames of the shot (81)")
    parser.add_argument(
        "--memory", type=positive(float), metavar="GIB", help="memory of the GPU (default: of this machine's)"
    )
    parser.add_argument("--weights", choices=WEIGHTS, default="auto")
    parser.add_argument("--offload", choices=OFFLOADS, default="auto")
    parser.add_argument("--one-batch", action="store_true", help="both guidance passes at once")
    parser.add_argument(
        "--train", type=Path, metavar="CONFIG", help="plan full-size training with this configuration instead"
    )
    parser.add_argument("--gpus", type=positive(int), default=1, metavar="N", help="GPUs for --train (1)")
    args = parser.parse_args(argv)
    import torch

    if args.train is not None:
        return plan_training(args)
    from vera.core.job.gpu_plan import GIB, Geometry, Planner, lines

    memory = None if args.memory is None else int(args.memory * GIB)
    if memory is None and torch.cuda.is_available():
        memory = torch.cuda.get_device_properties(0).total_memory
    planner = Planner(Geometry.of(args.model), args.size, args.frames, one_batch=args.one_batch)
    chosen = planner.choose(memory, None, args.weights, args.offload) if memory else None
    for line in lines(planner, memory, chosen):
        print(line)
    return 0 if chosen or memory is None else 1
