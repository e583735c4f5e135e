"""Geometry of a Vera, and the presets."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

from vera.core.errors import InputError
from vera.core.model.limits import is_number

BRANCHES = ("edit", "alpha", "composite")

# The largest value of each whole number. A larger one is a damaged file, for which huge modules would be allocated.
MAXIMA = {
    "dim": 2**15,
    "heads": 2**10,
    "layers": 2**9,
    "ffn_dim": 2**17,
    "text_dim": 2**15,
    "freq_dim": 2**13,
    "latent_channels": 2**12,
}
MAX_PATCH = 16  # latent pixels or latent frames a side
# Switches of mini's transformer that older full-size configurations contain too, always off.
MINIS_SWITCHES = {"place_input": False, "text_modulation": False, "latent_std": None, "drawing": False}


@dataclass(frozen=True)
class TransformerConfig:
    """Geometry of the three-branch transformer; each branch has the geometry of one Wan2.1.

    dim is the width of one branch, ffn_dim its feed-forward width, text_dim the width
    of the text states, freq_dim that of the sinusoidal time embedding. patch is
    (time, height, width) in latent pixels. share_embedders keeps one time and text
    embedder for all branches; alpha_text=False removes the alpha branch's text
    cross-attention (the published parameter counts suggest both; the default is
    three full copies). mask_input adds the mask's patch embedding.
    Raises InputError for values of another type, or out of bounds.
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

    def __post_init__(self) -> None:
        for field, largest in MAXIMA.items():
            value = getattr(self, field)
            if not is_number(value, whole=True) or not 0 < value <= largest:
                raise InputError(f"{field} must be a whole number from 1 to {largest}, not {value!r:.40}")
        sides = tuple(self.patch) if isinstance(self.patch, (list, tuple)) else ()
        if len(sides) != 3 or not all(is_number(n, whole=True) and 0 < n <= MAX_PATCH for n in sides):
            raise InputError(f"patch must be three whole numbers from 1 to {MAX_PATCH}, not {self.patch!r:.40}")
        object.__setattr__(self, "patch", sides)
        if not is_number(self.eps, whole=False) or not 0 < self.eps < 1:
            raise InputError(f"eps must be a number between 0 and 1, not {self.eps!r:.40}")
        for field in ("share_embedders", "alpha_text", "mask_input"):
            if not isinstance(getattr(self, field), bool):
                raise InputError(f"{field} must be true or false, not {getattr(self, field)!r:.40}")
        if self.dim % self.heads or (self.dim // self.heads) % 2:
            raise InputError(f"width {self.dim} does not split into {self.heads} heads of even size")

    @property
    def head_dim(self) -> int:
        """Width of one attention head."""
        return self.dim // self.heads

    def text_of(self, branch: str) -> bool:
        """Whether this branch attends to the instruction."""
        return self.alpha_text or branch != "alpha"

    def save(self, path: Path) -> None:
        """Write config.json."""
        Path(path).write_text(json.dumps(asdict(self), indent=2) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read a config.json, without names that begin with _, which libraries add. Raises InputError with the file's
        name."""
        try:
            values = json.loads(Path(path).read_text(encoding="utf-8"))
            return cls(**cls.fields_in({name: value for name, value in values.items() if not name.startswith("_")}))
        except FileNotFoundError:
            raise InputError(f"{path}: no such file; a model directory needs it") from None
        except InputError as error:
            raise InputError(f"{path}: {error}") from None
        except (TypeError, AttributeError, ValueError, RecursionError) as error:
            raise InputError(f"{path}: not a transformer configuration ({str(error)[:200]})") from None

    @classmethod
    def fields_in(cls, values: dict[str, Any]) -> dict[str, Any]:
        """The values of a file that are fields of this class."""
        off = {name for name, value in MINIS_SWITCHES.items() if name in values and values[name] == value}
        return {name: value for name, value in values.items() if name not in off}


PRESETS = {
    "1.3b": TransformerConfig(dim=1536, heads=12, layers=30, ffn_dim=8960),
    "14b": TransformerConfig(dim=5120, heads=40, layers=40, ffn_dim=13824),
}
