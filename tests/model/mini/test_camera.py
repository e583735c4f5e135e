"""The camera: views of a scene of waves, whose moves are known exactly."""

import math

import pytest
import torch

from vera.core.model.functional import cell_centres
from vera.core.model.mini.camera import Camera, follow, seen
from vera.core.model.mini.shot import is_still
from vera.core.model.mini.words import HALF_HEIGHTS
from vera.core.sampling.latent_store import InMemory

CHANNELS, HEIGHT, WIDTH = 6, 12, 20


def scene(view, seed=0, height=HEIGHT, width=WIDTH):
    """Latents (C, H, W) of a scene of slow waves under a view (a, b, z), and how they change a cell to the right,
    and down."""
    gen = torch.Generator().manual_seed(seed)
    rates = torch.randn(CHANNELS, 5, 2, generator=gen, dtype=torch.float64) * 3
    phases = torch.rand(CHANNELS, 5, generator=gen, dtype=torch.float64) * 2 * math.pi
    y, x = torch.meshgrid(
        cell_centres(height, "cpu").double(), cell_centres(width, "cpu").double() * (width / height), indexing="ij"
    )
    p = (torch.stack([x, y], -1) - torch.tensor(view[:2])) * math.exp(-view[2])
    angle = torch.einsum("hwi,cki->ckhw", p, rates) + phases[..., None, None]
    right, down = (
        -torch.einsum("ckhw,ck->chw", angle.cos(), rates[..., i]) * math.exp(-view[2]) * 2 / height for i in (0, 1)
    )
    return angle.sin().sum(1).float(), right.float(), down.float()


@pytest.fixture(scope="module")
def camera():
    camera = Camera(CHANNELS)
    camera.fit(*(torch.stack(x) for x in zip(*(scene((0.0, 0.0, 0.0), seed) for seed in range(40)))))
    return camera


@pytest.mark.parametrize(
    "view", [(0.04, 0.0, 0.0), (-0.02, 0.05, 0.0), (0.0, 0.0, 0.02), (0.03, -0.03, -0.02), (0.0, 0.0, 0.0)]
)
@pytest.mark.parametrize("shape", [(12, 20), (16, 9)])
def test_a_view_is_read_from_two_frames(camera, view, shape):
    before, now = (scene(v, 99, *shape)[0] for v in ((0.0, 0.0, 0.0), view))
    with torch.no_grad():
        read = camera(before[None], now[None])[0]
    torch.testing.assert_close(read, torch.tensor(view), atol=0.004, rtol=0)


def test_independently_moving_objects_count_little(camera):
    """A quarter of the frame goes the other way."""
    before, now, other = (scene(v, 7)[0] for v in ((0.0, 0.0, 0.0), (0.05, 0.0, 0.0), (-0.1, 0.05, 0.0)))
    now[:, 3:9, 5:15] = other[:, 3:9, 5:15]
    with torch.no_grad():
        read = camera(before[None], now[None])[0]
    torch.testing.assert_close(read, torch.tensor([0.05, 0.0, 0.0]), atol=0.005, rtol=0)


def test_without_texture_or_a_fit_it_is_at_rest(camera):
    flat, noise = torch.ones(1, CHANNELS, HEIGHT, WIDTH), torch.randn(2, CHANNELS, HEIGHT, WIDTH)
    lit = scene((0.0, 0.0, 0.0))[0][None]
    with torch.no_grad():
        assert camera(lit, lit + 0.3).abs().max() < 1e-3
        assert camera(flat, flat * 1.1).abs().max() < 1e-3
        assert not Camera(CHANNELS)(*noise[:, None]).any()


def test_a_shot_s_views_have_no_mean_and_meet_between_frames(camera):
    """A steady pan: even steps; each latent frame begins 3/8 of a step before its middle and ends as much after it."""
    plate = InMemory(torch.stack([scene((0.03 * k, -0.01 * k, 0.0), 5)[0] for k in range(7)]))
    views = follow(camera, plate)
    steps = torch.tensor([0.03, -0.01, 0.0])
    middle = views.mean(1)
    torch.testing.assert_close(middle, (torch.arange(7) - 3)[:, None] * steps, atol=0.006, rtol=0)
    torch.testing.assert_close((views[1:, 1] - views[1:, 0]), (steps * 0.75).expand(6, 3), atol=0.003, rtol=0)
    assert torch.equal(views[0, 0], views[0, 1])  # one frame alone
    assert not follow(camera, InMemory(plate.latents[:1])).any()


def test_views_compose_under_zoom(camera):
    """Each view relates to the last: together they are the shot's, up to its mean."""
    told = torch.tensor([[0.02 * k, 0.01 * k, 0.015 * k] for k in range(6)])
    views = follow(camera, InMemory(torch.stack([scene(v.tolist(), 3)[0] for v in told]))).mean(1)
    point = torch.tensor([0.4, -0.3])
    # Where a point of the scene is seen; the views' own origin is another: the point under the mean view.
    true = told[:, :2] + told[:, 2:].exp() * point
    scale = told[:, 2].exp() / views[:, 2].exp()
    own = (true - views[:, :2]) / views[:, 2:].exp()
    torch.testing.assert_close(scale, scale[:1].expand(6), atol=0.01, rtol=0)
    torch.testing.assert_close(own, own[:1].expand(6, 2), atol=0.01, rtol=0)
    assert views[:, 2].mean().abs() < 1e-6 and (views[:, :2].mean(0).abs() < 1e-6).all()


def test_a_path_is_seen_through_the_views():
    path = torch.tensor([0.5, -0.2, -1.0]).expand(1, 2, 2, 3)
    views = torch.tensor([[0.0, 0.0, 0.0], [0.1, 0.2, math.log(1.5)]])[:, None].expand(2, 2, 3)
    through = seen(path, views, 2.0)
    assert torch.equal(through[:, 0], path[:, 0])
    torch.testing.assert_close(through[0, 1, 0], torch.tensor([0.75 + 0.05, -0.3 + 0.2, -1 + math.log(1.5)]))


def test_what_fills_the_frame_does_not_move_with_the_scene():
    """Nor more than in part what is between the largest object and that."""
    views = torch.tensor([0.1, 0.2, 0.3]).expand(1, 2, 3)
    whole, large = (
        torch.tensor([0.1, 0.1, size]).expand(1, 1, 2, 3) for size in (0.0, math.log(2 * HALF_HEIGHTS["large"]))
    )
    assert torch.equal(seen(whole, views, 1.0), whole)
    torch.testing.assert_close(
        seen(large, views, 1.0)[..., 2] - large[..., 2], torch.full((1, 1, 2), 0.3), atol=1e-3, rtol=0
    )


def test_a_camera_that_goes_far_is_not_followed(camera):
    """What is added would leave the frame: it stays instead."""
    near, far = (
        torch.stack([scene((step * k, 0.0, 0.0), 5)[0] for k in range(n)]) for step, n in ((0.1, 14), (0.1, 30))
    )
    assert 0.5 < follow(camera, InMemory(near)).abs().max() <= 1 and not follow(camera, InMemory(far)).any()


def test_a_mask_that_moves_says_itself_where():
    mask = torch.randn(1, CHANNELS, 2, 2).expand(3, -1, -1, -1).clone()
    assert is_still(None) and is_still(InMemory(mask))
    mask[2, 0, 0, 0] += 1
    assert not is_still(InMemory(mask))
