"""Which plate frame each edited frame belongs to: dropped, doubled, late and slower, by rates and by pictures."""

import math
from fractions import Fraction
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from vera.core.errors import InputError
from vera.core.lifting.framing import whole
from vera.core.lifting.pairing import first_guess, pair_frames, paired
from vera.core.lifting.read_frames import EditedFile, KeptFrames, read_mask, read_plate
from vera.core.lifting.smooth import blur
from vera.core.plate.color import PlateColor
from vera.core.plate.color_space import SRGB

COUNT, HEIGHT, WIDTH = 18, 54, 96
RATE = Fraction(24)


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def plate():
    """A still background with two textured patches that cross it, (18, 3, 54, 96)."""
    gen = torch.Generator().manual_seed(3)
    texture = lambda h, w: (0.5 + 0.5 * blur(torch.randn(1, 3, h, w, generator=gen), 1.2)).clamp(0, 1)
    frames, patches = (texture(HEIGHT, WIDTH).repeat(COUNT, 1, 1, 1), (texture(20, 16), texture(14, 14)))
    for k in range(COUNT):
        frames[k, :, 8:28, 4 + 3 * k : 20 + 3 * k] = patches[0]
        frames[k, :, 36:50, 76 - 4 * k if k < 17 else 8 :][..., :14] = patches[1][0]
    return frames


def came(plate, places, edit=True):
    """Those frames as a service gives them back: softer, noisy, with something added."""
    video = blur(plate[places], 0.7) + 0.01 * torch.randn(
        len(places), 3, HEIGHT, WIDTH, generator=torch.Generator().manual_seed(1)
    )
    if edit:
        video[..., 10:30, 60:80] = torch.tensor([0.9, 0.1, 0.1])[:, None, None]
    return video.clamp(0, 1)


def pairs_of(plate, places, rates=(None, None)):
    guess = first_guess(COUNT, len(places), rates, "v.mp4")
    return pair_frames(plate, came(plate, places), guess)


EVERY = list(range(COUNT))
KINDS = {
    "as filmed": EVERY,
    "one dropped": EVERY[:7] + EVERY[8:],
    "two dropped": EVERY[:4] + EVERY[5:12] + EVERY[13:],
    "one doubled, the last lost": EVERY[:9] + EVERY[8:-1],
    "begun a frame late": EVERY[1:] + EVERY[-1:],
    "16 of 24": [i for i in EVERY if i % 3 != 2],
    "every second": EVERY[::2],
}


@pytest.mark.parametrize("kind", KINDS)
def test_pairs_are_those_that_were_made(plate, kind):
    assert pairs_of(plate, KINDS[kind]) == KINDS[kind]


def test_stated_rates_are_followed(plate):
    places = KINDS["16 of 24"]
    assert pairs_of(plate, places, (RATE, Fraction(16))) == places


def test_where_nothing_moves_the_guess_is_followed(plate):
    still = plate[:1].repeat(COUNT, 1, 1, 1)
    assert pair_frames(still, came(still, EVERY), [float(i) for i in EVERY]) == EVERY


def test_of_frames_that_show_the_same_the_nearest_to_the_guess_is_taken(plate):
    """Every plate frame is held for four; a guess between two of the same leaves no choice to the pictures."""
    held = plate[:12].repeat_interleave(4, 0)
    guess = [3.5 + 4 * i for i in range(11)]
    edited = held[[math.floor(g) for g in guess]]
    assert pair_frames(held, edited, guess) == [math.floor(g) for g in guess]


def test_an_edit_that_takes_away_what_moves_is_not_led_astray(plate):
    empty = plate.median(0, keepdim=True).values.repeat(COUNT, 1, 1, 1)
    assert pair_frames(plate, came(empty, EVERY), [float(i) for i in EVERY]) == EVERY


def test_a_part_of_the_shot_is_refused_with_the_fix():
    """Half of the frames at the same rate are the first half, not every second."""
    with pytest.raises(InputError, match=r"^v.mp4: 9 frames end after the plate's frame 9 of 18; [^\n]*--frames"):
        first_guess(18, 9, (RATE, RATE), "v.mp4")


@pytest.mark.parametrize("counts", [(21, 1), (10, 47), (100, 7)])
def test_counts_that_tell_nothing_are_refused(counts):
    with pytest.raises(InputError, match="frames for a plate of"):
        first_guess(*counts, (None, None), "v.mp4")


@pytest.mark.parametrize(
    "plate, edited", [(5, 5), (5, 3), (6, 3), (9, 3), (3, 6), (3, 5), (3, 7), (24, 16), (30, 16), (81, 54)]
)
def test_common_counts_are_taken_without_rates(plate, edited):
    guess = first_guess(plate, edited, (None, None), "v.mp4")
    assert len(guess) == edited and guess[0] == 0 and abs(guess[-1] - (plate - 1)) < max(1.5, plate / edited)


def test_what_is_not_one_to_one_is_said():
    pairs = paired([0, 1, 1, 3], [1001, 1002, 1003, 1004])
    assert pairs.plate == [0, 1, 3] and pairs.edited == [0, 1, 3]
    assert "1 of 4 edited frames" in pairs.said[0] and "(1003)" in pairs.said[1]
    assert paired([0, 1], [1, 2]).said == ()


def test_an_offset_takes_any_count():
    assert first_guess(5, 21, (None, RATE), "v.mp4", -2)[:4] == [-2, -1, 0, 1]
    assert first_guess(24, 6, (RATE, Fraction(12)), "v.mp4", 3) == [3, 5, 7, 9, 11, 13]


def test_of_an_edited_video_the_frames_with_a_partner_are_read():
    """The third shows the second's plate frame again, and is left out."""
    video = SimpleNamespace(
        frames=(11, 12, 13, 14), pixel_aspect=1.0, read=lambda frame: np.full((4, 6, 3), frame, np.uint8)
    )
    size = (6, 4)
    edited = EditedFile(video, PlateColor(SRGB, "uint8"), [0, 1, 3], size, size, whole(size, size))
    assert [round(255 * float(edited.frame(position, (4, 6)).mean())) for position in range(3)] == [11, 12, 14]


@pytest.mark.parametrize("indices, positions", [([0, 2, 4], [0, 1, 2]), ([1, 2, 5], [2, 1]), ([3], [0])])
def test_plate_and_mask_of_a_pair_are_of_the_plates_frame(indices, positions):
    def of(frame: int, channels: tuple[int, ...] = ()) -> np.ndarray:
        return np.full((8, 12, *channels), (frame - 1000) / 10, np.float32)

    job = SimpleNamespace(
        plate=SimpleNamespace(frames=tuple(range(1001, 1007))),
        mask=SimpleNamespace(read=of),
        color=SimpleNamespace(to_model=lambda pixels: pixels, model_table=lambda dtype: None),
        kept=KeptFrames(0),
        size=(6, 4),
        indices=indices,
        pixels=lambda frame: of(frame, (3,)),
    )
    wanted = torch.tensor([(1 + indices[k]) / 10 for k in positions])
    for read in (read_plate, read_mask):
        found = read(job, positions)
        assert found.shape[2:] == (4, 6)
        assert torch.allclose(found, wanted[:, None, None, None].expand_as(found))
