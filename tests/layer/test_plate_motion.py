"""The motion of a plate's background: pans are followed, people who move are not, a camera at rest rests."""

import torch

from vera.core.layer.backdrop.plate_motion import background_motion
from vera.core.layer.backdrop.smooth_noise import Noise

ROWS, COLUMNS = 60, 106
TEXTURE = Noise(5)


def picture(right=0.0, down=0.0, person=None):
    """A textured wall that lies that many samples to the right and down; a person: the column of their middle."""
    y, x = torch.meshgrid(torch.arange(ROWS) + 0.5 - down, torch.arange(COLUMNS) + 0.5 - right, indexing="ij")
    made = 0.5 + 0.15 * TEXTURE.fractal(x / 9, y / 9, 4)
    if person is not None:
        made[15:, person - 14 : person + 14] = 0.2 + 0.1 * torch.sin(torch.arange(28.0))
    return made


def wall(person=53):
    seen = torch.ones(ROWS, COLUMNS)
    seen[10:, person - 22 : person + 22] = 0
    return seen


def test_a_pan_behind_somebody_at_rest_is_followed():
    path = [(1.7 * k, -0.3 * k) for k in range(14)]
    moves = background_motion((picture(*at, person=53) for at in path), wall())
    assert (moves * ROWS - torch.tensor(path)).abs().max() < 0.2


def test_somebody_who_moves_before_a_camera_at_rest_moves_nothing():
    assert background_motion((picture(person=53 + k % 7) for k in range(12)), wall()) is None


def test_a_small_shake_is_followed_without_drift():
    path = [(0.8 * (-1) ** k, 0.5 * (k % 3)) for k in range(30)]
    path[0] = (0.0, 0.0)
    moves = background_motion((picture(*at) for at in path), torch.ones(ROWS, COLUMNS))
    assert (moves * ROWS - torch.tensor(path)).abs().max() < 0.15


def test_light_that_fades_is_no_motion():
    assert background_motion((picture() * (1 - 0.02 * k) for k in range(10)), wall()) is None


def test_a_plate_whose_frames_have_nothing_in_common_is_not_followed():
    frames = (torch.rand(ROWS, COLUMNS, generator=torch.Generator().manual_seed(k)) for k in range(4))
    assert background_motion(frames, wall()) is None


def test_a_wall_without_texture_tells_nothing():
    assert background_motion((torch.full((ROWS, COLUMNS), 0.4) for _ in range(4)), wall()) is None
