"""A layer made like its plate has the plate's grain by level and spectrum, and the plate's sharpness at most."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import ndimage

from vera.core.layer.blend_space import ModelLayer, composite, find_blending, layer_for_blending
from vera.core.layer.match import LONE_GRAIN, NO_EDGES, NO_GRAIN, LaidLayer, Matching, measure
from vera.core.layer.regrain import FILTER_RADIUS, NOISE_BLOCK, TILE, GrainMaker
from vera.core.plate.color import PlateColor
from vera.core.plate.color_space import LINEAR
from vera.core.plate.grain import measure_grain
from vera.core.plate.sharpness import edge_blur

SIZE = (128, 256)
SIGMAS = {"even": lambda codes: 0.012 + 0 * codes, "in the dark": lambda codes: 0.02 - 0.015 * codes}
MIX = np.eye(3) + 0.6  # of the channels: a correlation of 0.69
BANDS = ((0.02, 0.08), (0.08, 0.16), (0.16, 0.32), (0.32, 0.5))  # cycles a pixel


def ramp() -> np.ndarray:
    return np.broadcast_to(np.linspace(0.05, 0.95, SIZE[1])[:, None], (*SIZE, 3))


def plate(frame: int, size: float = 0.8, sigma: str = "even") -> np.ndarray:
    """A ramp with grain of a known size, and colours that go together."""
    white = np.random.default_rng(frame).standard_normal((*SIZE, 3))
    noise = ndimage.gaussian_filter(white, (size, size, 0), mode="wrap") if size else white
    noise = noise @ MIX
    return np.clip(ramp() + SIGMAS[sigma](ramp()) * noise / noise.std((0, 1)), 0, 1).astype(np.float32)


@pytest.fixture(scope="module")
def like() -> Matching:
    """Of a plate of even grain, seed 3."""
    found = measure(("grain",), range(1, 5), plate, 3)
    assert found.warnings == []
    return found


def laid(color=0.5, alpha=1.0, frame=1, source=None, **named) -> LaidLayer:
    edit = np.broadcast_to(np.float32(color), (*SIZE, 3)).copy()
    opacity = np.broadcast_to(np.float32(alpha), SIZE).copy()
    return LaidLayer(edit, opacity, plate(frame) if source is None else source, None, frame, (0, 0), **named)


def power(noise: np.ndarray) -> np.ndarray:
    """Of each band, of (H, W), a pixel's variance."""
    spectrum = np.abs(np.fft.fft2(noise - noise.mean())) ** 2 / noise.size**2
    radius = np.hypot(*np.meshgrid(np.fft.fftfreq(SIZE[0]), np.fft.fftfreq(SIZE[1]), indexing="ij"))
    return np.array([spectrum[(radius >= low) & (radius < high)].sum() for low, high in BANDS])


# Grain


@pytest.mark.parametrize(("size", "sigma"), [(0, "in the dark"), (0.8, "even"), (1.6, "in the dark")])
def test_grain_is_the_plates_by_level_and_spectrum(size, sigma):
    like = measure(("grain",), range(1, 5), lambda f: plate(f, size, sigma), 0)
    truth = np.mean(
        [power((plate(f, size, sigma) - ramp())[..., 1] / SIGMAS[sigma](ramp()[..., 1])) for f in (8, 9)], 0
    )
    for level in (0.2, 0.5, 0.8):
        noises = [like.grained(laid(level, frame=f)) - level for f in (1, 2, 3)]
        for channel in range(3):
            assert abs(np.std([n[..., channel] for n in noises]) / SIGMAS[sigma](level) - 1) < 0.15
        made = np.mean([power(n[..., 1] / SIGMAS[sigma](level)) for n in noises], 0)
        seen = truth > 0.03  # bands that hold something of it
        assert np.abs(np.sqrt(made / truth) - 1)[seen].max() < 0.15
        together = np.corrcoef(np.stack(noises).reshape(-1, 3).T)[np.triu_indices(3, 1)]
        assert np.abs(together - 0.69).max() < 0.06


@pytest.mark.parametrize("alpha", [0.3, 0.7])
def test_what_is_seen_through_a_veil_has_as_much_grain_as_the_plate(like, alpha):
    filmed = plate(1)
    made = like.grained(laid(0.5, alpha, source=filmed))
    seen = alpha * made + (1 - alpha) * filmed - (alpha * 0.5 + (1 - alpha) * ramp())
    assert abs(seen.std() / 0.012 - 1) < 0.15


def test_colour_that_has_the_plates_grain_gets_no_more(like):
    own = np.zeros(SIZE, np.float32)
    own[:, :100] = 1
    made = like.grained(replace(laid(), own=own))
    assert (made[:, :100] == 0.5).all() and made[:, 100:].std() > 0.01


def test_grain_that_came_along_counts(like):
    """An edited video with grain of its own gets what lacks, here nothing."""
    grainy = replace(like, brought=measure_grain(range(1, 5), plate))
    assert grainy.grained(laid()).std() < 0.003


def test_nothing_is_added_where_alpha_is_zero(like):
    alpha = np.zeros(SIZE, np.float32)
    alpha[40:60, 30:90] = 1
    made = like.grained(replace(laid(), alpha=alpha))
    assert (made[alpha == 0] == 0.5).all() and made[alpha == 1].std() > 0.01


@pytest.mark.parametrize("color", [0.0, 0.004, 1.0, 0.996])
def test_colours_at_the_ends_stay_in_range_and_are_not_shifted(like, color):
    made = like.grained(laid(color))
    assert made.min() >= 0 and made.max() <= 1
    assert abs(made.mean() - color) < 2e-4


def test_mean_colour_stays(like):
    assert abs(like.grained(laid(0.5)).mean() - 0.5) < 3e-4


def test_a_seed_and_a_frame_have_one_grain_wherever_it_is_made(like):
    maker = like.maker
    assert maker is not None
    box = (slice(5, TILE + 80), slice(NOISE_BLOCK - 7, TILE + FILTER_RADIUS + 3))
    whole = maker.unit(7, (slice(0, 2 * TILE), slice(0, 2 * TILE)))
    again = GrainMaker(maker.grain, 3).unit(7, box)
    assert np.abs(again - whole[box]).max() < 1e-5
    for other in (maker.unit(8, box), GrainMaker(maker.grain, 4).unit(7, box)):
        assert abs(np.corrcoef(other.ravel(), again.ravel())[0, 1]) < 0.02


def test_a_region_has_the_frames_grain(like):
    """The layer of a region begins elsewhere, and its grain does not move with it."""
    whole = like.grained(laid())
    part = laid()
    rows, columns = slice(30, 90), slice(50, 200)
    part = LaidLayer(part.edit[rows, columns], part.alpha[rows, columns], part.source[rows, columns], None, 1, (30, 50))
    assert np.abs(like.grained(part) - whole[rows, columns]).max() < 1e-6


@pytest.mark.parametrize("frame", [-5, 0, 2**40])
def test_any_frame_number_has_grain(like, frame):
    assert like.grained(replace(laid(), frame=frame)).std() > 0.01


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_a_light_plate_keeps_its_bits_and_its_highlights(dtype):
    """Scene-linear EXR: grain in light, by level; alpha 0 keeps the plate's bits, highlights pass as before."""
    color, blending = PlateColor(LINEAR, "float"), find_blending("linear", None, LINEAR)
    light = np.full((*SIZE, 3), 0.18, np.float32)
    light[:, 128:] = 20.0

    def filmed(frame):
        noise = np.random.default_rng(frame).standard_normal((*SIZE, 3))
        return (light * (1 + 0.02 * noise)).astype(np.float32)

    like = measure(("grain",), range(1, 5), lambda f: color.to_model(filmed(f)), 0)
    grey = color.to_model(np.full((1, 1, 3), 0.18, np.float32))[0, 0, 0]
    alpha = np.zeros(SIZE, np.float32)
    alpha[20:100, 20:110] = 1
    alpha[20:100, 140:240] = 0.5
    layer_of = lambda edit: layer_for_blending(  # noqa: E731
        ModelLayer(edit, alpha, color.to_model(filmed(9))), color, blending, dtype
    )
    plain = laid(grey, alpha, source=color.to_model(filmed(9)))
    layer, without = layer_of(like.grained(plain)), layer_of(plain.edit)
    assert abs(layer[20:100, 20:110, :3].astype(float).std() / (0.02 * 0.18) - 1) < 0.15
    assert (layer[..., 3] == without[..., 3]).all() and (layer >= 0).all()
    over = composite(filmed(9), layer, color, blending)
    assert over[alpha == 0].tobytes() == filmed(9)[alpha == 0].tobytes()
    bright = composite(filmed(9), without, color, blending)[20:100, 140:240]
    assert abs(over[20:100, 140:240].mean() / bright.mean() - 1) < 1e-3


# Sharpness


def disc(blur: float) -> torch.Tensor:
    """Alpha (H, W), exactly 0 outside and 1 inside."""
    y, x = np.mgrid[: 8 * SIZE[0], : 8 * SIZE[1]].astype(np.float32) / 8
    whole = (np.hypot(y - 64, x - 128) < 40).astype(np.float32)
    whole = ndimage.gaussian_filter(whole, 8 * blur, truncate=3) if blur else whole
    alpha = whole.reshape(SIZE[0], 8, SIZE[1], 8).mean((1, 3))
    return torch.from_numpy(np.where(alpha < 1e-4, 0, np.where(alpha > 1 - 1e-4, 1, alpha)).astype(np.float32))


RED = torch.tensor([0.9, 0.1, 0.1]).expand(*SIZE, 3).clone()


@pytest.mark.parametrize("blur", [0.8, 1.5])
def test_a_sharper_layer_becomes_as_soft_as_the_plate(blur):
    edit, alpha = Matching(("sharpness",), blur).softened(RED, disc(0), None, None)
    assert abs(edge_blur(alpha.numpy()) / blur - 1) < 0.1
    assert alpha[64, 128] == 1 and alpha[0, 0] == 0
    assert torch.allclose(edit[alpha > 0], RED[alpha > 0], atol=1e-5)


def test_a_softer_layer_stays_to_the_bit():
    edit, alpha = Matching(("sharpness",), 0.7).softened(RED, disc(1.5), None, None)
    assert edit is RED and torch.equal(alpha, disc(1.5))


def test_an_edge_of_the_plate_stays_and_so_does_the_mask():
    """What the plate's fit explains is as sharp as the plate; outside of the mask nothing appears."""
    sharp = disc(0)
    explained = torch.zeros(SIZE)
    explained[:, :128] = 1
    allowed = torch.ones(SIZE)
    allowed[:, 165:] = 0
    _, alpha = Matching(("sharpness",), 1.5).softened(RED, sharp * allowed, explained, allowed)
    assert torch.equal(alpha[:, :120], sharp[:, :120])
    assert (alpha[:, 165:] == 0).all()
    assert not torch.equal(alpha[:, 136:165], sharp[:, 136:165])


# What is asked for, and told


def test_what_cannot_be_measured_is_a_warning():
    flat = measure(("grain", "sharpness"), range(1, 5), lambda f: np.full((16, 16, 3), 0.5, np.float32), 0)
    assert flat.warnings == [NO_GRAIN, NO_EDGES] and flat.report_facts() == {"match": {}}


@pytest.mark.parametrize("frames, warnings", [(range(1, 2), [LONE_GRAIN]), (range(1, 3), [])])
def test_grain_of_a_single_frame_is_questioned(frames, warnings):
    noise = np.random.default_rng(3).normal(0.5, 0.03, (2, 200, 200, 3)).astype(np.float32)
    found = measure(("grain",), frames, lambda f: noise[f - 1], 0)
    assert found.maker is not None and found.warnings == warnings


def test_a_job_that_asks_for_nothing_changes_nothing():
    nothing, layer = Matching(), laid()
    assert nothing.grained(layer) is layer.edit and nothing.report_facts() == {}
    edit, alpha = nothing.softened(RED, disc(0), None, None)
    assert edit is RED and torch.equal(alpha, disc(0))


def test_figures_are_reported_by_level(like):
    told = like.report_facts()["match"]["grain"]
    assert len(told["levels"]) == len(told["deviations"][0]) == 16 and told["seed"] == 3
    assert abs(told["deviations"][1][8] - 0.012) < 0.002
