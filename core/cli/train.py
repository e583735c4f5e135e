"""Train mini or a full-size Vera: `vera train CONFIG.json [--out DIR] [--minutes M]`.

The same command again resumes. Ctrl-C saves and stops. A full-size one on several GPUs:
`torchrun --nproc-per-node 8 -m vera.core.cli.train CONFIG.json` (docs/training.md).
"""

import argparse
import json
import signal
import sys
import time
from functools import partial
from pathlib import Path

import torch

from vera.core.errors import InputError


def main(argv=None) -> int:
    parser = argparse.ArgumentParser(prog="vera train", description="Train; resumes where it stopped.")
    parser.add_argument("config", type=Path, help="a JSON file, such as core/training/mini/mini.json")
    parser.add_argument("--out", type=Path, help="training state (default: runs/<name of the config>)")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="save and stop after this long")
    parser.add_argument("--threads", type=int, help="CPU threads")
    parser.add_argument("--export", type=Path, metavar="DIR", help="full size: write what was reached as a model, and end")
    args = parser.parse_args(argv)
    try:
        return run(args)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


def run(args) -> int:
    try:
        config = json.loads(args.config.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{args.config}: not a readable configuration ({error})") from None
    folder = args.out or Path("runs") / args.config.stem
    if args.threads:
        torch.set_num_threads(args.threads)

    stopped = []
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopped.append(True))
    until = time.time() + 60 * args.minutes

    if config["train"] == "vera":
        from vera.core.training.full.trainer import train

        if args.export is not None and args.export.exists():
            raise InputError(f"{args.export}: is there already; export to a new folder")
        train = partial(train, target=args.export)
    elif config["train"] == "codec":
        from vera.core.training.mini.codec import train
    elif config["train"] == "vae":
        from vera.core.training.mini.vae import train
    else:
        from vera.core.training.mini.transformer import train
    train(config, folder, lambda: bool(stopped) or time.time() > until)
    return 3 if stopped else 0


if __name__ == "__main__":
    sys.exit(main())
