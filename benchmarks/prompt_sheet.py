"""A contact sheet of 36 prompts over given plates, as delivered: seed 0, no cherry-picking.

    python -m benchmarks.prompt_sheet SHEET.jpg PLATE:FRAMES ... [--full FOLDER]

Prompts take the plates in turn. Each cell shows the middle one of a plate's FRAMES; five frames are enough. --full
keeps each picture at the plate's size. The cell of a refused prompt shows the refusal.
"""

import argparse
import sys
import tempfile
import textwrap
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from benchmarks.objects import Take, delivered
from vera.core.errors import InputError

PROMPTS = (
    "Change the background to a sunset",
    "Add a white ball on the right",
    "Add a red balloon rising on the left",
    "Put a blue cube in the centre",
    "Add a yellow star at the top",
    "Add a pink heart in the middle",
    "Add a gold ring on the left",
    "Add a green kite at the top right",
    "Add a glowing lantern on the right",
    "Add a red mushroom",
    "Add an orange fish drifting left",
    "Add a large blue umbrella on the right",
    "Add a butterfly on the left",
    "Add a bird at the top",
    "Add a leaf falling slowly",
    "Add a paper plane drifting right",
    "Add a rocket rising",
    "Add a shiny red apple in the centre",
    "Add a yellow flower on the right",
    "Add falling snow",
    "Add heavy rain",
    "Add fog",
    "Add a plume of smoke",
    "Add fire",
    "Add confetti",
    "Add soap bubbles",
    "Add flying sparks",
    "Add sun rays",
    "Add a shiny gold apple on the left",
    "Add a wooden crate on the sidewalk",
    "Add a silver ball behind him",
    "Add a hot air balloon floating across the sky",
    "Make it snow heavily",
    "Add a metallic copper star",
    "Add a brown leaf on the ground",
    "Add a matte grey cube on the left",
)
COLUMNS, WIDTH, HEIGHT, CAPTION = 6, 320, 216, 16  # of cells: pixels


def picture_of(take: Take) -> tuple[Image.Image, str]:
    """The middle frame of a take at the plate's size, or its refusal, and what is warned of."""
    numbers = [int(n) for n in take.frames.split("-")]
    middle = (numbers[0] + numbers[-1]) // 2
    with tempfile.TemporaryDirectory(prefix="vera-") as folder:
        try:
            (shown,) = delivered(take, Path(folder) / "out", lambda number: number == middle)
        except InputError as error:
            blank = Image.new("RGB", (WIDTH, HEIGHT - CAPTION), "white")
            ImageDraw.Draw(blank).text((4, 4), "\n".join(textwrap.wrap(str(error), 50)), fill="black")
            return blank, str(error)
    return Image.fromarray(np.ascontiguousarray(shown.composite[..., :3])), "; ".join(shown.warnings)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.prompt_sheet", description=__doc__.splitlines()[0])
    parser.add_argument("sheet", type=Path)
    parser.add_argument("plates", nargs="+", metavar="PLATE:FRAMES", help="such as shot.mp4:20-24")
    parser.add_argument("--full", type=Path, metavar="FOLDER", help="keep each picture at the plate's size")
    parser.add_argument("--only", type=int, nargs="*", metavar="N", help="numbers of prompts, from 0")
    args = parser.parse_args()
    chosen = range(len(PROMPTS)) if args.only is None else args.only
    sheet = Image.new("RGB", (COLUMNS * WIDTH, -(-len(chosen) // COLUMNS) * HEIGHT), "white")
    for place, number in enumerate(chosen):
        plate, _, frames = args.plates[number % len(args.plates)].rpartition(":")
        picture, notes = picture_of(Take(PROMPTS[number], plate, frames))
        print(f"{number:2d} {PROMPTS[number]} ({Path(plate).name}){': ' + notes if notes else ''}", flush=True)
        if args.full:
            args.full.mkdir(parents=True, exist_ok=True)
            picture.save(args.full / f"{number:02d}.png")
        x, y = place % COLUMNS * WIDTH, place // COLUMNS * HEIGHT
        picture.thumbnail((WIDTH - 4, HEIGHT - CAPTION - 2), Image.Resampling.LANCZOS)
        sheet.paste(picture, (x + 2, y + 2))
        ImageDraw.Draw(sheet).text((x + 3, y + HEIGHT - CAPTION + 1), PROMPTS[number], fill="black")
    sheet.save(args.sheet, quality=85)
    return 0


if __name__ == "__main__":
    sys.exit(main())
