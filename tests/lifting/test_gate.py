"""The learned gate: takes away what nothing touched, keeps thin things, adds near the change alone; the path without
it."""

import math
from dataclasses import fields, replace

import pytest
import torch

from vera.core.lifting import gate as gate_module
from vera.core.lifting.controls import USUAL
from vera.core.lifting.gate import COMPOSITES, FEATURES, LIMITS, Estimate, Gate, frame_inputs, gated, load_gate
from vera.core.lifting.lift_window import classical_estimate, lift_clip
from vera.core.lifting.smooth import blur

SIZE = (64, 112)
FRAMES = 3


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    torch.set_num_threads(1)


def texture(seed=4):
    gen = torch.Generator().manual_seed(seed)
    video = sum(s * blur(torch.randn(1, 3, *SIZE, generator=gen), s) for s in (0.8, 2.0, 6.0))
    return (0.5 + 0.12 * video / video.std()).clamp(0.05, 0.95).repeat(FRAMES, 1, 1, 1)


def noise(amount, seed=1):
    return amount * torch.randn(FRAMES, 3, *SIZE, generator=torch.Generator().manual_seed(seed))


def estimate(alpha, color=(0.0, 0.0, 0.0), claimed=None):
    """An estimate that says alpha + claimed over a plate on which only alpha was laid."""
    seen = texture()
    color = torch.tensor(color)[:, None, None].expand_as(seen)
    clean = (torch.lerp(seen, color, alpha) + noise(0.008)).clamp(0, 1)
    said = alpha if claimed is None else torch.maximum(alpha, claimed)
    variance, nothing = torch.full_like(said, 0.008**2), torch.zeros_like(said)
    kinds = torch.zeros_like(seen)
    return Estimate(seen, seen, clean, variance, color, said, kinds, (said > 0).float(), nothing)


def place(rows, columns, value):
    alpha = torch.zeros(FRAMES, 1, *SIZE)
    alpha[..., rows, columns] = value
    return alpha


BAR = (slice(44, 58), slice(10, 100))


def test_what_nothing_touched_becomes_exactly_zero():
    """The estimate claims a faint patch where the pictures differ by noise alone."""
    patch = (slice(6, 30), slice(30, 80))
    found = gated(estimate(place(*BAR, 0.5), claimed=place(*patch, 0.06)))[1]
    assert (found[..., 8:28, 34:76] == 0).float().mean() > 0.98


@pytest.mark.parametrize("alpha", [0.3, 0.5, 0.7])
@pytest.mark.parametrize("color", [(0.0, 0.0, 0.0), (0.9, 0.9, 0.95)])
def test_a_titles_translucent_bar_stays(alpha, color):
    found = gated(estimate(place(*BAR, alpha), color))[1][..., 46:56, 14:96]
    assert (found > 0).float().mean() > 0.98
    assert (found - alpha).abs().mean() < 0.08


def test_thin_snow_stays():
    """Flakes of two pixels, half see-through."""
    gen = torch.Generator().manual_seed(3)
    flakes = torch.zeros(FRAMES, 1, *SIZE)
    for k in range(FRAMES):
        for row, column in (torch.rand(60, 2, generator=gen) * torch.tensor([62.0, 110.0])).long().tolist():
            flakes[k, 0, row : row + 2, column : column + 2] = 0.6
    found = gated(estimate(flakes, (1.0, 1.0, 1.0)))[1]
    assert (found[flakes > 0] > 0).float().mean() > 0.9


def test_the_gate_adds_near_the_change_alone_and_is_the_same_each_time():
    said = estimate(place(*BAR, 0.5), claimed=place(slice(6, 30), slice(30, 80), 0.06))
    first, second = gated(said), gated(said)
    assert all(torch.equal(a, b) for a, b in zip(first, second))
    far = torch.ones_like(said.alpha)
    far[..., 0:36, 24:86] = far[..., 38:64, 4:106] = 0
    assert (first[1] * far == 0).all() and (first[1] > 0).any()


def test_inputs_are_of_the_frame_and_its_neighbours():
    """A change four frames away is not seen; one three frames away is."""
    short = estimate(place(*BAR, 0.5))
    said = Estimate(*(getattr(short, field.name).repeat(2, 1, 1, 1) for field in fields(Estimate)))
    found = frame_inputs(said, 0)
    assert found.features.shape == (FEATURES, *SIZE)
    for name in ("seen", "clean", "alpha"):
        for frame, sees in ((4, False), (3, name == "seen"), (1, True)):
            other = getattr(said, name).clone()
            other[frame] = 0.5
            again = frame_inputs(replace(said, **{name: other}), 0)
            same = [torch.equal(getattr(again, f.name), getattr(found, f.name)) for f in fields(again)]
            assert all(same) != sees


def biased(logit):
    """A gate that gives this logit everywhere, and the classical estimate."""
    gate = Gate()
    torch.nn.init.zeros_(gate.layers[-1].weight)
    with torch.no_grad():
        gate.layers[-1].bias.zero_()
        gate.layers[-1].bias[0] = logit
        gate.layers[-1].bias[[1, 2 + COMPOSITES]] = 60.0
    return gate


@torch.no_grad()
def test_a_gate_that_doubts_all_leaves_nothing():
    assert not gated(estimate(place(*BAR, 0.5)), biased(-20.0))[1].any()


@torch.no_grad()
def test_a_gate_that_trusts_all_changes_nothing():
    said = estimate(place(*BAR, 0.5), (0.9, 0.2, 0.1))
    color, alpha = gated(said, biased(20.0))
    assert torch.allclose(alpha, said.alpha, atol=1e-5)
    assert torch.allclose(color * alpha, said.color * said.alpha, atol=1e-4)


@pytest.mark.parametrize("kind, kept", [("solid", 0.0), ("shadow", 0.0), ("gain", 1.0), ("veil", 1.0), ("haze", 1.0)])
@torch.no_grad()
def test_gains_haze_and_wide_veils_need_less_evidence(kind, kept):
    """At a probability of 0.3, between the two thresholds."""
    said = estimate(place(slice(16, 60), slice(10, 100), 0.5))
    kinds = torch.zeros_like(said.kinds)
    for channel, name in enumerate(("solid", "shadow", "gain")):
        kinds[:, channel] = float(kind == name or (kind == "haze" and name == "solid"))
    said = replace(said, kinds=kinds, haze=said.alpha * float(kind == "haze"))
    found = gated(said, biased(math.log(0.3 / 0.7)))[1][..., 22:54, 20:90]
    assert ((found > 0).float() == kept).all()


@torch.no_grad()
def test_in_a_gain_the_gate_only_decides():
    said = estimate(place(*BAR, 0.5), (0.9, 0.2, 0.1))
    kinds = torch.zeros_like(said.kinds)
    kinds[:, 2] = 1
    color, alpha = gated(replace(said, kinds=kinds))
    assert torch.equal(color, said.color) and ((alpha == said.alpha) | (alpha == 0)).all()


@torch.no_grad()
def test_pixels_are_answered_alike_in_a_part_of_the_frame(monkeypatch):
    """The part that is computed holds all that the inputs depend on."""
    said = estimate(place(slice(30, 34), slice(50, 60), 0.5))
    part = gated(said)
    monkeypatch.setattr(gate_module, "_box", lambda asked: (slice(None), slice(None)))
    assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(part, gated(said)))


def test_a_higher_sensitivity_asks_for_lower_odds():
    assert LIMITS.for_sensitivity(1.0).touched == pytest.approx(LIMITS.touched)
    assert LIMITS.for_sensitivity(4.0).touched < LIMITS.touched < LIMITS.for_sensitivity(0.5).touched


def test_without_the_gate_the_classical_estimate_is_the_layer():
    plate = texture()
    edited = torch.lerp(plate, torch.zeros(3, 1, 1), place(*BAR, 0.5)) + noise(0.008)
    classical = lift_clip(plate, edited, controls=replace(USUAL, learned=False))
    assert torch.equal(classical.alpha, classical_estimate(plate, edited).alpha)
    assert (classical.alpha[..., 46:56, 14:96] - 0.5).abs().mean() < 0.1


def test_the_shipped_weights_are_small():
    assert sum(p.numel() for p in load_gate().parameters()) < 30_000
