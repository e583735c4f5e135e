"""model.json: the sizes that a model was trained for, and its sampling defaults."""

import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path

from vera.core.errors import InputError

LIGHT_CURVES = ("srgb", "range")
# The largest value of each number. A larger one is a damaged file, for which huge buffers would be allocated.
MAXIMA = {
    "max_frames": 10_000,
    "pixels": 8192 * 8192,
    "multiple": 1024,
    "steps": 10_000,
    "guidance": 1000.0,
    "shift": 1000.0,
    "step_width": 64.0,
}


@dataclass(frozen=True)
class Limits:
    """The sizes that a model was trained for, and its sampling defaults.

    max_frames: frames in one window
    pixels, multiple: area at model size in pixels; the sides are multiples of `multiple`
    steps, guidance, shift: sampling defaults; shift is the noise schedule's
    light_curve: encoding of scene-referred light in its training, "srgb" (clipped at display white) or "range" (up to
        64 times white)
    step_width: width in model pixels of a decoded step of alpha, see core/layer/outline.py
    """

    max_frames: int = 81
    pixels: int = 832 * 480
    multiple: int = 16
    steps: int = 50
    guidance: float = 5.0
    shift: float = 3.0
    light_curve: str = "srgb"
    step_width: float = 3.0

    @classmethod
    def load(cls, path: Path) -> "Limits":
        """Read model.json; without the file, Wan's limits. Raises InputError."""
        if not path.is_file():
            return cls()
        try:
            limits = cls(**json.loads(path.read_text(encoding="utf-8")))
        except (TypeError, ValueError, RecursionError) as error:
            raise InputError(f"{path}: not a model's limits ({str(error)[:200]})") from None
        if limits.light_curve not in LIGHT_CURVES:
            raise InputError(f"{path}: light_curve must be srgb or range")
        for field, largest in MAXIMA.items():
            value, whole = getattr(limits, field), isinstance(largest, int)
            if not is_number(value, whole) or not 0 < value <= largest:
                raise InputError(
                    f"{path}: {field} must be a {'whole ' if whole else ''}number above 0, at most {largest:g}"
                )
        return limits

    def save(self, path: Path) -> None:
        """Write model.json."""
        path.write_text(json.dumps(asdict(self), indent=2) + "\n", encoding="utf-8")


def is_number(value: object, whole: bool) -> bool:
    """Whether a JSON value is a finite number; whole: a whole one."""
    if isinstance(value, bool) or not isinstance(value, int if whole else (int, float)):
        return False
    return whole or (abs(value) < 1e300 and math.isfinite(value))
