"""A painted background behind the subject of a shot: at the plate's size, with about the plate's brightness."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from vera.core.layer.backdrop.backdrop import Backdrop
from vera.core.layer.backdrop.plate_motion import Move
from vera.core.layer.plate_light import LUMINANCE, PlateLight, display_codes
from vera.core.layer.subject_colors import SubjectColors

# Share of the plate's white balance that the background takes. 1: the whole, as if one light lit both. 0: none.
BALANCE_SHARE = 0.35
# Bounds on the estimated white of a display-referred plate, in linear light with 1 for display white. A plate without a
# white object would otherwise count as dark. Raising the first brightens backgrounds of dark plates.
DISPLAY_WHITE = (0.35, 1.0)


@dataclass(frozen=True)
class BackdropFrame:
    """A painted background in one frame of its shot.

    time: frames since the shot's first
    white: (3,), white of the plate in linear light
    move: movement of the plate's background since the first frame
    colors: of the subject, if no mask shows it; else None
    """

    backdrop: Backdrop
    time: int
    white: Tensor
    move: Move = Move()
    colors: SubjectColors | None = None

    def codes(self, size: tuple[int, int], clips: bool) -> Tensor:
        """Colour (H, W, 3) in the model's codes at size (height, width). clips: the codes end at 1."""
        made = self.backdrop.picture(float(self.time))
        light = made.light * level(self.white, made.follows_plate, clips).view(3, 1, 1)
        codes = display_codes(light.movedim(0, -1), clips).movedim(-1, 0)
        grown = self.backdrop.framed(codes, self.move, size).movedim(0, -1)
        return grown.clamp(0, 1) if clips else grown.clamp_min(0)


def shown_as_masked(alpha: Tensor, mask: Tensor) -> Tensor:
    """Raise a background's alpha (h, w) by its mask (h, w): to 1 where the mask is 1, not at all where it is below 0.5.

    Four frames of the plate share a latent frame, so the model's alpha lags behind fast subjects. Along the mask's soft
    edges alpha remains the model's.
    """
    return torch.maximum(alpha, 2 * mask - 1)


def kept_as_masked(alpha: Tensor, mask: Tensor) -> Tensor:
    """Lower a background's alpha (h, w) by its mask (h, w): to 0 where the mask is 0, not where it is above 0.5."""
    return torch.minimum(alpha, (2 * mask).clamp(max=1))


def level(white: Tensor, follows: float, clips: bool) -> Tensor:
    """Factor (3,) on a background's light that matches its white to the plate's (3,).

    follows: share of the plate's brightness that it takes, see `Picture.follows_plate`
    """
    bright = (white @ white.new_tensor(LUMINANCE)).clamp_min(1e-6)
    hue = (white / bright).clamp(0.2, 5.0) ** BALANCE_SHARE
    if clips:
        bright = bright.clamp(*DISPLAY_WHITE)
    return hue / (hue @ hue.new_tensor(LUMINANCE)) * bright**follows


def white_of_plate(lights: Iterable[PlateLight]) -> Tensor:
    """The white (3,) of a shot: the median over some of its frames."""
    return torch.stack([light.white for light in lights]).median(0).values
