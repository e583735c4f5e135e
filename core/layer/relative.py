"""Where the edit's colour is the plate seen anew, and where it is something else.

An edit that relights or regrades draws the plate again, through a codec that loses grain, detail and
highlights. There its colour is better taken relative to the plate. A thing that was not there, a ball or
smoke, has nothing of the plate in it, and relative colour would print the plate's detail on it.
"""

import torch
import torch.nn.functional as F

# Detail is what differs from the mean within DETAIL pixels; it is compared over AROUND pixels.
DETAIL, AROUND = 2, 8
# Detail fainter than this (standard deviation, codes) is noise and says nothing.
FAINT = 0.01
# Squared correlation of detail: below the first value the edit is new, from the second on it is the plate.
ALIKE = (0.6, 0.9)
_LUMA = (0.2126, 0.7152, 0.0722)


def relative_share(color: torch.Tensor, reconstruction: torch.Tensor, alpha: torch.Tensor) -> torch.Tensor:
    """How much of a layer's colour is the plate drawn again: (h, w) in [0, 1], smooth.

    color, reconstruction: (3, h, w) in the model's range, the edit's straight colour and what the codec
    makes of the plate; alpha: (h, w). The squared correlation of their fine detail in luma, where the
    layer is, tells; flat parts go with what is around them.
    """
    weights = torch.tensor(_LUMA).view(3, 1, 1)
    ours, theirs = ((image * weights).sum(0) for image in (color, reconstruction))
    ours, theirs = (image - _mean(image, DETAIL) for image in (ours, theirs))
    # Where the layer's colour is not seen, whatever is decoded there.
    trust = alpha.square()
    both, own, plate = (_mean(trust * x, AROUND) for x in (ours * theirs, ours * ours, theirs * theirs))
    noise = _mean(trust, AROUND).clamp_min(1e-6) * FAINT**2
    alike = both.clamp_min(0).square() / ((own + noise) * (plate + noise))
    t = ((alike - ALIKE[0]) / (ALIKE[1] - ALIKE[0])).clamp(0, 1)
    return _mean(t * t * (3 - 2 * t), AROUND // 2)


def _mean(image, radius):
    size = 2 * radius + 1
    return F.avg_pool2d(image[None, None], size, stride=1, padding=radius, count_include_pad=False)[0, 0]
