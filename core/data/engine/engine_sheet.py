"""`vera data sheet docs/data.png`: a contact sheet of the data engine.

It shows every object, effect and background once, then clips as plate, straight colour, alpha and composite.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw

from vera.core.data.engine.clips import LayeredClip, make_clip
from vera.core.model.mini import words

HEIGHT, WIDTH = 80, 144  # pixels of a picture
CAPTION = 13  # pixels of height for the caption below a picture
COLUMNS = 6
SEED = 4_000_000  # seed of the first clip; far from the seeds of training
CLIPS: tuple[dict[str, Any], ...] = (
    {"object": "balloon", "color": "red", "place": "right", "motion": "rising"},
    {"object": "ball", "color": "cyan", "material": "metallic", "reflection": True},
    {"object": "star", "color": "yellow", "material": "glowing", "size": "small", "place": "top left"},
    {"object": "apple", "color": "green", "depth": "behind", "size": "large"},
    {"edit": "effect", "effect": "smoke", "amount": "heavy"},
    {"edit": "background", "background": "forest"},
)


def scenes() -> Iterator[tuple[str, np.ndarray]]:
    """(caption, picture (H, W, 3)) for every object, effect and background."""
    colors, materials = list(words.COLORS), list(words.MATERIALS)
    for k, name in enumerate(words.OBJECTS):
        labels = with_defaults(
            {"object": name, "color": colors[3 * k % 10], "size": "large", "material": materials[k % 5]}
        )
        yield (
            " ".join(w for w in (labels["material"], labels["color"], name) if w),
            to_picture(sample_clip(k, labels).composite),
        )
    for k, name in enumerate(words.EFFECTS):
        yield name, to_picture(sample_clip(40 + k, {"edit": "effect", "effect": name, "amount": "heavy"}).composite)
    for k, name in enumerate(words.BACKGROUNDS):
        yield (
            words.BACKGROUNDS[name][0],
            to_picture(sample_clip(60 + k, {"edit": "background", "background": name}).composite),
        )


def strips() -> Iterator[tuple[str, list[np.ndarray]]]:
    """(instruction, [plate, edit, alpha, composite, composite at the clip's end]) for each of CLIPS."""
    for k, labels in enumerate(CLIPS):
        clip = sample_clip(80 + k, with_defaults(labels))
        alpha = clip.alpha.expand(-1, 3, -1, -1)
        yield (
            clip.instruction,
            [to_picture(x) for x in (clip.source, clip.edit, alpha, clip.composite)] + [to_picture(clip.composite, -1)],
        )


def with_defaults(labels: dict[str, Any]) -> dict[str, Any]:
    plain = {"edit": "object", "size": "medium", "place": "centre", "motion": "still"}
    return labels if "edit" in labels else plain | labels | ({"place": None} if labels.get("depth") else {})


def sample_clip(number: int, labels: dict[str, Any]) -> LayeredClip:
    return make_clip(SEED + number, HEIGHT, WIDTH, [12, 40], labels)


def to_picture(frames: torch.Tensor, at: int = 0) -> np.ndarray:
    return (frames[at].movedim(0, -1).numpy() * 255).round().astype(np.uint8)


def sheet() -> Image.Image:
    cells, clips = list(scenes()), list(strips())
    rows = -(-len(cells) // COLUMNS)
    high = HEIGHT + CAPTION
    image = Image.new("RGB", (COLUMNS * WIDTH, (rows + len(clips)) * high), "white")
    draw = ImageDraw.Draw(image)

    def put(picture: np.ndarray, caption: str, column: int, row: int) -> None:
        image.paste(Image.fromarray(picture), (column * WIDTH, row * high))
        draw.text((column * WIDTH + 3, row * high + HEIGHT), caption, "black")

    for k, (caption, picture) in enumerate(cells):
        put(picture, caption, k % COLUMNS, k // COLUMNS)
    for k, (instruction, pictures) in enumerate(clips):
        for column, picture in enumerate(pictures):
            put(picture, instruction if column == 0 else "", column, rows + k)
        names = ("plate", "edit", "alpha", "composite", "later")
        draw.multiline_text((len(pictures) * WIDTH + 8, (rows + k) * high + 8), "\n".join(names), "black", spacing=2)
    return image


def save_sheet(path: Path) -> None:
    """Write the sheet as a PNG."""
    sheet().save(path, optimize=True)
