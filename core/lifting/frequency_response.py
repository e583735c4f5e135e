"""Measure how much detail the edited video has lost, and apply the same loss to the plate."""

import torch

from vera.core.lifting.smooth import blur, by_frame

GAIN_FRAMES = 8  # most frames, evenly spread, from which the gains are measured; the cost is proportional
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
    trusted = trust.flatten(1).any(1).nonzero()[:, 0]
    some = trusted[:: -(-len(trusted) // GAIN_FRAMES)]
    gains = _gains(plate[some], edited[some], trust[some])
    return by_frame(lambda frame: _weakened(frame, gains), plate)


def _gains(plate, edited, trust):
    """Gain of each band's luma and of its differences from luma, (bands, 2). Frame by frame: no band is held whole."""
    sums = torch.zeros(len(BAND_SIGMAS), 2, 2, dtype=torch.float64)  # band, luma or differences, (p * e, p * p)
    for p, e, t in zip(plate.split(1), edited.split(1), trust.split(1)):
        for total, a, b in zip(sums, bands(p), bands(e)):
            gray, weighed = _gray(a), t * a
            of_gray = [_dot(t * gray, v) for v in (_gray(b), gray)]
            of_all = [_dot(weighed, v) for v in (b, a)]
            total[0] += torch.stack(of_gray)
            total[1] += torch.stack(of_all) - 3 * torch.stack(of_gray)
    return (sums[..., 0] / (sums[..., 1] + 1e-3)).clamp(0, 1).float()


def _dot(a, b):
    return torch.dot(a.flatten(), b.flatten()).double()


def _weakened(frame, gains):
    """The frame (1, 3, H, W) with the gains on its bands."""
    *fine, seen = bands(frame)
    for band, (of_gray, of_rest) in zip(fine, gains):
        gray = _gray(band)
        seen = seen + torch.lerp(gray, band, of_rest) + (of_gray - 1) * gray
    return seen


def _gray(video):
    return video.mean(1, keepdim=True)
