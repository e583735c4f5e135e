"""Everything is placed by display window: data windows that change, cropped mattes, overscan."""

import numpy as np
import pytest

from tests.plate.media import write_image
from vera.core.errors import InputError
from vera.core.plate.source import open_mask, open_plate

DISPLAY = (12, 16)  # height, width


def write(path, window, value=1.0, channels=3, display=DISPLAY):
    """A half EXR whose data window (left, top, right, bottom) holds `value`, but for its first pixel: 2."""
    left, top, right, bottom = window

    def place(spec):
        spec.x, spec.y, spec.full_x, spec.full_y = left, top, 0, 0
        spec.full_height, spec.full_width = display

    pixels = np.full((bottom - top, right - left, channels), value, np.float16)
    pixels[0, 0] = 2
    return str(write_image(path, pixels, spec_hook=place))


WINDOWS = [(0, 0, 16, 12), (2, 1, 10, 9), (-3, -2, 16, 12), (4, 4, 20, 15)]


def test_data_windows_may_change_from_frame_to_frame(tmp_path):
    for frame, window in enumerate(WINDOWS, 1):
        write(tmp_path / f"p.{frame}.exr", window, frame)
    plate = open_plate(str(tmp_path / "p.#.exr"))
    assert (plate.offset, plate.width, plate.height, plate.display) == ((-3, -2), 23, 17, (16, 12))
    for frame, (left, top, right, bottom) in enumerate(WINDOWS, 1):
        expected = np.zeros((17, 23, 3), np.float16)
        expected[top + 2 : bottom + 2, left + 3 : right + 3] = frame
        expected[top + 2, left + 3] = 2
        np.testing.assert_array_equal(plate.read(frame), expected)
    assert "data windows differ" in plate.notes[0]
    spec = plate.spec(2)
    assert (spec.x, spec.y, spec.width, spec.height, spec.full_width, spec.full_height) == (-3, -2, 23, 17, 16, 12)


def test_display_windows_that_change_are_refused(tmp_path):
    write(tmp_path / "p.1.exr", (0, 0, 16, 12))
    write(tmp_path / "p.2.exr", (0, 0, 16, 12), display=(13, 16))
    with pytest.raises(InputError, match="frame 2"):
        open_plate(str(tmp_path / "p.#.exr"))


@pytest.mark.parametrize("plate_window", [(0, 0, 16, 12), (-2, -2, 18, 14), (3, 2, 12, 10)])
@pytest.mark.parametrize("mask_window", [(0, 0, 16, 12), (5, 3, 9, 8), (-4, -4, 20, 16), (14, 10, 30, 30)])
def test_a_matte_is_placed_by_display_window(tmp_path, plate_window, mask_window):
    """Against the definition: a value where the matte's data window lies, 0 elsewhere."""
    plate = open_plate(write(tmp_path / "p.exr", plate_window))
    mask = open_mask(write(tmp_path / "m.exr", mask_window, 0.5, channels=1), plate)
    (left, top, right, bottom), (x, y, r, b) = plate_window, mask_window
    for row in range(top, bottom):
        for column in range(left, right):
            inside = x <= column < r and y <= row < b
            expected = (1.0 if (column, row) == (x, y) else 0.5) if inside else 0.0
            assert mask.read(1)[row - top, column - left] == expected, (column, row)


def test_a_matte_whose_window_changes_is_placed_frame_by_frame(tmp_path):
    for frame, window in enumerate([(0, 0, 4, 4), (8, 6, 12, 10)], 1):
        write(tmp_path / f"p.{frame}.exr", (0, 0, 16, 12))
        write(tmp_path / f"m.{frame}.exr", window, 0.5, channels=1)
    mask = open_mask(str(tmp_path / "m.#.exr"), open_plate(str(tmp_path / "p.#.exr")))
    assert (mask.read(1) > 0).sum() == (mask.read(2) > 0).sum() == 16
    assert mask.read(1)[:4, :4].all() and mask.read(2)[6:10, 8:12].all()


def test_a_mask_of_the_display_window_fits_an_overscan_plate(tmp_path):
    plate = open_plate(write(tmp_path / "p.exr", (-2, -1, 18, 13)))
    pixels = np.full((*DISPLAY, 1), 255, np.uint8)
    values = open_mask(str(write_image(tmp_path / "m.png", pixels)), plate).read(1)
    assert values.shape == (14, 20) and values[1:13, 2:18].all() and values.sum() == 12 * 16


def test_a_mask_of_another_size_is_refused_with_both_sizes(tmp_path):
    plate = open_plate(write(tmp_path / "p.exr", (0, 0, 16, 12)))
    with pytest.raises(InputError, match="15x12, but the plate is 16x12"):
        open_mask(str(write_image(tmp_path / "m.png", np.full((12, 15, 1), 255, np.uint8))), plate)
