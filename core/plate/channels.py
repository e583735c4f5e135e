"""Which part and channels of a file are the picture: any usual spelling, parts in any order, views, luminance."""

from collections.abc import Sequence
from dataclasses import dataclass

from vera.core.plate.choice import USUAL, Choice

# Spellings of a channel's last name part, in lower case, and what it is.
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
# Layers that hold the picture, the first in a file that has several; "" is the layer without a name.
USUAL_LAYERS = ("", "rgba", "rgb", "beauty", "combined", "color", "colour", "main", "c")


@dataclass(frozen=True)
class Part:
    """One part of a file: its number, name and view ("" where it has none), and its channels' names."""

    number: int
    name: str
    view: str
    channels: tuple[str, ...]


@dataclass(frozen=True)
class Picture:
    """Channels that are a picture. indices: of `channels` in the part's own; names: R, G, B and A, or Y and A.

    layer: what stands before the channels' names in the file, "" for nothing.
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
        """As a user would name it, "" for the plain picture of the first part."""
        label = self.part.name if self.part.number else ""
        words = [("part", label or (str(self.part.number) if self.part.number else "")), ("layer", self.layer)]
        words.append(("view", self.part.view))
        return ", ".join(f"{kind} {name}" for kind, name in words if name)


def pictures(part: Part) -> list[Picture]:
    """All pictures among a part's channels: one for each layer that has R, G and B, or luminance."""
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
        elif "Y" in there and not {"RY", "BY"} & set(there):
            names = [c for c in "YA" if c in there]
        else:
            continue
        found.append(Picture(part, layer, tuple(names), tuple(there[c] for c in names)))
    return found


def choose_picture(parts: Sequence[Part], choice: Choice = USUAL) -> Picture | None:
    """The picture that was asked for, or the usual one: colour before grey, a usual layer before others, then the
    first."""
    found = [picture for part in parts for picture in pictures(part) if _fits(picture, choice)]
    return min(found, key=_rank, default=None)


def choose_mask(parts: Sequence[Part], choice: Choice = USUAL) -> Picture | None:
    """What a mask is made of: the picture as of a plate, else a lone alpha, else the first channel (as "Y")."""
    picture = choose_picture(parts, choice)
    if picture:
        return picture
    for part in parts:
        for index, name in enumerate(part.channels):
            layer, _, leaf = name.rpartition(".")
            lone = Picture(part, layer, ("A" if SPELLINGS.get(leaf.lower()) == "A" else "Y",), (index,))
            if lone.names == ("A",) and _fits(lone, choice):
                return lone
    for part in parts:
        for index, name in enumerate(part.channels):
            first = Picture(part, name.rpartition(".")[0], ("Y",), (index,))
            if _fits(first, choice):
                return first
    return None


def left_out(parts: Sequence[Part], picture: Picture) -> tuple[str, ...]:
    """Names of all other channels; of other parts with the part's name before."""
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
