"""Fit mini's camera to its codec: learn from shifted plates how latents change when the picture moves."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import torch

from vera.core.data.engine import plates
from vera.core.model.codec import SPACE_STRIDE as SPACE
from vera.core.model.codec import TIME_STRIDE as TIME

if TYPE_CHECKING:
    from vera.core.model.mini.camera import Camera
    from vera.core.model.mini.mini_codec import MiniCodec

SHAPE = (80, 144)  # height and width of the plates in pixels


@torch.inference_mode()
def fit_camera(camera: Camera, codec: MiniCodec, seed: int, count: int = 600) -> None:
    """Fit `camera` in place, from plates seed .. seed + count - 1, each shifted by one pixel in four directions."""
    device = next(codec.parameters()).device
    latents, right, down = [], [], []
    for k in range(count):
        rng, gen = random.Random(seed + k), torch.Generator().manual_seed(seed + k)
        times = torch.arange(1 + TIME) + float(rng.randrange(40))
        height, width = (n + 2 for n in SHAPE)
        frames, _ = plates.plate(rng, gen, times, height, width)
        at = {move: _cut(frames, *move) for move in ((0, 0), (1, 0), (-1, 0), (0, 1), (0, -1))}
        z = codec.encode(torch.stack(list(at.values())).transpose(1, 2).to(device))[:, :, 1].cpu()
        latents.append(z[0])
        right.append((z[1] - z[2]) * SPACE / 2)
        down.append((z[3] - z[4]) * SPACE / 2)
    camera.fit(*(torch.stack(x).clone() for x in (latents, right, down)))


def _cut(frames, right, down):
    """Crop (T, 3, H + 2, W + 2) to (T, 3, H, W), shifted right and down by -1, 0 or 1 pixel."""
    height, width = SHAPE
    return frames[..., 1 - down : 1 - down + height, 1 - right : 1 - right + width]
