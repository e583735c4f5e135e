"""Remove faint small islands from a matte."""

import numpy as np

from vera.kernels.native_module import native as _native


def remove_specks(alpha: np.ndarray, low: float, high: float, area: int) -> np.ndarray:
    """Alpha (h, w) float32 without its faint specks: islands of at most `area` pixels, none `high` or more.

    An island is a set of pixels above `low` that touch, corners included. Removed pixels become 0.
    """
    alpha = np.array(alpha, np.float32, order="C")
    if _native is None:
        return reference(alpha, low, high, area)
    _native.remove_specks(alpha, low, high, area)
    return alpha


def reference(alpha: np.ndarray, low: float, high: float, area: int) -> np.ndarray:
    """`remove_specks` in plain Python, on its own copy."""
    alpha = alpha.copy()
    height, width = alpha.shape
    waiting = {(int(y), int(x)) for y, x in np.argwhere(alpha > np.float32(low))}
    while waiting:
        island = [waiting.pop()]
        for y, x in island:
            for near in ((y + dy, x + dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)):
                if near in waiting:
                    waiting.remove(near)
                    island.append(near)
        rows, columns = zip(*island)
        if len(island) <= area and alpha[rows, columns].max() < np.float32(high):
            alpha[rows, columns] = 0
    return alpha
