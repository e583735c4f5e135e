"""Find the background that a prompt asks for, by a small trained head on the text states."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from vera.core.model.interfaces import ShotBackground
from vera.core.model.mini import words
from vera.kernels.gelu import gelu_tanh

# Backgrounds that a prompt can ask for; "nothing": an object, an effect, or an empty prompt.
SCENES = (
    *words.BACKGROUNDS,
    "nothing",
)
SCENE_TRAITS = ("calm", "misty", "snowy")  # adjectives of a background, each with its own probability


class SceneReader(nn.Module):
    """Text states (B, N, D) -> logits of SCENES and of SCENE_TRAITS."""

    def __init__(self, text_dim: int, dim: int = 96) -> None:
        super().__init__()
        self.read = nn.Linear(text_dim, dim)
        self.scene = nn.Linear(dim, len(SCENES))
        self.traits = nn.Linear(dim, len(SCENE_TRAITS))

    def forward(self, text: Tensor) -> tuple[Tensor, Tensor]:
        there = (text != 0).any(-1, keepdim=True)
        read = gelu_tanh(self.read(text)) * there
        both = read.amax(1) + read.sum(1) / there.sum(1).clamp_min(1)
        return self.scene(both), self.traits(both)

    @torch.inference_mode()
    def background(self, text: Tensor) -> ShotBackground | None:
        """The background that a prompt's states (1, N, D) ask for; None if they ask for none."""
        scene, traits = (x[0].float().cpu() for x in self(text.cpu().to(self.read.weight.dtype)))
        name = SCENES[int(scene.argmax())]
        if name == "nothing" or not (text != 0).any():
            return None
        return ShotBackground(name, frozenset(t for t, x in zip(SCENE_TRAITS, traits.tolist(), strict=True) if x > 0))
