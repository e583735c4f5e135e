"""Find the outline of new objects: its position, and alpha on either side of it.

A decoder spreads a step of alpha over two to three model pixels. At every pixel that may lie in such a rise, alpha is
followed along its gradient, uphill and downhill, as in the gradient profile prior (Sun, Xu, Shum, "Image
super-resolution using gradient profile prior", CVPR 2008). The profile gives its two shoulders and the point halfway
between them; its width decides whether it is a step. A profile ends at the crest of a thin part, at the shoulder of a
halo, and before the next object. A minimum and a maximum over a square would reach beyond these.

The result is a field of signed distances to the outline. It is smooth where alpha has the steps of model pixels, and
can be drawn at any size with any edge width.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F

from vera.kernels.planes import blur, dilate, smoothstep

# Samples of the field per model pixel. Raising it costs time; lowering it rounds off thin parts.
SAMPLES_PER_PIXEL = 3
# Width of a decoded step in model pixels (rise over steepest slope), unless the model states another. Motion blur and
# halos as narrow as this are drawn as steps too.
STEP_WIDTH = 3.0
# Multiple of the step's width from which a rise is not drawn as a step; between 1 and this it is drawn partly so.
NO_STEP = 1.3
# Widths by which a profile is followed each way: a pixel at its foot must see its middle, and the middle both ends.
PROFILE_LENGTH = 1.0
# Share of PROFILE_LENGTH from which a profile's weight falls to 0, so that the field has no discontinuities.
PROFILE_FADE = 0.75
# Deviation, in step widths, of the Gaussian that averages alpha along the outline. Raising it gives smoother outlines
# and rounds corners off.
OUTLINE_BLUR = 0.14
# A shoulder is where the slope has fallen to this share of the profile's steepest slope. Raising it cuts off more of
# the rise; lowering it takes the slope of a halo for the edge's.
SHOULDER_SLOPE = 0.12
# Rise of alpha from which a profile is a step: not below the first value, fully above the second.
RISE_RANGE = (0.5, 0.7)
# Slope at the end of the profile over its steepest slope: a step below the first value, a ramp above the second.
END_SLOPE_RANGE = (0.4, 0.7)
# Radius in model pixels in which the highest alpha is taken as the crest of a thin part: blur has lowered the others.
CREST_RADIUS = 2
# Slope in alpha per model pixel below which a pixel is outside of every step.
LEAST_SLOPE = 0.012
PROFILE_BATCH = 4096  # profiles; raising it needs more memory than a cache has


def outline(alpha: torch.Tensor, width: float = STEP_WIDTH) -> torch.Tensor:
    """The outline field (SAMPLES_PER_PIXEL h, SAMPLES_PER_PIXEL w, 4) of alpha (h, w) in [0, 1], on the same device.

    width: of a decoded step in model pixels. Channels: alpha outside of the outline, rise of alpha across it, signed
    distance from it in model pixels (positive inside), and hardness in [0, 1]. The first three are multiplied by the
    hardness, so that they can be interpolated.
    """
    size = [SAMPLES_PER_PIXEL * n for n in alpha.shape]
    field = alpha.new_zeros(*size, 4)
    planes = alpha[None, None]
    reach = round(PROFILE_LENGTH * width)
    rises = dilate((dilate(planes, reach) + dilate(-planes, reach) > RISE_RANGE[0]).float(), reach)
    if not rises.any():
        return field
    fine, even = (
        F.interpolate(p, size, mode="bicubic", antialias=True).clamp_(0, 1) for p in (planes, blur(blur(planes, 1), 1))
    )
    box, corner = _around(rises[0, 0] > 0)
    slopes = torch.stack(torch.gradient(even[0, 0][box])) * SAMPLES_PER_PIXEL  # (down, right) to a model pixel
    near = F.interpolate(rises, size, mode="nearest")[0, 0][box] > 0
    # torch's norm is slow: it is computed only for pixels that can be steep enough, by a bound with room for rounding.
    at = (near & (slopes.square().sum(0) > (0.999 * LEAST_SLOPE) ** 2)).nonzero()
    steep = slopes[:, at[:, 0], at[:, 1]].norm(dim=0)
    at, steep = at[steep > LEAST_SLOPE], steep[steep > LEAST_SLOPE][:, None]
    uphill = slopes[:, at[:, 0], at[:, 1]].T / steep
    at = at + corner
    fine[0, 0, at[:, 0], at[:, 1]] = _along(fine, at, uphill.flip(1) * uphill.new_tensor([1, -1]), OUTLINE_BLUR * width)
    field[at[:, 0], at[:, 1]] = _field(fine, _Pixels(at, box, uphill, steep), width)
    return field


@dataclass(frozen=True)
class _Pixels:
    """Pixels that may lie in a step.

    at (n, 2): rows and columns in the field
    box: rows and columns of a part of the field that contains all of them and CREST_RADIUS pixels around
    uphill (n, 2), steep (n, 1): direction and size of alpha's gradient
    """

    at: torch.Tensor
    box: tuple[slice, slice]
    uphill: torch.Tensor
    steep: torch.Tensor


def _around(there):
    """Rows and columns in the field of the box of true pixels (h, w), with room, and its first row and column (2,)."""
    ends = []
    for axis in (1, 0):
        found = there.any(axis).nonzero()
        ends.append(
            slice(
                SAMPLES_PER_PIXEL * max(0, int(found[0]) - CREST_RADIUS - 1),
                SAMPLES_PER_PIXEL * (int(found[-1]) + CREST_RADIUS + 2),
            )
        )
    return tuple(ends), torch.tensor([end.start for end in ends], device=there.device)


def _along(fine, at, way, deviation):
    """Means of alpha along the outline, (n,), at pixels `at` (n, 2) in directions `way` (n, 2), unit vectors."""
    steps = torch.arange(-2.0, 3.0, device=fine.device)
    weights = torch.exp(-(steps**2) / 2)
    return _sampled(fine, at, way, SAMPLES_PER_PIXEL * deviation * steps) @ (weights / weights.sum())


def _field(alpha, pixels, width):
    """The field of `outline` at the pixels, (n, 4).

    All pixels of a profile take the shoulders and hardness found at its steepest pixel: the profile of a pixel at the
    foot ends before the crest.
    """
    at, uphill, steep = pixels.at, pixels.uphill, pixels.steep
    count = SAMPLES_PER_PIXEL * round(PROFILE_LENGTH * width)
    profile = _sampled(alpha, at, uphill, torch.arange(-count, count + 1, device=alpha.device).float())
    rising = _rising(profile, count)
    middle, *own = _step(rising, count, width)
    seen = alpha.new_zeros(1, 4, *alpha.shape[2:])
    inner = seen[:, :, *pixels.box]  # all that is not 0
    seen[0, :, at[:, 0], at[:, 1]] = torch.cat([*own, torch.ones_like(steep)], 1).T
    inner[:, 1:2] = dilate(inner[:, 1:2], round(SAMPLES_PER_PIXEL * CREST_RADIUS))
    seen[:, :, at[:, 0], at[:, 1]] *= steep[:, 0] ** 2  # a steeper pixel is more reliable
    inner *= inner[:, 3:] > 0
    inner.copy_(blur(inner, 1))
    told = _sampled(seen, at + (middle + 0.5 - count) * uphill, uphill, alpha.new_zeros(1))
    low, high, hard = (told[:, :3] / told[:, 3:].clamp_min(1e-6)).unbind(1)
    hard = hard * (1 - smoothstep((middle + 0.5 - count).abs() / count, PROFILE_FADE, 1))
    half = (low + high) / 2
    below = ((half - rising[:, :-1]) / rising.diff(dim=1).clamp_min(1e-6)).clamp(0, 1).sum(1, True)
    here = profile[:, count : count + 1]
    low, high = torch.minimum(low, here), torch.maximum(high, here)
    return torch.cat([low, high - low, (count - below) / SAMPLES_PER_PIXEL, torch.ones_like(hard)], 1) * hard


def _rising(profile, middle):
    """Profiles (n, k) with everything outside of the rise through their middle replaced by the rise's end values."""
    up, down = profile[:, middle:], profile[:, : middle + 1].flip(1)
    return torch.cat([_while_falling(down).flip(1), -_while_falling(-up)[:, 1:]], 1)


def _step(rising, middle, width):
    """The steepest step of rising profiles (n, k): its index, alpha below and above it, and hardness; each (n, 1)."""
    slope = rising.diff(dim=1)
    count = slope.shape[1]
    number = torch.arange(count, device=slope.device)
    nearer = 1 - ((number + 0.5 - middle) / count) ** 2  # of two edges, this pixel's
    best = (slope * nearer).argmax(1, True)
    steepest = slope.gather(1, best)
    weak = slope < SHOULDER_SLOPE * steepest
    foot = torch.where(weak & (number < best), number + 1, 0).amax(1, True)
    crest = torch.where(weak & (number > best), number, count).amin(1, True)
    low, high = rising.gather(1, foot), rising.gather(1, crest)
    own = (high - low) / (SAMPLES_PER_PIXEL * steepest).clamp_min(1e-6)
    goes_on = torch.maximum(slope[:, :1], slope[:, -1:]) / steepest.clamp_min(1e-6)
    soft = torch.maximum(smoothstep(own / width, 1, NO_STEP), smoothstep(goes_on, *END_SLOPE_RANGE))
    return best, low, high, smoothstep(high - low, *RISE_RANGE) * (1 - soft)


def _while_falling(profile):
    """Profiles (n, k) with everything after their fall replaced by the fall's last value."""
    falls = profile.diff(dim=1).clamp_max(0)
    falls = falls * (falls < 0).cumprod(1)
    return torch.cat([profile[:, :1], profile[:, :1] + falls.cumsum(1)], 1)


def _sampled(image, at, way, steps):
    """Bilinear samples of image (1, c, y, x) at `at` (n, 2) + `steps` (k,) times `way` (n, 2), with replicated borders.

    Returns (n, k) for one channel, (n, c, k) for several.
    """
    size, found = image.new_tensor(image.shape[2:]), []
    for some, here, on in zip(*(v.split(PROFILE_BATCH) for v in (at, way, steps.expand(len(at), -1)))):
        places = some[:, None] + on[:, :, None] * here[:, None]
        grid = ((2 * places + 1) / size - 1).flip(2)[None]
        found.append(F.grid_sample(image, grid, padding_mode="border", align_corners=False)[0])
    sampled = torch.cat(found, 1)
    return sampled[0] if len(sampled) == 1 else sampled.movedim(0, 1)
