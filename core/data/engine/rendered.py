"""Read clips that with_cycles.py rendered; the held-out ones are in rendered_clips/."""

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from vera.core.data.engine.clips import SPAN, LayeredClip, in_halves, loose_mask
from vera.core.data.engine.random_fields import extend_color
from vera.core.model.mini import words

HELD_OUT = Path(__file__).parent / "rendered_clips"


def folders(root: Path = HELD_OUT) -> list[Path]:
    return sorted(p.parent for p in root.glob("*/clip.json"))


def read_clip(folder: Path) -> LayeredClip:
    """All frames of one clip; composite = alpha * edit + (1 - alpha) * source, exactly."""
    meta = json.loads((folder / "clip.json").read_text(encoding="utf-8"))
    layers = torch.stack([_pixels(p) for p in sorted(folder.glob("layer.*.png"))])
    color, alpha = layers[:, :3], layers[:, 3:]
    source = _pixels(folder / "plate.png")[None, :3].expand_as(color)
    # The file has no colour where alpha is 0: extend the layer's colour, as the engine's own clips do.
    edit = torch.where(alpha > 0, color, extend_color(color * alpha, alpha))
    composite = alpha * edit + (1 - alpha) * source
    mask = loose_mask(alpha, random.Random(meta["seed"]))
    return LayeredClip(
        source, edit, alpha, composite, mask, meta["instruction"], meta["labels"], _path(meta["labels"], alpha)
    )


def _path(labels: dict[str, Any], alpha: torch.Tensor) -> torch.Tensor:
    """The path (T, 3) along which with_cycles.py moves the object; alpha (T, 1, H, W) gives T and the aspect."""
    count, _, height, width = alpha.shape
    half, aspect, t = words.HALF_HEIGHTS[labels["size"]], width / height, torch.arange(count) / SPAN - 0.5
    (x, y), (dx, dy) = words.PLACES[labels["place"]], words.STEPS.get(labels["motion"], (0, 0))
    return in_halves(x * aspect / 2 + dx * t, min(y / 2, 0.48 - half) + dy * t, torch.full((count,), half), aspect)


def _pixels(path: Path) -> torch.Tensor:
    return torch.from_numpy(np.array(Image.open(path))).movedim(-1, 0) / 255
