"""Clips that Cycles rendered ahead, as with_cycles.py writes them; a held-out few are in rendered/."""

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from vera.core.data.engine.clips import SPAN, LayeredClip, in_halves, loose_mask
from vera.core.data.engine.fields import extend_color
from vera.core.model.mini import words

HELD_OUT = Path(__file__).parent / "rendered_clips"


def folders(root: Path = HELD_OUT) -> list[Path]:
    return sorted(p.parent for p in root.glob("*/clip.json"))


def read_clip(folder: Path) -> LayeredClip:
    """One clip, all its frames; composite = alpha * edit + (1 - alpha) * source, exactly."""
    said = json.loads((folder / "clip.json").read_text(encoding="utf-8"))
    layers = torch.stack([_pixels(p) for p in sorted(folder.glob("layer.*.png"))])
    color, alpha = layers[:, :3], layers[:, 3:]
    source = _pixels(folder / "plate.png")[None, :3].expand_as(color)
    # Where alpha is 0 the file has no colour: what is there is held outward, as in the engine's own clips.
    edit = torch.where(alpha > 0, color, extend_color(color * alpha, alpha))
    composite = alpha * edit + (1 - alpha) * source
    mask = loose_mask(alpha, random.Random(said["seed"]))
    return LayeredClip(
        source, edit, alpha, composite, mask, said["instruction"], said["labels"], _path(said["labels"], alpha)
    )


def _path(labels: dict[str, Any], alpha: torch.Tensor) -> torch.Tensor:
    """As with_cycles.py moves the object over the frames (T, 1, H, W)."""
    count, _, height, width = alpha.shape
    half, aspect, t = words.HALVES[labels["size"]], width / height, torch.arange(count) / SPAN - 0.5
    (x, y), (dx, dy) = words.PLACES[labels["place"]], words.STEPS.get(labels["motion"], (0, 0))
    return in_halves(x * aspect / 2 + dx * t, min(y / 2, 0.48 - half) + dy * t, torch.full((count,), half), aspect)


def _pixels(path: Path) -> torch.Tensor:
    return torch.from_numpy(np.array(Image.open(path))).movedim(-1, 0) / 255
