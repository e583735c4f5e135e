"""Frames that are read for a lift."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from vera.core.lifting.framing import Framing, framed, whole
from vera.core.lifting.matching import same_size
from vera.core.lifting.read_frames import EditedFile, KeptFrames
from vera.core.plate.color import PlateColor
from vera.core.plate.color_space import SRGB

FRAME_BYTES = 4 * 6
PIXEL_TYPES = {np.uint8: "uint8", np.uint16: "uint16", np.float32: "float"}


def frames_read(kept: KeptFrames, names: list[int]) -> list[int]:
    """Those of the named frames, in this order, that were not kept."""
    read: list[int] = []
    for name in names:
        frame = kept.frame(name, lambda name=name: read.append(name) or torch.full((6,), float(name)))
        assert frame.tolist() == [name] * 6
    return read


@pytest.mark.parametrize(
    "most, names, read",
    [
        (0, [1, 1], [1, 1]),
        (FRAME_BYTES - 1, [1, 1], [1, 1]),
        (2 * FRAME_BYTES, [1, 2, 3, 1, 2, 3], [1, 2, 3, 3]),
        (9 * FRAME_BYTES, [1, 2, 1, 2], [1, 2]),
    ],
)
def test_the_first_frames_that_find_room_are_read_once(most, names, read):
    assert frames_read(KeptFrames(most), names) == read


def test_closed_frames_are_read_again_and_no_more_kept():
    kept = KeptFrames(2 * FRAME_BYTES)
    frames_read(kept, [1])
    kept.close()
    assert frames_read(kept, [1, 1]) == [1, 1]


@pytest.mark.parametrize("size", [(36, 64), (18, 32), (17, 29), (36, 40), (40, 64), (72, 128)])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_an_edited_frame_is_sized_as_in_memory_bit_for_bit(size, dtype):
    edited, pixels = edited_file(dtype)
    in_memory = torch.from_numpy(edited.color.to_model(pixels)).movedim(-1, 0)[None]
    assert torch.equal(edited.frame(0, size), same_size(in_memory, size))


def test_a_canvas_is_that_of_the_frame_in_memory():
    edited, pixels = edited_file(np.uint8, Framing((0.5, 0.4), (3.0, -2.0), (0.0, 0.0, 64.0, 36.0)))
    in_memory = torch.from_numpy(edited.color.to_model(pixels)).movedim(-1, 0)[None]
    expected = framed(in_memory, edited.framing, edited.plate_size, edited.size[::-1])
    found = edited.canvas([0])
    assert torch.equal(found.video, expected.video)
    assert torch.equal(found.start, expected.start)
    assert found.content == expected.content


def edited_file(dtype: type, framing: Framing = whole((64, 36), (64, 36))) -> tuple[EditedFile, np.ndarray]:
    """An edited video of one noisy frame of 64x36, and the frame."""
    unit = np.random.default_rng(5).random((36, 64, 3))
    high = np.iinfo(dtype).max if issubclass(dtype, np.integer) else 1
    pixels = (unit * high).astype(dtype)
    video = SimpleNamespace(frames=(7,), width=64, height=36, read=lambda frame: pixels)
    return EditedFile(video, PlateColor(SRGB, PIXEL_TYPES[dtype]), [0], (48, 27), (96, 54), framing), pixels
