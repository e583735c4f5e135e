"""Framing: where the plate lies in an edited video of another size, found by comparing the pictures."""

import pytest
import torch

from vera.core.lifting.framing import find_framing, framed, rescaled, whole, without_borders
from vera.core.lifting.lift_window import lift_clip
from vera.core.lifting.matching import same_size
from vera.core.lifting.smooth import blur

WIDTH, HEIGHT = PLATE = (240, 136)  # 16:9, as plates mostly are
# Sizes with the aspects of public services' videos, scaled down: Wan, LTX, CogVideoX, Hunyuan, squares, portraits.
SHAPES = [
    (208, 120),
    (320, 176),
    (192, 112),
    (180, 120),
    (192, 128),
    (240, 240),
    (160, 160),
    (120, 208),
    (136, 240),
    (276, 208),
    (212, 120),
    (256, 144),
]
WAYS = ("fill", "fit", "stretch")


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def plate():
    """Two frames with detail of every size, (2, 3, 136, 240)."""
    gen = torch.Generator().manual_seed(4)
    noise = [s * blur(torch.randn(2, 3, HEIGHT, WIDTH, generator=gen), s) for s in (0.8, 2.0, 6.0, 15.0)]
    video = sum(noise)
    return (0.5 + 0.16 * video / video.std()).clamp(0, 1)


def returned(video, size, way):
    """The video as a service with output size (width, height) returns it; the plate's scale and offset in it, (x,
    y)."""
    (w, h), (height, width) = size, video.shape[2:]
    if way == "stretch":
        return same_size(video, (h, w)), (w / width, h / height), (0.0, 0.0)
    scale = (max if way == "fill" else min)(w / width, h / height)
    inner = round(width * scale), round(height * scale)
    grown = same_size(video, inner[::-1])
    x, y = (w - inner[0]) // 2, (h - inner[1]) // 2
    out = torch.zeros(len(video), 3, h, w)
    out[..., max(0, y) : y + inner[1], max(0, x) : x + inner[0]] = grown[..., max(0, -y) :, max(0, -x) :][..., :h, :w]
    return out, (inner[0] / width, inner[1] / height), (float(x), float(y))


@pytest.mark.parametrize("size", SHAPES, ids=lambda s: f"{s[0]}x{s[1]}")
def test_the_shapes_of_services_are_found(plate, size):
    """Corners of the plate are found within half a pixel. The sizes are cropped, letterboxed and stretched in turn."""
    edited, scale, offset = returned(plate, size, WAYS[SHAPES.index(size) % 3])
    found = find_framing(plate, edited)
    for axis in (0, 1):
        for at in (0, PLATE[axis]):
            assert abs(found.scale[axis] * at + found.offset[axis] - scale[axis] * at - offset[axis]) < 0.5


def test_a_zoom_off_the_middle_is_found(plate):
    edited = same_size(plate[..., 10:110, 40:220], (128, 230))
    found = find_framing(plate, edited)
    assert all(abs(a - b) < 0.7 for a, b in zip(found.window(), (40, 10, 220, 110)))
    assert 0.54 < found.covered(PLATE) < 0.57


def test_an_uncropped_video_is_not_resampled(plate):
    """A shift of half a pixel is left to the registration."""
    assert find_framing(plate, (plate + plate.roll(1, 3)) / 2) == whole(PLATE, PLATE)
    canvas = framed(plate, whole(PLATE, PLATE), PLATE, (HEIGHT, WIDTH))
    assert torch.equal(canvas.placed(canvas.start, (HEIGHT, WIDTH)), plate) and not canvas.is_cut


def test_an_edit_does_not_move_the_framing(plate):
    """Even if the edit covers a third of the frame."""
    edited, scale, _ = returned(plate, (208, 120), "fill")
    edited = edited.clone()
    edited[..., 20:110, 10:90] = torch.tensor([0.9, 0.1, 0.1])[:, None, None]
    assert find_framing(plate, edited).scale == pytest.approx(scale, abs=0.004)


def test_a_framing_can_be_stated_in_any_pixels(plate):
    edited, *_ = returned(plate, (208, 120), "fill")
    found = find_framing(plate, edited)
    large = rescaled(found, (4.0, 4.0), (2.0, 2.0))
    assert large.window() == pytest.approx([4 * v for v in found.window()])


def test_pixels_outside_a_crop_keep_the_plate(plate):
    edited, *_ = returned(plate, (160, 120), "fill")
    edited = edited.clone()
    edited[..., 40:80, 60:100] = torch.tensor([0.9, 0.1, 0.1])[:, None, None]
    canvas = framed(edited, find_framing(plate, edited), PLATE, (HEIGHT, WIDTH))
    lifted = lift_clip(plate, canvas)
    assert not lifted.alpha[..., :28].any() and not lifted.alpha[..., -28:].any()
    assert 0.05 < (lifted.alpha > 0.9).float().mean() < 0.08  # 45 x 45 pixels of it


@pytest.mark.parametrize("side, lines", [("top", 2), ("left", 1), ("bottom", 2), ("right", 2)])
def test_dark_lines_at_the_border_are_left_out(plate, side, lines):
    edited = plate.clone()
    axis, end = {"top": (2, False), "bottom": (2, True), "left": (3, False), "right": (3, True)}[side]
    size = edited.shape[axis]
    edited.narrow(axis, size - lines if end else 0, lines).mul_(0.3)
    framing = without_borders(plate, edited, whole(PLATE, PLATE))
    window = dict(zip(("left", "top", "right", "bottom"), framing.window()))
    wanted = {"left": 0, "top": 0, "right": WIDTH, "bottom": HEIGHT}
    for name, line in wanted.items():
        # a pixel more than is seen to be broken
        assert abs(window[name] - line) == pytest.approx(lines + 1 if name == side else 0)
    assert not lift_clip(plate, framed(edited, framing, PLATE, (HEIGHT, WIDTH))).alpha.any()


def test_a_new_sky_at_the_border_is_not_cut_as_a_dark_border(plate):
    edited = plate.clone()
    edited[..., :40, :] = 0.9
    assert without_borders(plate, edited, whole(PLATE, PLATE)) == whole(PLATE, PLATE)
