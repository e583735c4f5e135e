"""Choose the part and channels of a file that are the picture, for all usual spellings, parts, views and luminance."""

from collections.abc import Sequence
from dataclasses import dataclass

from vera.core.plate.choice import USUAL, Choice

# Spellings of the last part of a channel's name, in lower case -> the channel.
SPELLINGS = {
    "r": "R",
    "red": "R",
    "g": "G",
    "green": "G",
    "b": "B",
    "blue": "B",
    "a": "A",
    "alpha": "A",
    "y": "Y",
    "l": "Y",
    "lum": "Y",
    "luminance": "Y",
    "grey": "Y",
    "gray": "Y",
    "ry": "RY",
    "by": "BY",
}
# Layers that hold the picture, most preferred first; "" is the unnamed layer.
USUAL_LAYERS = ("", "rgba", "rgb", "beauty", "combined", "color", "colour", "main", "c")

# Last parts of names of layers, in lower case, that hold numbers and no colours. They are a plate's picture only if
# --layer names them.
DATA_LAYERS = frozenset(
    "n normal normals p pos position positions pworld pref worldposition worldnormal motion motionvector motionvectors"
    " vector vectors velocity mv uv st depth z id objectid materialid indexob indexma".split()
)
CRYPTOMATTE = "crypto"  # beginning of the names of Cryptomatte's layers

# Pairs of channels beside which Y is one of the three values of a colour, and no luminance by itself.
_CHROMA = tuple(frozenset(pair.split()) for pair in ("u v", "cb cr", "pb pr", "i q", "co cg", "c m"))

MATTES = ("a", "alpha", "y", "l", "luminance", "mask", "matte", "r")  # names of a lone channel that is a mask


@dataclass(frozen=True)
class Part:
    """One part of a file: its number, name and view ("" for none), and its channels' names."""

    number: int
    name: str
    view: str
    channels: tuple[str, ...]


@dataclass(frozen=True)
class Picture:
    """Channels that form a picture.

    indices: of the channels in their part
    names: R, G, B and A, or Y and A
    layer: prefix of the channels' names in the file, or ""
    """

    part: Part
    layer: str
    names: tuple[str, ...]
    indices: tuple[int, ...]

    @property
    def is_grey(self) -> bool:
        """Whether it has luminance alone."""
        return "Y" in self.names

    @property
    def title(self) -> str:
        """Its name for messages; "" for the unnamed picture of the first part."""
        label = self.part.name if self.part.number else ""
        words = [("part", label or (str(self.part.number) if self.part.number else "")), ("layer", self.layer)]
        words.append(("view", self.part.view))
        return ", ".join(f"{kind} {name}" for kind, name in words if name)


def pictures(part: Part) -> list[Picture]:
    """All pictures of a part: one for each layer with R, G and B, or with luminance."""
    layers: dict[str, dict[str, int]] = {}
    for index, name in enumerate(part.channels):
        layer, _, leaf = name.rpartition(".")
        letter = SPELLINGS.get(leaf.lower())
        if letter:
            layers.setdefault(layer, {}).setdefault(letter, index)
    found = []
    for layer, there in layers.items():
        if {"R", "G", "B"} <= set(there):
            names = [c for c in "RGBA" if c in there]
        elif "Y" in there and not _is_of_three(part, layer):
            names = [c for c in "YA" if c in there]
        else:
            continue
        found.append(Picture(part, layer, tuple(names), tuple(there[c] for c in names)))
    return found


def has_chroma(part: Part, layer: str) -> bool:
    """Whether a layer holds luminance with chroma (Y, RY, BY; Y, Cb, Cr ...), or inks (C, M, Y, K)."""
    leaves = _leaves(part, layer)
    return "y" in leaves and (bool({"ry", "by"} & leaves) or any(pair <= leaves for pair in _CHROMA))


def _is_of_three(part: Part, layer: str) -> bool:
    """Whether Y is one of three values of a layer, and no luminance: of a colour, or X, Y, Z of a position pass."""
    return has_chroma(part, layer) or "x" in _leaves(part, layer)


def _leaves(part: Part, layer: str) -> set[str]:
    """Last parts of the names of a layer's channels, in lower case."""
    split = (name.rpartition(".") for name in part.channels)
    return {leaf.lower() for beginning, _, leaf in split if beginning == layer}


def is_data(picture: Picture) -> bool:
    """Whether the name of a picture's layer says that it holds numbers and no colours, such as normals."""
    last = picture.layer.rpartition(".")[2].lower()
    return last in DATA_LAYERS or last.startswith(CRYPTOMATTE)


def choose_picture(parts: Sequence[Part], choice: Choice = USUAL) -> Picture | None:
    """The requested picture, or the default: colour before grey, usual layers before others, then the first.

    Layers of data are taken only if `choice` names a layer.
    """
    found = [p for p in _fitting(parts, choice) if choice.layer is not None or not is_data(p)]
    return min(found, key=_rank, default=None)


def _fitting(parts: Sequence[Part], choice: Choice) -> list[Picture]:
    return [picture for part in parts for picture in pictures(part) if _fits(picture, choice)]


def choose_mask(parts: Sequence[Part], choice: Choice = USUAL) -> Picture | None:
    """The picture of a mask: as for a plate, else an alpha channel, else a channel named as a matte, else the first
    channel (as "Y")."""
    picture = min(_fitting(parts, choice), key=_rank, default=None)
    if picture:
        return picture
    for part in parts:
        for index, name in enumerate(part.channels):
            layer, _, leaf = name.rpartition(".")
            lone = Picture(part, layer, ("A" if SPELLINGS.get(leaf.lower()) == "A" else "Y",), (index,))
            if lone.names == ("A",) and _fits(lone, choice):
                return lone
    singles = [(part, index, name) for part in parts for index, name in enumerate(part.channels)]
    for part, index, name in sorted(singles, key=lambda single: not is_matte(single[2])):
        first = Picture(part, name.rpartition(".")[0], ("Y",), (index,))
        if _fits(first, choice):
            return first
    return None


def is_matte(name: str) -> bool:
    """Whether a lone channel's name says that it is a mask: "roto.matte"."""
    return name.rpartition(".")[2].lower() in MATTES


def left_out(parts: Sequence[Part], picture: Picture) -> tuple[str, ...]:
    """Names of all other channels; those of other parts begin with the part's name."""
    names = []
    for part in parts:
        label = f"{part.name or f'part{part.number}'}." if part.number else ""
        for index, name in enumerate(part.channels):
            if part.number != picture.part.number or index not in picture.indices:
                names.append(name if name.startswith(label) else f"{label}{name}")
    return tuple(names)


def _fits(picture: Picture, choice: Choice) -> bool:
    part = picture.part
    layer, view = picture.layer.lower(), (part.view or "").lower()
    asked_layer = choice.layer is None or layer == choice.layer.lower() or layer.endswith("." + choice.layer.lower())
    asked_part = choice.part is None or choice.part in (part.name, str(part.number))
    views = {view, *layer.split(".")}
    asked_view = choice.view is None or choice.view.lower() in views
    return asked_layer and asked_part and asked_view


def _rank(picture: Picture) -> tuple[int, int]:
    last = picture.layer.rpartition(".")[2].lower()
    usual = USUAL_LAYERS.index(last) if last in USUAL_LAYERS else len(USUAL_LAYERS)
    return int(picture.is_grey), usual
