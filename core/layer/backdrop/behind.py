"""A backdrop behind a shot's subject: at the plate's size, and about as bright as the plate."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from vera.core.layer.backdrop.backdrop import Backdrop
from vera.core.layer.plate_light import LUMINANCE, PlateLight, display_codes

# How far the backdrop's white takes the hue of the plate's. 1: wholly, as if one light lit both.
HUE = 0.35
# Display white: the least and most that a plate's white counts as where white is all that numbers hold. A plate that
# shows nothing white is not that dark.
DISPLAY_WHITE = (0.35, 1.0)


@dataclass(frozen=True)
class BackdropFrame:
    """A backdrop in one frame of its shot. time: frames since the shot's first; white (3,): of the plate; move: of the
    plate's background since the first frame, right and down in heights of the picture."""

    backdrop: Backdrop
    time: int
    white: Tensor
    move: tuple[float, float] = (0.0, 0.0)

    def codes(self, size: tuple[int, int], clips: bool) -> Tensor:
        """Its colour (H, W, 3) in the model's codes at a plate's size (height, width)."""
        made = self.backdrop.picture(float(self.time))
        light = made.light * level(self.white, made.follows_plate, clips).view(3, 1, 1)
        codes = display_codes(light.movedim(0, -1), clips).movedim(-1, 0)
        grown = self.backdrop.framed(codes, self.move, size).movedim(0, -1)
        return grown.clamp(0, 1) if clips else grown.clamp_min(0)


def shown_as_masked(alpha: Tensor, mask: Tensor) -> Tensor:
    """A background's alpha (h, w), raised where its mask (h, w) says that it is there: surely at 1, not at all at 0.5.

    Four frames of the plate share a latent frame, so behind somebody who moves fast the model's alpha comes late. Where
    the mask is soft, alpha stays the model's.
    """
    return torch.maximum(alpha, 2 * mask - 1)


def kept_as_masked(alpha: Tensor, mask: Tensor) -> Tensor:
    """A background's alpha (h, w), lowered where its mask (h, w) says that the subject is there: surely at 0."""
    return torch.minimum(alpha, (2 * mask).clamp(max=1))


def level(white: Tensor, follows: float, clips: bool) -> Tensor:
    """What a backdrop's light is multiplied with, (3,), so that its white is like the plate's (3,)."""
    bright = (white @ white.new_tensor(LUMINANCE)).clamp_min(1e-6)
    hue = (white / bright).clamp(0.2, 5.0) ** HUE
    if clips:
        bright = bright.clamp(*DISPLAY_WHITE)
    return hue / (hue @ hue.new_tensor(LUMINANCE)) * bright**follows


def white_of_plate(lights: Iterable[PlateLight]) -> Tensor:
    """The white (3,) of some frames of a shot."""
    return torch.stack([light.white for light in lights]).median(0).values
