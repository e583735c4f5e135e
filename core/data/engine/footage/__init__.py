"""Real stills and film for plates; see ATTRIBUTION.md. Each file is decoded once and cached in memory."""

import random
from functools import cache
from pathlib import Path

import av
import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image


def footage(rng: random.Random, times: torch.Tensor, height: int, width: int, held_out: bool = False) -> torch.Tensor:
    """A random crop from the training or the held-out set at the given frames, display-encoded.

    A still is (3, H, W). A film is (T, 3, H, W), with its frames at `times`.
    """
    names = sorted(p.name for p in _folder(held_out).iterdir())
    frames = _read(_folder(held_out) / rng.choice(names))
    still = len(frames) == 1
    frames = frames if still else frames[torch.as_tensor(times).long() % len(frames)]
    h, w = frames.shape[-2:]
    share = min(h / height, w / width) * rng.uniform(0.65, 1.0)
    ch, cw = int(height * share), int(width * share)
    top, left = rng.randint(0, h - ch), rng.randint(0, w - cw)
    crop = frames[:, :, top : top + ch, left : left + cw].float() / 255
    crop = F.interpolate(crop, size=(height, width), mode="bilinear", antialias=True, align_corners=False)
    if rng.random() < 0.5:
        crop = crop.flip(-1)
    return crop[0] if still else crop


def _folder(held_out: bool) -> Path:
    return Path(__file__).parent / ("held_out" if held_out else "train")


@cache
def _read(path: Path) -> torch.Tensor:
    """All frames of a file, (T, 3, H, W) uint8; T is 1 for a still."""
    if path.suffix == ".mp4":
        with av.open(str(path)) as film:
            frames = [f.to_ndarray(format="rgb24") for f in film.decode(video=0)]
    else:
        frames = [np.asarray(Image.open(path).convert("RGB"))]
    return torch.from_numpy(np.stack(frames)).movedim(-1, 1)
