"""The matting metrics against references that implement the published formulas in another way."""

import math

import numpy as np
import pytest
import torch
from scipy import ndimage
from skimage import measure

from vera.core.measure import matting

RNG = np.random.default_rng(5)


def reference_grad(alpha, truth):
    """The formula with the full 2-D kernel."""
    sigma = 1.4
    half = math.ceil(sigma * math.sqrt(-2 * math.log(math.sqrt(2 * math.pi) * sigma * 0.01)))
    y, x = np.mgrid[-half : half + 1, -half : half + 1].astype(float)

    def gaussian(v):
        return np.exp(-(v**2) / (2 * sigma**2)) / (sigma * math.sqrt(2 * math.pi))

    kernel = gaussian(y) * -x * gaussian(x) / sigma**2
    kernel /= math.sqrt((kernel**2).sum())
    magnitudes = []
    for matte in (alpha, truth):
        spread = matte.max() - matte.min()
        matte = (matte - matte.min()) / spread if spread else matte * 0
        along = [ndimage.correlate(matte, k, mode="nearest") for k in (kernel, kernel.T)]
        magnitudes.append(np.sqrt(along[0] ** 2 + along[1] ** 2))
    return ((magnitudes[0] - magnitudes[1]) ** 2).sum() / 1000


def reference_conn(alpha, truth):
    """The formula level by level and pixel by pixel, with skimage's connected components."""
    level = np.ones_like(truth)
    for tenth in range(10, 0, -1):  # from the top: the last level that leaves a pixel out is the lowest
        both = np.minimum(alpha, truth) >= tenth / 10
        found = max(measure.regionprops(measure.label(both, connectivity=1)), key=lambda r: r.area, default=None)
        connected = {tuple(c) for c in found.coords} if found else set()
        for place in np.ndindex(truth.shape):
            if place not in connected:
                level[place] = (tenth - 1) / 10
    total = 0.0
    for a, t, connected_at in zip(alpha.flat, truth.flat, level.flat):
        phi_a, phi_t = (1 - (v - connected_at) if v - connected_at >= 0.15 else 1 for v in (a, t))
        total += abs(phi_a - phi_t)
    return total / 1000


def blob(height, width, seed, soft=3.0):
    noise = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=(height, width)), soft)
    return np.clip(0.5 + noise / (noise.std() or 1), 0, 1)


def one_pixel(height, width, value=1.0):
    matte = np.zeros((height, width))
    matte[height // 2, width // 3] = value
    return matte


PAIRS = {
    "random": (RNG.random((24, 31)), RNG.random((24, 31))),
    "soft shapes": (blob(37, 53, 1), blob(37, 53, 2)),
    "near truth": (np.clip(blob(40, 40, 3) + RNG.normal(0, 0.02, (40, 40)), 0, 1), blob(40, 40, 3)),
    "of 8 bits": (np.round(blob(33, 29, 4) * 255) / 255, np.round(blob(33, 29, 5) * 255) / 255),
    "two islands": (np.pad(np.full((6, 6), 0.8), ((2, 20), (3, 20))), np.pad(np.full((6, 6), 1.0), ((20, 2), (20, 3)))),
    "a corner's touch": (np.kron(np.eye(2), np.ones((9, 7))), np.ones((18, 14))),
    "all 0": (np.zeros((17, 19)), blob(17, 19, 6)),
    "all 1": (np.ones((17, 19)), blob(17, 19, 7)),
    "0 for 1": (np.zeros((11, 13)), np.ones((11, 13))),
    "grey for 1": (np.full((11, 13), 0.5), np.ones((11, 13))),
    "one pixel lit": (one_pixel(21, 15), one_pixel(21, 15, 0.6)),
    "of one pixel": (np.array([[0.3]]), np.array([[0.9]])),
    "a row": (RNG.random((1, 40)), RNG.random((1, 40))),
    "equal": (blob(25, 25, 8), blob(25, 25, 8)),
}


@pytest.mark.parametrize("name", PAIRS)
@pytest.mark.parametrize("kind", (np.float64, np.float32))
def test_metrics_equal_references_of_the_published_formulas(name, kind):
    alpha, truth = (matte.astype(kind) for matte in PAIRS[name])
    a, t = alpha.astype(float), truth.astype(float)
    assert matting.mad(alpha, truth) == pytest.approx(1000 * np.mean(np.abs(a - t)), rel=1e-4, abs=1e-9)
    assert matting.mse(alpha, truth) == pytest.approx(1000 * np.mean((a - t) ** 2), rel=1e-4, abs=1e-9)
    assert matting.grad(alpha, truth) == pytest.approx(reference_grad(a, t), rel=1e-4, abs=1e-9)
    assert matting.conn(alpha, truth) == pytest.approx(reference_conn(a, t), rel=1e-4, abs=1e-9)


def test_metrics_have_the_published_scales():
    """Values computed by hand."""
    half, none = np.full((10, 20), 0.5), np.zeros((10, 20))
    assert matting.mad(half, none) == pytest.approx(500)
    assert matting.mse(half, none) == pytest.approx(250)
    assert matting.grad(half, none) == 0  # flat mattes have no gradient
    assert matting.conn(half, none) == pytest.approx(200 * 0.5 / 1000)
    assert matting.dtssd(half, none, none, none) == pytest.approx(50)


def test_clip_figures_are_means_over_frames():
    alphas, truths = [blob(20, 30, s) for s in range(5)], [blob(20, 30, s) for s in range(10, 15)]
    clip = matting.Matting()
    for alpha, truth in zip(alphas, truths):
        clip.add(torch.from_numpy(alpha), truth)
    steps = (np.diff(alphas, axis=0) - np.diff(truths, axis=0)) ** 2
    expected = {
        "mad": np.mean([1000 * np.abs(a - t).mean() for a, t in zip(alphas, truths)]),
        "mse": np.mean([1000 * ((a - t) ** 2).mean() for a, t in zip(alphas, truths)]),
        "grad": np.mean([reference_grad(a, t) for a, t in zip(alphas, truths)]),
        "conn": np.mean([reference_conn(a, t) for a, t in zip(alphas, truths)]),
        "dtssd": np.mean([100 * math.sqrt(s.mean()) for s in steps]),
    }
    assert clip.figures() == pytest.approx(expected, rel=1e-4)


def test_dtssd_of_one_frame_is_not_measured():
    clip = matting.Matting()
    clip.add(*PAIRS["soft shapes"])
    figures = clip.figures()
    assert figures.pop("dtssd") is None and None not in figures.values()


@pytest.mark.parametrize(
    ("alpha", "words"),
    [
        (np.full((4, 4), np.nan), "NaN"),
        (np.full((4, 4), np.inf), "NaN or infinity"),
        (np.full((4, 4), 1.01), "from 1.01 to 1.01"),
        (np.full((4, 4), -0.01), "in \\[0, 1\\]"),
        (np.zeros((4, 5)), "5x4 and 4x4"),
        (np.zeros((4, 4, 1)), "\\(H, W\\)"),
        (np.zeros((0, 4)), "\\(H, W\\)"),
    ],
)
def test_values_that_are_not_a_matte_are_refused(alpha, words):
    for measure_of in (matting.mad, matting.mse, matting.grad, matting.conn, matting.Matting().add):
        with pytest.raises(ValueError, match=words):
            measure_of(alpha, np.zeros((4, 4)))
