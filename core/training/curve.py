"""Draw the loss curve of a run from its log."""

import json
import math
from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw

NAMES = ("edit", "alpha", "composite", "drawing", "aim")  # mini's losses, in the order of every loss tensor
COLORS = ("#c8502d", "#303030", "#2d6ec8", "#7a9a3a", "#9a3a8a")  # colours of the first, second, ... curve
WIDTH, HEIGHT = 800, 420  # pixels of the picture
LEFT, RIGHT, TOP, BOTTOM = 60, 20, 40, 40  # pixels of margin around the plot
MAX_POINTS = 200  # points per curve; more show more of the noise between steps


def draw_curve(log: Path, picture: Path) -> None:
    """Read log.jsonl and write a PNG of the losses against the step, averaged to at most MAX_POINTS points."""
    lines = log.read_text(encoding="utf-8").splitlines() if log.is_file() else []
    rows = [row for row in map(json.loads, lines) if "losses" in row]
    if len(rows) < 2:
        return
    group_size = -(-len(rows) // MAX_POINTS)
    groups = [rows[i : i + group_size] for i in range(0, len(rows), group_size)]
    means = zip(*([sum(v) / len(v) for v in zip(*(losses_of(r) for r in group))] for group in groups))
    draw_curves([group[-1]["step"] for group in groups], dict(zip(NAMES, means)), picture)


def losses_of(row: dict) -> list[float]:
    """The losses of one log line, in the order of NAMES; older logs hold a list without names."""
    return [row["losses"][name] for name in NAMES] if isinstance(row["losses"], dict) else row["losses"]


def draw_curves(steps: Sequence[int], curves: dict, picture: Path, title: str = "loss against step") -> None:
    """Write a PNG of named curves on a logarithmic scale; curves without a positive value are omitted."""
    curves = {n: c for n, c in curves.items() if max(c) > 0}
    values = [v for curve in curves.values() for v in curve if v > 0]
    low, high = min(values), max(values)
    high = high if high > low else 2 * low

    def at(step, value):
        x = (step - steps[0]) / max(1, steps[-1] - steps[0])
        y = math.log(max(value, low) / low) / math.log(high / low)
        return LEFT + (WIDTH - LEFT - RIGHT) * x, HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * y

    image = Image.new("RGB", (WIDTH, HEIGHT), "white")
    draw = ImageDraw.Draw(image)
    for i in range(5):
        value = low * (high / low) ** (i / 4)
        y = at(steps[0], value)[1]
        draw.line([(LEFT, y), (WIDTH - RIGHT, y)], fill="#dddddd")
        draw.text((8, y - 6), f"{value:.3g}", fill="black")
    for step in (steps[0], (steps[0] + steps[-1]) // 2, steps[-1]):
        draw.text((at(step, low)[0] - 14, HEIGHT - BOTTOM + 10), str(step), fill="black")
    for i, (name, curve) in enumerate(curves.items()):
        draw.line([at(s, v) for s, v in zip(steps, curve)], fill=COLORS[i], width=2)
        draw.text((LEFT + 120 * i, 12), name, fill=COLORS[i])
    draw.text((WIDTH - RIGHT, 12), title, fill="black", anchor="ra")
    image.save(picture)
