"""Position drift: how each edited frame lies on its plate frame, from details that both show."""

import torch
import torch.nn.functional as F

from vera.core.lifting.smooth import blur, luma

ROUNDS = 5
REACH, SURELY_BETTER = 2, 1.2  # whole pixels that are tried at first, and how much better one has to fit than none
MOST = 4.0  # pixels; farther is another picture, not drift
FLOOR = 0.01  # of details: below it is noise


def find_moves(plate, edited):
    """An affine move a frame, (T, 2, 3) in pixels: edited(x + move(x)) lies on plate(x).

    plate, edited: (T, 3, H, W) of one size. Gauss-Newton on details of luma with local contrast
    divided out, so that neither drift of colour nor fog matters, weighted by how alike both
    are there and by Tukey's weights. Frames near one another vote together (normal equations
    are smoothed in time), so that a frame with little to hold on to does not wander.
    """
    fixed = details(plate)
    gx, gy = (0.5 * (fixed.roll(-1, d) - fixed.roll(1, d)) for d in (3, 2))
    basis = _basis(plate)
    columns = torch.cat([gx * basis, gy * basis], 1)  # (T, 6, H, W)
    inside = torch.zeros_like(fixed)
    inside[..., 2:-2, 2:-2] = 1
    moves = best_shift(fixed, details(edited)).repeat(len(plate), 1, 1)
    for _ in range(ROUNDS):
        placed = details(moved(edited, moves))
        error = placed - fixed
        alike = (blur(placed * fixed, 2.5, 0.7) / blur(fixed * fixed, 2.5, 0.7).clamp_min(1e-4)).clamp(0, 1)
        weight = inside * (2 * alike - 1).clamp_min(0) ** 2
        weight = weight * tukey(error, weight)
        left = torch.einsum("tihw,tjhw->tij", columns * weight, columns)
        right = torch.einsum("tihw,thw->ti", columns * weight, error[:, 0])
        left, right = blur(left[:, None], 0, 3.0)[:, 0], blur(right[:, None, None], 0, 3.0)[:, 0, 0]
        noise = (weight * error**2).sum() / weight.sum().clamp_min(1) + 1e-6
        # Prior: shifts of a pixel or two, stretch and turn far less; many errors of neighbours count as one.
        prior = torch.diag(torch.tensor([6, 100, 100, 6, 100, 100])) * 20 * noise
        step = torch.linalg.solve(left + prior, right[..., None] + prior @ moves.reshape(-1, 6, 1))
        moves = (moves - step.reshape(-1, 2, 3)).clamp(-MOST, MOST)
    return moves


def moved(video, moves):
    """The video looked at through the moves, bicubic, in [0, 1]."""
    if not moves.abs().max() > 0.02:
        return video
    height, width = video.shape[2:]
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    shift = torch.einsum("tij,jhw->tihw", moves, _basis(video)[0])
    grid = torch.stack([(2 * (x + shift[:, 0]) + 1) / width - 1, (2 * (y + shift[:, 1]) + 1) / height - 1], -1)
    return F.grid_sample(video, grid, mode="bicubic", padding_mode="border", align_corners=False).clamp(0, 1)


def details(video):
    """Band-passed luma over its local strength, (T, 1, H, W)."""
    soft = blur(luma(video), 1.0)
    band = soft - blur(soft, 4.0)
    return band / (blur(band * band, 4.0).sqrt() + FLOOR)


def tukey(error, trust, width=5.0):
    """Tukey's weights; the scale is the median size of trusted errors."""
    sizes = error.abs()[trust.expand_as(error) > 0.3]
    scale = 1.48 * sizes.median() if len(sizes) else sizes.new_tensor(1.0)
    return (1 - (error / (width * scale + 1e-4)) ** 2).clamp_min(0) ** 2


def best_shift(fixed, other):
    """The whole-pixel shift of the shot, (1, 2, 3), under which most details are alike: no local minimum to fall into.

    Every textured place counts alike, so that what an edit adds, however strong, has one voice among many.
    """
    fixed, other = (v[:: max(1, len(v) // 8)] for v in (fixed, other))
    strength, theirs = blur(fixed * fixed, 2.0), blur(other * other, 2.0)
    textured = strength / (strength + 0.1)
    score = {}
    for dy in range(-REACH, REACH + 1):
        for dx in range(-REACH, REACH + 1):
            to = (-dy, -dx), (2, 3)
            alike = blur(fixed * other.roll(*to), 2.0) / (strength * theirs.roll(*to) + 1e-6).sqrt()
            fit = (textured * alike.clamp_min(0) ** 4)[..., REACH:-REACH, REACH:-REACH].mean()
            score[dx, dy] = float(fit)
    score[0, 0] *= SURELY_BETTER
    dx, dy = max(score, key=score.get)
    return torch.tensor([[[float(dx), 0, 0], [float(dy), 0, 0]]])


def _basis(video):
    """1, x, y from -1 to 1 over the frame, (1, 3, H, W)."""
    height, width = video.shape[2:]
    y, x = torch.meshgrid(torch.linspace(-1, 1, height), torch.linspace(-1, 1, width), indexing="ij")
    return torch.stack([torch.ones_like(x), x, y])[None]
