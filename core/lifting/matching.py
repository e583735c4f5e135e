"""Plate and edited video belong together: frame by frame, and in what they show. Refused in one line if not."""

import torch
import torch.nn.functional as F

from vera.core.errors import InputError
from vera.core.lifting.registration import best_shift, details
from vera.core.lifting.smooth import blur, grown

LONGEST_STEP = 4  # of frame rates
LEAST_ALIKE = 0.1  # share of the plate's details found again; below it is another shot
SURELY_ALIKE = 0.5  # share at which a plate that is its own mirror image is believed


def match_frames(plate_count: int, edited_count: int, where: str) -> tuple[list[int], int]:
    """Which of the plate's frames have an edited one, and the step between them.

    Equal counts are step 1. An edited video of every k-th frame has ceil(n / k); one of k times
    the rate has k n or k (n - 1) + 1 frames and is thinned: the step is then -k. Returns plate
    indices, one for each edited frame that is used. Raises InputError.
    """
    n, m = plate_count, edited_count
    if n == m:
        return list(range(n)), 1
    for k in range(2, LONGEST_STEP + 1):
        if m == -(-n // k) and m > 1:
            return list(range(0, n, k)), k
        if m in (k * n, k * (n - 1) + 1):
            return list(range(n)), -k
    raise InputError(
        f"{where}: {m} frames for a plate of {n}; give the same count, every 2nd to {LONGEST_STEP}th frame of the"
        f" plate, or as many times more; or name the plate's frames before its first one, as --edited-offset"
    )


def refuse_other_picture(
    plate: torch.Tensor, edited: torch.Tensor, where: str, mask: torch.Tensor | None = None
) -> None:
    """Raise InputError unless the edited video shows the plate's scene.

    plate, edited: some frames, (T, 3, H, W) of one size, encoded; mask (T, 1, H, W): 1 where the edit may be, and
    nothing is compared. How many of the plate's details are found again at their places is held against the
    same for plates that are surely wrong: mirrored, upside down.
    """
    right = likeness(plate, edited, mask)
    if right is None:
        return
    flips = {"mirrored": 3, "upside down": 2}
    wrong = {
        n: likeness(plate.flip(d), edited, mask if mask is None else mask.flip(d)) or 0.0 for n, d in flips.items()
    }
    for name, share in wrong.items():
        if share > 1.2 * right and share > 2 * LEAST_ALIKE:
            raise InputError(f"{where}: shows the plate {name}; flip it back")
    if right < LEAST_ALIKE or right < min(1.3 * max(wrong.values()), SURELY_ALIKE):
        raise InputError(
            f"{where}: shows another shot than the plate ({right:.0%} of its details are found again, by chance up"
            f" to {max(wrong.values()):.0%}); give the edited version of this plate, or "
            "a mask if hardly any of it was kept"
        )


def likeness(plate: torch.Tensor, edited: torch.Tensor, mask: torch.Tensor | None = None) -> float | None:
    """Share of the plate's textured area outside the mask whose details the edited video shows too, 0 to 1; None
    where the plate has next to no texture to tell by."""
    ours, theirs = details(plate), details(edited)
    dx, dy = (round(float(v)) for v in best_shift(ours, theirs)[0, :, 0])
    theirs = theirs.roll((-dy, -dx), (2, 3))
    both, a, b = (blur(x, 3.0) for x in (ours * theirs, ours * ours, theirs * theirs))
    alike = both / (a * b).sqrt().clamp_min(1e-6)
    textured = a > 0.1 if mask is None else (a > 0.1) & (grown(mask, 8) == 0)
    return float((alike[textured] > 0.7).float().mean()) if textured.float().mean() > 0.01 else None


def same_size(video: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """(T, C, H, W) averaged, or grown so that made small again it is the video, to `size` (height, width)."""
    if tuple(video.shape[2:]) == tuple(size):
        return video
    small = lambda v, to: F.interpolate(v, to, mode="area")  # noqa: E731
    if video.shape[2] >= size[0] and video.shape[3] >= size[1]:
        return small(video, size).clamp(0, 1)
    grow = lambda v: F.interpolate(v, size, mode="bicubic", align_corners=False, antialias=True)  # noqa: E731
    large = grow(video)
    return (large + grow(video - small(large, video.shape[2:]))).clamp(0, 1)
