"""Edits of low contrast: found beside a codec's noise, which must not be learnt from them."""

import pytest
import torch

from vera.core.lifting.lift_window import is_like_noise, lift_clip
from vera.core.lifting.smooth import blur

WIDTH, HEIGHT = 160, 100


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def plain():
    """Three frames of soft shading, (3, 3, 100, 160)."""
    video = blur(torch.randn(1, 3, HEIGHT, WIDTH, generator=torch.Generator().manual_seed(4)), 12.0)
    return (0.5 + 0.12 * video / video.std()).clamp(0, 1).repeat(3, 1, 1, 1)


def noise(seed, size=0.006):
    return size * torch.randn(3, 3, HEIGHT, WIDTH, generator=torch.Generator().manual_seed(seed))


def test_a_faint_wide_retouch_is_found(plain):
    y, x = torch.meshgrid(torch.arange(HEIGHT), torch.arange(WIDTH), indexing="ij")
    blush = torch.exp(-((((x - 80) / 24) ** 2 + ((y - 50) / 18) ** 2) ** 2))
    edited = plain + blush * torch.tensor([0.06, 0.0, -0.01])[:, None, None]
    lifted = lift_clip(plain, (edited + noise(9)).clamp(0, 1))
    assert (lifted.alpha[..., blush > 0.5] > 0).float().mean() > 0.9
    assert (lifted.alpha[..., blush < 0.02] > 0).float().mean() < 0.01


def test_noise_is_learnt_from_what_errs_both_ways_only():
    residual = noise(1, 0.02)
    assert is_like_noise(residual).mean() > 0.99
    residual[..., 60:] += 0.05
    assert is_like_noise(residual)[..., 70:].mean() < 0.05 and is_like_noise(residual)[..., :45].mean() > 0.95
