"""Preservation of the plate in a result: over the frame, and outside of the edit.

PSNR: over all channels, peak 1. SSIM: Wang et al., "Image Quality Assessment", IEEE TIP 2004, with its 11x11 Gaussian
window of sigma 1.5, K 0.01 and 0.03, and biased variances, over complete windows, averaged over channels. That equals
scikit-image with gaussian_weights, and torchmetrics. LPIPS: see perceptual.py.
"""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F

from vera.core.measure.measured_planes import Means, Pixels, filtered, picture, plane, same_size

WINDOW = 11  # pixels: side of SSIM's window, as published
SIGMA = 1.5  # pixels: standard deviation of SSIM's Gaussian window, as published
MAX_PSNR = 100.0  # dB: PSNR of equal frames, whose true value is infinite and would make a mean infinite
# Pixels between the edit and the region "away" from it. Must exceed SSIM's half window and the reach of a codec's
# chroma; raising it leaves fewer pixels to measure.
EDIT_MARGIN = 8


def psnr(image: Pixels, plate: Pixels, where: Pixels | None = None) -> float | None:
    """Peak signal-to-noise ratio in dB, at most MAX_PSNR.

    where: (H, W) of bools, the pixels to measure; None is returned if there are none.
    """
    error = (picture(image) - picture(plate)).square().mean(-1)
    if where is not None:
        error = error[torch.as_tensor(where)]
    if error.numel() == 0:
        return None
    return min(MAX_PSNR, -10 * math.log10(max(float(error.mean()), 1e-300)))


def ssim(image: Pixels, plate: Pixels, where: Pixels | None = None) -> float | None:
    """Structural similarity in [-1, 1].

    where: (H, W) of bools, the centres of the windows to average. Raises ValueError for frames smaller than the window.
    """
    values = ssim_map(image, plate)
    if where is not None:
        rim = WINDOW // 2
        values = values[torch.as_tensor(where)[rim:-rim, rim:-rim]]
    return float(values.mean()) if values.numel() else None


def ssim_map(image: Pixels, plate: Pixels) -> torch.Tensor:
    """SSIM of every complete window, averaged over channels: (H - 10, W - 10)."""
    x, y = (picture(v).movedim(-1, 0) for v in (image, plate))
    if min(x.shape[1:]) < WINDOW:
        raise ValueError(f"a frame of {x.shape[2]}x{x.shape[1]} is smaller than SSIM's window, {WINDOW}x{WINDOW}")
    bell = [math.exp(-((i - WINDOW // 2) ** 2) / (2 * SIGMA**2)) for i in range(WINDOW)]
    taps = [b / sum(bell) for b in bell]
    mx, my, squares, product = filtered(torch.stack([x, y, x * x + y * y, x * y]), taps, taps)
    c1, c2 = 0.01**2, 0.03**2
    light = (2 * mx * my + c1) / (mx * mx + my * my + c1)
    detail = (2 * (product - mx * my) + c2) / (squares - mx * mx - my * my + c2)
    return (light * detail).mean(0)


def outside(alpha: Pixels, margin: int = 0) -> torch.Tensor:
    """(H, W) of bools: True where alpha is exactly 0 in the square of `margin` pixels around the pixel."""
    edited = (plane(alpha) > 0).float()[None, None]
    along, across = ((2 * margin + 1, 1), (margin, 0)), ((1, 2 * margin + 1), (0, margin))
    for size, padding in (along, across):
        edited = F.max_pool2d(edited, size, stride=1, padding=padding)
    return edited[0, 0] == 0


class Preservation:
    """The preservation figures of a clip.

    The suffix of psnr, ssim and lpips names the region: none for the frame; `_outside` where alpha is exactly 0;
    `_away` at least EDIT_MARGIN pixels from any alpha, beyond SSIM's window and a codec's chroma blocks.

    changed: share of pixels outside that differ at all. worst: largest difference outside. drift: largest change of a
    channel's mean outside. Frames without such pixels do not count.

    LPIPS of a region compares frames in which the plate replaces everything else. lpips: a function of two pictures,
    or None.
    """

    def __init__(self, lpips: Callable[[Pixels, Pixels], float] | None = None) -> None:
        self.lpips = lpips
        self.means = Means()
        self.worst: float | None = None

    def add(self, image: Pixels, plate: Pixels, alpha: Pixels | None = None) -> None:
        image, plate = picture(image), picture(plate)
        same_size(image, plate)
        regions: dict[str, torch.Tensor | None] = {"": None}
        if alpha is not None:
            alpha = torch.as_tensor(alpha)
            same_size(image, alpha)
            regions |= {"_outside": outside(alpha), "_away": outside(alpha, EDIT_MARGIN)}
        similar = ssim_map(image, plate)
        rim = WINDOW // 2
        for name, where in regions.items():
            inner = similar if where is None else similar[where[rim:-rim, rim:-rim]]
            self.means.add(
                **{
                    f"psnr{name}": psnr(image, plate, where),
                    f"ssim{name}": float(inner.mean()) if inner.numel() else None,
                    f"lpips{name}": self._distance(image, plate, where),
                }
            )
        if alpha is not None:
            self._add_exactness(image, plate, regions["_outside"])

    def _distance(self, image: torch.Tensor, plate: torch.Tensor, where: torch.Tensor | None) -> float | None:
        if self.lpips is None or (where is not None and not where.any()):
            return None
        return self.lpips(image if where is None else torch.where(where[..., None], image, plate), plate)

    def _add_exactness(self, image: torch.Tensor, plate: torch.Tensor, where: torch.Tensor) -> None:
        if not where.any():
            self.means.add(changed=None, drift=None)
            return
        difference = (image - plate)[where]
        self.means.add(
            changed=float((difference != 0).any(-1).double().mean()), drift=float(difference.mean(0).abs().max())
        )
        self.worst = max(self.worst or 0.0, float(difference.abs().max()))

    def figures(self) -> dict[str, float | None]:
        return {**self.means.figures(), "worst": self.worst}
