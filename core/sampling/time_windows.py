"""Overlapping windows in latent time: where a step looks, and how much each look counts."""

from dataclasses import dataclass

import torch

# Where windows begin, as a part of their stride, step after step: every frame is now inside a
# window and now at its end, and no seam stays in one place. Four phases, so that a window comes back and
# finds what its cache holds.
PHASES = (0, 1 / 2, 1 / 4, 3 / 4)


@dataclass(frozen=True)
class Window:
    """Latent frames start .. stop-1. weights (stop - start,): its share of each, all windows' shares sum to 1."""

    start: int
    weights: torch.Tensor

    @property
    def stop(self) -> int:
        return self.start + len(self.weights)

    @property
    def span(self) -> tuple[int, int]:
        return self.start, self.stop


def windows(length: int, size: int, step: int) -> list[Window]:
    """Windows that cover `length` latent frames at one step, in order, each of `size` frames.

    At least a third of a window is shared with the next one, where the weights taper linearly
    from one to the other. One window of `length` frames if it is not longer than `size`.
    """
    if length <= size:
        return [Window(0, torch.ones(length))]
    overlap = size // 3
    stride = size - overlap
    shift = int(stride * PHASES[step % len(PHASES)])
    last = length - size
    # Pushed inside the shot rather than cut off at its ends: the model sees the length it knows.
    starts = sorted({min(max(at, 0), last) for at in range(-shift, last + stride, stride)})
    places = torch.arange(size)
    taper = torch.minimum(places + 1, size - places).clamp(max=overlap + 1).float()
    total = torch.zeros(length)
    for start in starts:
        total[start : start + size] += taper
    return [Window(start, taper / total[start : start + size]) for start in starts]
