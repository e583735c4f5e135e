"""Sample sheets: fixed prompts on fixed plates, to judge a model during training."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image

from vera.core.data.engine.clips import make_clip
from vera.core.model.device import mixed_precision
from vera.core.sampling.denoise import ClipInputs, SamplingSettings, denoise

if TYPE_CHECKING:
    from vera.core.model.codec import WanCodec
    from vera.core.model.mini.mini_codec import MiniCodec
    from vera.core.model.mini.mini_text import MiniText
    from vera.core.model.mini.mini_transformer import MiniTransformer

PROMPTS = (
    "Add a red balloon rising on the right",
    "Add a large blue star in the centre",
    "Put a yellow cube on the left",
    "Add a small green ball bouncing at the bottom",
    "Add a pink heart in the top left corner",
    "Add a purple umbrella drifting left",
    "Add falling snow",
    "Change the background to the sea. Keep the person intact.",
)
HEIGHT, WIDTH = 80, 144  # pixels
FRAMES = 17
# The seed is the number of the prompt.
SAMPLING = SamplingSettings(seed=0, steps=8, guidance=3.0, shift=2.0, window=13)


def sample_sheet(
    transformer: MiniTransformer,
    text: MiniText,
    codec: MiniCodec | WanCodec,
    path: Path,
) -> None:
    """Write a PNG with a row per prompt.

    Columns at mid-clip: plate, edit, alpha, edit over plate, the model's composite; then edit over plate at the first
    and the last frame.
    """
    rows = []
    device = next(transformer.parameters()).device
    empty = text.encode([""])
    for i, prompt in enumerate(PROMPTS):
        labels = (
            {"edit": "background", "background": "sea"}
            if "background" in prompt
            else {"edit": "effect", "effect": "fog", "amount": "light"}
        )
        source = make_clip(900 + i, HEIGHT, WIDTH, torch.arange(FRAMES), labels).source
        with torch.inference_mode():
            latents = codec.encode(source.transpose(0, 1)[None].to(device))
            with mixed_precision(device):
                clip = ClipInputs.of_tensors(text.encode([prompt]), empty, latents)
                out = denoise(transformer, clip, replace(SAMPLING, seed=i))
            edit, alpha, composite = (codec.decode(out[:, b], FRAMES)[0].clamp(0, 1).cpu() for b in range(3))
        alpha = alpha.mean(0, keepdim=True)
        plate = source.transpose(0, 1)
        composed = alpha * edit + (1 - alpha) * plate
        cells = [
            plate[:, 8],
            edit[:, 8],
            alpha[:, 8].expand(3, -1, -1),
            composed[:, 8],
            composite[:, 8],
            composed[:, 0],
            composed[:, -1],
        ]
        rows.append(torch.cat(cells, dim=2))
    _write(rows, path)


CODEC_LABELS: tuple[dict[str, Any], ...] = (
    {
        "edit": "object",
        "object": "balloon",
        "color": "red",
        "material": None,
        "size": "large",
        "place": "centre",
        "motion": "still",
    },
    {
        "edit": "object",
        "object": "butterfly",
        "color": "blue",
        "material": None,
        "size": "medium",
        "place": "left",
        "motion": "rising",
    },
    {"edit": "effect", "effect": "snow", "amount": "medium"},
    {"edit": "effect", "effect": "smoke", "amount": "heavy"},
    {"edit": "background", "background": "forest"},
)


@torch.inference_mode()
def codec_sheet(codec: MiniCodec | WanCodec, path: Path) -> None:
    """Write a PNG with a row per clip. Columns: edit, alpha and composite, each beside its reconstruction."""
    rows = []
    device = next(codec.parameters()).device
    for i, labels in enumerate(CODEC_LABELS):
        chosen: dict[str, Any] = {"depth": None, "pace": "usual", "reflection": False, **labels}
        clip = make_clip(950 + i, HEIGHT, WIDTH, torch.arange(9), chosen, held_out=True)
        given = torch.stack([clip.edit, clip.alpha.expand(-1, 3, -1, -1), clip.composite]).transpose(1, 2)
        back = codec.decode(codec.encode(given.to(device)), 9).clamp(0, 1).cpu()
        rows.append(torch.cat([x[:, 6] for pair in zip(given, back) for x in pair], dim=2))
    _write(rows, path)


def _write(rows, path) -> None:
    """Write pictures (3, H, W) in [0, 1], one below the other."""
    sheet = torch.cat(rows, dim=1)
    Image.fromarray((sheet.permute(1, 2, 0).float().numpy() * 255).round().astype(np.uint8)).save(path)
