"""Measure a plate's grain: its strength at each level, its size, and the correlation of its colours.

The measurement uses blocks of pairs of frames in the model's range, whose codes are about perceptually uniform. The
variance of a block's grain is the smaller of two: over the block, and half of that of the difference of the two frames.
Static detail has variance only in the first. Movement without detail has none in either. Moving detail has both, but
is found shifted in the other frame, which grain never is. At every level, the blocks with the smallest variances lie
close together and contain grain alone; blocks above them contain something else too.

Grain is modelled as noise with one spectrum, and cross-spectra of the channels, times a deviation per channel that
depends on the channel's level, as in Foi et al., "Practical Poissonian-Gaussian noise modeling and fitting for
single-image raw-data" (IEEE TIP 2008), with measured values in place of their formula.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import fft

BLOCK = 32  # side in pixels. Raising it measures coarser grain completely, and fewer blocks are flat
FRAME_PAIRS = 4  # pairs of consecutive frames, spread over the shot. Raising it is more reliable and slower
MOST_BLOCKS = 600  # blocks of a pair. Raising it is more reliable and slower
LEAST_STEP = 8  # pixels between blocks. Lowering it gives small pictures more blocks that overlap more
LEVELS = 16  # bins of a channel's range. Raising it is finer and leaves fewer blocks in each bin
LEAST_BLOCKS = 8  # smallest number of blocks in a bin that is used; raising it gives fewer, more certain levels
FIRST_QUANTILE = 0.1  # quantile of the variances at which the search for grain starts
# Largest variance of a grain block, over the mean of those found. Raising it includes more texture.
MAX_VARIANCE_RATIO = 1.6
GRAIN_ONLY_VARIANCE = 2e-6  # variance up to which every block is grain alone: a third of the rounding error of 8 bits
FOUND_AGAIN = 0.3  # phase correlation with the other frame from which a block has moving detail; grain has 0.2
# Distance of codes from 0 and 1 that clips grain; share of clipped pixels in a block.
CLIPPED, MOST_CLIPPED = (
    0.003,
    0.02,
)
MAX_ROUNDS = 20  # largest number of search rounds

ZERO_VARIANCE = 1e-12  # variance up to which a block has no grain
FULL_LAG = 8  # pixels of lag up to which the autocorrelation is used fully; it fades out at half a block
MAX_POWER_RATIO = 4.0  # largest ratio of power between neighbouring rings of frequencies that is extrapolated
SMOOTHED_BINS = 1.0  # bins over which the deviations are averaged. Raising it is steadier and flattens steep changes

_CENTRES = (np.arange(LEVELS) + 0.5) / LEVELS
_WINDOW = np.outer(*2 * [np.hanning(BLOCK + 1)[:-1]]).astype(np.float32)
_LAG_LENGTHS = np.hypot(*np.meshgrid(*2 * [fft.fftfreq(BLOCK, 1 / BLOCK)]))
_WINDOW_CORRELATION = fft.ifft2(np.abs(fft.fft2(_WINDOW)) ** 2).real  # autocorrelation of the window
_LAGS = (
    (0.5 + 0.5 * np.cos(np.pi * np.clip((_LAG_LENGTHS - FULL_LAG) / (BLOCK / 2 - FULL_LAG), 0, 1)))
    * _WINDOW_CORRELATION[0, 0]
    / _WINDOW_CORRELATION
)
_FREQUENCY = _LAG_LENGTHS  # an FFT numbers its lags and frequencies in the same way
_LOW_FREQUENCIES = _FREQUENCY < 1.2
_RINGS = [(_FREQUENCY >= r) & (_FREQUENCY < r + 1) for r in (1.2, 2.2)]
_SQUARES = [(_FREQUENCY[ring] ** 2).mean() for ring in _RINGS]
_LUMA = np.array([0.2126, 0.7152, 0.0722], np.float32)


@dataclass(frozen=True)
class Grain:
    """deviations (3, LEVELS): standard deviation of each channel's grain in codes, at evenly spaced levels
    spectrum (3, 3, BLOCK, BLOCK): power and real cross-power at the FFT's frequencies, for a variance of 1 per channel,
        so that the mean of each diagonal element over the frequencies is 1
    blocks: number of measured blocks
    """

    deviations: np.ndarray
    spectrum: np.ndarray
    blocks: int

    def deviation(self, codes: np.ndarray) -> np.ndarray:
        """Standard deviation of the grain at codes (..., 3) in [0, 1], in steps of 1/255: (..., 3) float32."""
        at = np.rint(np.clip(codes, 0, 1) * 255).astype(np.uint8)
        tables = (np.interp(np.arange(256) / 255, _CENTRES, d).astype(np.float32) for d in self.deviations)
        return np.stack([table[at[..., c]] for c, table in enumerate(tables)], axis=-1)

    def size(self) -> float:
        """Size of the grain: side in pixels of the square of correlated pixels; 1 for white noise."""
        power = self.spectrum[range(3), range(3)].mean(0)
        return float(np.sqrt((power**2).mean()) / power.mean())

    def report_facts(self) -> dict[str, Any]:
        """Facts for the manifest."""
        return {
            "levels": np.round(_CENTRES, 4).tolist(),
            "deviations": np.round(self.deviations, 5).tolist(),
            "size": round(self.size(), 2),
            "color_correlation": [round(float(self.spectrum[a, b].mean()), 3) for a, b in ((0, 1), (0, 2), (1, 2))],
            "blocks": self.blocks,
        }


@dataclass(frozen=True)
class _Blocks:
    """n blocks: level (n, 3), variance (n, 3), NaN where codes are clipped, and noise residual (n, BLOCK, BLOCK, 3)."""

    level: np.ndarray
    variance: np.ndarray
    residual: np.ndarray


def measured_pairs(frames: Sequence[int]) -> list[tuple[int, int]]:
    """The pairs of a shot's frames from which grain is measured; a single frame is its own pair."""
    if len(frames) < 2:
        return [(frames[0], frames[0])]
    places = np.linspace(0, len(frames) - 2, min(FRAME_PAIRS, len(frames) - 1))
    return [(frames[round(place)], frames[round(place) + 1]) for place in places]


def measure_grain(frames: Sequence[int], picture: Callable[[int], np.ndarray]) -> Grain | None:
    """The grain of a shot; None if too little of it is flat.

    picture: gives a frame as (H, W, 3) float32 codes in [0, 1], NaN in pixels to ignore; called in the frames' order
    """
    found = [_blocks(picture(a), None if a == b else picture(b)) for a, b in measured_pairs(frames)]
    level, variance, residual = (
        np.concatenate([getattr(each, name) for each in found]) for name in ("level", "variance", "residual")
    )
    kept = np.zeros(level.shape, bool)
    told = (_deviations(level[:, c], variance[:, c], kept[:, c]) for c in range(3))
    curves = [curve for curve in told if curve is not None]
    spectrum = _spectrum(residual[kept.all(1)], variance[kept.all(1)])
    if spectrum is None or len(curves) < 3:
        return None
    # The blocks' means were subtracted, and with them the grain's power at frequency 0.
    shares = spectrum[range(3), range(3), 0, 0] / BLOCK**2
    return Grain(np.stack(curves) / np.sqrt(1 - shares)[:, None], spectrum, int(kept.all(1).sum()))


def _deviations(level: np.ndarray, variance: np.ndarray, kept: np.ndarray) -> np.ndarray | None:
    """Deviations (LEVELS,) of one channel's grain from blocks (n,), or None; sets `kept` for the blocks used."""
    bins = np.clip((level * LEVELS).astype(int), 0, LEVELS - 1)
    deviations, counts = np.zeros(LEVELS), np.zeros(LEVELS)
    for k in range(LEVELS):
        here = np.flatnonzero((bins == k) & np.isfinite(variance))
        if len(here) >= LEAST_BLOCKS:
            here = here[_lowest(variance[here])]
            kept[here], counts[k] = True, len(here)
            deviations[k] = np.sqrt(variance[here].mean())
    if not counts.any():
        return None
    # The curve over levels is smooth. Bins with few blocks count little, and empty bins take the nearest values.
    apart = np.subtract.outer(np.arange(LEVELS), np.arange(LEVELS))
    weights = np.exp(-((apart / SMOOTHED_BINS) ** 2) / 2) * counts + 1e-30 * np.exp(-np.abs(apart)) * (counts > 0)
    return weights @ deviations / weights.sum(1)


def _blocks(first: np.ndarray, second: np.ndarray | None) -> _Blocks:
    """The blocks of two consecutive frames, or of one frame, from which only fine grain can be measured."""
    one, other = _cut(first), None if second is None else _cut(second)
    there = np.isfinite(one).all((1, 2, 3)) & (other is None or np.isfinite(other).all((1, 2, 3)))
    one, other = one[there], None if other is None else other[there]
    cut = ((one < CLIPPED) | (one > 1 - CLIPPED)).mean((1, 2)) > MOST_CLIPPED
    if other is None:
        residual = _without_plane(one)
        return _Blocks(one.mean((1, 2)), np.where(cut, np.nan, _variance(residual)), residual)
    residual = (other - one) / np.float32(np.sqrt(2))
    residual -= residual.mean((1, 2), keepdims=True)
    variance = _variance(residual)
    luma = [_without_plane(x @ _LUMA[:, None]) for x in (one, other)]
    differs = _variance(residual @ _LUMA[:, None]) > sum(map(_variance, luma)) / 4
    detail = differs[:, 0] & (_found_again(*luma) > FOUND_AGAIN)
    level = (one.mean((1, 2)) + other.mean((1, 2))) / 2
    return _Blocks(level[~detail], np.where(cut, np.nan, variance)[~detail], residual[~detail])


def _cut(picture: np.ndarray) -> np.ndarray:
    """About MOST_BLOCKS blocks (n, BLOCK, BLOCK, 3), evenly spread over a picture (H, W, 3)."""
    step = max(LEAST_STEP, round(np.sqrt(picture.shape[0] * picture.shape[1] / MOST_BLOCKS)))
    if min(picture.shape[:2]) < BLOCK:
        return np.empty((0, BLOCK, BLOCK, 3), np.float32)
    every = np.lib.stride_tricks.sliding_window_view(picture, (BLOCK, BLOCK, 3))[::step, ::step]
    return np.ascontiguousarray(every.reshape(-1, BLOCK, BLOCK, 3), np.float32)


def _variance(residual: np.ndarray) -> np.ndarray:
    """Variance per channel of blocks with mean 0, (n, 3)."""
    return np.einsum("nyxc,nyxc->nc", residual, residual) / BLOCK**2


def _without_plane(blocks: np.ndarray) -> np.ndarray:
    """The blocks without their mean and slope."""
    ramp = (np.arange(BLOCK, dtype=np.float32) - (BLOCK - 1) / 2) / np.float32(np.sqrt((BLOCK**2 - 1) / 12))
    left = blocks - blocks.mean((1, 2), keepdims=True)
    for way in (ramp[:, None, None], ramp[:, None]):
        left -= (left * way).mean((1, 2), keepdims=True) * way
    return left


def _found_again(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Confidence that a block's luminance is the other frame's, shifted: the peak of the phase correlation, (n,)."""
    spectra = [fft.rfft2(x[..., 0] * _WINDOW, axes=(1, 2)) for x in (one, other)]
    cross = spectra[0] * spectra[1].conj()
    cross /= np.maximum(np.abs(cross), 1e-20)
    return fft.irfft2(cross, (BLOCK, BLOCK), axes=(1, 2)).max((1, 2))


def _lowest(variance: np.ndarray) -> np.ndarray:
    """Mask of the cluster of lowest variances among `variance` (n,)."""
    mean = np.quantile(variance, FIRST_QUANTILE)
    kept = np.zeros(len(variance), bool)
    for _ in range(MAX_ROUNDS):
        before, kept = kept, variance <= max(MAX_VARIANCE_RATIO * mean, GRAIN_ONLY_VARIANCE)
        if (kept == before).all():
            break
        mean = variance[kept].mean()
    return kept


def _spectrum(residual: np.ndarray, variance: np.ndarray) -> np.ndarray | None:
    """Mean spectrum of noise blocks, each scaled to unit variance per channel; None if there are too few."""
    there = (variance > ZERO_VARIANCE).all(1)
    if there.sum() < LEAST_BLOCKS:
        return None
    spectra = fft.fft2(residual[there] / np.sqrt(variance[there])[:, None, None] * _WINDOW[..., None], axes=(1, 2))
    power = np.einsum("nyxa,nyxb->abyx", spectra, spectra.conj()).real
    _restore_low(power)
    # The window has smoothed the spectrum. This is undone on the autocorrelation, up to lags with few pixel pairs.
    power = fft.fft2(fft.ifft2(power, axes=(2, 3)) * _LAGS, axes=(2, 3)).real
    power[range(3), range(3)] = np.maximum(power[range(3), range(3)], 0)
    own = np.sqrt(power[range(3), range(3)].mean((1, 2)))
    return power / (own[:, None] * own)[..., None, None]


def _restore_low(power: np.ndarray) -> None:
    """Restore the power at and around frequency 0, in place: the blocks' means were subtracted, and the window spreads
    that loss. The lost power is extrapolated from the next two rings as a Gaussian."""
    rings = [power[:, :, near].mean(-1) for near in _RINGS]
    ratio = np.trace(rings[0]) / np.trace(rings[1])
    slope = np.log(np.clip(ratio, 1, MAX_POWER_RATIO)) / (_SQUARES[1] - _SQUARES[0])
    power[:, :, _LOW_FREQUENCIES] = rings[0][..., None] * np.exp(
        slope * (_SQUARES[0] - _FREQUENCY[_LOW_FREQUENCIES] ** 2)
    )
