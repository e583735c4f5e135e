"""Find where the edit's colour is the plate drawn again, and where it is something new.

A relight or regrade draws the plate again through a codec that loses grain, detail and highlights. There, colour
relative to the plate is better. A new thing such as a ball or smoke contains nothing of the plate; relative colour
would print the plate's detail on it.
"""

import torch
import torch.nn.functional as F

# Radii in pixels: detail is the difference from the mean within DETAIL, and is compared within AROUND.
DETAIL, AROUND = 2, 8
# Standard deviation of detail, as a share of the code range, below which it counts as noise. Raising it finds less.
MIN_DETAIL = 0.01
# Squared correlation of detail: below the first value the edit is new, above the second it is the plate.
CORRELATION_RANGE = (0.6, 0.9)
_LUMA = (0.2126, 0.7152, 0.0722)


def relative_share(color: torch.Tensor, reconstruction: torch.Tensor, alpha: torch.Tensor) -> torch.Tensor:
    """Share of a layer's colour that is the plate drawn again, (h, w) in [0, 1], smooth.

    color, reconstruction: (3, h, w) in the model's range, the edit's straight colour and the plate after the codec
    alpha: (h, w)
    The measure is the squared correlation of fine luma detail inside the layer. Flat parts follow their surroundings.
    """
    weights = torch.tensor(_LUMA).view(3, 1, 1)
    ours, theirs = ((image * weights).sum(0) for image in (color, reconstruction))
    ours, theirs = (image - _mean(image, DETAIL) for image in (ours, theirs))
    # Where alpha is small, the decoded colour is arbitrary.
    trust = alpha.square()
    both, own, plate = (_mean(trust * x, AROUND) for x in (ours * theirs, ours * ours, theirs * theirs))
    noise = _mean(trust, AROUND).clamp_min(1e-6) * MIN_DETAIL**2
    alike = both.clamp_min(0).square() / ((own + noise) * (plate + noise))
    t = ((alike - CORRELATION_RANGE[0]) / (CORRELATION_RANGE[1] - CORRELATION_RANGE[0])).clamp(0, 1)
    return _mean(t * t * (3 - 2 * t), AROUND // 2)


def _mean(image, radius):
    """Mean within (2 radius + 1)^2 pixels: along rows, then along columns. Beyond the border nothing counts."""
    for size, padding in (((1, 2 * radius + 1), (0, radius)), ((2 * radius + 1, 1), (radius, 0))):
        image = F.avg_pool2d(image[None, None], size, stride=1, padding=padding, count_include_pad=False)[0, 0]
    return image
