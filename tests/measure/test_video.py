"""Temporal figures and sharpness against plain references."""

import numpy as np
import pytest
from scipy import ndimage

from vera.core.measure.video import Video, flicker, sharpness

RNG = np.random.default_rng(2)


def measured(frames, plates, alphas):
    video = Video()
    for triple in zip(frames, plates, alphas):
        video.add(*triple)
    return video.figures()


def test_flicker_equals_vbench_temporal_flickering():
    a, b = (np.round(RNG.random((19, 23, 3)) * 255) for _ in range(2))
    assert flicker(a / 255, b / 255) == pytest.approx((255 - np.mean(np.abs(a - b))) / 255, abs=1e-9)


@pytest.mark.parametrize("size", ((19, 23), (3, 3), (40, 5)))
def test_sharpness_equals_the_variance_of_the_laplacian(size):
    image = RNG.random((*size, 3))
    luma = image @ [0.299, 0.587, 0.114]
    assert sharpness(image) == pytest.approx(ndimage.laplace(luma)[1:-1, 1:-1].var(), rel=1e-6, abs=1e-12)


def test_a_blurred_result_is_less_sharp_than_the_plate():
    plate = RNG.random((30, 30, 3))
    blurred, alpha = ndimage.gaussian_filter(plate, (1, 1, 0)), np.zeros((30, 30))
    figures = measured([blurred], [plate], [alpha])
    assert figures["sharpness"] < 0.2
    alpha[:, :10] = 1
    detail = [ndimage.laplace(p @ [0.299, 0.587, 0.114])[1:-1, 18:-1].var() for p in (blurred, plate)]
    assert measured([blurred], [plate], [alpha])["sharpness"] == pytest.approx(detail[0] / detail[1])
    edited = np.where(alpha[..., None] > 0, RNG.random((30, 30, 3)), plate)
    assert measured([edited], [plate], [alpha])["sharpness"] == 1  # the edit's own detail does not count
    assert figures["flicker"] is None and figures["unsteady"] is None  # a single frame


def test_unsteady_measures_changes_over_time_outside_the_edit():
    plates = [RNG.random((12, 14, 3)) for _ in range(4)]
    alpha = np.zeros((12, 14))
    alpha[3:6, 4:9] = 0.5
    still = np.zeros((12, 14, 3)) + 0.02  # a constant colour shift is steady
    moved = [p + still + (alpha[..., None] > 0) * RNG.random((12, 14, 3)) for p in plates]
    assert measured(moved, plates, [alpha] * 4)["unsteady"] == pytest.approx(0, abs=1e-12)
    noise = [RNG.normal(0, 0.01, (12, 14, 3)) for _ in plates]
    expected = np.mean([100 * np.sqrt(np.square((b - a)[alpha == 0]).mean()) for a, b in zip(noise, noise[1:])])
    noisy = [p + n for p, n in zip(plates, noise)]
    assert measured(noisy, plates, [alpha] * 4)["unsteady"] == pytest.approx(expected)
    assert measured(noisy, plates, [None] * 4)["unsteady"] is None
    assert measured(noisy, plates, [np.ones((12, 14))] * 4)["unsteady"] is None


def test_unsteady_counts_a_pixel_that_the_edit_covers_in_neither_frame():
    """A column that the edit covers first, one that it covers next, and one beside both: only that may count."""
    alphas = np.zeros((2, 6, 3))
    alphas[0, :, 0] = alphas[1, :, 1] = 1
    plates = np.full((2, 6, 3, 3), 0.5)
    seen = plates + 0.25 * alphas[..., None]
    seen[1, :, 2] += 0.01
    assert measured(seen, plates, alphas)["unsteady"] == pytest.approx(1)


def test_sharpness_over_a_flat_plate_is_not_measured():
    assert measured([RNG.random((9, 9, 3))], [np.full((9, 9, 3), 0.5)], [None])["sharpness"] is None
