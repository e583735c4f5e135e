"""How much of the plate a result has kept: over the frame, and where the edit is not.

PSNR: of all channels together, peak 1. SSIM: Wang et al., "Image Quality Assessment", IEEE TIP 2004, with its 11x11
Gaussian window of sigma 1.5, K 0.01 and 0.03, biased variances, where the window fits whole, a mean of the channels;
so do scikit-image with gaussian_weights, torchmetrics and the papers that use either. LPIPS: see perceptual.py.
"""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F

from vera.core.measure.planes import Means, Pixels, filtered, picture, plane, same_size

WINDOW, SIGMA = 11, 1.5
BEST_PSNR = 100.0  # what two equal frames count as, where a mean would otherwise be infinite
MARGIN = 8  # pixels; more than SSIM's window reaches, and a codec's chroma


def psnr(image: Pixels, plate: Pixels, where: Pixels | None = None) -> float | None:
    """Peak signal-to-noise ratio in dB, at most 100; `where` (H, W) of bools: of those pixels, None without any."""
    error = (picture(image) - picture(plate)).square().mean(-1)
    if where is not None:
        error = error[torch.as_tensor(where)]
    if error.numel() == 0:
        return None
    return min(BEST_PSNR, -10 * math.log10(max(float(error.mean()), 1e-300)))


def ssim(image: Pixels, plate: Pixels, where: Pixels | None = None) -> float | None:
    """Structural similarity in [-1, 1]; `where` (H, W) of bools: the mean over windows centred on those pixels.

    Raises ValueError for frames smaller than the window, 11 pixels.
    """
    values = ssim_map(image, plate)
    if where is not None:
        rim = WINDOW // 2
        values = values[torch.as_tensor(where)[rim:-rim, rim:-rim]]
    return float(values.mean()) if values.numel() else None


def ssim_map(image: Pixels, plate: Pixels) -> torch.Tensor:
    """Of every whole window, the mean of its channels: (H - 10, W - 10)."""
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
    """(H, W) of bools: where alpha is exactly 0, and within `margin` pixels in each direction too."""
    edited = (plane(alpha) > 0).float()[None, None]
    along, across = ((2 * margin + 1, 1), (margin, 0)), ((1, 2 * margin + 1), (0, margin))
    for size, padding in (along, across):
        edited = F.max_pool2d(edited, size, stride=1, padding=padding)
    return edited[0, 0] == 0


class Preservation:
    """A clip's figures. Of psnr, ssim, lpips, the suffix says where: none is the frame, `_outside` is where alpha is
    exactly 0, `_away` at least MARGIN pixels from anything else, so that no window and no codec's block of chroma
    reaches across. `changed`: the share of pixels outside that differ at all; `worst`: the largest difference there;
    `drift`: of the mean colour there, the channel that moved most. A frame without such pixels counts for none of them.

    LPIPS outside is of the frame with the plate laid over what was edited. lpips: a function of two pictures, or None.
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
            regions |= {"_outside": outside(alpha), "_away": outside(alpha, MARGIN)}
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
