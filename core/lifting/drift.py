"""Colour drift: a smooth gain and offset of each channel over frame and time, from unchanged pixels."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F

from vera.core.lifting.registration import tukey
from vera.core.lifting.smooth import by_frame, enlarged, weighted

CELL = 4  # pixels a side averaged before the fit
MAX_GAIN, MAX_OFFSET = 0.08, 0.03  # largest drift, in shares of the value and of the code range; more is an edit
FIT_ROUNDS = 6  # rounds of reweighting; raising it fits more exactly, and takes time
# Cells with a common error: 20 pixels each way and four frames. Raising it trusts the prior more.
CORRELATED_CELLS = 100
MIN_CONTRAST, FULL_CONTRAST = 0.8, 0.9  # slope of edited on plate at which trust in the plate is 0, and 1
MIN_TEXTURE = 0.02  # standard deviation of the plate from which contrast can be measured


@dataclass(frozen=True)
class Drift:
    """edited = (1 + gain) * plate + offset where nothing changed. Gain and offset are sums of waves.

    slow, flat: the waves of gain and of offset, at the size of the video
    gains, offsets: amounts of the waves in each channel
    """

    slow: Waves
    flat: Waves
    gains: list[torch.Tensor]
    offsets: list[torch.Tensor]

    @property
    def gain(self) -> torch.Tensor:
        """(T, 3, H, W)."""
        return torch.cat([gain for gain, _ in self._frames()])

    @property
    def offset(self) -> torch.Tensor:
        """(T, 3, H, W)."""
        return torch.cat([offset for _, offset in self._frames()])

    def removed(self, video: torch.Tensor) -> torch.Tensor:
        """The edited video (T, 3, H, W) in the plate's colours, in [0, 1]."""
        found = torch.empty_like(video)
        for to, frame, (gain, offset) in zip(found.split(1), video.split(1), self._frames()):
            to.copy_(without_drift(frame, gain, offset))
        return found

    def size(self) -> float:
        """Mean of gain and offset, without their signs."""
        sums = [float(gain.abs().mean() + offset.abs().mean()) for gain, offset in self._frames()]
        return sum(sums) / len(sums)

    def _frames(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Gain and offset of each frame, (1, 3, H, W)."""
        for t in range(self.slow.factors[0].shape[1]):
            slow, flat = self.slow.frame(t), self.flat.frame(t)
            gain, offset = (
                torch.stack([waves.field(x) for x in amounts], 1).clamp_(-most, most)
                for waves, amounts, most in ((slow, self.gains, MAX_GAIN), (flat, self.offsets, MAX_OFFSET))
            )
            yield gain, offset


def find_drift(plate: torch.Tensor, edited: torch.Tensor, trust: torch.Tensor) -> Drift:
    """The drift of the edited video.

    plate, edited: (T, 3, H, W). trust: (T, 1, H, W) in [0, 1].
    The fit is reweighted least squares on a cosine basis: a few waves over the frame, and one more wave every 16 frames
    in time. The prior towards no drift grows with frequency.
    """
    assert plate.shape == edited.shape and trust.shape == (len(plate), 1, *plate.shape[2:])
    weight, p, e = cells(plate, edited, trust)
    size = (len(p), *p.shape[2:])
    slow, flat = Waves.of(size, (2 + len(p) // 16, 3, 4)), Waves.of(size, (1, 2, 2))
    prior = torch.cat([(1 + slow.order) / 0.02, (1 + flat.order) / 0.004])
    n, gains, offsets = len(slow.order), [], []
    for c in range(3):
        target, values, base = (e - p)[:, c], p[:, c], weight[:, 0]
        x = torch.zeros(len(prior))
        for _ in range(FIT_ROUNDS):
            error = target - slow.field(x[:n]) * values - flat.field(x[n:])
            robust = base * tukey(error, base, 4.0)
            noise = (robust * error**2).sum() / robust.sum().clamp_min(1e-6)
            # Errors of neighbouring cells are correlated: CORRELATED_CELLS of them count as one.
            penalty = torch.diag(CORRELATED_CELLS * noise.clamp_min(1e-6) * prior**2)
            seen = robust * values
            across = slow.products(seen, flat)
            left = [slow.products(seen * values, slow), across, across.T, flat.products(robust, flat)]
            left = torch.cat([torch.cat(left[:2], 1), torch.cat(left[2:], 1)])
            right = torch.cat([slow.sums(seen * target), flat.sums(robust * target)])
            x = torch.linalg.solve(left + penalty, right)
        gains.append(x[:n])
        offsets.append(x[n:])

    shape = plate.shape[2], plate.shape[3]
    return Drift(slow.enlarged(shape), flat.enlarged(shape), gains, offsets)


@dataclass(frozen=True)
class Waves:
    """Products of cosines along time, height and width.

    factors: the cosines along each axis, (count, size) each
    """

    factors: tuple[torch.Tensor, torch.Tensor, torch.Tensor]

    @classmethod
    def of(cls, size: tuple[int, int, int], counts: tuple[int, int, int]) -> Waves:
        """counts: cosines along each axis of a field of `size` (T, H, W), of half a period more each."""
        axes = zip(size, counts, strict=True)
        time, height, width = (_cosines(min(count, n), n) for n, count in axes)
        return cls((time, height, width))

    def enlarged(self, size: tuple[int, int]) -> Waves:
        """The waves with height and width enlarged to `size`, bicubic: their fields are enlarged fields."""
        time, *frame = self.factors
        height, width = (
            F.interpolate(w[None, :, :, None], (n, 1), mode="bicubic", align_corners=False)[0, ..., 0]
            for w, n in zip(frame, size)
        )
        return Waves((time, height, width))

    def frame(self, t: int) -> Waves:
        """The waves of one frame."""
        time, height, width = self.factors
        return Waves((time[:, t : t + 1], height, width))

    @property
    def order(self) -> torch.Tensor:
        """The number of half periods of each wave, over the axes, (N,)."""
        return sum(torch.meshgrid(*(torch.arange(len(w)) for w in self.factors), indexing="ij")).flatten().float()

    def field(self, amounts: torch.Tensor) -> torch.Tensor:
        """The sum of the waves times their amounts (N,), (T, H, W)."""
        time, height, width = self.factors
        cube = amounts.view(len(time), len(height), len(width))
        return height.T @ torch.tensordot(time.T, cube, 1) @ width

    def sums(self, field: torch.Tensor) -> torch.Tensor:
        """Sums of a field (T, H, W) times each wave, (N,)."""
        return _contracted(field, self.factors).flatten()

    def products(self, field: torch.Tensor, other: Waves) -> torch.Tensor:
        """Sums of a field (T, H, W) times each wave times each wave of another set, (N, M).

        Along each axis first: that costs no more than a few sums of the field.
        """
        pairs = [(a[:, None] * b).flatten(0, 1) for a, b in zip(self.factors, other.factors)]
        sums = _contracted(field, pairs)
        for axis, (a, b) in enumerate(zip(self.factors, other.factors)):
            sums = sums.unflatten(2 * axis, (len(a), len(b)))
        return sums.permute(0, 2, 4, 1, 3, 5).reshape(len(self.order), len(other.order))


def _cosines(count, size):
    return torch.stack([torch.cos(math.pi * k * (torch.arange(size) + 0.5) / size) for k in range(count)])


def _contracted(field, factors):
    """Sums of a field (T, H, W) times factors (count, size) of each axis, (a, b, c)."""
    time, height, width = factors
    return torch.tensordot(time, height @ (field @ width.T), 1)


def contrast_kept(plate: torch.Tensor, edited: torch.Tensor, trust: torch.Tensor) -> torch.Tensor:
    """How far the plate keeps its contrast, (T, 1, H, W): 1 as after drift alone, 0 as through fog.

    The measure is the slope of edited on plate, for detail between one cell and ten: a codec removes finer detail.
    It is 1 where the plate has no texture.
    """
    weight, *both = cells(plate, edited, trust)
    s, c = (v - weighted(v, weight, 2.5) for v in both)
    ss, sc = (weighted((s * v).mean(1, keepdim=True), weight, 2.0, 0.7) for v in (s, c))
    kept = ((sc / ss.clamp_min(1e-8) - MIN_CONTRAST) / (FULL_CONTRAST - MIN_CONTRAST)).clamp(0, 1)
    kept = 1 - (ss / MIN_TEXTURE**2).clamp(max=1) * (1 - kept)
    return enlarged(kept, plate.shape[2:])


def without_drift(edited: torch.Tensor, gain: torch.Tensor, offset: torch.Tensor) -> torch.Tensor:
    """The edited video in the plate's colours, (T, 3, H, W) in [0, 1]."""
    return ((edited - offset) / (1 + gain)).clamp(0, 1)


def cells(plate: torch.Tensor, edited: torch.Tensor, trust: torch.Tensor, size: int = CELL) -> tuple[torch.Tensor, ...]:
    """Weight of each cell (T, 1, h, w), and the means of the trusted pixels of plate and edited there (T, 3, h, w)."""

    def means(plate, edited, trust):
        weight = F.avg_pool2d(trust, size, ceil_mode=True)
        least = weight.clamp_min(1e-4)
        pictures = (F.avg_pool2d(v * trust, size, ceil_mode=True) / least for v in (plate, edited))
        return weight * (weight > 0.25), *pictures

    return by_frame(means, plate, edited, trust)


def cosines(size: tuple[int, int, int], counts: tuple[int, int, int]) -> tuple[torch.Tensor, torch.Tensor]:
    """Products of cosines, (N, T, H, W), and the order of each, (N,).

    size: (T, H, W). counts: cosines along each axis.
    """
    waves = Waves.of(size, counts)
    return torch.einsum("at,by,cx->abctyx", *waves.factors).flatten(0, 2), waves.order
