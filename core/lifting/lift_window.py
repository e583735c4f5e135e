"""Lift one clip in memory at one size. The steps are position, haze, drift, noise, change, layers and gate."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch

from vera.core.layer.matte import refine_alpha
from vera.core.layer.spread import spread
from vera.core.lifting.change import LIMITS as CHANGE_LIMITS
from vera.core.lifting.change import find_change
from vera.core.lifting.controls import USUAL, LiftControls
from vera.core.lifting.drift import Drift, contrast_kept, find_drift
from vera.core.lifting.frequency_response import as_seen
from vera.core.lifting.gain import Comparison
from vera.core.lifting.gate import LIMITS as GATE_LIMITS
from vera.core.lifting.gate import Estimate, gated
from vera.core.lifting.haze import Haze, find_haze
from vera.core.lifting.layers import LIMITS as LAYER_LIMITS
from vera.core.lifting.layers import find_layers
from vera.core.lifting.matching import same_size
from vera.core.lifting.noise import Noise, features
from vera.core.lifting.patch import with_margin
from vera.core.lifting.registration import Canvas, find_moves
from vera.core.lifting.smooth import blur, blurred, by_frame, grown, luma
from vera.kernels.plate_size import resize

# Share of the clip that must be unchanged to measure drift and noise; below, all of it is the edit.
MIN_UNCHANGED = 0.01
MAX_NOISE = 0.08  # mean residual of a neighbourhood, as a share of the code range, that noise can cause
# A mean residual is suspected to be an edit above both: a share of the code range, and of the residual's variation.
MIN_BIAS, MIN_BIAS_RATIO = 0.01, 0.7
EDGE_REACH = 3  # pixels from a solid part to the end of its edge; raising it steepens parts beside the edge
WIDE_GAIN = 0.5  # share of the clip under a gain from which all of it is the edit; lowering it finds more grades
MIN_HAZE_ALPHA = 0.02  # below it the plate is kept
LEAST_SPREAD = 0.1  # smallest alpha that an edge of the plate gives beyond the layer; raising it gives more zeros
ROUNDS = 2  # rounds of finding the change; each measures the drift outside the change of the round before
STEPS = 4 + 2 * ROUNDS  # pieces of work that `lift_clip` reports


@dataclass
class Lifted:
    """A lifted clip. Colours are encoded, in [0, 1].

    color (T, 3, H, W): straight
    alpha (T, 1, H, W): in [0, 1]
    clean (T, 3, H, W): the edited video without its drift
    detail, kinds (T, 3, H, W): as in `Layers`
    region (T, 1, H, W): 1 where a change was found
    moves (T, 2, 3): position drift in pixels
    drift: colour drift that was removed
    haze, haze_share: mean alpha of the haze where it lies, and the share of the clip where it lies
    """

    color: torch.Tensor
    alpha: torch.Tensor
    clean: torch.Tensor
    detail: torch.Tensor
    kinds: torch.Tensor
    region: torch.Tensor
    moves: torch.Tensor
    drift: Drift
    haze: float
    haze_share: float


@dataclass(frozen=True)
class Placed:
    """An edited video registered to its plate.

    video (T, 3, H, W): the edited video; the plate where it shows something else
    shown (T, 1, H, W): 1 where it shows the plate
    moves (T, 2, 3): position drift in pixels
    """

    video: torch.Tensor
    shown: torch.Tensor
    moves: torch.Tensor


def place(plate: torch.Tensor, canvas: Canvas) -> Placed:
    """Register the edited video to the plate (T, 3, H, W)."""
    moves, size = find_moves(plate, canvas), plate.shape[2:]
    shown, video = canvas.inside(moves, size), canvas.placed(moves, size)
    if not shown.all():
        video = by_frame(lambda shown, video, plate: torch.where(shown > 0, video, plate), shown, video, plate)
    return Placed(video, shown, moves)


def lift_clip(
    plate: torch.Tensor,
    edited: torch.Tensor | Canvas | Placed,
    mask: torch.Tensor | None = None,
    step_done: Callable[[], object] = lambda: None,
    controls: LiftControls = USUAL,
) -> Lifted:
    """The layer between a plate (T, 3, H, W), encoded in [0, 1], and its edited version.

    edited: a video like the plate, a Canvas, or what `place` made of it; alpha is 0 where it does not show the plate
    mask (T, 1, H, W): 1 where the edit may be
    step_done: called STEPS times, after each piece of work
    """
    assert plate.shape[1] == 3 and (mask is None or mask.shape == plate[:, :1].shape)
    found = _found(plate, edited, mask, step_done, controls)
    color, alpha = found.estimate.color, found.estimate.alpha
    if controls.learned and not found.whole:
        color, alpha = gated(found.estimate, limits=GATE_LIMITS.for_sensitivity(controls.sensitivity))
        alpha = alpha * found.allowed  # the gate may add to the layer
    color, alpha, detail, kinds = _patched(found, color, alpha)
    alpha = _steeper(alpha, kinds[:, :1], controls.edge)
    step_done()
    haze = found.haze
    hazy = (haze.alpha > MIN_HAZE_ALPHA) * (alpha > 0) if haze else torch.zeros_like(alpha)
    mean_haze = float((haze.alpha * hazy).sum() / hazy.sum().clamp_min(1)) if haze else 0.0
    return Lifted(
        color,
        alpha,
        found.estimate.clean,
        detail,
        kinds,
        found.estimate.region,
        found.moves,
        found.drift,
        mean_haze,
        float(hazy.float().mean()),
    )


def _patched(found, color, alpha):
    """Colour, alpha, detail and kinds with a margin around what was removed; the margin is opaque, of the edited
    video."""
    estimate, kinds = found.estimate, found.estimate.kinds
    solid = alpha * kinds[:, :1] * (1 - kinds[:, 2:])
    color, wider = with_margin(estimate.seen, estimate.clean, color, alpha, solid)
    opaque = kinds.new_tensor([1.0, 0.0, 0.0])[:, None, None]

    def of_frame(alpha, wider, allowed, detail, kinds):
        wider = torch.maximum(alpha, wider * allowed)
        new = (wider - alpha) / wider.clamp_min(1e-4)
        return wider, detail * (1 - new), torch.lerp(kinds, opaque.expand_as(kinds), new)

    return color, *by_frame(of_frame, alpha, wider, found.allowed, found.detail, kinds)


def _steeper(alpha, solid, times):
    """Alpha (T, 1, H, W) made `times` steeper about 0.5, on and near solid parts (solid (T, 1, H, W) in [0, 1])."""
    if times == 1:
        return alpha
    near = grown(solid * alpha, EDGE_REACH)
    return (0.5 + (1 + (times - 1) * near) * (alpha - 0.5)).clamp(0, 1)


def classical_estimate(plate: torch.Tensor, edited: torch.Tensor | Canvas | Placed) -> Estimate:
    """The gate's input for a clip, as in `lift_clip`."""
    return _found(plate, edited, None, lambda: None, USUAL).estimate


@dataclass
class _Found:
    """The classical estimate, with other results of the same steps; `Lifted` explains the fields.

    allowed (T, 1, H, W): 1 where the layer may be
    whole: whether all of the frame is in another light, so that no pixel of it is untouched
    """

    estimate: Estimate
    detail: torch.Tensor
    allowed: torch.Tensor
    moves: torch.Tensor
    drift: Drift
    haze: Haze | None
    whole: bool


def _found(
    plate: torch.Tensor,
    edited: torch.Tensor | Canvas | Placed,
    mask: torch.Tensor | None,
    step_done: Callable[[], object],
    controls: LiftControls,
) -> _Found:
    """The classical estimate; the arguments are those of `lift_clip`."""
    if not isinstance(edited, Placed):
        edited = place(plate, edited if isinstance(edited, Canvas) else Canvas.same(edited))
    placed, shown = edited.video, edited.shown
    step_done()
    haze, trust, intact = _seen_unchanged(plate, placed, shown, mask, step_done)
    pair = _Pair(plate, placed, shown, intact, mask, haze, controls)
    cleaned = _cleaned(pair, trust * intact, step_done)
    layers = _layers_of(pair, cleaned)
    whole = mask is None and float((layers.kinds[:, 2:] * layers.alpha).mean()) > WIDE_GAIN
    if whole and cleaned.trust.any():
        # A light on most of the frame fades into the rest: what it does there is no drift.
        cleaned = _cleaned(pair, torch.zeros_like(trust), lambda: None)
        layers = _layers_of(pair, cleaned)
    step_done()
    allowed = shown if mask is None else shown * (mask > 0)  # edges can reach one pixel out of the region
    alpha, hazy = layers.alpha * allowed, _haze_alpha(pair)
    estimate = Estimate(
        plate,
        cleaned.seen,
        cleaned.clean,
        cleaned.variance,
        layers.color,
        alpha,
        layers.kinds,
        cleaned.region,
        hazy,
    )
    return _Found(estimate, layers.detail, allowed, edited.moves, cleaned.drift, haze, whole)


def _seen_unchanged(plate, placed, shown, mask, step_done):
    """The haze, the first confidence that a pixel behind it is unchanged, and where the plate keeps its contrast."""
    likeness = _likeness(plate, placed)
    haze = find_haze(plate, placed, _structure(*likeness) * shown)
    behind = haze.over(plate) if haze else plate
    step_done()
    trust = _first_trust(*(_likeness(behind, placed) if haze else likeness))
    if mask is not None:
        trust = torch.where(mask > 0, trust, torch.ones_like(trust))
    return haze, trust, contrast_kept(behind, placed, trust) * shown


@dataclass(frozen=True)
class _Pair:
    """Plate and edited video, in place.

    plate, placed (T, 3, H, W): the plate and the edited video
    shown, intact, mask (T, 1, H, W): where the video shows the plate, where with its contrast, where the edit may be
    """

    plate: torch.Tensor
    placed: torch.Tensor
    shown: torch.Tensor
    intact: torch.Tensor
    mask: torch.Tensor | None
    haze: Haze | None
    controls: LiftControls


@dataclass(frozen=True)
class _Cleaned:
    """What remains to be explained by a layer.

    clean, seen (T, 3, H, W): the edited video without its drift, the plate with the video's loss of detail
    variance, region, trust (T, 1, H, W): of the noise, where both differ by more, where both surely do not
    drift: what was removed
    """

    clean: torch.Tensor
    seen: torch.Tensor
    variance: torch.Tensor
    region: torch.Tensor
    trust: torch.Tensor
    drift: Drift


def _cleaned(pair: _Pair, trust: torch.Tensor, step_done: Callable[[], object]) -> _Cleaned:
    """Drift, loss of detail, noise and change, measured where the pixels are trusted to be unchanged."""
    limits = CHANGE_LIMITS.for_sensitivity(pair.controls.sensitivity)
    behind = pair.haze.over(pair.plate) if pair.haze else pair.plate
    of_plate = features(pair.plate)
    for _ in range(ROUNDS):
        if trust.mean() < MIN_UNCHANGED:
            trust = torch.zeros_like(trust)
        drift = find_drift(behind, pair.placed, trust)
        clean = drift.removed(pair.placed)
        seen = as_seen(behind, clean, trust)
        residual = by_frame(
            lambda clean, seen, shown: torch.where(shown > 0, clean - seen, 0.0), clean, seen, pair.shown
        )
        del clean  # made again below: it is not held while the change is found
        step_done()
        like_noise = is_like_noise(residual)
        trust = trust * like_noise
        change = find_change(residual, of_plate, trust, limits) if trust.any() else torch.ones_like(trust)
        region = _allowed(change, pair)
        trust = (1 - grown(region, 1)) * _near(residual) * pair.intact * like_noise
        step_done()
    squares = by_frame(lambda residual: residual.square().mean(1, keepdim=True), residual)
    variance = Noise(of_plate, squares, trust)(of_plate)
    del of_plate, residual
    clean = by_frame(
        lambda clean, seen, shown: torch.where(shown > 0, clean, seen), drift.removed(pair.placed), seen, pair.shown
    )
    if pair.haze:  # it becomes part of the layer
        seen = pair.haze.removed(seen)
        region = _allowed(torch.maximum(region, (pair.haze.alpha > MIN_HAZE_ALPHA).float()), pair)
    return _Cleaned(clean, seen, variance, region, trust, drift)


def _allowed(region, pair):
    """The region (T, 1, H, W) where the video shows the plate and the edit may be."""
    region = region * pair.shown
    return region if pair.mask is None else region * (pair.mask > 0)


def _haze_alpha(pair):
    """(T, 1, H, W); 0 without haze."""
    return pair.haze.alpha if pair.haze else torch.zeros_like(pair.shown)


def _layers_of(pair, cleaned):
    """The layers that explain what remains."""
    limits = replace(LAYER_LIMITS, steadiness=pair.controls.steadiness)
    compared = Comparison(cleaned.seen, cleaned.clean, cleaned.region, cleaned.variance)
    return find_layers(pair.plate, compared, _haze_alpha(pair), limits)


def _first_trust(close, alike, textured):
    """Confidence that each pixel is unchanged, (T, 1, H, W): equal brightness within drift, and equal structure."""
    return _in_company(close * (1 - textured * (1 - alike)))


def _structure(close, alike, textured):
    """Confidence that each pixel shows the plate's structure, even through a veil, (T, 1, H, W).

    Where the plate has no structure, its colour decides.
    """
    return _in_company(torch.lerp(close, alike, textured))


def _likeness(plate, edited):
    """Similarity of brightness, similarity of structure, and amount of structure, each (T, 1, H, W) in [0, 1]."""
    reach = _in_tiny(plate)

    def details(plate, edited):
        """Differences, and products of details in windows."""
        far = blur(edited - plate, 2.0 * reach)
        a, b = (blur(luma(v), 1.0) for v in (plate, edited))
        a, b = a - blur(a, 4.0), b - blur(b, 4.0)
        return far, torch.cat([blur(x * y, 3.0 * reach) for x, y in ((a, a), (b, b), (a, b))], 1)

    def compared(far, products):
        close = torch.exp(-((far.abs().amax(1, keepdim=True) / 0.06) ** 2))
        aa, bb, ab = products.split(1, 1)
        alike = ((ab / (aa * bb + 1e-10).sqrt() - 0.3) / 0.5).clamp(0, 1)
        return close, alike, (torch.maximum(aa, bb) / 0.015**2).clamp(max=1)

    return by_frame(compared, *(blur(v, 0.0, 0.7) for v in by_frame(details, plate, edited)))


def _in_company(trust):
    """The confidence, lowered where the neighbours have little: a new background resembles the plate by chance."""
    return trust * (2 * blur(trust, 3.0 * _in_tiny(trust), 0.7) - 0.6).clamp(0, 1)


def is_like_noise(residual: torch.Tensor) -> torch.Tensor:
    """Weight of each pixel of a residual (T, 3, H, W) in the fit of the noise, (T, 1, H, W) in [0, 1].

    Noise changes sign within a few pixels. A residual of one sign, large against its variation, is probably a faint
    edit. If the noise model learned from it, the model would hide the edit.
    """
    coarse = blur(residual, 3.5, 0.7)
    varies = blurred(lambda r, c: (r - c).square().mean(1, keepdim=True), (residual, coarse), 6.0, 0.7)

    def of_frame(coarse, varies):
        one_way, least = coarse.abs().amax(1, keepdim=True), torch.full_like(varies, MIN_BIAS)
        return (2 - one_way / torch.maximum(least, MIN_BIAS_RATIO * varies.sqrt())).clamp(0, 1)

    return by_frame(of_frame, coarse, varies)


def _in_tiny(video):
    """Factor on spatial sigmas: 1 from 100 lines on, smaller in smaller frames."""
    return min(1.0, video.shape[2] / 100)


def _near(residual):
    """1 where the residual (T, 3, H, W) is small enough to be noise, falling to 0, (T, 1, H, W)."""
    return by_frame(lambda v: torch.exp(-((v.abs().amax(1, keepdim=True) / MAX_NOISE) ** 2)), blur(residual, 1.0, 0.7))


def plate_sized(
    color: torch.Tensor, alpha: torch.Tensor, plate: torch.Tensor, detail: torch.Tensor | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """One frame's straight colour (3, h, w) and alpha (1, h, w) at the size of the plate (H, W, 3), encoded.

    detail (3, h, w): factor with which the plate's detail finer than (h, w) is added to the colour
    """
    size = plate.shape[:2]
    small = same_size(plate.movedim(-1, 0)[None], alpha.shape[1:])[0]
    large = refine_alpha(alpha[0], small, plate)[0][None]
    outside = resize((alpha > 0).float().movedim(0, -1), size).movedim(-1, 0) < 0.5
    large = torch.where(outside & (large < LEAST_SPREAD), 0.0, large)
    if tuple(color.shape[1:]) == tuple(size):
        return color, large
    # The colour of edge pixels is replaced by that of the inside, so that it contains nothing of the background.
    color = spread(color[None], (alpha[None] > 0.5 * grown(alpha[None], 2).clamp_min(0.02)).float())[0]
    color = resize(color.movedim(0, -1), size)
    if detail is not None and detail.any():
        finer = plate - resize(small.movedim(0, -1), size)
        color = color + resize(detail.movedim(0, -1), size) * finer
    return color.movedim(-1, 0).clamp(0, 1), large
