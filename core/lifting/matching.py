"""Check that plate and edited video belong together, by frame counts and by content. Otherwise refuse in one line."""

import torch
import torch.nn.functional as F

from vera.core.errors import InputError
from vera.core.lifting.registration import best_shift, details
from vera.core.lifting.smooth import blur, grown
from vera.kernels.area_means import shrunk_planes

MAX_RATE_RATIO = 4  # largest ratio of the two frame rates, either way; raising it accepts more videos
MIN_SIMILARITY = 0.1  # share of the plate's details found in the edited video; below it is another shot
MIRRORED_RATIO = 1.2  # times the share from which the mirrored plate is what the video shows; raising it finds fewer
SYMMETRIC_SIMILARITY = 0.5  # share that is enough even if the mirrored plate matches as well


def match_frames(plate_count: int, edited_count: int, where: str) -> tuple[list[int], int]:
    """(plate index of each edited frame that is used, step between them).

    n is the plate's number of frames. An equal number gives step 1. An edited video of every k-th plate frame has
    ceil(n / k) frames, and step k. A video of k times the frame rate has k n or k (n - 1) + 1 frames; every k-th of
    them is used, and the step is -k.
    Raises InputError for all other counts.
    """
    n, m = plate_count, edited_count
    if n == m:
        return list(range(n)), 1
    for k in range(2, MAX_RATE_RATIO + 1):
        if m == -(-n // k) and m > 1:
            return list(range(0, n, k)), k
        if m in (k * n, k * (n - 1) + 1):
            return list(range(n)), -k
    raise InputError(
        f"{where}: {m} frames for a plate of {n}; give the same count, every 2nd to {MAX_RATE_RATIO}th frame of the"
        f" plate, or as many times more; or give --edited-offset, the number of plate frames before its first one"
    )


def refuse_other_picture(
    plate: torch.Tensor, edited: torch.Tensor, where: str, mask: torch.Tensor | None = None
) -> None:
    """Raise InputError unless the edited video shows the plate's scene.

    plate, edited: some frames, (T, 3, H, W), of one size, encoded
    mask (T, 1, H, W): 1 where the edit may be; these pixels are not compared
    The share of the plate's details found at their places is compared with the share for two wrong plates: the plate
    mirrored and upside down.
    """
    ours, theirs = details(plate), details(edited)
    right = _likeness(ours, theirs, mask)
    if right is None or right >= 1 / MIRRORED_RATIO:  # no share of a wrong plate can refuse it
        return
    flips = {"mirrored": 3, "upside down": 2}
    wrong = {
        n: _likeness(ours.flip(d), theirs, mask if mask is None else mask.flip(d)) or 0.0 for n, d in flips.items()
    }
    for name, share in wrong.items():
        if share > MIRRORED_RATIO * right and share > 2 * MIN_SIMILARITY:
            raise InputError(f"{where}: shows the plate {name}; flip it back")
    if right < MIN_SIMILARITY or right < min(1.3 * max(wrong.values()), SYMMETRIC_SIMILARITY):
        raise InputError(
            f"{where}: shows another shot than the plate ({right:.0%} of the plate's details are in it; by chance up"
            f" to {max(wrong.values()):.0%}); give the edited version of this plate, or "
            "a mask if hardly any of it was kept"
        )


def _likeness(ours, theirs, mask):
    """Share of the plate's textured area outside the mask whose details the edited video shows too, in [0, 1].

    ours, theirs (T, 1, H, W): `details` of plate and edited video. None if the plate has almost no texture.
    """
    dx, dy = (round(float(v)) for v in best_shift(ours, theirs)[0, :, 0])
    theirs = theirs.roll((-dy, -dx), (2, 3))
    both, a, b = (blur(x, 3.0) for x in (ours * theirs, ours * ours, theirs * theirs))
    alike = both / (a * b).sqrt().clamp_min(1e-6)
    textured = a > 0.1 if mask is None else (a > 0.1) & (grown(mask, 8) == 0)
    return float((alike[textured] > 0.7).float().mean()) if textured.float().mean() > 0.01 else None


def same_size(video: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """The video (T, C, H, W) resized to `size` (height, width).

    Shrinking averages. Enlarging is bicubic, corrected so that averaging the result gives back the video.
    """
    if tuple(video.shape[2:]) == tuple(size):
        return video
    if video.shape[2] >= size[0] and video.shape[3] >= size[1]:
        return shrunk_planes(video, (size[0], size[1])).clamp_(0, 1)

    def enlarged(v):
        return F.interpolate(v, size, mode="bicubic", align_corners=False, antialias=True)

    large = enlarged(video)
    return (large + enlarged(video - F.interpolate(large, video.shape[2:], mode="area"))).clamp(0, 1)
