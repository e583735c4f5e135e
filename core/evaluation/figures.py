"""What is counted of one result against its labelled clip.

Layers are at model size, in [0, 1], frames last but two: color and composite (3, T, H, W), alpha (T, H, W) as it would
be
delivered, cleaned and exact at its ends. Of alpha's centre only what is above a third counts, which leaves out shadows.
"""

import random
from typing import Any

import torch
import torch.nn.functional as F

from vera.core.data.engine import clips
from vera.core.data.engine.clips import LayeredClip
from vera.core.evaluation.classifier import Classifier, kind_of
from vera.core.model.mini import words

SURROUNDINGS = 0.2  # frame heights about what is solid; halos, shadows and reflections end within it
LEAST_SOLID = 8  # pixels without which a layer has no colour


def judge(
    clip: LayeredClip,
    times: torch.Tensor,
    color: torch.Tensor,
    alpha: torch.Tensor,
    composite: torch.Tensor,
    classifier: Classifier,
) -> dict[str, Any]:
    """All figures that the clip's kind of edit has, as floats; a named property that came out is 1.0, else 0.0.
    kind and hue: what object and colour were seen, words.
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
    """dB, peak 1, at most 100."""
    return -10 * float((a - b).pow(2).mean().clamp_min(1e-10).log10())


def dtssd(alpha: torch.Tensor, truth: torch.Tensor) -> float:
    """Root mean square difference of the two mattes' changes from frame to frame, times 100, a mean of the frames."""
    return 100 * float((alpha.diff(dim=0) - truth.diff(dim=0)).pow(2).mean((1, 2)).sqrt().mean())


def nearest_color(color: torch.Tensor, alpha: torch.Tensor) -> str | None:
    """The named colour, in light or in shade, nearest to the layer's median where it is solid; None where nothing
    is."""
    inside = color[:, alpha > 0.8]
    if inside.shape[1] < LEAST_SOLID:
        return None
    median = inside.median(dim=1).values
    shades = torch.linspace(0.6, 1.1, 11)[:, None]
    return min(
        words.COLORS, key=lambda name: float((shades * torch.tensor(words.COLORS[name]) - median).abs().sum(1).min())
    )


def centres(alpha: torch.Tensor) -> torch.Tensor:
    """Centre of mass of each frame, (T, 2): x and y in frame heights; NaN where there is no mass."""
    _, height, width = alpha.shape
    weight = torch.where(alpha > 1 / 3, alpha, 0.0)
    x, y = torch.arange(width) / height, torch.arange(height) / height
    return torch.stack([weight.sum(1) @ x, weight.sum(2) @ y], 1) / weight.sum((1, 2))[:, None]


def nearest_place(clip: LayeredClip, alpha: torch.Tensor) -> str | None:
    """Of the named places the nearest to the layer's, which is off from the named one as its centre is from the
    truth's."""
    off = (centres(alpha) - centres(clip.alpha[:, 0])).nanmean(0)
    if off.isnan().any():
        return None
    width = alpha.shape[2] / alpha.shape[1]
    at = torch.tensor(words.PLACES[clip.labels["place"]]) + off * torch.tensor([2 / width, 2.0])
    return min(words.PLACES, key=lambda name: float((torch.tensor(words.PLACES[name]) - at).norm()))


def moves_as_named(clip: LayeredClip, times: torch.Tensor, alpha: torch.Tensor) -> bool:
    """Is the layer's way, about its own middle, nearer to the named motion's than to any other's?

    What the camera adds is known from the truth and taken off.
    """
    way, true = (centred(centres(a)) for a in (alpha, clip.alpha[:, 0]))
    if way.isnan().any():
        return False
    aspect = alpha.shape[2] / alpha.shape[1]

    def told(motion: str) -> torch.Tensor:
        labels = clip.labels | {"motion": motion}
        x, y, _ = clips.path_of(
            labels, random.Random(0), torch.as_tensor(times, dtype=torch.float32), 0.22, aspect, None
        )
        return centred(torch.stack([x, y], 1))

    way = way - (true - told(clip.labels["motion"]))
    errors = {motion: float((way - told(motion)).pow(2).mean()) for motion in words.MOTIONS}
    return errors[clip.labels["motion"]] <= min(errors.values()) + 1e-6


def centred(path: torch.Tensor) -> torch.Tensor:
    return path - path.mean(0)


def share_of_zeros(alpha: torch.Tensor) -> float:
    """Share of exact 0 farther than SURROUNDINGS from what is solid."""
    reach = round(SURROUNDINGS * alpha.shape[1])
    near = F.max_pool2d((alpha > 0.5).float()[:, None], 2 * reach + 1, 1, reach)[:, 0] > 0
    return float((alpha[~near] == 0).float().mean()) if not near.all() else 1.0


def share_of_solid(alpha: torch.Tensor) -> float | None:
    """Share of alpha above 0.9 inside the outline, two pixels from its edge; None without an inside.

    The outline is where alpha passes 0.65, above any shadow's or reflection's; gaps that it encloses are inside.
    """
    free = alpha <= 0.65
    outside = F.pad(torch.zeros_like(free[:, 2:, 2:]), (1, 1, 1, 1), value=True) & free
    while True:  # from the frame's edge inward, through what is free
        reached = (_grown(outside.float(), 1) > 0) & free
        if torch.equal(reached, outside):
            break
        outside = reached
    inside = _grown(outside.float(), 2) == 0
    return float((alpha[inside] > 0.9).float().mean()) if inside.sum() >= LEAST_SOLID else None


def _grown(planes: torch.Tensor, radius: int) -> torch.Tensor:
    return F.max_pool2d(planes[:, None], 2 * radius + 1, 1, radius)[:, 0]


def flicker(color: torch.Tensor, alpha: torch.Tensor) -> float:
    """Mean absolute change of the premultiplied layer from frame to frame, where it is in either."""
    layer = torch.cat([color * alpha, alpha[None]])
    there = torch.maximum(alpha[1:], alpha[:-1]) > 0.1
    return float(layer.diff(dim=1).abs()[:, there].mean()) if there.any() else 0.0
