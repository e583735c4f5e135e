"""EditRecipe: all that determines the pixels of an edit. Its hash is the job's identity."""

import hashlib
import json
import math
import re
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from vera.core.errors import InputError

SCHEMA = "vera.recipe/1"
BLEND_SPACES = ("linear", "encoded")
LAYER_TYPES = ("half", "float")
COMPRESSIONS = ("zip", "zips", "piz", "rle", "none")  # of EXR; lossless for half and float
ALSO = ("prores", "png", "matte")
LAYER_MODES = ("auto", "replace", "relative")
MAX_STOPS = 20
ATTENTIONS = ("dense", "int8", "window")
WEIGHTS = ("auto", "bf16", "fp8", "int8")
OFFLOADS = ("auto", "none", "parts", "blocks")
MAX_SEED = 2**63 - 1
MAX_STRENGTH = 10


@dataclass(frozen=True)
class EditRecipe:
    """What to do, as the user says it; None is 'as the plate or the model has it'.

    plate, mask: paths as patterns (see plate/source.py). frames: "1001-1049".
    steps, guidance: of the sampler; color_space: of the plate, any name of OpenColorIO's;
    exposure: stops added to a plate of light before the model sees it, or "auto";
    blend_space: how the layer will be laid over the plate; layer_space: the linear space of
    its RGB; layer_mode: whether its colour is the model's or relative to the plate. region: "X,Y,W,H", the pixels to
    edit, from the top left of the display window. cuts: "auto", "none" or first frames of new
    shots, "1013,1040". keep: leave the generated latents in the results' folder.
    layer_type, compression: of the EXR files. also: what else is delivered of the layer (see
    layer/also.py): "prores", "png", "matte"; a text with commas counts as a list. attention,
    cache (a threshold), compile, one_batch: what may make it cheaper, see sampling/speed_options.py.
    weights, offload: how the model is kept in memory, see model/load.py; lora: files whose changes are
    added to its weights, "FILE" or "FILE:STRENGTH" each.
    """

    plate: str
    prompt: str
    out: str
    mask: str | None = None
    frames: str | None = None
    model: str = "mini"
    seed: int = 0
    steps: int | None = None
    guidance: float | None = None
    color_space: str | None = None
    blend_space: str = "linear"
    region: str | None = None
    cuts: str | None = None
    keep: bool = False
    layer_type: str = "half"
    compression: str = "zip"
    also: tuple[str, ...] = ()
    layer_space: str | None = None
    layer_mode: str = "auto"
    exposure: float | str = "auto"
    attention: str = "dense"
    cache: float | None = None
    compile: bool = False
    one_batch: bool = False
    weights: str = "auto"
    offload: str = "auto"
    lora: tuple[str, ...] = ()

    def __post_init__(self):
        for name, value in vars(self).items():
            if isinstance(value, str) and ("\0" in value or value.encode("utf-8", "ignore").decode() != value):
                raise InputError(f"{name} {value!r} holds what is no text; write it in Unicode, without NUL")
        for name in ("plate", "prompt", "out", "model", "blend_space", "attention"):
            if not isinstance(getattr(self, name), str) or not getattr(self, name).strip():
                raise InputError(f"{name} is empty; say {_HINTS[name]}")
        for name in ("mask", "frames", "color_space", "layer_space", "region", "cuts"):
            value = getattr(self, name)
            if value is not None and (not isinstance(value, str) or not value.strip()):
                raise InputError(f"{name} {value!r} is not a text; leave it out or give {_HINTS[name]}")
        if self.blend_space not in BLEND_SPACES:
            raise InputError(f"blend space '{self.blend_space}' is unknown; choose {' or '.join(BLEND_SPACES)}")
        if self.region is not None:
            parse_region(self.region)
        parse_cuts(self.cuts)
        for name, known in (("layer_type", LAYER_TYPES), ("compression", COMPRESSIONS)):
            if getattr(self, name) not in known:
                value = f"{name.replace('_', ' ')} {getattr(self, name)!r}"
                raise InputError(f"{value} is unknown; choose {', '.join(known)}")
        object.__setattr__(self, "also", _names(self.also))
        object.__setattr__(self, "layer_mode", self.layer_mode or "auto")
        if self.layer_mode not in LAYER_MODES:
            raise InputError(f"layer mode {self.layer_mode!r} is unknown; choose {', '.join(LAYER_MODES)}")
        object.__setattr__(self, "exposure", _stops(self.exposure))
        if self.attention not in ATTENTIONS:
            raise InputError(f"attention '{self.attention}' is unknown; choose {', '.join(ATTENTIONS)}")
        for name, known in (("weights", WEIGHTS), ("offload", OFFLOADS)):
            if getattr(self, name) not in known:
                raise InputError(f"{name} {getattr(self, name)!r} is unknown; choose {', '.join(known)}")
        object.__setattr__(self, "lora", _texts("lora", self.lora))
        for text in self.lora:
            parse_lora(text)
        for name in ("keep", "compile", "one_batch"):
            if not isinstance(getattr(self, name), bool):
                raise InputError(f"{name} {getattr(self, name)!r} is not true or false")
        _whole("seed", self.seed, 0, MAX_SEED)
        if self.steps is not None:
            _whole("steps", self.steps, 1, 1000)
        if self.guidance is not None:
            _number("guidance", self.guidance, 0, 30)
        if self.cache is not None:
            _number("cache", self.cache, 0, 1)

    @classmethod
    def from_file(cls, path: str, **changes) -> "EditRecipe":
        """A job file: JSON with this class's fields, relative paths taken from the file's folder."""
        values = read_json(path)
        if not isinstance(values, dict):
            raise InputError(f"{path}: a job file is one JSON object with plate, prompt and out")
        return cls.from_job(values, Path(path).parent, path, **changes)

    @classmethod
    def from_job(cls, values: dict, folder: Path, where: str, **changes) -> "EditRecipe":
        """The object of a job file in `folder`; `where` names it when something is wrong."""
        values = dict(values)
        for name in ("recipe_hash", "generation"):  # a delivery's recipe.json is a job file too
            values.pop(name, None)
        schema = values.pop("schema", SCHEMA)
        if schema != SCHEMA:
            raise InputError(f"{where}: schema '{schema}' is unknown; this version reads {SCHEMA}")
        for name in ("plate", "mask", "out"):
            if isinstance(values.get(name), str) and values[name]:
                values[name] = str(folder / values[name])
        if "lora" in values:
            values["lora"] = [_beside(folder, text) for text in _texts("lora", values["lora"])]
        return cls.from_values(values | changes, where)

    @classmethod
    def from_values(cls, values: dict, where: str = "the command") -> "EditRecipe":
        known = {f.name for f in fields(cls)}
        surplus = sorted(set(values) - known)
        if surplus:
            raise InputError(f"{where}: unknown '{surplus[0]}'; known are {', '.join(sorted(known))}")
        missing = [n for n in ("plate", "prompt", "out") if values.get(n) is None]
        if missing:
            raise InputError(f"{where}: {missing[0]} is missing; say {_HINTS[missing[0]]}")
        return cls(**{name: value for name, value in values.items() if value is not None})

    def loading(self) -> dict:
        """What load_model is told beside the model's name and the device: what was asked for."""
        asked = {"weights": self.weights, "offload": self.offload, "lora": self.lora}
        return {name: value for name, value in asked.items() if value not in ("auto", ())}

    def to_json(self) -> dict:
        """As a job file holds it; paths are absolute, so that it can be run from anywhere."""
        values = {"schema": SCHEMA} | asdict(self)
        for name in ("plate", "mask", "out"):
            if values[name] is not None:
                values[name] = str(Path(values[name]).absolute())
        values["lora"] = [_beside(Path.cwd(), text) for text in self.lora]
        door, path = split_model(self.model)
        if door:
            values["model"] = f"{door}:{Path(path).absolute()}"
        return values


def read_json(path: str):
    """What a job file, or a list of jobs, holds. Raises InputError."""
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{path}: no such job file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read ({error.__class__.__name__}); give a JSON job file") from None
    except json.JSONDecodeError as error:
        raise InputError(f"{path}: not JSON, line {error.lineno}: {error.msg}") from None


def split_model(model: str) -> tuple[str, str]:
    """("lift", an edited video) and ("vace", a directory), from which layers are lifted; else ("", the model)."""
    door, colon, path = model.partition(":")
    return (door, path) if colon and door in ("lift", "vace") else ("", model)


def identity(**determinants) -> str:
    """A hash, 32 hex digits, over everything that determines the pixels.

    A job has two: its generation's, over all that the latents hang on, and its own, over that
    and over all that delivery does with them. Paths are not among it, contents are: the same
    plate under another path is the same job.
    """
    text = json.dumps(determinants, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def parse_lora(text: str) -> tuple[str, float]:
    """"FILE" or "FILE:STRENGTH" -> the path and the strength, 1 unless given. Raises InputError."""
    path, colon, number = text.rpartition(":")
    if not colon or not re.fullmatch(r"[-+]?(\d+\.?\d*|\.\d+)", number):
        path, number = text, "1"  # a colon may be a drive's
    if not path.strip() or not abs(float(number)) <= MAX_STRENGTH:
        raise InputError(f"lora '{text}' is not FILE or FILE:STRENGTH, a number up to {MAX_STRENGTH}")
    return path, float(number)


def _beside(folder: Path, text: str) -> str:
    """A LoRA's text with its path taken from a folder."""
    path, strength = parse_lora(text)
    return f"{folder / path}:{strength!r}"


def parse_region(text: str) -> tuple[int, int, int, int]:
    """"X,Y,W,H" -> four whole numbers. Raises InputError."""
    match = re.fullmatch(r"\s*(-?\d+)\s*,\s*(-?\d+)\s*,\s*(\d+)\s*,\s*(\d+)\s*", text)
    if not match:
        raise InputError(f"region '{text}' is not X,Y,W,H in whole pixels; write for example 640,200,512,512")
    return tuple(int(number) for number in match.groups())


def parse_cuts(text: str | None) -> str | tuple[int, ...]:
    """ "auto" (also None), or the first frames of new shots, rising; () for "none". Raises InputError."""
    plain = "auto" if text is None else text.strip().lower()
    if plain == "auto":
        return "auto"
    if plain == "none":
        return ()
    if not re.fullmatch(r"-?\d{1,9}(\s*,\s*-?\d{1,9})*", plain):
        raise InputError(f"cuts '{text}' are not frame numbers; write auto, none, or first frames such as 1013,1040")
    numbers = tuple(int(n) for n in plain.split(","))
    if list(numbers) != sorted(set(numbers)):
        raise InputError(f"cuts '{text}' do not rise; write each first frame once, in order")
    return numbers


def _whole(name, value, low, high):
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise InputError(f"{name} {value} is out of range; give a whole number from {low} to {high}")


def _texts(name, values) -> tuple[str, ...]:
    if isinstance(values, str) or not all(isinstance(v, str) for v in values or ()):
        raise InputError(f"{name} {values!r} is not a list of texts")
    return tuple(values or ())


def _names(also) -> tuple[str, ...]:
    """Each once, in the order of ALSO, so that the same wish has the same name."""
    names = [n.strip() for n in also.split(",") if n.strip()] if isinstance(also, str) else also or ()
    for name in names:
        if name not in ALSO:
            raise InputError(f"also {name!r} is unknown; choose from {', '.join(ALSO)}")
    return tuple(n for n in ALSO if n in names)


def _stops(value) -> float | str:
    """"auto" (also None), or a number of stops; text that is a number counts as one."""
    if value is None or value == "auto":
        return "auto"
    try:
        stops = float(value) if isinstance(value, (int, float, str)) and not isinstance(value, bool) else math.nan
    except ValueError:
        stops = math.nan
    if not abs(stops) <= MAX_STOPS:
        raise InputError(f"exposure {value} is out of range; give auto, or stops from {-MAX_STOPS} to {MAX_STOPS}")
    return stops


def _number(name, value, low, high):
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not number or not math.isfinite(value) or not low <= value <= high:
        raise InputError(f"{name} {value} is out of range; give a number from {low} to {high}")


_HINTS = {
    "plate": "which frames to edit, such as plate.####.exr or plate.mov",
    "prompt": "what should change, such as 'Add a red balloon on the left'",
    "out": "the folder for the results",
    "model": "mini, a model directory, vace:DIRECTORY, or lift:VIDEO",
    "blend_space": "linear or encoded",
    "attention": "dense, int8 or window",
    "mask": "a sequence, a movie or a still",
    "frames": "a range such as 1001-1049",
    "color_space": "the plate's colour space",
    "layer_space": "a linear colour space",
    "region": "X,Y,W,H in pixels of the plate",
    "cuts": "auto, none, or first frames such as 1013,1040",
}
