"""Register each edited frame to its plate frame, by the details that both show."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F

from vera.core.lifting.smooth import blur, by_frame, luma
from vera.kernels.order import median_size

FIT_ROUNDS = 5  # Gauss-Newton rounds, at most
SMALL_STEP = 0.001  # pixels: a round whose coefficients change by less is the last; raising it is faster and less exact
STILL = 0.02  # pixels: a video whose moves are smaller is not resampled
START_REACH = 2  # pixels: whole shifts that are tried as a start
START_FRAMES = 4  # most frames on which they are tried; the cost is proportional
START_ADVANTAGE = 1.2  # factor by which another start must fit better than no shift
MAX_MOVE = 4.0  # pixels; a larger move is no drift
CONTRAST_FLOOR = 0.01  # added to the local contrast by which details are divided; raising it suppresses more noise


@dataclass(frozen=True)
class Canvas:
    """An edited video in its own framing, with the position of the plate: plate pixel x is canvas pixel x + move(x).

    video: (T, 3, h, w)
    start: (1, 2, 3), the move known from the framing, in the form that `find_moves` returns
    content: (left, top, right, bottom) in canvas pixels of the area that shows the plate
    """

    video: torch.Tensor
    start: torch.Tensor
    content: tuple[float, float, float, float]

    @classmethod
    def same(cls, video: torch.Tensor) -> Canvas:
        """The canvas of a video that shows the whole plate at the plate's size."""
        return cls(video, torch.zeros(1, 2, 3), (0.0, 0.0, float(video.shape[3]), float(video.shape[2])))

    def placed(self, moves: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
        """The video registered to a plate of `size` (height, width), (T, 3, *size) in [0, 1]."""
        return moved(self.video, moves.expand(len(self.video), -1, -1), size)

    def details(self, moves: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
        """`details` of `placed`, (T, 1, *size)."""
        moves = moves.expand(len(self.video), -1, -1)
        if is_still(self.video, moves, size):
            return details(self.video)
        return by_frame(lambda frame, move: details(_resampled(frame, move, size)), self.video, moves)

    def inside(self, moves: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
        """1 where a plate pixel's whole area lies within the content, else 0, (T, 1, *size)."""
        x, y = (v + 0.5 for v in _places(moves, size))  # pixel centres in coordinates that start at the picture's edge
        left, top, right, bottom = self.content
        margin = 0.49 if self.is_cut else -MAX_MOVE  # a plain framing shows the plate up to the border, moved or not
        kept = (x >= left + margin) & (x <= right - margin) & (y >= top + margin) & (y <= bottom - margin)
        return kept.float()[:, None].expand(len(self.video), -1, -1, -1)

    @property
    def is_cut(self) -> bool:
        """Whether the framing is other than plain: the video shows a part of the plate, or more than the plate."""
        return bool(self.start.any()) or self.content != (
            0.0,
            0.0,
            float(self.video.shape[3]),
            float(self.video.shape[2]),
        )


def find_moves(plate: torch.Tensor, canvas: Canvas) -> torch.Tensor:
    """One affine move per frame, (T, 2, 3) in pixels, such that canvas(x + move(x)) matches plate(x).

    plate: (T, 3, H, W).
    moves[t, axis] has the coefficients of 1, x and y, with x and y from -1 to 1 over the frame; axis 0 is x.
    The method is Gauss-Newton on luma details normalised by local contrast, which colour drift and fog do not affect.
    Pixels are weighted by local similarity and by Tukey's weights. The normal equations are smoothed in time, so that
    frames with little texture follow their neighbours.
    """
    size = plate.shape[2:]
    fixed = details(plate)
    gx, gy = (0.5 * (fixed.roll(-1, d) - fixed.roll(1, d)) for d in (3, 2))
    inside = canvas.inside(canvas.start, size).clone()
    inside[..., :2, :] = inside[..., -2:, :] = inside[..., :2] = inside[..., -2:] = 0
    placed = canvas.details(canvas.start, size)
    start = canvas.start + best_shift(fixed * inside, placed * inside)
    moves = start.repeat(len(plate), 1, 1)
    strength = blur(fixed * fixed, 2.5, 0.7).clamp_min(1e-4)
    placed_by, fit = canvas.start, None
    for _ in range(FIT_ROUNDS):
        if not all(is_still(canvas.video, m, size) for m in (moves, placed_by)):
            placed, placed_by, fit = canvas.details(moves, size), moves, None
        if fit is None:  # else the pictures are those of the last round
            error = placed - fixed
            alike = (blur(placed * fixed, 2.5, 0.7) / strength).clamp(0, 1)
            weight = inside * (2 * alike - 1).clamp_min(0) ** 2
            weight = weight * tukey(error, weight)
            left, right = _normal_equations(gx[:, 0], gy[:, 0], weight[:, 0], error[:, 0])
            left, right = (blur(left[:, None], 0, 3.0)[:, 0], blur(right[:, None, None], 0, 3.0)[:, 0, 0])
            noise = (weight * error**2).sum() / weight.sum().clamp_min(1) + 1e-6
            # Prior: shifts of a pixel or two; stretch and rotation far less. Errors are correlated: the factor 20.
            fit = left, right, torch.diag(torch.tensor([6, 100, 100, 6, 100, 100])) * 20 * noise
        left, right, prior = fit
        away = (moves - canvas.start).reshape(-1, 6, 1)
        step = torch.linalg.solve(left + prior, right[..., None] + prior @ away)
        moves = canvas.start + (moves - step.reshape(-1, 2, 3) - canvas.start).clamp(-MAX_MOVE, MAX_MOVE)
        if step.abs().max() < SMALL_STEP:
            break
    return moves


def _normal_equations(gx, gy, weight, error):
    """Left (T, 6, 6) and right side (T, 6) of the least squares of one round, in the order of a move's coefficients.

    All arguments (T, H, W). A column is a gradient times 1, x or y, so that sums of products of gradients times
    1, x, y, xx, xy and yy contain all products of columns.
    """
    height, width = (torch.linspace(-1, 1, n) for n in weight.shape[1:])
    powers_x, powers_y = (torch.stack([v**k for k in range(3)]) for v in (width, height))

    def moments(field):
        return powers_y @ (field @ powers_x.T)  # (T, power of y, power of x)

    wx, wy = weight * gx, weight * gy
    xx, xy, yy = (moments(field) for field in (wx * gx, wx * gy, wy * gy))
    of_basis = ((0, 0), (0, 1), (1, 0))  # powers of y and x in 1, x and y
    at = torch.tensor([[3 * (ay + by) + ax + bx for by, bx in of_basis] for ay, ax in of_basis])
    xx, xy, yy = (v.flatten(1)[:, at] for v in (xx, xy, yy))
    left = torch.cat([torch.cat([xx, xy], 2), torch.cat([xy, yy], 2)], 1)
    right = [moments(field * error).flatten(1)[:, at[0]] for field in (wx, wy)]
    return left, torch.cat(right, 1)


def moved(video: torch.Tensor, moves: torch.Tensor, size: tuple[int, int] | None = None) -> torch.Tensor:
    """The video (T, C, h, w) resampled along the moves (T, 2, 3), bicubic, (T, C, *size) in [0, 1]."""
    size = tuple(size or video.shape[2:])
    return video if is_still(video, moves, size) else by_frame(partial(_resampled, size=size), video, moves)


def is_still(video: torch.Tensor, moves: torch.Tensor, size: tuple[int, int]) -> bool:
    """Whether a video (T, C, h, w) is already registered to pictures of `size` (height, width) by the moves."""
    return tuple(size) == tuple(video.shape[2:]) and not bool(moves.abs().max() > STILL)


def _resampled(frame, move, size):
    """`moved` of one frame."""
    height, width = frame.shape[2:]
    x, y = _places(move, size)
    grid = torch.stack([(2 * x + 1) / width - 1, (2 * y + 1) / height - 1], -1)
    return F.grid_sample(frame, grid, mode="bicubic", padding_mode="border", align_corners=False).clamp_(0, 1)


def _places(moves, size):
    """Canvas coordinates x and y of the plate's pixels under the moves, each (T, H, W); centres are whole numbers."""
    y, x = torch.meshgrid(torch.arange(size[0]), torch.arange(size[1]), indexing="ij")
    shift = torch.einsum("tij,jhw->tihw", moves, _basis(size)[0])
    return x + shift[:, 0], y + shift[:, 1]


def details(video: torch.Tensor) -> torch.Tensor:
    """Band-passed luma divided by its local contrast, (T, 1, H, W)."""
    return by_frame(lambda frame: band(luma(frame)), video)


def band(gray: torch.Tensor) -> torch.Tensor:
    """`details` of luma (T, 1, H, W)."""
    soft = blur(gray, 1.0)
    passed = soft - blur(soft, 4.0)
    return passed / (blur(passed * passed, 4.0).sqrt() + CONTRAST_FLOOR)


def tukey(error: torch.Tensor, trust: torch.Tensor, width: float = 5.0) -> torch.Tensor:
    """Tukey's biweights of an error. The scale is the median absolute error of pixels with a trust above 0.3."""
    median = median_size(error, trust.expand_as(error), 0.3)
    scale = error.new_tensor(1.0) if median is None else 1.48 * error.new_tensor(median)
    return (1 - (error / (width * scale + 1e-4)) ** 2).clamp_min(0) ** 2


def best_shift(fixed: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """The shot's whole-pixel shift (1, 2, 3) with the most similar details, as a start outside local minima.

    Every textured pixel has the same weight, so that a strong edit does not outvote the rest of the frame.
    """
    fixed, other = (v[:: -(-len(v) // START_FRAMES)] for v in (fixed, other))
    strength, theirs = blur(fixed * fixed, 2.0), blur(other * other, 2.0)
    textured = strength / (strength + 0.1)
    inner = slice(START_REACH, -START_REACH)

    def fit(dx, dy):
        to = (-dy, -dx), (2, 3)
        alike = blur(fixed * other.roll(*to), 2.0) / (strength * theirs.roll(*to) + 1e-6).sqrt()
        return float((textured * alike.clamp_min(0).square().square())[..., inner, inner].mean())

    steps = range(-START_REACH, START_REACH + 1)
    best, at = START_ADVANTAGE * fit(0, 0), (0, 0)
    if best < float(textured[..., inner, inner].mean()):  # else no other can fit better
        scores = {(dx, dy): fit(dx, dy) for dy in steps for dx in steps if dx or dy}
        at = max(scores, key=lambda shift: scores[shift])
        at = at if scores[at] > best else (0, 0)
    dx, dy = at
    return torch.tensor([[[float(dx), 0, 0], [float(dy), 0, 0]]])


def _basis(size):
    """1, x and y from -1 to 1 over a frame of `size` (height, width), (1, 3, H, W)."""
    height, width = size
    y, x = torch.meshgrid(torch.linspace(-1, 1, height), torch.linspace(-1, 1, width), indexing="ij")
    return torch.stack([torch.ones_like(x), x, y])[None]
