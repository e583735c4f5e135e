"""Measure a picture's sharpness: the standard deviation of the Gaussian that blurs its sharpest edges.

For a step blurred by a standard deviation s, the slopes under Gaussian derivatives of standard deviations a < b have
the ratio sqrt((s^2 + b^2) / (s^2 + a^2)), which gives s independently of the step's height (Zhuo, Sim, "Defocus map
estimation from a single image", Pattern Recognition 2011). A third scale excludes lines and corners, where this does
not hold.
"""

from collections.abc import Iterable

import numpy as np
from scipy import ndimage

# Standard deviations of the derivatives, in pixels. Finer ones would measure grain, coarser ones the next edge.
SCALES = (1.0, 1.5, 2.25)
LEAST_STEP = 0.1  # smallest height of an edge that counts, in [0, 1]; raising it leaves out soft and faint edges
OVER_GRAIN = 6.0  # smallest ratio of an edge's slope to the grain's; raising it leaves out edges of grainy plates
# Largest relative difference between the blur variances from the two pairs of scales. Edges with a larger one are not
# steps (lines, corners) and are left out; raising it lets more of them in.
MAX_VARIANCE_DIFFERENCE = 0.15
# Quantile of the edges' blur that is returned: that of edges in focus. Raising it counts edges out of focus too.
FOCUS_QUANTILE = 0.25
LEAST_EDGES = 40  # smallest number of edge pixels for a result; raising it leaves more pictures without one
# Largest number of pixels that are measured; of larger pictures the middle is used. Raising it takes time.
MOST_PIXELS = 2_000_000


def edge_blur(picture: np.ndarray) -> float | None:
    """Blur of the sharpest edges: standard deviation in pixels; None if there are too few edges.

    picture: (H, W) float32. A rendered, antialiased step has a blur of 0.3, from the area of a pixel.
    """
    slopes = [ndimage.gaussian_gradient_magnitude(_middle(picture), scale, truncate=3.5) for scale in SCALES]
    grain = 1.4826 * np.median(slopes[0])
    height = slopes[0] * np.sqrt(2 * np.pi) * SCALES[0]
    edges = (height > LEAST_STEP) & (slopes[0] > OVER_GRAIN * grain) & _crests(slopes[1])
    a, b, c = (s[edges].astype(np.float64) for s in slopes)
    fine, coarse = _variance(a / b, *SCALES[:2]), _variance(b / c, *SCALES[1:])
    step = np.abs(fine - coarse) < MAX_VARIANCE_DIFFERENCE * (np.abs(fine) + SCALES[0] ** 2)
    if step.sum() < LEAST_EDGES:
        return None
    return float(np.sqrt(max(0.0, np.quantile(fine[step], FOCUS_QUANTILE))))


def sharpness_of(pictures: Iterable[np.ndarray]) -> float | None:
    """The median of `edge_blur` over pictures (H, W); None if none has edges."""
    blurs = [blur for picture in pictures if (blur := edge_blur(picture)) is not None]
    return float(np.median(blurs)) if blurs else None


def _variance(ratio: np.ndarray, finer: float, coarser: float) -> np.ndarray:
    """Variance of the blur of steps whose slopes at two scales have this ratio."""
    squared = np.maximum(ratio**2, 1 + 1e-3)
    return (coarser**2 - squared * finer**2) / (squared - 1)


def _crests(slopes: np.ndarray) -> np.ndarray:
    """Mask of slopes that are steeper than both neighbours in their row or in their column."""
    return (slopes >= ndimage.maximum_filter1d(slopes, 3, 0)) | (slopes >= ndimage.maximum_filter1d(slopes, 3, 1))


def _middle(picture: np.ndarray) -> np.ndarray:
    """The middle of a picture, of at most MOST_PIXELS pixels."""
    if picture.size <= MOST_PIXELS:
        return picture
    share = np.sqrt(MOST_PIXELS / picture.size)
    box = tuple(slice(int(n * (1 - share) / 2), int(n * (1 + share) / 2)) for n in picture.shape)
    return picture[box]
