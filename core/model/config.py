"""Geometry of a Vera, and the presets."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from vera.core.errors import InputError

BRANCHES = ("edit", "alpha", "composite")


@dataclass(frozen=True)
class TransformerConfig:
    """Geometry of the three-branch transformer; each branch has the geometry of one Wan2.1.

    dim is the width of one branch, ffn_dim its feed-forward width, text_dim the width
    of the text states, freq_dim that of the sinusoidal time embedding. patch is
    (time, height, width) in latent pixels. share_embedders keeps one time and text
    embedder for all branches; alpha_text=False removes the alpha branch's text
    cross-attention (the published parameter counts suggest both; the default is
    three full copies). mask_input adds the mask's patch embedding. place_input tells
    each token where in the frame it is: rotary positions are relative, and a small model
    learns words such as "left" too slowly from them alone. drawing starts edit and alpha from what the words
    alone would draw (drawing.py); it needs latent_std. text_modulation adds the mean of
    the text states to the time embedding, so that what is asked for steers every norm.
    latent_std: the heads give the clean latents, in units of this standard deviation, the
    composite's relative to the plate, the others' to the drawing; None: they give the velocity. A narrow model cannot carry
    the noise through that a velocity holds (Li and He, "Back to Basics: Let Denoising
    Generative Models Denoise", 2025). Wan has none of these four.
    """

    dim: int
    heads: int
    layers: int
    ffn_dim: int
    text_dim: int = 4096
    freq_dim: int = 256
    latent_channels: int = 16
    patch: tuple[int, int, int] = (1, 2, 2)
    eps: float = 1e-6
    share_embedders: bool = False
    alpha_text: bool = True
    mask_input: bool = True
    place_input: bool = False
    text_modulation: bool = False
    latent_std: float | None = None
    drawing: bool = False

    def __post_init__(self):
        object.__setattr__(self, "patch", tuple(self.patch))
        if self.dim % self.heads or (self.dim // self.heads) % 2:
            raise InputError(f"width {self.dim} does not split into {self.heads} heads of even size")

        if self.drawing and self.latent_std is None:
            raise InputError("a drawing needs heads of clean latents, latent_std")

    @property
    def head_dim(self) -> int:
        return self.dim // self.heads

    def text_of(self, branch: str) -> bool:
        """Whether this branch attends to the instruction."""
        return self.alpha_text or branch != "alpha"

    def save(self, path: Path) -> None:
        Path(path).write_text(json.dumps(asdict(self), indent=2) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: Path) -> "TransformerConfig":
        """Names that begin with _ are notes of the libraries'. Raises InputError."""
        try:
            values = json.loads(Path(path).read_text(encoding="utf-8"))
            return cls(**{name: value for name, value in values.items() if not name.startswith("_")})
        except FileNotFoundError:
            raise InputError(f"{path}: no such file; a model directory needs it") from None
        except (TypeError, AttributeError, json.JSONDecodeError) as error:
            raise InputError(f"{path}: not a transformer configuration ({error})") from None


PRESETS = {
    "mini": TransformerConfig(
        dim=192, heads=3, layers=6, ffn_dim=768, text_dim=192, freq_dim=128, latent_channels=24,
        place_input=True, text_modulation=True, latent_std=0.65, drawing=True,
    ),
    "1.3b": TransformerConfig(dim=1536, heads=12, layers=30, ffn_dim=8960),
    "14b": TransformerConfig(dim=5120, heads=40, layers=40, ffn_dim=13824),
}
