"""Draw a kept subject's outline from the plate's colours and a rough guess of the subject.

Without a mask the model finds a subject within a few pixels, and misses its outline. Colour histograms of the
subject and of its surroundings are learned from the guess. Each pixel gets a probability from its colour and the
guess, which is then smoothed over neighbours except across edges of the plate. Colours follow GrabCut (Rother et
al. 2004) with histograms in place of mixtures; neighbours follow the random walker with priors (Grady 2005).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from vera.kernels.planes import smoothstep

BINS = 16  # bins per channel of the histograms. Raising it separates more colours, and needs more pixels
ALTERNATIONS = 3  # alternations between histograms and probabilities. Raising it departs farther from the guess
# Deviation of the Gaussian that blurs the guess, and of the one that selects the surroundings, in picture heights.
# Raising the first departs farther from the guess; raising the second compares with more of the plate.
GUESS_BLUR, AROUND = 1 / 32, 1 / 12
LEAST_DOUBT = 0.03  # smallest probability of error of the guess. Raising it gives colours more weight
MOST_BY_COLOR = 4.0  # largest log odds of a colour. Raising it gives colours more weight
# Weight of a pixel's own probability against its neighbours', and decay of the weight between neighbours with their
# squared difference in colour. Raising the first gives rougher outlines; raising the second stops at weaker edges.
OWN_WEIGHT, EDGE_DECAY = 0.2, 600.0
# Largest number of iterations of the solver. Raising it spreads probabilities farther, and takes time.
SOLVER_ITERATIONS = 40
ALPHA_RANGE = (0.25, 0.75)  # probabilities at which alpha is 0 and 1. Closer values give harder outlines


@dataclass(frozen=True)
class SubjectColors:
    """odds (BINS, BINS, BINS): log ratio of a colour's frequency in the subject to that in its surroundings."""

    odds: Tensor

    @classmethod
    def of(cls, guesses: Sequence[Tensor], pictures: Sequence[Tensor]) -> SubjectColors:
        """Learn from some frames of a shot: rough probabilities (h, w), and pictures (3, h, w) in [0, 1]."""
        found, made = list(guesses), cls(torch.zeros(BINS, BINS, BINS))
        for _ in range(ALTERNATIONS):
            inside, outside = torch.zeros(BINS**3), torch.zeros(BINS**3)
            for guess, subject, picture in zip(guesses, found, pictures, strict=True):
                near = (_blurred((guess > 0.3).float(), AROUND) > 0.02).float()
                index = _bins(picture).flatten()
                inside.index_add_(0, index, (subject * (subject > 0.5)).flatten())
                outside.index_add_(0, index, ((1 - subject) * (0.02 + near)).flatten())
            made = cls((_spread(inside).log() - _spread(outside).log()).clamp(-MOST_BY_COLOR, MOST_BY_COLOR))
            found = [made.probability(guess, picture) for guess, picture in zip(guesses, pictures, strict=True)]
        return made

    def probability(self, guess: Tensor, picture: Tensor) -> Tensor:
        """Probability of the subject in one frame, (h, w), from the guess (h, w) and the picture (3, h, w)."""
        prior = _blurred(guess, GUESS_BLUR).clamp(LEAST_DOUBT, 1 - LEAST_DOUBT)
        own = torch.sigmoid(prior.logit() + self.odds.flatten()[_bins(picture)])
        return _walked(own, picture)

    def drawn(self, guess: Tensor, picture: Tensor) -> Tensor:
        """Alpha (h, w) of the subject in one frame; inputs as in `probability`."""
        return smoothstep(self.probability(guess, picture), *ALPHA_RANGE)


def _bins(picture: Tensor) -> Tensor:
    red, green, blue = (picture.clamp(0, 1) * BINS).long().clamp(max=BINS - 1)
    return (red * BINS + green) * BINS + blue


def _spread(counts: Tensor) -> Tensor:
    """Histogram counts (BINS ** 3,) as smoothed frequencies (BINS, BINS, BINS)."""
    kernel = torch.exp(-(torch.arange(-3.0, 4.0) ** 2) / 2)
    kernel = kernel / kernel.sum()
    shares = counts.view(1, 1, BINS, BINS, BINS)
    for axis in (2, 3, 4):
        shape = [1] * 5
        shape[axis] = 7
        shares = F.conv3d(shares, kernel.view(shape), padding=[3 * (a == axis) for a in (2, 3, 4)])
    shares = shares[0, 0] + 1e-9
    return shares / shares.sum()


def _blurred(plane: Tensor, deviation: float) -> Tensor:
    """A plane (h, w) blurred by a Gaussian; deviation in heights."""
    height, width = plane.shape
    sigma = max(0.5, deviation * height)
    reach = min(round(3 * sigma), height - 1, width - 1)
    kernel = torch.exp(-(torch.arange(-reach, reach + 1.0) ** 2) / (2 * sigma**2))
    kernel = kernel / kernel.sum()
    padded = F.pad(plane[None, None], (reach, reach, reach, reach), mode="reflect")
    return F.conv2d(F.conv2d(padded, kernel.view(1, 1, 1, -1)), kernel.view(1, 1, -1, 1))[0, 0]


def _walked(own: Tensor, picture: Tensor) -> Tensor:
    """Probabilities (h, w), smoothed except across edges of the picture (3, h, w), by conjugate gradients."""
    across = torch.exp(-EDGE_DECAY * picture.diff(dim=2).square().sum(0)) + 1e-3
    along = torch.exp(-EDGE_DECAY * picture.diff(dim=1).square().sum(0)) + 1e-3

    def apply(x: Tensor) -> Tensor:
        made = OWN_WEIGHT * x
        step = across * x.diff(dim=1)
        made[:, 1:] += step
        made[:, :-1] -= step
        step = along * x.diff(dim=0)
        made[1:] += step
        made[:-1] -= step
        return made

    found = own.clone()
    left = OWN_WEIGHT * own - apply(found)
    way, power = left.clone(), left.square().sum()
    for _ in range(SOLVER_ITERATIONS):
        if float(power) < 1e-6:
            break
        through = apply(way)
        length = power / (way * through).sum()
        found, left = found + length * way, left - length * through
        before, power = power, left.square().sum()
        way = left + power / before * way
    return found.clamp(0, 1)
