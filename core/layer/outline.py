"""The outline of what is new in the plate: where it runs, and what alpha is on either side of it.

A decoder spreads a step of alpha over two to three model pixels. At every pixel that may lie in such a rise, alpha
is followed along its own gradient, uphill and downhill, as in the gradient profile prior (Sun, Xu, Shum, "Image
super-resolution using gradient profile prior", CVPR 2008): the profile tells its two shoulders, the place halfway
between them, and by its width whether it is a step. A profile ends at the crest of a thin part, at the shoulder of
a halo, and before the next object, where a minimum and a maximum over a square would look beyond them.

What comes out is a field of signed distances to the outline. It is smooth where alpha is a polygon of model pixels,
and a renderer draws it at any size with an edge as wide as wanted.
"""

import torch
import torch.nn.functional as F

from vera.kernels.planes import blur, dilate, smoothstep

# Samples of the field to a model pixel. More cost time; fewer round thin parts off.
GUIDE = 3
# The width of a step as decoded, rise by steepest slope in model pixels, unless a model says otherwise. Motion blur
# and halos as narrow as this are drawn as steps too.
STEP_WIDTH = 3.0
# What is so many times as wide is no step; between, a part of one.
NO_STEP = 1.3
# A profile is followed so many widths either way: a pixel at its foot has to see its middle, the middle both ends.
REACH = 1.0
# From this share of it on a profile counts less and less, so that nothing ends at once.
FADES = 0.75
# Alpha is averaged along the outline by a Gaussian of this deviation, in widths of a step: higher is smoother, and
# rounds corners off.
ALONG = 0.14
# Shoulders: where the slope has fallen to this share of the profile's steepest. Higher cuts more of the rise off,
# lower takes the slope of a halo for the edge's.
SHOULDER = 0.12
# The rise from which a profile is a step, in alpha: not at all below the first, wholly above the second.
RISE = (0.5, 0.7)
# Its slope where the view ends, beside its steepest: the same. Steeper, and it goes on: a ramp.
ENDS = (0.4, 0.7)
# The crest of a thin part is as high as the highest so near, in model pixels: blur has lowered the others.
CREST = 2
# Slopes below this, alpha to a model pixel, lie beyond the shoulders of every step.
LEAST_SLOPE = 0.012


def outline(alpha: torch.Tensor, width: float = STEP_WIDTH) -> torch.Tensor:
    """Alpha (h, w) in [0, 1], of which a step is decoded so wide -> (GUIDE h, GUIDE w, 4), on the same device.

    Channels: alpha outside of the outline, its rise across it, the distance from it in model pixels, positive
    inside, and how hard it is, 0 to 1. The first three are multiplied by the last, so that they may be interpolated.
    """
    size = [GUIDE * n for n in alpha.shape]
    field = alpha.new_zeros(4, *size)
    planes = alpha[None, None]
    reach = round(REACH * width)
    rises = dilate((dilate(planes, reach) + dilate(-planes, reach) > RISE[0]).float(), reach)
    if not rises.any():
        return field.movedim(0, -1)
    fine, even = (
        F.interpolate(p, size, mode="bicubic", antialias=True).clamp(0, 1) for p in (planes, blur(blur(planes, 1), 1))
    )
    slopes = torch.stack(torch.gradient(even[0, 0])) * GUIDE  # (down, right) to a model pixel
    near = F.interpolate(rises, size, mode="nearest")[0, 0] > 0
    # torch's norm is slow: only of what can be steep enough, by a bound that rounding does not reach.
    at = (near & (slopes.square().sum(0) > (0.999 * LEAST_SLOPE) ** 2)).nonzero()
    steep = slopes[:, at[:, 0], at[:, 1]].norm(dim=0)
    at, steep = at[steep > LEAST_SLOPE], steep[steep > LEAST_SLOPE][:, None]
    uphill = slopes[:, at[:, 0], at[:, 1]].T / steep
    even = fine.clone()
    even[0, 0, at[:, 0], at[:, 1]] = _along(fine, at, uphill.flip(1) * uphill.new_tensor([1, -1]), ALONG * width)
    field[:, at[:, 0], at[:, 1]] = _field(even, at, uphill, steep, width)
    return field.movedim(0, -1).contiguous()


def _along(fine, at, way, deviation):
    """Means of alpha along the outline, (n,): at (n, 2) pixels, way (n, 2) unit vectors."""
    steps = torch.arange(-2.0, 3.0, device=fine.device)
    weights = torch.exp(-(steps**2) / 2)
    return _sampled(fine, at, way, GUIDE * deviation * steps) @ (weights / weights.sum())


def _field(alpha, at, uphill, steep, width):
    """The field of `outline` at pixels (n, 2) whose gradients point uphill (n, 2) and are so steep (n, 1) -> (4, n).

    A profile's shoulders and hardness are those seen from its steepest place, for all pixels on it: what one sees that
    stands at its foot ends before the crest.
    """
    count = GUIDE * round(REACH * width)
    profile = _sampled(alpha, at, uphill, torch.arange(-count, count + 1, device=alpha.device).float())
    rising = _rising(profile, count)
    middle, *own = _step(rising, count, width)
    seen = alpha.new_zeros(1, 4, *alpha.shape[2:])
    seen[0, :, at[:, 0], at[:, 1]] = torch.cat([*own, torch.ones_like(steep)], 1).T
    seen[:, 1:2] = dilate(seen[:, 1:2], round(GUIDE * CREST))
    seen[:, :, at[:, 0], at[:, 1]] *= steep[:, 0] ** 2  # the steeper, the surer
    seen *= seen[:, 3:] > 0
    told = _sampled(blur(seen, 1), at + (middle + 0.5 - count) * uphill, uphill, alpha.new_zeros(1))
    low, high, hard = (told[:, :3] / told[:, 3:].clamp_min(1e-6)).unbind(1)
    hard = hard * (1 - smoothstep((middle + 0.5 - count).abs() / count, FADES, 1))
    half = (low + high) / 2
    below = ((half - rising[:, :-1]) / rising.diff(dim=1).clamp_min(1e-6)).clamp(0, 1).sum(1, True)
    here = profile[:, count : count + 1]
    low, high = torch.minimum(low, here), torch.maximum(high, here)
    return (torch.cat([low, high - low, (count - below) / GUIDE, torch.ones_like(hard)], 1) * hard).T


def _rising(profile, middle):
    """A profile (n, k) as far as it rises through its middle; beyond that on its last values."""
    up, down = profile[:, middle:], profile[:, : middle + 1].flip(1)
    return torch.cat([_while_falling(down).flip(1), -_while_falling(-up)[:, 1:]], 1)


def _step(rising, middle, width):
    """The steepest step of a rising profile (n, k): its number, and alpha below and above it, how hard; each (n, 1)."""
    slope = rising.diff(dim=1)
    count = slope.shape[1]
    number = torch.arange(count, device=slope.device)
    nearer = 1 - ((number + 0.5 - middle) / count) ** 2  # of two edges, this pixel's
    best = (slope * nearer).argmax(1, True)
    steepest = slope.gather(1, best)
    weak = slope < SHOULDER * steepest
    foot = torch.where(weak & (number < best), number + 1, 0).amax(1, True)
    crest = torch.where(weak & (number > best), number, count).amin(1, True)
    low, high = rising.gather(1, foot), rising.gather(1, crest)
    own = (high - low) / (GUIDE * steepest).clamp_min(1e-6)
    goes_on = torch.maximum(slope[:, :1], slope[:, -1:]) / steepest.clamp_min(1e-6)
    soft = torch.maximum(smoothstep(own / width, 1, NO_STEP), smoothstep(goes_on, *ENDS))
    return best, low, high, smoothstep(high - low, *RISE) * (1 - soft)


def _while_falling(profile):
    """A profile (n, k) as far as it falls; from there on its last value."""
    falls = profile.diff(dim=1).clamp_max(0)
    falls = falls * (falls < 0).cumprod(1)
    return torch.cat([profile[:, :1], profile[:, :1] + falls.cumsum(1)], 1)


def _sampled(image, at, way, steps):
    """Bilinear samples (n, k), or (n, c, k) of several channels, of image (1, c, y, x) at pixels (n, 2) + steps (k,)
    times way (n, 2); borders go on."""
    places = at[:, None] + steps[:, None] * way[:, None]
    size = image.new_tensor(image.shape[2:])
    grid = ((2 * places + 1) / size - 1).flip(2)[None]
    found = F.grid_sample(image, grid, padding_mode="border", align_corners=False)[0]
    return found[0] if len(found) == 1 else found.movedim(0, 1)
