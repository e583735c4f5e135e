"""Overlapping windows in latent time, and their blending weights."""

from dataclasses import dataclass

import torch

# Shift of the windows in each step, in strides. The seams between windows move from step to step, so that none remains
# visible. Positions repeat every four steps, which lets caches of windows be used again.
PHASES = (0, 1 / 2, 1 / 4, 3 / 4)


@dataclass(frozen=True)
class Window:
    """Latent frames start .. stop-1. weights (stop - start,): blending weight of each; they sum to 1 over windows."""

    start: int
    weights: torch.Tensor

    @property
    def stop(self) -> int:
        return self.start + len(self.weights)

    @property
    def span(self) -> tuple[int, int]:
        return self.start, self.stop


def windows(length: int, size: int, step: int) -> list[Window]:
    """Windows of `size` latent frames that cover `length` latent frames in one step, in order.

    Neighbouring windows overlap by at least a third. In the overlap the weights change linearly
    from one window to the other. A length of at most `size` gives one window of that length.
    """
    if length <= size:
        return [Window(0, torch.ones(length))]
    overlap = size // 3
    stride = size - overlap
    shift = int(stride * PHASES[step % len(PHASES)])
    last = length - size
    # Windows at the ends are moved into the shot, not shortened: the model is trained on the full length.
    starts = sorted({min(max(at, 0), last) for at in range(-shift, last + stride, stride)})
    index = torch.arange(size)
    taper = torch.minimum(index + 1, size - index).clamp(max=overlap + 1).float()
    total = torch.zeros(length)
    for start in starts:
        total[start : start + size] += taper
    return [Window(start, taper / total[start : start + size]) for start in starts]
