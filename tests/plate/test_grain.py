"""Grain of known strength, size and colour is found, by level, and texture is not taken for it."""

from functools import cache

import numpy as np
import pytest
from scipy import ndimage

from vera.core.plate.grain import BLOCK, LEVELS, Grain, measure_grain, measured_pairs

SIZE = (112, 256)
COLORS = {"one for all channels": np.ones((3, 3)), "each its own": np.eye(3), "in between": np.eye(3) + 0.6}
STRENGTHS = {"even": lambda codes: 0.012 + 0 * codes, "in the dark": lambda codes: 0.02 - 0.015 * codes}
SEEN = slice(2, LEVELS - 2)  # levels that the scene has in every channel


@cache
def scene() -> np.ndarray:
    """All levels from 0.05 to 0.95 in every channel, (H, W, 3)."""
    across, down = (np.linspace(0.05, 0.95, n) for n in SIZE[::-1])
    red = np.broadcast_to(across, SIZE)
    return np.stack([red, red[:, ::-1], (red + down[:, None]) / 2], -1)


def grain(frame: int, size: float, color: str) -> np.ndarray:
    """Of unit variance a channel."""
    white = np.random.default_rng(frame).standard_normal((*SIZE, 3))
    if size:
        white = ndimage.gaussian_filter(white, (size, size, 0), mode="wrap")
    mixed = white @ COLORS[color]
    return mixed / mixed.std((0, 1))


def measured(clean, size=0.8, color="in between", strength="even", frames=range(4)) -> Grain | None:
    def picture(frame):
        base = clean(frame)
        return np.clip(base + STRENGTHS[strength](base) * grain(frame, size, color), 0, 1).astype(np.float32)

    return measure_grain(frames, picture)


@pytest.mark.parametrize(
    ("size", "color", "strength"),
    [(0, "each its own", "in the dark"), (0.8, "in between", "even"), (1.6, "one for all channels", "in the dark")],
)
def test_strength_by_level_size_and_colour_are_found(size, color, strength):
    found = measured(lambda frame: scene(), size, color, strength)
    assert found is not None
    centres = (np.arange(LEVELS) + 0.5) / LEVELS
    wanted = STRENGTHS[strength](centres)[SEEN]
    assert np.abs(found.deviations[:, SEEN] / wanted - 1).max() < 0.15
    made = grain(99, size, color)
    together = np.corrcoef(made.reshape(-1, 3).T)[0, 1]
    assert abs(found.spectrum[0, 1].mean() - together) < 0.05
    truth = np.sqrt(2 * np.pi) * size if size > 0.5 else 1.0
    assert abs(found.size() / truth - 1) < 0.15


def test_texture_that_rests_or_moves_is_no_grain():
    texture = ndimage.gaussian_filter(np.random.default_rng(5).standard_normal(SIZE), 1.0)
    texture *= 0.04 / texture.std() * (np.arange(SIZE[0])[:, None] < SIZE[0] / 2)
    for speed in (0, 3):
        found = measured(lambda frame: scene() + np.roll(texture, speed * frame, 1)[..., None])
        assert found is not None
        assert np.abs(found.deviations[:, SEEN] / 0.012 - 1).max() < 0.15


def test_a_plate_without_grain_has_none():
    found = measure_grain(range(4), lambda frame: scene().astype(np.float32))
    assert found is None or found.deviations.max() < 1e-4


def test_cut_codes_tell_nothing():
    """White that is cut has half of its grain: it is left out, and the nearest level stands for it."""
    found = measured(lambda frame: np.where(scene() > 0.8, 1.05, scene()))
    assert found is not None and found.deviations[0, -1] > 0.85 * 0.012


def test_a_lone_frame_tells_fine_grain():
    found = measured(lambda frame: scene(), frames=[7])
    assert found is not None
    assert np.abs(found.deviations[:, SEEN] / 0.012 - 1).max() < 0.15


def test_a_picture_smaller_than_a_block_has_no_grain_estimate():
    small = np.full((BLOCK - 1, 200, 3), 0.5, np.float32)
    assert measure_grain([1, 2], lambda frame: small) is None


def test_what_is_not_finite_does_not_count():
    """As where a layer is not opaque: grain there is not the layer's."""

    def picture(frame):
        noisy = (scene() + 0.012 * grain(frame, 0.8, "each its own")).astype(np.float32)
        noisy[:, : SIZE[1] // 3] = scene()[:, : SIZE[1] // 3]
        noisy[:, : SIZE[1] // 3, 0] = np.nan
        return noisy

    found = measure_grain(range(6), picture)
    assert found is not None and abs(found.deviations[0, LEVELS // 2] / 0.012 - 1) < 0.15


@pytest.mark.parametrize("count", [1, 2, 3, 100])
def test_pairs_follow_one_another_and_spread_over_the_shot(count):
    frames = range(1001, 1001 + count)
    pairs = measured_pairs(frames)
    assert all(b - a == (count > 1) for a, b in pairs) and pairs == sorted(set(pairs))
    assert pairs[0][0] == 1001 and pairs[-1][1] == frames[-1]
