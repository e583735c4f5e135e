"""The blur of edges is measured at any height of the edge, under grain, and beside parts that are out of focus."""

import numpy as np
import pytest
from scipy import ndimage

from vera.core.plate.sharpness import edge_blur

FINER = 8  # samples to a pixel of the scene's truth


def discs(blur: float, height: int = 120, width: int = 180) -> np.ndarray:
    """Discs of many heights, blurred by a Gaussian of this deviation in pixels, and a pixel's own area."""
    rng = np.random.default_rng(2)
    y, x = np.mgrid[: height * FINER, : width * FINER].astype(np.float32) / FINER
    picture = np.full(x.shape, 0.3, np.float32)
    for _ in range(8):
        centre, radius = rng.uniform(0, (height, width)), rng.uniform(10, 30)
        picture[(y - centre[0]) ** 2 + (x - centre[1]) ** 2 < radius**2] = rng.uniform()
    if blur:
        picture = ndimage.gaussian_filter(picture, blur * FINER)
    return picture.reshape(height, FINER, width, FINER).mean((1, 3))


@pytest.mark.parametrize("blur", [0, 0.5, 0.8, 1.2, 2])
@pytest.mark.parametrize("grain", [0, 0.01])
def test_a_known_blur_is_found(blur, grain):
    picture = discs(blur) + grain * np.random.default_rng(1).standard_normal((120, 180))
    truth = np.hypot(blur, 1 / np.sqrt(12))
    assert abs(edge_blur(picture.astype(np.float32)) - truth) < 0.06 + 0.06 * truth


def test_what_is_in_focus_tells():
    picture = np.concatenate([discs(0.8), discs(4)], axis=1)
    assert abs(edge_blur(picture) - 0.85) < 0.15


def test_a_soft_picture_and_mere_grain_have_no_edges():
    noise = 0.5 + 0.05 * np.random.default_rng(1).standard_normal((120, 180)).astype(np.float32)
    assert edge_blur(noise) is None
    assert edge_blur(np.tile(np.linspace(0, 1, 180, dtype=np.float32), (120, 1))) is None
