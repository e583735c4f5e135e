"""Backdrops: the same for the same seed, steady in time, alike at any size, as bright as the plate."""

import math

import pytest
import torch
import torch.nn.functional as F

from vera.core.layer.backdrop.backdrop import MOST_ROOM, PAINTINGS, Backdrop, Room, enlarged, within_room
from vera.core.layer.backdrop.behind import BackdropFrame, kept_as_masked, level, shown_as_masked
from vera.core.layer.backdrop.lens_blur import disc, out_of_focus, splat
from vera.core.layer.backdrop.painting import BackdropRequest
from vera.core.layer.backdrop.plate_motion import Move
from vera.core.layer.backdrop.smooth_noise import Noise
from vera.core.model.mini import words

ROWS, ASPECT = 36, 16 / 9
WHITE = torch.ones(3)
MOVING = [kind for kind, painting in PAINTINGS.items() if painting.moves]


def light(kind, seed=0, time=0.0, rows=ROWS, traits=()):
    return Backdrop(BackdropRequest(kind, seed, frozenset(traits)), ASPECT, rows).picture(time).light


@pytest.fixture(scope="module")
def first():
    """The light of every kind at time 0."""
    return {kind: light(kind) for kind in PAINTINGS}


def test_every_background_of_the_models_world_is_painted():
    assert set(PAINTINGS) == set(words.BACKGROUNDS)


@pytest.mark.parametrize("kind", PAINTINGS)
def test_a_seed_and_a_time_give_the_same_light_and_another_seed_another(first, kind):
    assert torch.equal(first[kind], light(kind))
    assert (first[kind] - light(kind, seed=1)).abs().mean() > 1e-3


@pytest.mark.parametrize("kind", PAINTINGS)
def test_light_is_finite_and_within_what_a_scene_has(first, kind):
    assert torch.isfinite(first[kind]).all() and first[kind].min() >= 0
    assert 0.003 < first[kind].mean() < 1.0


@pytest.mark.parametrize("kind", MOVING)
def test_what_moves_moves_little_from_frame_to_frame(first, kind):
    near, far = ((light(kind, time=t) - first[kind]).abs().mean() for t in (1.0, 48.0))
    assert 0 < near < 0.6 * far
    assert near < 0.12 * first[kind].mean()


@pytest.mark.parametrize("kind", sorted(set(PAINTINGS) - set(MOVING)))
def test_what_stands_still_is_the_same_at_any_time(first, kind):
    assert torch.equal(first[kind], light(kind, time=30.0))


# Not the city: its windows are a few samples high, and are painted at one number of rows only.
@pytest.mark.parametrize("kind", ["sea", "sunset", "night", "desert", "meadow", "studio"])
def test_a_painting_of_twice_the_rows_is_the_same_picture(first, kind):
    finer = F.avg_pool2d(light(kind, rows=2 * ROWS)[None], 2)[0]
    apart = F.avg_pool2d((finer - first[kind])[None], 3, 3).abs().mean()
    assert apart < 0.22 * first[kind].mean()


@pytest.mark.parametrize("kind", ["city", "sea"])
def test_half_a_plate_shows_the_average_of_the_whole(kind):
    frame = BackdropFrame(Backdrop(BackdropRequest(kind, 0), ASPECT, ROWS), 0, WHITE)
    half, whole = (frame.codes(size, clips=True) for size in ((90, 160), (180, 320)))
    averaged = F.avg_pool2d(whole.movedim(-1, 0)[None], 2)[0].movedim(0, -1)
    assert (half - averaged).abs().max() < 0.03


def test_a_backdrop_follows_the_plates_background():
    """A frame that has moved shows what lay beside the first one; without a move nothing changes but the canvas."""
    moves = within_room([Move(), Move(0.25, -0.125), Move(-0.5, 0.0)], ASPECT)
    backdrop = Backdrop(BackdropRequest("night", 0), ASPECT, ROWS, Room.of(moves, ASPECT))
    whole = torch.rand(3, *backdrop.painting.view.x.shape, generator=torch.Generator().manual_seed(0))
    still, moved = (backdrop.framed(whole, move, (2 * ROWS, 128)) for move in moves[:2])
    right, up = round(0.25 * 2 * ROWS), round(0.125 * 2 * ROWS)
    assert (moved[:, :-up, right:] - still[:, up:, :-right]).abs().max() < 0.02


def test_a_backdrop_zooms_and_turns_with_the_plates_background():
    """A quarter turn at a magnification of 2 about the middle, of a plane that rises to the right."""
    move = Move(0.0, 0.0, math.log(2), math.pi / 2)
    backdrop = Backdrop(BackdropRequest("night", 0), 1.0, ROWS, Room.of([move], 1.0))
    line = (torch.arange(ROWS) + 0.5) / ROWS - 0.5
    seen = backdrop.framed(line.expand(1, ROWS, -1), move, (ROWS, ROWS))[0]
    assert (seen - line[:, None] / 2).abs().max() < 0.01


@pytest.mark.parametrize(
    ("move", "kept"),
    [
        (Move(3.0, 0.1), Move(MOST_ROOM[0], 0.1)),
        (Move(0.1, -2.0), Move(0.1, -MOST_ROOM[1])),
        (Move(zoom=-2.0), Move(zoom=-math.log(1 + 2 * MOST_ROOM[1]))),
        (Move(zoom=3.0), Move(zoom=3.0)),
    ],
    ids=["far right", "far up", "zoomed out", "zoomed in"],
)
def test_a_camera_that_goes_too_far_is_followed_in_part(move, kept):
    assert within_room([Move(), move], ASPECT)[1] == pytest.approx(kept, abs=1e-3)


def test_alpha_is_the_masks_where_that_is_sure_and_the_models_where_it_is_soft():
    mask, late = torch.tensor([[1.0, 1.0, 0.6, 0.4, 0.0, 0.0]]), torch.full((1, 6), 0.5)
    alpha = kept_as_masked(shown_as_masked(late, mask), mask)
    assert torch.equal(alpha, torch.tensor([[1.0, 1.0, 0.5, 0.5, 0.0, 0.0]]))


def test_a_grey_mask_leaves_alpha_to_the_model():
    late, grey = torch.full((6, 8), 0.3), torch.full((6, 8), 0.5)
    assert torch.equal(shown_as_masked(late, grey), late) and torch.equal(kept_as_masked(late, grey), late)


def test_words_change_the_picture(first):
    for kind, trait in (("sea", "calm"), ("mountains", "snowy")):
        assert (first[kind] - light(kind, traits=[trait])).abs().mean() > 1e-3


def test_defocus_keeps_the_light_of_a_point_and_spreads_it_over_its_disc():
    point = torch.zeros(3, 41, 41)
    point[:, 20, 20] = 5.0
    seen = out_of_focus(point, torch.ones(41, 41), 6.0)
    assert torch.allclose(seen.sum((1, 2)), torch.full((3,), 5.0), rtol=1e-5)
    assert seen[0, 20, 25] > 0.9 * seen[0, 20, 20] and seen[0, 20, 28] == 0


def test_each_sample_is_blurred_by_its_own_share_of_the_disc():
    """Against the blur of the whole picture by each of the discs."""
    light = torch.rand(3, 30, 24, generator=torch.Generator().manual_seed(0))
    blur = torch.linspace(1.4, 0, 30).clamp(max=1)[:, None].expand(30, 24)
    seen = out_of_focus(light, blur, 4.0)
    for row in range(30):
        low = min(2, int(blur[row, 0] * 3))
        share = float(blur[row, 0]) * 3 - low
        low_seen, high_seen = (out_of_focus(light, torch.full((30, 24), (low + k) / 3), 4.0)[:, row] for k in (0, 1))
        assert (seen[:, row] - torch.lerp(low_seen, high_seen, share)).abs().max() < 1e-5


def test_what_is_in_focus_keeps_its_bits():
    picture = torch.rand(3, 20, 20, generator=torch.Generator().manual_seed(0))
    assert torch.equal(out_of_focus(picture, torch.zeros(20, 20), 6.0), picture)


def test_a_disc_sums_to_one_at_any_radius():
    assert all(abs(float(disc(radius).sum()) - 1) < 1e-6 for radius in (0.3, 1.0, 2.7, 9.5))


def test_points_of_light_lose_nothing_between_samples():
    plane = torch.zeros(3, 12, 16)
    splat(plane, torch.tensor([5.3, 9.0]), torch.tensor([4.7, 6.5]), torch.ones(3, 2))
    assert torch.allclose(plane.sum((1, 2)), torch.full((3,), 2.0))


def test_noise_has_the_stated_spread_and_no_detail_below_the_footprint():
    y, x = torch.meshgrid(torch.arange(120.0) * 0.11, torch.arange(120.0) * 0.11, indexing="ij")
    rough, smooth = (Noise(3).fractal(x, y, 6, 0.6, footprint) for footprint in (0.0, 0.8))
    assert 0.7 < rough.std() < 1.3
    assert smooth.diff(dim=1).abs().mean() < 0.5 * rough.diff(dim=1).abs().mean()


def test_a_brighter_plate_brightens_a_day_by_as_much_and_a_night_by_less():
    day = level(2 * WHITE, 1.0, clips=False) / level(WHITE, 1.0, clips=False)
    night = level(2 * WHITE, 0.35, clips=False) / level(WHITE, 0.35, clips=False)
    assert torch.allclose(day, torch.tensor(2.0)) and 1.1 < float(night[0]) < 1.5


def test_warm_light_warms_a_backdrop_and_keeps_its_luminance():
    warm = level(torch.tensor([1.3, 1.0, 0.5]), 1.0, clips=False)
    assert warm[0] > warm[1] > warm[2]


def test_enlarging_an_even_picture_changes_nothing():
    assert torch.allclose(enlarged(torch.full((3, 9, 16), 0.3), (45, 80)), torch.tensor(0.3), atol=1e-6)
