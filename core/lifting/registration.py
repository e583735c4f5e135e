"""Position drift: how each edited frame lies on its plate frame, from details that both show."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F

from vera.core.lifting.smooth import blur, luma

ROUNDS = 5
REACH, SURELY_BETTER = (2, 1.2)  # whole pixels that are tried at first, and how much better one has to fit than none
MOST = 4.0  # pixels; farther is another picture, not drift
FLOOR = 0.01  # of details: below it is noise


@dataclass(frozen=True)
class Canvas:
    """An edited video (T, 3, h, w) on which the plate lies: plate pixel x is canvas pixel x + move(x).

    start: (1, 2, 3), the move that is known before frames are looked at, as find_moves gives them; content: (left, top,
    right, bottom) of the canvas within which it shows the plate.
    """

    video: torch.Tensor
    start: torch.Tensor
    content: tuple[float, float, float, float]

    @classmethod
    def same(cls, video: torch.Tensor) -> Canvas:
        """The canvas of a video that shows the whole plate at the plate's size."""
        return cls(video, torch.zeros(1, 2, 3), (0.0, 0.0, float(video.shape[3]), float(video.shape[2])))

    def placed(self, moves: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
        """The video as it lies on a plate of that (height, width), (T, 3, *size) in [0, 1]."""
        return moved(self.video, moves.expand(len(self.video), -1, -1), size)

    def inside(self, moves: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
        """1 where a plate pixel's whole area lies within the content, else 0, (T, 1, *size)."""
        x, y = (v + 0.5 for v in _places(moves, size))  # from centres at whole numbers to places in the picture
        left, top, right, bottom = self.content
        margin = 0.49 if self.is_cut else -MOST  # of a whole video the border is the border's pixels, moved or not
        kept = (x >= left + margin) & (x <= right - margin) & (y >= top + margin) & (y <= bottom - margin)
        return kept.float()[:, None].expand(len(self.video), -1, -1, -1)

    @property
    def is_cut(self) -> bool:
        """Whether anything is known of where the plate lies: a framing other than the whole."""
        return bool(self.start.any()) or self.content != (
            0.0,
            0.0,
            float(self.video.shape[3]),
            float(self.video.shape[2]),
        )


def find_moves(plate: torch.Tensor, canvas: Canvas) -> torch.Tensor:
    """An affine move a frame, (T, 2, 3) in pixels: canvas(x + move(x)) lies on plate(x), (T, 3, H, W).

    Gauss-Newton on details of luma with local contrast divided out, so that neither drift of colour nor fog matters,
    weighted by how alike both are there and by Tukey's weights. Neighbouring frames vote together (normal equations
    are smoothed in time), so that a frame with little to hold on to does not wander.
    """
    size = plate.shape[2:]
    fixed = details(plate)
    gx, gy = (0.5 * (fixed.roll(-1, d) - fixed.roll(1, d)) for d in (3, 2))
    basis = _basis(size)
    columns = torch.cat([gx * basis, gy * basis], 1)  # (T, 6, H, W)
    border = torch.zeros_like(fixed)
    border[..., 2:-2, 2:-2] = 1
    inside = border * canvas.inside(canvas.start, size)
    start = canvas.start + best_shift(fixed * inside, details(canvas.placed(canvas.start, size)) * inside)
    moves = start.repeat(len(plate), 1, 1)
    for _ in range(ROUNDS):
        placed = details(canvas.placed(moves, size))
        error = placed - fixed
        alike = (blur(placed * fixed, 2.5, 0.7) / blur(fixed * fixed, 2.5, 0.7).clamp_min(1e-4)).clamp(0, 1)
        weight = inside * (2 * alike - 1).clamp_min(0) ** 2
        weight = weight * tukey(error, weight)
        left = torch.einsum("tihw,tjhw->tij", columns * weight, columns)
        right = torch.einsum("tihw,thw->ti", columns * weight, error[:, 0])
        left, right = (blur(left[:, None], 0, 3.0)[:, 0], blur(right[:, None, None], 0, 3.0)[:, 0, 0])
        noise = (weight * error**2).sum() / weight.sum().clamp_min(1) + 1e-6
        # Prior: shifts of a pixel or two, stretch and turn far less; many errors of neighbours count as one.
        prior = torch.diag(torch.tensor([6, 100, 100, 6, 100, 100])) * 20 * noise
        away = (moves - canvas.start).reshape(-1, 6, 1)
        step = torch.linalg.solve(left + prior, right[..., None] + prior @ away)
        moves = canvas.start + (moves - step.reshape(-1, 2, 3) - canvas.start).clamp(-MOST, MOST)
    return moves


def moved(video: torch.Tensor, moves: torch.Tensor, size: tuple[int, int] | None = None) -> torch.Tensor:
    """The video (T, C, h, w) looked at through the moves (T, 2, 3), bicubic, (T, C, *size) in [0, 1]."""
    size = tuple(size or video.shape[2:])
    if size == tuple(video.shape[2:]) and not moves.abs().max() > 0.02:
        return video
    height, width = video.shape[2:]
    x, y = _places(moves, size)
    grid = torch.stack([(2 * x + 1) / width - 1, (2 * y + 1) / height - 1], -1)
    return F.grid_sample(video, grid, mode="bicubic", padding_mode="border", align_corners=False).clamp(0, 1)


def _places(moves, size):
    """Where the plate's pixels lie under the moves, x and y, (T, H, W); centres at whole numbers."""
    y, x = torch.meshgrid(torch.arange(size[0]), torch.arange(size[1]), indexing="ij")
    shift = torch.einsum("tij,jhw->tihw", moves, _basis(size)[0])
    return x + shift[:, 0], y + shift[:, 1]


def details(video: torch.Tensor) -> torch.Tensor:
    """Band-passed luma over its local strength, (T, 1, H, W)."""
    return band(luma(video))


def band(gray: torch.Tensor) -> torch.Tensor:
    """As details(), of luma (T, 1, H, W)."""
    soft = blur(gray, 1.0)
    passed = soft - blur(soft, 4.0)
    return passed / (blur(passed * passed, 4.0).sqrt() + FLOOR)


def tukey(error: torch.Tensor, trust: torch.Tensor, width: float = 5.0) -> torch.Tensor:
    """Tukey's weights; the scale is the median size of trusted errors."""
    sizes = error.abs()[trust.expand_as(error) > 0.3]
    scale = 1.48 * sizes.median() if len(sizes) else sizes.new_tensor(1.0)
    return (1 - (error / (width * scale + 1e-4)) ** 2).clamp_min(0) ** 2


def best_shift(fixed: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
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
    dx, dy = max(score, key=lambda shift: score[shift])
    return torch.tensor([[[float(dx), 0, 0], [float(dy), 0, 0]]])


def _basis(size):
    """1, x, y from -1 to 1 over a frame of that (height, width), (1, 3, H, W)."""
    height, width = size
    y, x = torch.meshgrid(torch.linspace(-1, 1, height), torch.linspace(-1, 1, width), indexing="ij")
    return torch.stack([torch.ones_like(x), x, y])[None]
