"""Geometry of mini's transformer: Vera's, with additions that a narrow model needs."""

from dataclasses import dataclass
from typing import Any

from vera.core.errors import InputError
from vera.core.model.config import BRANCHES, TransformerConfig
from vera.core.model.limits import is_number


@dataclass(frozen=True)
class MiniConfig(TransformerConfig):
    """place_input adds each token's position in the frame. Rotary positions are relative; from them alone, a small
    model learns words such as "left" too slowly.

    text_modulation adds the mean of the text states to the time embedding, so that the instruction affects every norm.

    latent_std: the heads predict clean latents in units of this standard deviation, relative to a baseline; None: they
    predict the velocity. A velocity contains the noise, which a narrow model cannot carry through (Li and He, "Back to
    Basics: Let Denoising Generative Models Denoise", 2025).

    drawing: the baseline of edit and alpha is the drawing (drawing.py), and that of the composite is these layers over
    the plate (latent_over.py). Without it the baselines are 0, and the plate. It requires latent_std.

    coarse_channels: leading channels of the latents, all that the camera and the aim of masks read; None: all channels.
    See `MiniCodec.extended`.

    fine_layers: layers, of BRANCHES, whose channels beyond the coarse ones are predicted. In the others they are
    the baseline's: 0 in edit and alpha. Fine channels that a model predicts badly make holes and flicker. None: all
    layers.
    """

    place_input: bool = False
    text_modulation: bool = False
    latent_std: float | None = None
    drawing: bool = False
    coarse_channels: int | None = None
    fine_layers: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        for field in ("place_input", "text_modulation", "drawing"):
            if not isinstance(getattr(self, field), bool):
                raise InputError(f"{field} must be true or false, not {getattr(self, field)!r:.40}")
        if self.latent_std is not None and not (is_number(self.latent_std, whole=False) and 0 < self.latent_std < 100):
            raise InputError(f"latent_std must be a number between 0 and 100, or null, not {self.latent_std!r:.40}")
        if self.drawing and self.latent_std is None:
            raise InputError("drawing requires latent_std, heads that predict clean latents")
        coarse = self.coarse_channels
        if coarse is not None and not (is_number(coarse, whole=True) and 0 < coarse <= self.latent_channels):
            raise InputError(
                f"coarse_channels must be a whole number from 1 to latent_channels, or null, not {coarse!r:.40}"
            )

        fine = self.fine_layers
        if fine is not None:
            if not isinstance(fine, (list, tuple)) or any(name not in BRANCHES for name in fine):
                raise InputError(f"fine_layers must be a list out of {', '.join(BRANCHES)}, or null, not {fine!r:.40}")
            if coarse is None:
                raise InputError("fine_layers requires coarse_channels, the number of channels that are not fine")
            object.__setattr__(self, "fine_layers", tuple(fine))

    @classmethod
    def fields_in(cls, values: dict[str, Any]) -> dict[str, Any]:
        return values


MINI = MiniConfig(
    dim=192,
    heads=3,
    layers=6,
    ffn_dim=768,
    text_dim=192,
    freq_dim=128,
    latent_channels=24,
    place_input=True,
    text_modulation=True,
    latent_std=0.65,
    drawing=True,
)
