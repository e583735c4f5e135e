"""mini's objects as shapes: what a point of an object is like, told by the words, at any size.

The text states tell which of the world's kinds is meant, in which colour and of which material. Each kind has a small
network of its own (an expert) that knows, for every place in the object's frame and every time, how far the outline
is, which way the surface faces, and how it shines. Nothing of it knows of light: `vera.core.layer` does that, from the
plate. Where the object is, how large and whether it is seen at all, the diffusion model says.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from vera.core.model.functional import gelu_tanh
from vera.core.model.interfaces import SurfacePoints
from vera.core.model.mini import words

KINDS = (*words.OBJECTS, *words.EFFECTS, "nothing")  # what a prompt may name; "nothing" is a background, or no words
# What else a prompt tells, each by its probability: a named material, a reflection below, whether the object stands on
# something and faces left, whether there is little or much of an effect.
TRAITS = ("glossy", "metallic", "glowing", "matte", "reflected", "stands", "faces left", "little", "much")
OUTPUTS = 10  # signed distance, then the nine channels of a surface
RATES = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0)  # radians to a half height; higher ones draw finer detail
PHASES = (0.25, 0.4, 0.5, 0.55)  # radians to a frame: how the world's objects sway, beat and wave
POINT_FEATURES = 2 + 4 * len(RATES) + 2 * len(PHASES)
HALF = 1.35  # half heights: no object reaches farther from its middle, to any side
POINTS_AT_ONCE = 32_768  # higher: more memory, hardly faster


@dataclass(frozen=True)
class Told:
    """What a prompt says of an object, numbers on the CPU: its kind, the named colour (display-encoded), and TRAITS as
    probabilities."""

    kind: str
    color: tuple[float, float, float]
    traits: dict[str, float]

    def has(self, trait: str) -> bool:
        return self.traits[trait] > 0.5


class ObjectField(nn.Module):
    """Words (B, N, D) -> what is meant; points of it -> distance and surface."""

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
        words_read = (
            gelu_tanh(self.read(text)) * there
        )  # the strongest of the words counts: "metallic" is one of twelve
        told = words_read.amax(1) + words_read.sum(1) / there.sum(1).clamp_min(1)
        return self.kind(told), self.color(told), self.traits(told)

    @torch.inference_mode()
    def told(self, text: Tensor) -> Told:
        """Of one prompt's states (1, N, D)."""
        kind, color, traits = (x[0].float().cpu() for x in self.heads(text.to(self.read.weight.dtype)))
        name = KINDS[int(kind.argmax())] if (text != 0).any() else "nothing"
        red, green, blue = (color.softmax(0) @ torch.tensor(list(words.COLORS.values()))).tolist()
        return Told(name, (red, green, blue), dict(zip(TRAITS, traits.sigmoid().tolist(), strict=True)))

    def forward(self, features: Tensor, kinds: Tensor) -> Tensor:
        """Points' features (K, N, POINT_FEATURES) of K kinds, by their numbers (K,) -> (K, N, OUTPUTS)."""
        x = gelu_tanh(linear(features, self.inner[kinds]))
        for layer in self.layers:
            x = x + gelu_tanh(linear(x, layer[kinds]))
        return linear(x, self.outer[kinds])

    @torch.inference_mode()
    def at(self, told: Told, u: Tensor, v: Tensor, time: float) -> SurfacePoints:
        """Points u, v (...) in half heights right and down of the object's middle, at a time in frames."""
        number = torch.tensor([list(words.OBJECTS).index(told.kind)])
        places = torch.stack([u.flatten(), v.flatten()]).split(POINTS_AT_ONCE, dim=1)
        values = torch.cat(
            [self(point_features(part[0], part[1], torch.full_like(part[0], time))[None], number)[0] for part in places]
        ).unflatten(0, u.shape)
        share, own = values[..., 1].clamp(0, 1.1), values[..., 2:5]
        color = (share[..., None] * own.new_tensor(told.color) + own).clamp(0, 1)
        gloss, open_, shine = values[..., 7:10].clamp(0, 1).unbind(-1)
        return SurfacePoints(values[..., 0], color, values[..., 5:7], gloss, open_, shine, share.clamp(max=1))


def expert(count: int, inputs: int, outputs: int) -> nn.Parameter:
    """`count` matrices, each with its bias as the last row."""
    weights = torch.randn(count, inputs, outputs) / (inputs - 1) ** 0.5
    weights[:, -1] = 0
    return nn.Parameter(weights)


def linear(x: Tensor, weights: Tensor) -> Tensor:
    """(K, N, I) by (K, I + 1, O), the last row being the bias."""
    return torch.baddbmm(weights[:, -1:], x, weights[:, :-1])


def point_features(u: Tensor, v: Tensor, time: Tensor) -> Tensor:
    """Places (...) in half heights and times in frames -> (..., POINT_FEATURES)."""
    waves = [f(rate * d) for rate in RATES for d in (u, v) for f in (torch.sin, torch.cos)]
    phases = [f(rate * time) for rate in PHASES for f in (torch.sin, torch.cos)]
    return torch.stack([u, v, *waves, *phases], dim=-1)
