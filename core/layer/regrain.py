"""Grain for the layer: noise like the plate's own, the same whenever a frame of a seed is made.

White noise is drawn in tiles of the frame, each from a counter of its own (Philox: Salmon et al., "Parallel random
numbers: as easy as 1, 2, 3", SC 2011) keyed by seed and frame, so that it depends on nothing else: not on the region
that is worked on, on other frames, on threads or on how often a job began again. It is coloured by the square root of
the plate's spectrum, tile by tile with the white noise around (overlap-save).
"""

from collections.abc import Iterator, Sequence
from functools import cached_property

import numpy as np
from scipy import fft

from vera.core.plate.grain import BLOCK, Grain

REACH = BLOCK // 2  # pixels as far as the colouring looks
TILE = 256 - 2 * REACH  # pixels of a tile that come out of one transform of 256
DRAWN = 64  # pixels a side whose white noise is drawn together. More: fewer generators, and more noise unused
_KEYS = 2**64

Box = tuple[slice, slice]  # rows and columns with whole starts and stops, in pixels of the frame from its top left


class GrainMaker:
    """Makes the grain of a shot's frames. Calls from several threads do not disturb one another."""

    def __init__(self, grain: Grain, seed: int) -> None:
        self.grain = grain
        self.seed = seed

    def unit(self, frame: int, box: Box) -> np.ndarray:
        """Noise of the plate's spectrum and of unit variance a channel in a box of the frame: (h, w, 3) float32."""
        made = np.empty((box[0].stop - box[0].start, box[1].stop - box[1].start, 3), np.float32)
        padded = _grown(box)
        white = self._white(frame, padded)
        for tile in _tiles_of(box):
            wanted = _grown(tile)
            around = np.zeros((3, TILE + 2 * REACH, TILE + 2 * REACH), np.float32)
            known = _both(wanted, padded)  # what lies beyond reaches nothing in the box
            around[:, *_within(known, wanted)] = white[:, *_within(known, padded)]
            spectrum = np.einsum("abyx,byx->ayx", self._response, fft.rfft2(around))
            colored = fft.irfft2(spectrum, around.shape[1:])[:, REACH:-REACH, REACH:-REACH].transpose(1, 2, 0)
            here = _both(tile, box)
            made[_within(here, box)] = colored[_within(here, tile)]
        return made

    def _white(self, frame: int, box: Box) -> np.ndarray:
        """Independent noise of unit variance in a box of the frame, which may lie beyond it: (3, h, w) float32."""
        rows, columns = (range(s.start // DRAWN, -(-s.stop // DRAWN)) for s in box)
        drawn = [np.concatenate([self._drawn(frame, i, j) for j in columns], axis=2) for i in rows]
        corner = (slice(rows.start * DRAWN, None), slice(columns.start * DRAWN, None))
        return np.concatenate(drawn, axis=1)[:, *_within(box, corner)]

    def _drawn(self, frame: int, row: int, column: int) -> np.ndarray:
        """One draw (3, DRAWN, DRAWN) of white noise."""
        key = np.array([self.seed % _KEYS, frame % _KEYS], np.uint64)
        counter = np.array([0, 0, row % _KEYS, column % _KEYS], np.uint64)  # 2^128 numbers apart: none is drawn twice
        return np.random.Generator(np.random.Philox(key=key, counter=counter)).standard_normal(
            (3, DRAWN, DRAWN), np.float32
        )

    @cached_property
    def _response(self) -> np.ndarray:
        """Of the filter that colours white noise, (3, 3, y, x) at the real transform's frequencies of a tile."""
        values, vectors = np.linalg.eigh(np.moveaxis(self.grain.spectrum, (0, 1), (-2, -1)))
        root = (vectors * np.sqrt(np.maximum(values, 0))[..., None, :]) @ vectors.swapaxes(-1, -2)
        kernel = fft.ifft2(np.moveaxis(root, (-2, -1), (0, 1)), axes=(2, 3)).real
        size = TILE + 2 * REACH
        whole = np.zeros((3, 3, size, size))
        places = fft.fftfreq(BLOCK, 1 / BLOCK).astype(int)
        whole[:, :, places[:, None], places] = kernel
        own = np.sqrt((whole**2).sum((1, 2, 3)))
        return fft.rfft2(whole / own[:, None, None, None], axes=(2, 3)).astype(np.complex64)


def _tiles_of(box: Box) -> Iterator[Box]:
    """The tiles of the frame that a box touches."""
    for i in range(box[0].start // TILE, -(-box[0].stop // TILE)):
        for j in range(box[1].start // TILE, -(-box[1].stop // TILE)):
            yield slice(i * TILE, (i + 1) * TILE), slice(j * TILE, (j + 1) * TILE)


def _grown(box: Box) -> Box:
    """The box and what is within REACH of it."""
    rows, columns = (slice(s.start - REACH, s.stop + REACH) for s in box)
    return rows, columns


def _both(one: Sequence[slice], other: Sequence[slice]) -> Box:
    """What two boxes share."""
    rows, columns = (slice(max(a.start, b.start), min(a.stop, b.stop)) for a, b in zip(one, other))
    return rows, columns


def _within(part: Sequence[slice], whole: Sequence[slice]) -> Box:
    """A box as seen from the corner of another one."""
    rows, columns = (slice(p.start - w.start, p.stop - w.start) for p, w in zip(part, whole))
    return rows, columns
