"""One clip, in memory and at one size: position, haze, colour, noise, change, layers, gate, in this order."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch

from vera.core.layer.matte import refine_alpha
from vera.core.layer.spread import spread
from vera.core.lifting.change import LIMITS as CHANGE_LIMITS
from vera.core.lifting.change import find_change
from vera.core.lifting.controls import USUAL, LiftControls
from vera.core.lifting.drift import contrast_kept, find_drift, without_drift
from vera.core.lifting.frequency_response import as_seen
from vera.core.lifting.gate import LIMITS as GATE_LIMITS
from vera.core.lifting.gate import Estimate, gated
from vera.core.lifting.haze import Haze, find_haze
from vera.core.lifting.layers import LIMITS as LAYER_LIMITS
from vera.core.lifting.layers import find_layers
from vera.core.lifting.matching import same_size
from vera.core.lifting.noise import Noise, features
from vera.core.lifting.registration import Canvas, find_moves
from vera.core.lifting.smooth import blur, grown, luma
from vera.kernels.plate_size import resize

LEAST_KEPT = 0.01  # share of the clip; of less nothing is known, and all of it is the edit's
MOST_NOISE = 0.08  # of a neighbourhood's mean
LEAST_ONE_WAY, ONE_WAY = (0.01, 0.7)  # a mean error that may be an edit: at least, and of the error's variation
EDGE_REACH = 3  # pixels from what is solid to where its edge ends; more steepens what lies beside it
FAINTEST = 0.02  # alpha of haze; below it the plate is kept
ROUNDS = 2  # what changed is found twice: the second time with drift measured beside it
STEPS = 4 + 2 * ROUNDS


@dataclass
class Lifted:
    """color (T, 3, H, W) straight, alpha (T, 1, H, W), clean (T, 3, H, W): the edited video without
    its drift; all encoded, in [0, 1]. detail (T, 3, H, W): how much of the plate's own detail the colour is made
    of. kinds (T, 3, H, W): of what kind it is, as `Layers` has it. moves (T, 2, 3) in pixels, gain and offset
    (T, 3, H, W): the drift that was taken away. region (T, 1, H, W): where a change was seen. haze, haze_share: its
    mean alpha, of the layer's, where it lies, and the share of the clip where it does."""

    color: torch.Tensor
    alpha: torch.Tensor
    clean: torch.Tensor
    detail: torch.Tensor
    kinds: torch.Tensor
    region: torch.Tensor
    moves: torch.Tensor
    gain: torch.Tensor
    offset: torch.Tensor
    haze: float
    haze_share: float


def lift_clip(
    plate: torch.Tensor,
    edited: torch.Tensor | Canvas,
    mask: torch.Tensor | None = None,
    step_done: Callable[[], object] = lambda: None,
    controls: LiftControls = USUAL,
) -> Lifted:
    """plate (T, 3, H, W), encoded [0, 1]; mask (T, 1, H, W): 1 where the edit may be.

    edited: as the plate, or the Canvas on which the plate lies; what that does not show is no part of the layer.
    step_done is called STEPS times, after each piece of the work.
    """
    found = _found(plate, edited, mask, step_done, controls)
    alpha = found.estimate.alpha
    if controls.learned:
        alpha = gated(found.estimate, limits=GATE_LIMITS.for_sensitivity(controls.sensitivity))
    alpha = _steeper(alpha, found.kinds[:, :1], controls.edge)
    step_done()
    haze = found.haze
    hazy = (haze.alpha > FAINTEST) * (alpha > 0) if haze else torch.zeros_like(alpha)
    mean_haze = float((haze.alpha * hazy).sum() / hazy.sum().clamp_min(1)) if haze else 0.0
    return Lifted(
        found.estimate.color,
        alpha,
        found.estimate.clean,
        found.detail,
        found.kinds,
        found.estimate.region,
        found.moves,
        found.gain,
        found.offset,
        mean_haze,
        float(hazy.float().mean()),
    )


def _steeper(alpha, solid, times):
    """Alpha (T, 1, H, W) whose rise about a half is so many times steeper at and near what is solid."""
    if times == 1:
        return alpha
    near = grown(solid * alpha, EDGE_REACH)
    return (0.5 + (1 + (times - 1) * near) * (alpha - 0.5)).clamp(0, 1)


def classical_estimate(plate: torch.Tensor, edited: torch.Tensor | Canvas) -> Estimate:
    """What the gate is given of a clip, as lift_clip makes it."""
    return _found(plate, edited, None, lambda: None, USUAL).estimate


@dataclass
class _Found:
    """The classical estimate, and what else was found on the way to it, as `Lifted` has it."""

    estimate: Estimate
    detail: torch.Tensor
    kinds: torch.Tensor
    moves: torch.Tensor
    gain: torch.Tensor
    offset: torch.Tensor
    haze: Haze | None


def _found(
    plate: torch.Tensor,
    edited: torch.Tensor | Canvas,
    mask: torch.Tensor | None,
    step_done: Callable[[], object],
    controls: LiftControls,
) -> _Found:
    """See `lift_clip`."""
    canvas = edited if isinstance(edited, Canvas) else Canvas.same(edited)
    moves, size = find_moves(plate, canvas), plate.shape[2:]
    shown = canvas.inside(moves, size)
    placed = torch.where(shown > 0, canvas.placed(moves, size), plate)
    step_done()
    haze = find_haze(plate, placed, _structure(plate, placed) * shown)
    behind = haze.over(plate) if haze else plate
    step_done()
    trust = first_trust(behind, placed)
    if mask is not None:
        trust = torch.where(mask > 0, trust, torch.ones_like(trust))
    intact = contrast_kept(behind, placed, trust) * shown
    trust, of_plate = trust * intact, features(plate)
    change_limits = CHANGE_LIMITS.for_sensitivity(controls.sensitivity)
    for _ in range(ROUNDS):
        if trust.mean() < LEAST_KEPT:  # nothing to tell drift and noise by
            trust = torch.zeros_like(trust)
        gain, offset = find_drift(behind, placed, trust)
        clean = without_drift(placed, gain, offset)
        seen = as_seen(behind, clean, trust)
        clean = torch.where(shown > 0, clean, seen)
        step_done()
        trust = trust * teaches(clean - seen)
        region = (
            find_change(clean - seen, of_plate, trust, change_limits) if trust.any() else torch.ones_like(trust)
        ) * shown
        if mask is not None:
            region = region * (mask > 0)
        trust = (1 - grown(region, 1)) * _near(clean, seen) * intact * teaches(clean - seen)
        step_done()
    variance = Noise(of_plate, (clean - seen).square().mean(1, keepdim=True), trust)(of_plate)
    if haze:  # of the layer, as the rest of it
        seen = haze.removed(seen)
        region = torch.maximum(region, (haze.alpha > FAINTEST) * shown)
        if mask is not None:
            region = region * (mask > 0)
    hazy = haze.alpha if haze else torch.zeros_like(region)
    limits = replace(LAYER_LIMITS, steadiness=controls.steadiness)
    layers = find_layers(plate, seen, clean, region, variance, hazy, limits)
    step_done()
    allowed = shown if mask is None else shown * (mask > 0)  # edges reach a pixel out of the region
    estimate = Estimate(seen, clean, variance, layers.color, layers.alpha * allowed, region, hazy)
    return _Found(estimate, layers.detail, layers.kinds, moves, gain, offset, haze)


def first_trust(plate: torch.Tensor, edited: torch.Tensor) -> torch.Tensor:
    """How likely each pixel is unchanged, (T, 1, H, W): as bright to within drift, and of the same structure."""
    close, alike, textured = _likeness(plate, edited)
    return _in_company(close * (1 - textured * (1 - alike)))


def _structure(plate, edited):
    """How likely each pixel shows the plate's structure, however veiled, (T, 1, H, W); where it is plain, its
    colour."""
    close, alike, textured = _likeness(plate, edited)
    return _in_company(torch.lerp(close, alike, textured))


def _likeness(plate, edited):
    """How near the pixels' brightness and structure are, and how much structure there is, each (T, 1, H, W) in [0,
    1]."""
    reach = _in_tiny(plate)
    far = blur(edited - plate, 2.0 * reach, 0.7).abs().amax(1, keepdim=True)
    close = torch.exp(-((far / 0.06) ** 2))
    a, b = (blur(luma(v), 1.0) for v in (plate, edited))
    a, b = a - blur(a, 4.0), b - blur(b, 4.0)
    aa, bb, ab = (blur(x * y, 3.0 * reach, 0.7) for x, y in ((a, a), (b, b), (a, b)))
    alike = ((ab / (aa * bb + 1e-10).sqrt() - 0.3) / 0.5).clamp(0, 1)
    return close, alike, (torch.maximum(aa, bb) / 0.015**2).clamp(max=1)


def _in_company(trust):
    """Lone look-alikes in a new background are chance."""
    return trust * (2 * blur(trust, 3.0 * _in_tiny(trust), 0.7) - 0.6).clamp(0, 1)


def teaches(residual: torch.Tensor) -> torch.Tensor:
    """How far noise may be learnt from each pixel's residual (T, 3, H, W), (T, 1, H, W) in [0, 1].

    Noise errs both ways within a few pixels. What errs one way, by far more than what varies there, is sooner a faint
    edit, which would teach the noise to hide it.
    """
    coarse = blur(residual, 3.5, 0.7)
    varies = blur((residual - coarse).square().mean(1, keepdim=True), 6.0, 0.7).sqrt()
    one_way = coarse.abs().amax(1, keepdim=True)
    return (2 - one_way / torch.maximum(torch.full_like(varies, LEAST_ONE_WAY), ONE_WAY * varies)).clamp(0, 1)


def _in_tiny(video):
    """In tiny frames everything is smaller."""
    return min(1.0, video.shape[2] / 100)


def _near(clean, seen):
    """1 where what is left can be noise at all, to 0 for what no codec does."""
    far = blur(clean - seen, 1.0, 0.7).abs().amax(1, keepdim=True)
    return torch.exp(-((far / MOST_NOISE) ** 2))


def plate_sized(
    color: torch.Tensor, alpha: torch.Tensor, plate: torch.Tensor, detail: torch.Tensor | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """One frame's straight colour (3, h, w) and alpha (1, h, w) at the size of the plate (H, W, 3), encoded.

    detail (3, h, w): how much of what the plate shows finer than (h, w) the colour takes over.
    """
    size = plate.shape[:2]
    small = same_size(plate.movedim(-1, 0)[None], alpha.shape[1:])[0]
    large = refine_alpha(alpha[0], small, plate)[0][None]
    if tuple(color.shape[1:]) == tuple(size):
        return color, large
    # Colour of thin edges is the inside's; nothing of what lies behind may come along.
    color = spread(color[None], (alpha[None] > 0.5 * grown(alpha[None], 2).clamp_min(0.02)).float())[0]
    color = resize(color.movedim(0, -1), size)
    if detail is not None and detail.any():
        finer = plate - resize(small.movedim(0, -1), size)
        color = color + resize(detail.movedim(0, -1), size) * finer
    return color.movedim(-1, 0).clamp(0, 1), large
