import pytest
import torch

from vera.core.layer.relative import relative_share

SIZE = (80, 144)


def textured(seed, detail=0.08):
    """A plate as models see them: broad shapes and fine detail, (3, h, w)."""
    generator = torch.Generator().manual_seed(seed)
    broad = torch.nn.functional.interpolate(torch.rand(1, 3, 5, 9, generator=generator), SIZE, mode="bicubic")[0]
    return (0.15 + 0.5 * broad + detail * torch.randn(3, *SIZE, generator=generator)).clamp(0, 1)


PLATE = textured(0)
ALL = torch.ones(SIZE)


@pytest.mark.parametrize(
    "regrade",
    [
        lambda x: x,
        lambda x: 0.5 * x,
        lambda x: 0.3 + 0.6 * x,
        lambda x: x**1.6,
        lambda x: x * torch.tensor([1, 0.7, 0.4]).view(3, 1, 1),
    ],
)
def test_the_plate_drawn_again_is_known(regrade):
    """Day for night, a veil, a contrast, a tint; with a decoder's error."""
    edit = regrade(PLATE) + 0.005 * torch.randn(PLATE.shape, generator=torch.Generator().manual_seed(1))
    assert relative_share(edit, PLATE, ALL).mean() > 0.9


def shaded_ball():
    y, x = torch.meshgrid(*(torch.linspace(-1, 1, n) for n in SIZE), indexing="ij")
    return (0.8 - 0.5 * (x**2 + y**2)).clamp(0, 1) * torch.tensor([0.9, 0.2, 0.1]).view(3, 1, 1)


@pytest.mark.parametrize(
    "edit",
    [torch.zeros(3, *SIZE), torch.full((3, *SIZE), 0.7), shaded_ball(), textured(7)],
    ids=["shadow", "fog", "ball", "another picture"],
)
@pytest.mark.parametrize(
    "plate", [PLATE, torch.full((3, *SIZE), 0.4), shaded_ball()], ids=["textured", "flat", "smooth"]
)
def test_what_was_not_there_is_new(edit, plate):
    noise = 0.005 * torch.randn(3, *SIZE, generator=torch.Generator().manual_seed(2))
    assert relative_share(edit + noise, plate, ALL).max() < 0.05


def test_it_is_chosen_by_the_pixel():
    edit = torch.cat([0.5 * PLATE[..., :72], shaded_ball()[..., 72:]], dim=-1)
    share = relative_share(edit, PLATE, ALL)
    assert share[:, :60].mean() > 0.9 and share[:, 84:].max() < 0.05
    assert share.diff(dim=1).abs().max() < 0.2  # and passes over smoothly


def test_what_is_decoded_where_the_layer_is_clear_does_not_count():
    alpha = torch.zeros(SIZE)
    alpha[:, 40:100] = 0.9
    edit = torch.where(alpha > 0, shaded_ball(), PLATE)
    assert relative_share(edit, PLATE, alpha)[:, 46:94].max() < 0.05
    assert torch.isfinite(relative_share(edit, PLATE, torch.zeros(SIZE))).all()


def test_how_thin_the_layer_is_does_not_change_what_it_is():
    edit = 0.5 * PLATE
    for alpha in (0.5, 0.1):
        torch.testing.assert_close(relative_share(edit, PLATE, alpha * ALL), relative_share(edit, PLATE, ALL))
