import numpy as np
import pytest
import torch

from tests.layer import scenes
from vera.core.layer.foreground import clean_color, extend_color
from vera.kernels.plate_size import plate_color

PLATES = [(0.05, 0.05, 0.06), (0.9, 0.9, 0.9), (0.2, 0.6, 0.2), (0.15, 0.2, 0.5), (0.5, 0.45, 0.4)]
OWN = (0.7, 0.25, 0.15)


def as_decoded(matte, surroundings):
    """A layer of known colour, its colour as a decoder mixes it with what it drew around, and its alpha."""
    own, m = scenes.texture(OWN, 4), matte[..., None]
    mixed = {
        "the plate": m * own + (1 - m) * scenes.texture((0.5, 0.6, 0.7), 5),
        "a green screen": m * own + (1 - m) * np.float32((0.1, 0.9, 0.3)),
        "black": m * own,
        "grey, cut hard": np.where(m > 0.5, own, np.float32(0.5)),
        "its own colour": own,
    }[surroundings]
    planes = torch.from_numpy(scenes.decoded(mixed.astype(np.float32))).movedim(-1, 0)
    return own, planes, torch.from_numpy(scenes.decoded(matte))


def halo(color, matte, own):
    """Mean error at edges over five plates that the layer was not made for, alpha being right."""
    a = matte[..., None]
    errors = [np.abs(a * color + (1 - a) * np.float32(p) - (a * own + (1 - a) * np.float32(p))) for p in PLATES]
    return np.mean(errors, 0)[scenes.at_edges(matte)].mean()


def at_plate_size(color):
    return plate_color(color.movedim(0, -1), torch.ones(scenes.PLATE)).numpy()


@pytest.mark.parametrize("hair, blur", [(False, False), (True, False), (False, True), (True, True)])
@pytest.mark.parametrize("surroundings", ["the plate", "a green screen", "black", "grey, cut hard"])
def test_no_halo_shows_over_any_plate(hair, blur, surroundings):
    """Against plain premultiply, measured: 0.19 to 0.28, also where colour is cut hard and alpha blurred by motion."""
    matte = scenes.subject(hair, blur)
    own, color, alpha = as_decoded(matte, surroundings)
    left = halo(at_plate_size(clean_color(color, alpha)), matte, own)
    peer = halo(scenes.plain(color.movedim(0, -1).numpy()), matte, own)
    print(f"{surroundings}: {1e3 * peer:.1f}e-3 -> {1e3 * left:.1f}e-3, {left / peer:.2f}")
    assert left < 0.3 * peer


def test_an_object_does_not_tint_the_shadow_beside_it():
    """A red ball on its black shadow. Measured: the shadow's colour is off by 0.010, weighed by its alpha."""
    y, x = np.mgrid[: scenes.PLATE[0], : scenes.PLATE[1]].astype(np.float32)
    ball = np.hypot(y - 120, x - 150) < 55
    shadow = 0.5 * np.clip(1.6 - np.hypot((y - 165) / 40, (x - 200) / 80), 0, 1)
    alpha = np.maximum(ball, shadow).astype(np.float32)
    own = np.where(ball[..., None], np.float32(OWN), np.float32(0.02))
    color = scenes.decoded(np.where(alpha[..., None] > 0, own, np.float32(0.4)))
    clean = clean_color(torch.from_numpy(color).movedim(-1, 0), torch.from_numpy(scenes.decoded(alpha)))
    off = (alpha[..., None] * np.abs(at_plate_size(clean) - own))[(shadow > 0.05) & ~ball]
    print(f"{1e3 * off.mean():.1f}e-3")
    assert off.mean() < 0.012


def test_clean_colour_stays():
    matte = scenes.subject()
    own, color, alpha = as_decoded(matte, "its own colour")
    left = halo(at_plate_size(clean_color(color, alpha)), matte, own)
    assert left < 0.004 and halo(scenes.plain(color.movedim(0, -1).numpy()), matte, own) < 0.003


def test_colour_fills_the_plane_from_the_layer():
    edit = torch.full((3, 33, 47), 0.9)
    alpha = torch.zeros(33, 47)
    alpha[10:14, 20:24] = 1
    own = torch.tensor([0.2, 0.4, 0.6])[:, None, None]
    edit[:, alpha == 1] = own[..., 0]
    for work in (extend_color, clean_color):
        assert (work(edit, alpha) - own).abs().max() < 1e-3


def test_the_inside_of_a_layer_keeps_its_colour():
    edit = torch.rand(3, 40, 40, generator=torch.Generator().manual_seed(0))
    for opacity in (1.0, 0.3):
        alpha = torch.full((40, 40), opacity)
        assert (extend_color(edit, alpha) - edit).abs().max() < 1e-6
    for work in (extend_color, clean_color):
        assert torch.isfinite(work(edit, torch.zeros(40, 40))).all()
