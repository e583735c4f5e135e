"""Make grain like the plate's for the layer, reproducibly for each seed and frame.

White noise is drawn in blocks of the frame, each from its own counter (Philox: Salmon et al., "Parallel random
numbers: as easy as 1, 2, 3", SC 2011), keyed by seed and frame. So it does not depend on the region, on other frames,
on threads or on resumed runs. The noise is coloured by the square root of the plate's spectrum, tile by tile, with the
white noise around each tile (overlap-save).
"""

from collections.abc import Iterator, Sequence
from functools import cached_property

import numpy as np
from scipy import fft

from vera.core.plate.grain import BLOCK, Grain

FILTER_RADIUS = BLOCK // 2  # radius of the colouring filter in pixels
TILE = 256 - 2 * FILTER_RADIUS  # side in pixels of the result of one 256-pixel transform
# Side in pixels of a block of white noise. Raising it needs fewer generators and draws more unused noise.
NOISE_BLOCK = 64
_KEYS = 2**64

Box = tuple[slice, slice]  # rows and columns with whole starts and stops, in pixels of the frame from its top left


class GrainMaker:
    """Makes the grain of a shot's frames. Calls from several threads do not disturb one another."""

    def __init__(self, grain: Grain, seed: int) -> None:
        self.grain = grain
        self.seed = seed

    def unit(self, frame: int, box: Box) -> np.ndarray:
        """Noise with the plate's spectrum and unit variance per channel, in a box of the frame: (h, w, 3) float32."""
        made = np.empty((box[0].stop - box[0].start, box[1].stop - box[1].start, 3), np.float32)
        padded = _grown(box)
        white = self._white(frame, padded)
        for tile in _tiles_of(box):
            wanted = _grown(tile)
            around = np.zeros((3, TILE + 2 * FILTER_RADIUS, TILE + 2 * FILTER_RADIUS), np.float32)
            known = _both(wanted, padded)  # noise beyond does not affect the box
            around[:, *_within(known, wanted)] = white[:, *_within(known, padded)]
            spectrum = np.einsum("abyx,byx->ayx", self._response, fft.rfft2(around))
            colored = fft.irfft2(spectrum, around.shape[1:])[
                :, FILTER_RADIUS:-FILTER_RADIUS, FILTER_RADIUS:-FILTER_RADIUS
            ].transpose(1, 2, 0)
            here = _both(tile, box)
            made[_within(here, box)] = colored[_within(here, tile)]
        return made

    def _white(self, frame: int, box: Box) -> np.ndarray:
        """White noise of unit variance in a box, which may exceed the frame: (3, h, w) float32."""
        rows, columns = (range(s.start // NOISE_BLOCK, -(-s.stop // NOISE_BLOCK)) for s in box)
        drawn = [np.concatenate([self._drawn(frame, i, j) for j in columns], axis=2) for i in rows]
        corner = (slice(rows.start * NOISE_BLOCK, None), slice(columns.start * NOISE_BLOCK, None))
        return np.concatenate(drawn, axis=1)[:, *_within(box, corner)]

    def _drawn(self, frame: int, row: int, column: int) -> np.ndarray:
        """One block (3, NOISE_BLOCK, NOISE_BLOCK) of white noise."""
        key = np.array([self.seed % _KEYS, frame % _KEYS], np.uint64)
        # Blocks are 2^128 numbers apart: no number is drawn twice.
        counter = np.array([0, 0, row % _KEYS, column % _KEYS], np.uint64)
        return np.random.Generator(np.random.Philox(key=key, counter=counter)).standard_normal(
            (3, NOISE_BLOCK, NOISE_BLOCK), np.float32
        )

    @cached_property
    def _response(self) -> np.ndarray:
        """Frequency response (3, 3, y, x) of the colouring filter, at the frequencies of a tile's real transform."""
        values, vectors = np.linalg.eigh(np.moveaxis(self.grain.spectrum, (0, 1), (-2, -1)))
        root = (vectors * np.sqrt(np.maximum(values, 0))[..., None, :]) @ vectors.swapaxes(-1, -2)
        kernel = fft.ifft2(np.moveaxis(root, (-2, -1), (0, 1)), axes=(2, 3)).real
        size = TILE + 2 * FILTER_RADIUS
        whole = np.zeros((3, 3, size, size))
        places = fft.fftfreq(BLOCK, 1 / BLOCK).astype(int)
        whole[:, :, places[:, None], places] = kernel
        own = np.sqrt((whole**2).sum((1, 2, 3)))
        return fft.rfft2(whole / own[:, None, None, None], axes=(2, 3)).astype(np.complex64)


def _tiles_of(box: Box) -> Iterator[Box]:
    """The tiles of the frame that intersect a box."""
    for i in range(box[0].start // TILE, -(-box[0].stop // TILE)):
        for j in range(box[1].start // TILE, -(-box[1].stop // TILE)):
            yield slice(i * TILE, (i + 1) * TILE), slice(j * TILE, (j + 1) * TILE)


def _grown(box: Box) -> Box:
    """The box, enlarged by FILTER_RADIUS on every side."""
    rows, columns = (slice(s.start - FILTER_RADIUS, s.stop + FILTER_RADIUS) for s in box)
    return rows, columns


def _both(one: Sequence[slice], other: Sequence[slice]) -> Box:
    """The intersection of two boxes."""
    rows, columns = (slice(max(a.start, b.start), min(a.stop, b.stop)) for a, b in zip(one, other))
    return rows, columns


def _within(part: Sequence[slice], whole: Sequence[slice]) -> Box:
    """A box in coordinates relative to the corner of another one."""
    rows, columns = (slice(p.start - w.start, p.stop - w.start) for p, w in zip(part, whole))
    return rows, columns
