"""Video matting metrics over the whole frame, in the scales that the literature uses.

MAD, MSE, Grad, Conn: Rhemann et al., "A Perceptually Motivated Online Benchmark for Image Matting", CVPR 2009.
dtSSD: Erofeev et al., "Perceptually Motivated Benchmark for Video Matting", BMVC 2015. Scales and parameters are
those of the video matting papers since Lin et al., "Robust High-Resolution Video Matting", WACV 2022. All metrics are
errors: 0 is a perfect matte. alpha, truth: (H, W) in [0, 1]. Each function raises ValueError for NaN, values outside
[0, 1], and unequal sizes.
"""

import math

import torch
import torch.nn.functional as F

from vera.core.measure.measured_planes import Means, Pixels, filtered, plane, same_size

# Parameters of the published metrics; other values give figures that cannot be compared with published ones.
GRAD_SIGMA = 1.4  # pixels: standard deviation of the Gaussian whose derivative gives gradients
CONN_STEPS = 10  # number of alpha levels of the connectivity metric
CONN_MIN_DIFFERENCE = 0.15  # alpha above a pixel's connected level from which it counts as not connected


def mad(alpha: Pixels, truth: Pixels) -> float:
    """Mean absolute difference, times 1000."""
    alpha, truth = _pair(alpha, truth)
    return 1e3 * float((alpha - truth).abs().mean())


def mse(alpha: Pixels, truth: Pixels) -> float:
    """Mean squared difference, times 1000."""
    alpha, truth = _pair(alpha, truth)
    return 1e3 * float((alpha - truth).square().mean())


def grad(alpha: Pixels, truth: Pixels) -> float:
    """Sum of squared differences of gradient magnitudes, divided by 1000.

    Each matte is first stretched to [0, 1]. Gradients come from first derivatives of a Gaussian of sigma 1.4, with 9x9
    taps whose squares sum to 1 and with borders repeated.
    """
    alpha, truth = _pair(alpha, truth)
    return float((_gradient(_stretched(alpha)) - _gradient(_stretched(truth))).square().sum()) / 1e3


def conn(alpha: Pixels, truth: Pixels) -> float:
    """Sum of differences in connectivity, divided by 1000.

    A pixel's level is the highest tenth at which the pixel belongs to the largest 4-connected region where both mattes
    reach that tenth. A matte's excess over the level counts as not connected if it is at least CONN_MIN_DIFFERENCE.
    """
    alpha, truth = _pair(alpha, truth)
    level = torch.full_like(truth, -1)
    for step in range(1, CONN_STEPS + 1):
        largest = _largest((alpha >= step / CONN_STEPS) & (truth >= step / CONN_STEPS))
        level[(level == -1) & ~largest] = (step - 1) / CONN_STEPS
    level[level == -1] = 1

    def disconnected(matte: torch.Tensor) -> torch.Tensor:
        above = matte - level
        return torch.where(above >= CONN_MIN_DIFFERENCE, above, 0)

    return float((disconnected(alpha) - disconnected(truth)).abs().sum()) / 1e3


def dtssd(alpha: Pixels, before: Pixels, truth: Pixels, truth_before: Pixels) -> float:
    """Root mean square difference between the two mattes' changes since the previous frame, times 100."""
    (alpha, truth), (before, truth_before) = _pair(alpha, truth), _pair(before, truth_before)
    same_size(alpha, before)
    return 1e2 * math.sqrt(float(((alpha - before) - (truth - truth_before)).square().mean()))


class Matting:
    """The matting figures of a clip, as means over frames; dtssd is None for a single frame."""

    def __init__(self) -> None:
        self.means = Means()
        self.before: tuple[torch.Tensor, torch.Tensor] | None = None

    def add(self, alpha: Pixels, truth: Pixels) -> None:
        change = None if self.before is None else dtssd(alpha, self.before[0], truth, self.before[1])
        self.before = _pair(alpha, truth)
        alpha, truth = self.before
        self.means.add(mad=mad(alpha, truth), mse=mse(alpha, truth), grad=grad(alpha, truth))
        self.means.add(conn=conn(alpha, truth), dtssd=change)

    def figures(self) -> dict[str, float | None]:
        return self.means.figures()


def _pair(alpha: Pixels, truth: Pixels) -> tuple[torch.Tensor, torch.Tensor]:
    alpha, truth = plane(alpha), plane(truth)
    same_size(alpha, truth)
    return alpha, truth


def _stretched(matte: torch.Tensor) -> torch.Tensor:
    low, high = matte.min(), matte.max()
    return (matte - low) / (high - low) if high > low else torch.zeros_like(matte)


def _gradient(matte: torch.Tensor) -> torch.Tensor:
    # The kernel covers the range where the Gaussian's density is above 0.01. Two 1-D filters form the 2-D one.
    s = GRAD_SIGMA
    half = math.ceil(s * math.sqrt(-2 * math.log(math.sqrt(2 * math.pi) * s * 1e-2)))
    bell = torch.tensor([math.exp(-(x**2) / (2 * s**2)) for x in range(-half, half + 1)], dtype=torch.float64)
    slope = bell * torch.arange(half, -half - 1, -1)
    bell, slope = ((taps / taps.norm()).tolist() for taps in (bell, slope))
    padded = F.pad(matte[None, None], (half,) * 4, mode="replicate")[0, 0]
    return torch.hypot(filtered(padded, bell, slope), filtered(padded, slope, bell))


def _largest(inside: torch.Tensor) -> torch.Tensor:
    """The largest 4-connected region of a mask; empty for an empty mask."""
    from scipy import ndimage  # imported here because it is slow to import

    labels, count = ndimage.label(inside.cpu().numpy())
    if not count:
        return torch.zeros_like(inside)
    labels = torch.from_numpy(labels).to(inside.device)
    return labels == labels.flatten().bincount()[1:].argmax() + 1
