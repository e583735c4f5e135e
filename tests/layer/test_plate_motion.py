"""The motion of a plate's background: pans are followed, people who move are not, a camera at rest rests."""

import math

import pytest
import torch

from vera.core.layer.backdrop.plate_motion import Motion, Move, background_motion
from vera.core.layer.backdrop.smooth_noise import Noise

ROWS, COLUMNS = 60, 106
TEXTURE = Noise(5)


def picture(right=0.0, down=0.0, person=None, zoom=0.0, turn=0.0, rise=0):
    """A textured wall that has moved by that many samples, and zoom and turn; a person: the column of their middle."""
    y, x = torch.meshgrid(torch.arange(ROWS) + 0.5, torch.arange(COLUMNS) + 0.5, indexing="ij")
    x, y = Move(right, down, zoom, turn).before(x - COLUMNS / 2, y - ROWS / 2)
    made = 0.5 + 0.15 * TEXTURE.fractal((x + COLUMNS / 2) / 9, (y + ROWS / 2) / 9, 4)
    if person is not None:
        made[15 - rise :, person - 14 - rise : person + 14 + rise] = 0.2 + 0.1 * torch.sin(
            torch.arange(28.0 + 2 * rise)
        )
    return made


def shifts(motion) -> torch.Tensor:
    """In samples, (T, 2)."""
    return ROWS * torch.tensor([move[:2] for move in motion.moves])


def wall(person=53):
    seen = torch.ones(ROWS, COLUMNS)
    seen[10:, person - 22 : person + 22] = 0
    return seen


def test_a_pan_behind_somebody_at_rest_is_followed():
    path = [(1.7 * k, -0.3 * k) for k in range(14)]
    motion = background_motion((picture(*at, person=53) for at in path), wall())
    assert (shifts(motion) - torch.tensor(path)).abs().max() < 0.2


@pytest.mark.parametrize(
    ("zoom", "turn", "right"),
    [(0.012, 0.0, 0.0), (-0.012, 0.0, 0.0), (0.0, 0.008, 0.0), (0.01, -0.006, 0.8)],
    ids=["in", "out", "roll", "all at once"],
)
def test_a_zoom_and_a_roll_behind_somebody_at_rest_are_followed(zoom, turn, right):
    wanted = [Move(right * k / ROWS, 0.0, zoom * k, turn * k) for k in range(14)]
    frames = (picture(right * k, 0.0, 53, zoom * k, turn * k) for k in range(14))
    motion = background_motion(frames, wall())
    corner = (COLUMNS / ROWS / 2, 0.5)
    for found, true in zip(motion.moves, wanted, strict=True):
        assert math.dist(found.of(*corner), true.of(*corner)) < 0.5 / ROWS


def test_somebody_who_comes_nearer_before_a_camera_at_rest_zooms_nothing():
    assert background_motion((picture(person=53, rise=k) for k in range(8)), wall()).moves is None


def test_moves_in_turn_are_one_move_and_undo():
    one, other = Move(0.1, -0.2, 0.3, 0.4), Move(-0.3, 0.1, -0.1, 0.2)
    assert other.after(one).of(0.5, 0.7) == pytest.approx(other.of(*one.of(0.5, 0.7)))
    assert one.before(*one.of(0.5, 0.7)) == pytest.approx((0.5, 0.7))


def test_somebody_who_moves_before_a_camera_at_rest_moves_nothing():
    assert background_motion((picture(person=53 + k % 7) for k in range(12)), wall()) == Motion(None)


def test_a_small_shake_is_followed_without_drift():
    path = [(0.8 * (-1) ** k, 0.5 * (k % 3)) for k in range(30)]
    path[0] = (0.0, 0.0)
    motion = background_motion((picture(*at) for at in path), torch.ones(ROWS, COLUMNS))
    assert (shifts(motion) - torch.tensor(path)).abs().max() < 0.15


def test_light_that_fades_is_no_motion():
    assert background_motion((picture() * (1 - 0.02 * k) for k in range(10)), wall()) == Motion(None)


def test_a_plate_whose_frames_have_nothing_in_common_is_not_followed():
    frames = (torch.rand(ROWS, COLUMNS, generator=torch.Generator().manual_seed(k)) for k in range(4))
    assert background_motion(frames, wall()) == Motion(None, is_known=False)


def test_a_wall_without_texture_tells_nothing():
    assert background_motion((torch.full((ROWS, COLUMNS), 0.4) for _ in range(4)), wall()) == Motion(None)
