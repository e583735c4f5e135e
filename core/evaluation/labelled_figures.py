"""Figures of one result against its labelled clip.

Layers are at model size, in [0, 1]: color and composite (3, T, H, W), alpha (T, H, W) as delivered, that is cleaned
and with exact 0 and 1.
"""

import random
from typing import Any

import torch
import torch.nn.functional as F

from vera.core.data.engine import clips
from vera.core.data.engine.clips import LayeredClip
from vera.core.evaluation.classifier import Classifier, kind_of
from vera.core.model.mini import words

# Frame heights around the solid part of an object in which halos, shadows and reflections are allowed. Raising it
# tolerates alpha farther away from the object.
ALLOWED_REACH = 0.2
MIN_PIXELS = 8  # pixels that a region needs for a figure; raising it leaves out more small layers
CENTRE_ALPHA = 1 / 3  # alpha above which a pixel counts for the centre; excludes shadows
SOLID_ALPHA = 0.5  # alpha above which a pixel is part of the object, for ALLOWED_REACH
COLOR_ALPHA = 0.8  # alpha above which a pixel counts for the layer's colour; excludes edges and halos
OUTLINE_ALPHA = 0.65  # alpha above which a pixel is on the object's outline; above any shadow's or reflection's
FULL_ALPHA = 0.9  # alpha above which a pixel inside the outline is not a hole; raising it finds fainter holes


def judge(
    clip: LayeredClip,
    times: torch.Tensor,
    color: torch.Tensor,
    alpha: torch.Tensor,
    composite: torch.Tensor,
    classifier: Classifier,
) -> dict[str, Any]:
    """All figures for the clip's kind of edit.

    Figures are floats; a named property is 1.0 if the result has it, else 0.0. "kind" and "hue" are the recognised
    object and colour, as words.
    """
    source = clip.source.transpose(0, 1)
    composed = alpha * color + (1 - alpha) * source
    truth, edit = clip.alpha[:, 0], clip.labels["edit"]
    figures: dict[str, Any] = {
        "agreement": psnr(composed, composite),
        "mad": float((alpha - truth).abs().mean()),
        "kept": psnr(composed, source),
    }
    where = (alpha == 0).expand_as(source)
    if where.any():
        figures |= {
            "kept_outside": psnr(composed[where], source[where]),
            "anew_outside": psnr(composite[where], source[where]),
        }
    if edit == "object":
        kind, hue = kind_of(classifier, color, alpha), nearest_color(color, alpha)
        figures |= {
            "kind": kind,
            "hue": hue,
            "object": float(kind == clip.labels["object"]),
            "color": float(hue == clip.labels["color"]),
            "motion": float(moves_as_named(clip, times, alpha)),
            "zeros": share_of_zeros(alpha),
        }
        if clip.labels["place"]:
            figures["place"] = float(nearest_place(clip, alpha) == clip.labels["place"])
        solid = share_of_solid(alpha)
        if solid is not None and clip.labels["object"] != "ring" and clip.labels.get("depth") != "behind":
            figures["solid"] = solid
    if edit == "effect":
        mean = float(alpha.mean())
        figures |= {"coverage": mean, "translucent": float(0.05 <= mean <= 0.8), "dtssd": dtssd(alpha, truth)}
    return figures


def psnr(a: torch.Tensor, b: torch.Tensor) -> float:
    """Peak signal-to-noise ratio in dB for peak 1, at most 100."""
    return -10 * float((a - b).pow(2).mean().clamp_min(1e-10).log10())


def dtssd(alpha: torch.Tensor, truth: torch.Tensor) -> float:
    """Root mean square difference between the changes of two mattes from frame to frame, mean over frames, x100."""
    return 100 * float((alpha.diff(dim=0) - truth.diff(dim=0)).pow(2).mean((1, 2)).sqrt().mean())


def nearest_color(color: torch.Tensor, alpha: torch.Tensor) -> str | None:
    """The named colour, at any brightness from 0.6 to 1.1, nearest to the solid pixels' median; None without any."""
    inside = color[:, alpha > COLOR_ALPHA]
    if inside.shape[1] < MIN_PIXELS:
        return None
    median = inside.median(dim=1).values
    shades = torch.linspace(0.6, 1.1, 11)[:, None]
    return min(
        words.COLORS, key=lambda name: float((shades * torch.tensor(words.COLORS[name]) - median).abs().sum(1).min())
    )


def centres(alpha: torch.Tensor) -> torch.Tensor:
    """Centre of mass of each frame, (T, 2): x and y in frame heights; NaN for a frame without a solid pixel."""
    _, height, width = alpha.shape
    weight = torch.where(alpha > CENTRE_ALPHA, alpha, 0.0)
    x, y = torch.arange(width) / height, torch.arange(height) / height
    return torch.stack([weight.sum(1) @ x, weight.sum(2) @ y], 1) / weight.sum((1, 2))[:, None]


def nearest_place(clip: LayeredClip, alpha: torch.Tensor) -> str | None:
    """The named place nearest to the layer, or None without a layer.

    The layer's place is the labelled place plus the offset between the layer's centre and the true centre.
    """
    off = (centres(alpha) - centres(clip.alpha[:, 0])).nanmean(0)
    if off.isnan().any():
        return None
    width = alpha.shape[2] / alpha.shape[1]
    at = torch.tensor(words.PLACES[clip.labels["place"]]) + off * torch.tensor([2 / width, 2.0])
    return min(words.PLACES, key=lambda name: float((torch.tensor(words.PLACES[name]) - at).norm()))


def moves_as_named(clip: LayeredClip, times: torch.Tensor, alpha: torch.Tensor) -> bool:
    """Whether the layer's centred path is nearest to the path of the labelled motion, among all motions.

    The camera's motion is the true path minus the labelled motion, and is subtracted from the layer's path.
    """
    path, true = (centred(centres(a)) for a in (alpha, clip.alpha[:, 0]))
    if path.isnan().any():
        return False
    aspect = alpha.shape[2] / alpha.shape[1]

    def path_of_motion(motion: str) -> torch.Tensor:
        labels = clip.labels | {"motion": motion}
        x, y, _ = clips.path_of(
            labels, random.Random(0), torch.as_tensor(times, dtype=torch.float32), 0.22, aspect, None
        )
        return centred(torch.stack([x, y], 1))

    path = path - (true - path_of_motion(clip.labels["motion"]))
    errors = {motion: float((path - path_of_motion(motion)).pow(2).mean()) for motion in words.MOTIONS}
    return errors[clip.labels["motion"]] <= min(errors.values()) + 1e-6


def centred(path: torch.Tensor) -> torch.Tensor:
    """A path (T, 2) relative to its mean."""
    return path - path.mean(0)


def share_of_zeros(alpha: torch.Tensor) -> float:
    """Share of pixels with alpha exactly 0 among those farther than ALLOWED_REACH from the object."""
    reach = round(ALLOWED_REACH * alpha.shape[1])
    near = F.max_pool2d((alpha > SOLID_ALPHA).float()[:, None], 2 * reach + 1, 1, reach)[:, 0] > 0
    return float((alpha[~near] == 0).float().mean()) if not near.all() else 1.0


def share_of_solid(alpha: torch.Tensor) -> float | None:
    """Share of pixels above FULL_ALPHA among those inside the outline, two pixels from its edge; None without any.

    The outline is at OUTLINE_ALPHA. Gaps that the outline encloses are inside.
    """
    free = alpha <= OUTLINE_ALPHA
    outside = F.pad(torch.zeros_like(free[:, 2:, 2:]), (1, 1, 1, 1), value=True) & free
    while True:  # flood fill from the frame's edge through free pixels
        reached = (_dilated(outside.float(), 1) > 0) & free
        if torch.equal(reached, outside):
            break
        outside = reached
    inside = _dilated(outside.float(), 2) == 0
    return float((alpha[inside] > FULL_ALPHA).float().mean()) if inside.sum() >= MIN_PIXELS else None


def _dilated(planes: torch.Tensor, radius: int) -> torch.Tensor:
    return F.max_pool2d(planes[:, None], 2 * radius + 1, 1, radius)[:, 0]


def flicker(color: torch.Tensor, alpha: torch.Tensor) -> float:
    """Mean absolute change of the premultiplied layer between frames, over pixels with alpha above 0.1 in either."""
    layer = torch.cat([color * alpha, alpha[None]])
    visible = torch.maximum(alpha[1:], alpha[:-1]) > 0.1
    return float(layer.diff(dim=1).abs()[:, visible].mean()) if visible.any() else 0.0
