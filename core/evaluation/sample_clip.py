"""Sample a model on one clip, at model size."""

from typing import Any

import torch

from vera.core.layer.matte import clean_alpha, refine_alpha, steady
from vera.core.layer.subject_colors import SubjectColors
from vera.core.model.codec import TIME_STRIDE, latent_frames
from vera.core.sampling.denoise import ClipInputs, SamplingSettings, denoise


@torch.inference_mode()
def run(
    model: Any, source: torch.Tensor, instruction: str, mask: torch.Tensor | None, steps: int, guidance: float
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Sample a layer over source (T, 3, H, W), with a mask (T, 1, H, W) or None.

    Returns (colour (3, T, H, W), alpha (T, H, W), composite (3, T, H, W)), as decoded, in [0, 1].
    """
    codec, frames = model.codec, len(source)
    clip = ClipInputs.of_tensors(
        model.text.encode([instruction]),
        model.text.encode([""]),
        codec.encode(source.transpose(0, 1)[None]),
        None if mask is None else codec.encode(mask.expand(-1, 3, -1, -1).transpose(0, 1)[None]),
    )
    limits = model.limits
    settings = SamplingSettings(0, steps, guidance, limits.shift, latent_frames(limits.max_frames))
    layers = denoise(model.transformer, clip, settings)
    color, alpha, composite = (codec.decode(layers[:, i], frames)[0].clamp(0, 1) for i in range(3))
    return color, alpha.mean(0), composite


def delivered(alpha: torch.Tensor, source: torch.Tensor, subject: bool = False) -> torch.Tensor:
    """Alpha (T, H, W) in the form of a delivery at model size: steadied, cleaned, with exact 0 and 1.

    source: (T, 3, H, W), the plate
    subject: whether the layer is a new background without a mask; the subject's outline follows the plate's colours
    """
    cleaned = [clean_alpha(a) for _, a in steady((None, a) for a in alpha)]
    if subject:
        samples = range(0, len(cleaned), TIME_STRIDE)
        colors = SubjectColors.of([1 - cleaned[k] for k in samples], [source[k] for k in samples])
        cleaned = [1 - colors.drawn(1 - a, s) for a, s in zip(cleaned, source, strict=True)]
    return torch.stack([refine_alpha(a, s, s.movedim(0, -1))[0] for a, s in zip(cleaned, source, strict=True)])
