"""Haze against drift: synthetic haze is found, and none where there is only drift or another picture."""

import pytest
import torch

from benchmarks import lift as benchmark
from benchmarks.spoil import spoil
from vera.core.data.engine.clips import make_clip
from vera.core.lifting import haze
from vera.core.lifting.haze import Haze, find_haze
from vera.core.lifting.smooth import blur

SIZE, FRAMES = (96, 160), 5
GREY = (0.8, 0.8, 0.8)
WARM = (1.0, 0.85, 0.6)


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    torch.set_num_threads(1)


def noise(seed, size, scale=1.0):
    """(FRAMES, 3, H, W) of noise that smoothing with sigma `scale` has left, of standard deviation one."""
    video = blur(torch.randn(FRAMES, 3, *size, generator=torch.Generator().manual_seed(seed)), scale)
    return video / video.std()


def plate(seed=0):
    return (0.4 + 0.1 * noise(seed, SIZE, 6.0) + 0.03 * noise(seed + 1, SIZE)).clamp(0, 1)


def drifted(video, seed=5):
    """A gain of up to 5 % a channel that runs over the frame, and noise of 1 %."""
    field = torch.nn.functional.interpolate(noise(seed, (3, 4), 0.0), SIZE, mode="bicubic", align_corners=True)
    return (video * (1 + 0.05 * field / field.abs().max()) + 0.01 * noise(seed + 1, SIZE, 0.0)).clamp(0, 1)


def even(alpha):
    return torch.full((FRAMES, 1, *SIZE), alpha)


def ramp():
    """Alpha from 0 on the left to 0.3 on the right."""
    return (0.3 * torch.linspace(0, 1, SIZE[1])).expand(FRAMES, 1, *SIZE)


@pytest.mark.parametrize("color", [GREY, WARM], ids=["grey", "warm"])
@pytest.mark.parametrize("alpha", [even(0.08), even(0.4), ramp()], ids=["faint", "fog", "ramp"])
def test_planted_haze_is_found_beside_drift(color, alpha):
    """What it does to the plate to a fifth of its own effect, its colour to a tenth and a half."""
    planted = Haze(alpha, torch.tensor(color))
    behind = plate()
    found = find_haze(behind, drifted(planted.over(behind)), torch.ones(FRAMES, 1, *SIZE))
    effect = planted.over(behind) - behind
    assert (found.over(behind) - behind - effect).square().mean().sqrt() < 0.2 * effect.square().mean().sqrt()
    assert (found.color - planted.color).abs().max() < 0.15


@pytest.mark.parametrize("seed", range(4))
def test_drift_alone_is_no_haze(seed):
    behind = plate(10 * seed)
    assert find_haze(behind, drifted(behind, 100 + seed), torch.ones(FRAMES, 1, *SIZE)) is None
    # A codec's loss.
    assert find_haze(behind, drifted(blur(behind, 1.2), 100 + seed), torch.ones(FRAMES, 1, *SIZE)) is None


def test_another_picture_is_no_haze():
    """Behind a third of the frame that is kept: no veil of any colour makes a new background of the old one."""
    behind = plate()
    edited = drifted(plate(50))
    edited[..., :54] = drifted(behind)[..., :54]
    assert find_haze(behind, edited, torch.ones(FRAMES, 1, *SIZE)) is None


def test_an_object_is_no_haze():
    behind = plate()
    edited = drifted(behind)
    edited[..., 30:70, 40:90] = torch.tensor([0.8, 0.1, 0.1])[:, None, None]
    assert find_haze(behind, edited, torch.ones(FRAMES, 1, *SIZE)) is None


def test_removed_is_the_inverse_of_over():
    haze = Haze(ramp().double() * 3, torch.tensor(WARM).double())
    video = plate().double()
    assert (haze.removed(haze.over(video)) - video).abs().max() < 1e-12


@pytest.mark.parametrize("way", ["h264", "quarter"])
def test_rays_of_light_are_lifted_whole(way):
    """Their faint ends too, which lie below the noise of any pixel: the layer beats the spoiled video by far."""
    clip = make_clip(
        7_000_020, 144, 256, torch.arange(5), {"edit": "effect", "effect": "light rays", "amount": "medium"}
    )
    edited = spoil(clip.composite, 4, way)
    color, alpha = benchmark.lifted(clip.source, edited)
    composite = alpha * color + (1 - alpha) * clip.source
    shown = torch.nn.functional.interpolate(edited, (144, 256), mode="bicubic").clamp(0, 1)
    assert (alpha - clip.alpha).abs().mean() < 0.25 * clip.alpha.mean()
    assert benchmark.psnr(composite, clip.composite) > benchmark.psnr(shown, clip.composite) + 3


@pytest.mark.parametrize("color", [None, torch.tensor(WARM)], ids=["drift", "haze"])
def test_normal_equations_are_those_of_the_columns(color):
    """Of the unknowns of `_fit`: gains, offsets, alpha, and the step of the colour."""
    drawn = torch.Generator().manual_seed(3)
    slow, soft, pixels, change = (torch.randn(50, n, generator=drawn) for n in (4, 6, 3, 3))
    data, weight = (
        haze._Cells(slow, soft, pixels, change, torch.rand(50, generator=drawn)),
        torch.rand(50, generator=drawn),
    )
    alpha = torch.randn(6, generator=drawn) if color is not None else torch.zeros(0)
    columns = []
    for c in range(3):
        own = torch.zeros(50, 15 if color is None else 24, dtype=torch.float64)
        own[:, 4 * c : 4 * c + 4], own[:, 12 + c] = slow * pixels[:, c : c + 1], 1
        if color is not None:
            own[:, 15:21], own[:, 21 + c] = soft * (color[c] - pixels[:, c : c + 1]), soft @ alpha
        columns.append(own)
    left, right = haze._normal_equations(data, weight, color, alpha)
    assert (left - sum((own * weight[:, None].double()).T @ own for own in columns)).abs().max() < 1e-3
    wanted = sum(own.T @ (weight * change[:, c]).double() for c, own in enumerate(columns))
    assert (right - wanted).abs().max() < 1e-3
