"""How much detail the edited video has left: the plate is looked at through the same loss."""

import torch

from vera.core.lifting.smooth import blur

SCALES = (0.6, 1.2, 2.4)  # sigmas that part the bands


def bands(video: torch.Tensor) -> list[torch.Tensor]:
    """Detail of falling fineness and the rest; their sum is the video."""
    soft = [video, *(blur(video, s) for s in SCALES)]
    return [a - b for a, b in zip(soft, soft[1:])] + [soft[-1]]


def as_seen(plate: torch.Tensor, edited: torch.Tensor, trust: torch.Tensor) -> torch.Tensor:
    """The plate with each band of detail as strong as the edited video has it, (T, 3, H, W).

    One gain a band for the shot, by least squares over trusted pixels, for luma and for the
    differences from it (chroma is often stored at half the size).
    """
    mean = lambda v: v.mean(1, keepdim=True)  # noqa: E731
    ours, theirs = bands(plate), bands(edited)
    seen = ours[-1]
    for a, b in zip(ours[:-1], theirs[:-1]):
        for part in (mean, lambda v: v - mean(v)):
            p, e = part(a), part(b)
            gain = (trust * p * e).sum() / ((trust * p * p).sum() + 1e-3)
            seen = seen + gain.clamp(0, 1) * p
    return seen
