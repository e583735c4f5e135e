"""Measure how much detail the edited video has lost, and apply the same loss to the plate."""

import torch

from vera.core.lifting.smooth import blur

BAND_SIGMAS = (0.6, 1.2, 2.4)  # Gaussian sigmas in pixels between neighbouring bands


def bands(video: torch.Tensor) -> list[torch.Tensor]:
    """Bands of detail, fine to coarse, and the remaining low frequencies. Their sum is the video."""
    soft = [video, *(blur(video, s) for s in BAND_SIGMAS)]
    return [a - b for a, b in zip(soft, soft[1:])] + [soft[-1]]


def as_seen(plate: torch.Tensor, edited: torch.Tensor, trust: torch.Tensor) -> torch.Tensor:
    """The plate with each band of detail as strong as in the edited video, (T, 3, H, W).

    Each band has two gains for the shot, one for luma and one for the differences from luma, because chroma is often
    stored at half the resolution. The gains are least-squares fits over trusted pixels. Without any, all
    detail is kept.
    """
    if not trust.any():
        return plate
    ours, theirs = bands(plate), bands(edited)
    seen = ours[-1]
    for a, b in zip(ours[:-1], theirs[:-1]):
        for p, e in ((_gray(a), _gray(b)), (a - _gray(a), b - _gray(b))):
            gain = (trust * p * e).sum() / ((trust * p * p).sum() + 1e-3)
            seen = seen + gain.clamp(0, 1) * p
    return seen


def _gray(video):
    return video.mean(1, keepdim=True)
