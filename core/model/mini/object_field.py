"""mini's objects as shapes: the surface of an object at any point and any resolution, from the text states.

The text states give the kind of the object, its colour and its material. Each kind has a small network of its own (an
expert). For every point of the object's frame and every time, it gives the distance to the outline, the direction that
the surface faces, and its reflectance. Light is not part of it: core/layer shades the surface with the plate's light.
The diffusion model decides where the object is, how large it is, and whether it is visible.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from vera.core.model.interfaces import SurfacePoints
from vera.core.model.mini import words
from vera.kernels.gelu import gelu_tanh

# Kinds that a prompt can name; "nothing": a background, or no words.
KINDS = (*words.OBJECTS, *words.EFFECTS, "nothing")
# Further properties that a prompt states, each with a probability: named materials, a reflection below, standing on
# something, facing left, little or much of an effect.
TRAITS = ("glossy", "metallic", "glowing", "matte", "reflected", "stands", "faces left", "little", "much")
OUTPUTS = 10  # signed distance, then the nine channels of a surface
RATES = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0)  # radians per half height of the object; higher ones draw finer detail
PHASES = (0.25, 0.4, 0.5, 0.55)  # radians per frame: rates at which objects sway, beat and wave
# The phase by which a kind moves in itself. Of a kind, the other phases are held at 0, and all of them for kinds that
# are not listed: what the field did not unlearn of the others would be seen as flicker.
RATE_OF = {"balloon": 0.25, "kite": 0.4, "fish": 0.5, "bird": 0.5, "butterfly": 0.55}
POINT_FEATURES = 2 + 4 * len(RATES) + 2 * len(PHASES)
MAX_EXTENT = 1.35  # half heights: largest extent of an object from its centre, to any side
POINTS_AT_ONCE = 32_768  # points evaluated together; raising it needs more memory and is hardly faster


@dataclass(frozen=True)
class ObjectDescription:
    """A prompt's description of an object: its kind, the named colour (display-encoded), and probabilities of TRAITS.
    All values are on the CPU."""

    kind: str
    color: tuple[float, float, float]
    traits: dict[str, float]

    def has(self, trait: str) -> bool:
        return self.traits[trait] > 0.5


class ObjectField(nn.Module):
    """Reads an object's description from text states (B, N, D), and gives distance and surface at its points."""

    def __init__(self, text_dim: int, dim: int = 96, layers: int = 3, words_dim: int = 256):
        super().__init__()
        self.read = nn.Linear(text_dim, words_dim)
        self.kind = nn.Linear(words_dim, len(KINDS))
        self.color = nn.Linear(words_dim, len(words.COLORS))
        self.traits = nn.Linear(words_dim, len(TRAITS))
        count = len(words.OBJECTS)
        self.inner = expert(count, POINT_FEATURES + 1, dim)  # the last row of each is the bias
        self.layers = nn.ParameterList(expert(count, dim + 1, dim) for _ in range(layers))
        self.outer = expert(count, dim + 1, OUTPUTS)

    def heads(self, text: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Text states -> logits of KINDS, of the named colours and of TRAITS, (B, ...)."""
        there = (text != 0).any(-1, keepdim=True)
        words_read = gelu_tanh(self.read(text)) * there
        # The maximum keeps a single word such as "metallic" visible among twelve; the mean alone would dilute it.
        prompt_read = words_read.amax(1) + words_read.sum(1) / there.sum(1).clamp_min(1)
        return self.kind(prompt_read), self.color(prompt_read), self.traits(prompt_read)

    @torch.inference_mode()
    def describe(self, text: Tensor) -> ObjectDescription:
        """The description of one prompt's states (1, N, D)."""
        kind, color, traits = (x[0].float().cpu() for x in self.heads(text.to(self.read.weight.dtype)))
        name = KINDS[int(kind.argmax())] if (text != 0).any() else "nothing"
        red, green, blue = (color.softmax(0) @ torch.tensor(list(words.COLORS.values()))).tolist()
        return ObjectDescription(name, (red, green, blue), dict(zip(TRAITS, traits.sigmoid().tolist(), strict=True)))

    def forward(self, features: Tensor, kinds: Tensor) -> Tensor:
        """Outputs (K, N, OUTPUTS) of K kinds with numbers `kinds` (K,) at features (K, N, POINT_FEATURES)."""
        x = gelu_tanh(linear(features, self.inner[kinds]))
        for layer in self.layers:
            x = x + gelu_tanh(linear(x, layer[kinds]))
        return linear(x, self.outer[kinds])

    @torch.inference_mode()
    def at(self, description: ObjectDescription, u: Tensor, v: Tensor, time: float) -> SurfacePoints:
        """The surface at offsets u, v (...) right and down from the object's centre, in half heights. time: in
        frames."""
        number = torch.tensor([list(words.OBJECTS).index(description.kind)])
        places = torch.stack([u.flatten(), v.flatten()]).split(POINTS_AT_ONCE, dim=1)
        values = torch.cat(
            [self(_features_of(description.kind, part[0], part[1], time)[None], number)[0] for part in places]
        ).unflatten(0, u.shape)
        share, own = values[..., 1].clamp(0, 1.1), values[..., 2:5]
        color = (share[..., None] * own.new_tensor(description.color) + own).clamp(0, 1)
        gloss, open_, shine = values[..., 7:10].clamp(0, 1).unbind(-1)
        return SurfacePoints(values[..., 0], color, values[..., 5:7], gloss, open_, shine, share.clamp(max=1))


def expert(count: int, inputs: int, outputs: int) -> nn.Parameter:
    """`count` matrices (inputs, outputs), whose last row is the bias."""
    weights = torch.randn(count, inputs, outputs) / (inputs - 1) ** 0.5
    weights[:, -1] = 0
    return nn.Parameter(weights)


def linear(x: Tensor, weights: Tensor) -> Tensor:
    """x (K, N, I) times weights (K, I + 1, O), whose last row is the bias."""
    return torch.baddbmm(weights[:, -1:], x, weights[:, :-1])


def point_features(u: Tensor, v: Tensor, time: Tensor) -> Tensor:
    """Features (..., POINT_FEATURES) of offsets (...) in half heights and times in frames."""
    waves = [f(rate * d) for rate in RATES for d in (u, v) for f in (torch.sin, torch.cos)]
    phases = [f(rate * time) for rate in PHASES for f in (torch.sin, torch.cos)]
    return torch.stack([u, v, *waves, *phases], dim=-1)


def _features_of(kind: str, u: Tensor, v: Tensor, time: float) -> Tensor:
    """`point_features` of places of one kind, all phases but the kind's own held at 0."""
    features = point_features(u, v, torch.zeros_like(u))
    if (rate := RATE_OF.get(kind)) is not None:
        at = POINT_FEATURES - 2 * len(PHASES) + 2 * PHASES.index(rate)
        features[..., at] = math.sin(rate * time)
        features[..., at + 1] = math.cos(rate * time)
    return features
