"""Train mini: `python -m core.train CONFIG.json [--out DIR] [--minutes M]`.

The same command again resumes. Ctrl-C saves and stops.
"""

import argparse
import json
import signal
import sys
import time
from pathlib import Path

import torch


def main(argv=None) -> int:
    parser = argparse.ArgumentParser(prog="python -m core.train", description="Train mini; resumes where it stopped.")
    parser.add_argument("config", type=Path, help="a JSON file, such as core/training/mini.json")
    parser.add_argument("--out", type=Path, help="training state (default: runs/<name of the config>)")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="save and stop after this long")
    parser.add_argument("--threads", type=int, help="CPU threads")
    args = parser.parse_args(argv)
    config = json.loads(args.config.read_text(encoding="utf-8"))
    folder = args.out or Path("runs") / args.config.stem
    if args.threads:
        torch.set_num_threads(args.threads)

    stopped = []
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopped.append(True))
    until = time.time() + 60 * args.minutes

    if config["train"] == "codec":
        from core.training.codec import train
    else:
        from core.training.transformer import train
    train(config, folder, lambda: bool(stopped) or time.time() > until)
    return 3 if stopped else 0


if __name__ == "__main__":
    sys.exit(main())
