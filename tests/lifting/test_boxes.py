"""Steps that work on the part of the frame around a change: with the bits of the whole frame."""

import pytest
import torch

from vera.core.lifting import gain, layers, patch
from vera.core.lifting.gain import Comparison
from vera.core.lifting.layers import find_layers, hides_texture
from vera.core.lifting.patch import with_margin
from vera.core.lifting.smooth import blur, box_around, from_box
from vera.kernels.blur import half_kernel

SIZE = (121, 163)  # odd, so that halves of it are not whole


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    count = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(count)


@pytest.mark.parametrize(
    "place, room, step, box",
    [
        ((3, 40, 50), 0, 1, (slice(40, 41), slice(50, 51))),
        ((0, 40, 50), 5, 1, (slice(35, 46), slice(45, 56))),
        ((1, 40, 51), 5, 4, (slice(32, 46), slice(44, 57))),
        ((2, 0, 162), 9, 1, (slice(0, 10), slice(153, 163))),
        ((2, 120, 0), 9, 2, (slice(110, 121), slice(0, 10))),
    ],
)
def test_a_box_has_room_around_what_is_not_0(place, room, step, box):
    there = torch.zeros(4, 1, *SIZE)
    there[place[0], 0, place[1], place[2]] = -0.1
    assert box_around(there, room, step) == box


def test_a_box_holds_the_pixels_of_all_frames():
    there = torch.zeros(2, 1, *SIZE)
    there[0, 0, 10, 20] = there[1, 0, 90, 5] = 1
    assert box_around(there, 1) == (slice(9, 92), slice(4, 22))


def test_there_is_no_box_around_nothing():
    assert box_around(torch.zeros(2, 1, *SIZE), 3) is None


def test_outside_of_its_box_a_part_is_0():
    box = slice(3, 5), slice(7, 8)
    video = from_box(torch.ones(2, 3, 2, 1), box, SIZE)
    assert video.shape == (2, 3, *SIZE)
    assert video[:, :, *box].eq(1).all()
    assert video.sum() == 2 * 3 * 2


def compared(region: torch.Tensor, kind: str) -> tuple[torch.Tensor, Comparison]:
    """A textured plate, and its comparison with a video that has an edit of some kind in the region."""
    noise = torch.Generator().manual_seed(8)
    plate = (0.45 + 1.5 * blur(torch.randn(3, 3, *SIZE, generator=noise), 2.0)).clamp(0, 1)
    edits = {
        "opaque": blur(torch.rand(3, 3, *SIZE, generator=noise), 1.0),
        "veil": 0.5 * plate + 0.5 * torch.tensor([0.9, 0.8, 0.7])[:, None, None],
        "shadow": 0.6 * plate,
        "gain": (plate * torch.tensor([1.5, 1.2, 0.7])[:, None, None]).clamp(0, 1),
    }
    clean = torch.lerp(plate, edits[kind], region) + 0.004 * torch.randn(3, 3, *SIZE, generator=noise)
    return plate, Comparison(plate, clean.clamp(0, 1), region, torch.full_like(region, 0.004**2))


@pytest.mark.parametrize("kind", ["opaque", "veil", "shadow", "gain"])
@pytest.mark.parametrize("rows, columns", [((50, 80), (61, 100)), ((0, 23), (130, 163)), ((97, 121), (0, 30))])
def test_layers_have_the_bits_of_the_whole_frame(monkeypatch, kind, rows, columns):
    region = torch.zeros(3, 1, *SIZE)
    region[..., slice(*rows), slice(*columns)] = 1
    plate, comparison = compared(region, kind)
    haze = torch.zeros_like(region)
    boxed = find_layers(plate, comparison, haze)
    for module in (layers, gain):
        monkeypatch.setattr(module, "box_around", lambda there, room, step=1: (slice(0, SIZE[0]), slice(0, SIZE[1])))
    whole = find_layers(plate, comparison, haze)
    assert boxed.alpha.any()
    for name in ("color", "alpha", "detail", "kinds"):
        assert torch.equal(getattr(boxed, name), getattr(whole, name)), name


@pytest.mark.parametrize("rows, columns", [((50, 80), (61, 100)), ((51, 71), (30, 163)), ((97, 121), (0, 30))])
def test_hidden_texture_has_the_bits_of_the_whole_frame(monkeypatch, rows, columns):
    """The share of the plate's texture that shows falls from left to right, so that the decision turns inside."""
    asked = torch.zeros(3, 1, *SIZE)
    asked[..., slice(*rows), slice(*columns)] = 1
    noise = torch.Generator().manual_seed(8)
    plate, other = (0.45 + 0.1 * blur(torch.randn(3, 3, *SIZE, generator=noise), 1.0) for _ in range(2))
    shows = torch.linspace(1, -0.2, columns[1] - columns[0]).clamp(0, 1)
    clean = other.clone()
    clean[..., slice(*columns)].lerp_(plate[..., slice(*columns)], shows)
    thin = torch.full_like(asked, 0.3)
    boxed = hides_texture(plate, clean, thin, asked)
    monkeypatch.setattr(layers, "box_around", lambda there, room, step: (slice(0, SIZE[0]), slice(0, SIZE[1])))
    assert (boxed * asked).any()
    assert torch.equal(boxed * asked, hides_texture(plate, clean, thin, asked) * asked)


@pytest.mark.parametrize("rows, columns", [((50, 80), (61, 100)), ((0, 23), (130, 163)), ((97, 121), (0, 30))])
def test_the_margin_of_what_is_removed_has_the_bits_of_the_whole_frame(monkeypatch, rows, columns):
    """Of two parts, one hides a bright square: it was removed. The other stays."""
    solid = torch.zeros(3, 1, *SIZE)
    solid[..., slice(*rows), slice(*columns)] = 1
    noise = torch.Generator().manual_seed(8)
    plate, clean = (0.45 + 0.02 * torch.randn(3, 3, *SIZE, generator=noise) for _ in range(2))
    plate = torch.lerp(plate, torch.full_like(plate, 0.95), solid)
    solid[..., 40:48, 10:20] = 1
    boxed = with_margin(plate, clean, clean, solid, solid)
    monkeypatch.setattr(patch, "box_around", lambda there, room: (slice(0, SIZE[0]), slice(0, SIZE[1])))
    whole = with_margin(plate, clean, clean, solid, solid)
    assert boxed[1].sum() > solid.sum()
    assert torch.equal(boxed[0], whole[0])
    assert torch.equal(boxed[1], whole[1])


def test_without_a_change_there_is_no_layer():
    region = torch.zeros(3, 1, *SIZE)
    plate, comparison = compared(region, "veil")
    found = find_layers(plate, comparison, torch.zeros_like(region))
    assert not found.alpha.any()
    assert not found.color.any()
    for kind, value in enumerate((0, 1, 0)):  # neither opaque nor a gain
        assert (found.kinds[:, kind] == value).all()


def test_rooms_reach_as_far_as_their_windows():
    """The room of a window is at least its reach."""
    widest = max(sigma for sigmas in (*layers.TEXTURE_WINDOWS, *gain.LIMITS.windows) for sigma in sigmas)
    assert min(layers.TEXTURE_ROOM, gain.WINDOW_ROOM) >= len(half_kernel(widest)) - 1
