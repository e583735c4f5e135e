"""PSNR and SSIM against scikit-image; the regions against scipy's dilation."""

import numpy as np
import pytest
import torch
from scipy import ndimage
from skimage import metrics

from vera.core.measure import preservation
from vera.core.measure.preservation import EDIT_MARGIN, Preservation, outside, psnr, ssim, ssim_map

RNG = np.random.default_rng(9)


def pictures(height, width, seed=0, noise=0.1):
    rng = np.random.default_rng(seed)
    plate = np.clip(ndimage.gaussian_filter(rng.normal(0.5, 2, (height, width, 3)), (2, 2, 0)), 0, 1)
    return np.clip(plate + rng.normal(0, noise, plate.shape), 0, 1), plate


def disc(height, width, radius):
    y, x = np.mgrid[:height, :width]
    return np.clip(radius - np.hypot(y - height / 2, x - width / 3), 0, 1)


PAIRS = {
    "random": (RNG.random((40, 30, 3)), RNG.random((40, 30, 3))),
    "noise": pictures(64, 83),
    "a step of 8 bits": (lambda p: (np.clip(np.round(p * 255) + 1, 0, 255) / 255, np.round(p * 255) / 255))(
        pictures(31, 45, 1)[1]
    ),
    "black and white": (np.zeros((21, 13, 3)), np.ones((21, 13, 3))),
    "flat and near": (np.full((15, 15, 3), 0.5), np.full((15, 15, 3), 0.501)),
    "one window": pictures(11, 11, 2),
    "negative": (1 - pictures(29, 29, 3)[1], pictures(29, 29, 3)[1]),
}


def reference_map(image, plate):
    """scikit-image's SSIM map, complete windows only."""
    _, values = metrics.structural_similarity(
        image,
        plate,
        win_size=11,
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
        data_range=1,
        channel_axis=2,
        full=True,
    )
    return values[5:-5, 5:-5].mean(-1)


@pytest.mark.parametrize("name", PAIRS)
@pytest.mark.parametrize("kind", (np.float64, np.float32))
def test_psnr_and_ssim_equal_scikit_image(name, kind):
    image, plate = (p.astype(kind) for p in PAIRS[name])
    a, b = image.astype(float), plate.astype(float)
    assert psnr(image, plate) == pytest.approx(metrics.peak_signal_noise_ratio(b, a, data_range=1), abs=1e-4)
    assert ssim(image, plate) == pytest.approx(reference_map(a, b).mean(), abs=1e-4)
    assert np.abs(ssim_map(torch.from_numpy(image), plate).numpy() - reference_map(a, b)).max() < 1e-4


@pytest.mark.parametrize("margin", (0, 1, EDIT_MARGIN))
@pytest.mark.parametrize("radius", (0, 0.2, 6, 40))
def test_outside_excludes_the_edit_dilated_by_the_margin(margin, radius):
    alpha = disc(33, 47, radius)
    alpha[0, 46] = 1e-6 if radius == 6 else 0  # a very faint edit in the corner
    edited = alpha > 0
    grown = ndimage.binary_dilation(edited, np.ones((2 * margin + 1,) * 2)) if margin else edited
    assert np.array_equal(outside(alpha, margin).numpy(), ~grown)


def test_ssim_of_a_region_is_the_mean_of_the_map_there():
    (image, plate), alpha = pictures(50, 61, 4), disc(50, 61, 9)
    clip = Preservation()
    clip.add(image, plate, alpha)
    figures = clip.figures()
    for name, where in (("_outside", alpha == 0), ("_away", ~ndimage.binary_dilation(alpha > 0, np.ones((17, 17))))):
        assert figures["psnr" + name] == pytest.approx(-10 * np.log10(np.mean((image - plate)[where] ** 2)), abs=1e-4)
        assert figures["ssim" + name] == pytest.approx(reference_map(image, plate)[where[5:-5, 5:-5]].mean(), abs=1e-4)


def test_an_edit_does_not_change_the_figures_away_from_it():
    """SSIM's windows reach the edit from just outside, but not from MARGIN pixels away."""
    plate, alpha = pictures(60, 60, 5)[1], disc(60, 60, 8)
    edited = np.where(alpha[..., None] > 0, 1 - plate, plate)
    clip = Preservation()
    clip.add(edited, plate, alpha)
    figures = clip.figures()
    assert figures["psnr"] < 30 and figures["ssim"] < 0.99
    assert figures["psnr_outside"] == figures["psnr_away"] == preservation.MAX_PSNR
    assert figures["ssim_outside"] < 0.999 and figures["ssim_away"] == 1
    assert figures["changed"] == figures["worst"] == figures["drift"] == 0


def test_a_change_of_one_code_in_one_pixel_is_measured():
    plate, alpha = np.round(pictures(40, 40, 6)[1] * 255) / 255, disc(40, 40, 5)
    image = plate.copy()
    image[39, 39, 1] += 1 / 255
    clip = Preservation()
    clip.add(plate, plate, alpha)
    clip.add(image, plate, alpha)
    figures = clip.figures()
    assert figures["changed"] == pytest.approx(0.5 / (alpha == 0).sum())
    assert figures["worst"] == pytest.approx(1 / 255)


@pytest.mark.parametrize(
    "change, drift",
    [
        ((0.02, 0, 0), 0.02),  # one channel's mean
        ((0.01, -0.03, 0.02), 0.03),  # the largest, whichever way
        ("noise", 0),  # no drift: it has no mean
    ],
)
def test_drift_is_the_largest_change_of_a_channels_mean_outside(change, drift):
    plate, alpha = 0.25 + pictures(40, 40, 6)[1] / 2, disc(40, 40, 5)
    checks = np.where(np.indices((40, 40)).sum(0) % 2, 0.05, -0.05)[..., None]
    image = plate + (checks if change == "noise" else np.array(change))
    image[alpha > 0] = 1
    clip = Preservation()
    clip.add(image, plate, alpha)
    assert clip.figures()["drift"] == pytest.approx(drift, abs=1e-3)


def test_clip_figures_average_the_frames_that_have_the_region():
    frames = [pictures(30, 40, s) for s in range(3)]
    alphas = [disc(30, 40, 6), np.ones((30, 40)), disc(30, 40, 3)]
    clip = Preservation()
    for (image, plate), alpha in zip(frames, alphas):
        clip.add(image, plate, alpha)
    figures = clip.figures()
    assert figures["psnr"] == pytest.approx(np.mean([psnr(*f) for f in frames]))
    there = [psnr(*f, where=a == 0) for f, a in zip(frames, alphas) if (a == 0).any()]
    assert len(there) == 2 and figures["psnr_outside"] == pytest.approx(np.mean(there))
    assert figures["lpips"] is None  # no weights, not measured


def test_without_pixels_outside_there_is_no_figure():
    clip = Preservation()
    clip.add(*pictures(20, 20), np.ones((20, 20)))
    figures = clip.figures()
    assert all(figures[n] is None for n in ("psnr_outside", "ssim_away", "changed", "drift", "worst"))
    assert figures["psnr"] is not None


def test_lpips_outside_is_independent_of_the_edit():
    seen = []
    clip = Preservation(lambda image, plate: seen.append(image.numpy()) or 0.25)
    (image, plate), alpha = pictures(30, 30, 7), disc(30, 30, 5)
    clip.add(image, plate, alpha)
    assert np.array_equal(seen[0], image)
    assert np.array_equal(seen[1], np.where(alpha[..., None] > 0, plate, image))
    assert clip.figures()["lpips_outside"] == 0.25


@pytest.mark.parametrize(
    ("image", "words"),
    [
        (np.full((20, 20, 3), np.nan), "NaN"),
        (np.zeros((20, 21, 3)), "21x20 and 20x20"),
        (np.zeros((20, 20, 4)), "\\(H, W, 3\\)"),
        (np.zeros((20, 20)), "\\(H, W, 3\\)"),
    ],
)
def test_values_that_are_not_a_picture_are_refused(image, words):
    with pytest.raises(ValueError, match=words):
        Preservation().add(image, np.zeros((20, 20, 3)))


def test_frames_smaller_than_the_ssim_window_are_refused():
    with pytest.raises(ValueError, match="12x10 is smaller"):
        ssim(np.zeros((10, 12, 3)), np.zeros((10, 12, 3)))
