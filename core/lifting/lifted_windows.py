"""Windows of a long shot: each is lifted and kept in a file; read, they are one video again.

So no more than a window is in memory, and a command that was stopped goes on with the next one.
"""

import json
import math
from pathlib import Path

import torch

from vera.core.files import JsonError, check_shape, parse_json
from vera.core.state_file import StateFile, state_writer, whole_state

# Colour (times alpha in the files), alpha, clean edited video, share of the plate's detail, and of what kind the layer
# is, see `vera.core.layer.split.Kinds`.
CHANNELS = (3, 1, 3, 3, 3)
OVERLAP = 8  # frames that two windows share and mix


def windows_of(count: int, longest: int) -> list[tuple[int, int]]:
    """[start, end) of windows that share OVERLAP frames and are about as long as one another."""
    longest = max(longest, 2 * OVERLAP)
    if count <= longest:
        return [(0, count)]
    number = math.ceil((count - OVERLAP) / (longest - OVERLAP))
    step = (count - OVERLAP) / number
    return [(round(i * step), min(count, round((i + 1) * step) + OVERLAP)) for i in range(number)]


def neighbours(indices: list[int], frame: int) -> tuple[int, int, float]:
    """(before, after, part): the places in `indices`, ascending, between which a frame lies, and how near it is to
    the second."""
    after = next((j for j, at in enumerate(indices) if at >= frame), len(indices) - 1)
    before = max(0, after - 1) if indices[after] > frame else after
    span = indices[after] - indices[before]
    return (before, after, min(1.0, (frame - indices[before]) / span) if span > 0 else 0.0)


class KeptWindows:
    """The files of a shot's windows. indices: of the plate's frames, those that have an edited one, in the
    windows' order.

    job: the identity of the job that they belong to.
    """

    def __init__(self, folder: Path, indices: list[int], longest: int, job: str = "") -> None:
        self.indices, self.windows, self.job = indices, windows_of(len(indices), longest), job
        self.files = [folder / f"lifted-{k:04d}.safetensors" for k in range(len(self.windows))]

    def missing(self) -> list[int]:
        """Windows that are not there, or damaged."""
        return [k for k in range(len(self.files)) if self.whole(k) is None]

    def whole(self, k: int) -> StateFile | None:
        """The window's file; None where it is not there, damaged or of another job."""
        file = whole_state(self.files[k], self._facts(k))
        start, end = self.windows[k]
        if file is None or file.shape[:2] != (end - start, sum(CHANNELS)) or _figures(file) is None:
            return None
        return file

    def keep(self, k: int, layers: torch.Tensor, found: dict[str, float]) -> None:
        """layers (T, 13, h, w): CHANNELS; found: figures of the window."""
        with state_writer(self.files[k], {**self._facts(k), "found": json.dumps(found)}, torch.float16) as add:
            add(layers)

    def _facts(self, k: int) -> dict[str, str]:
        return {"job": self.job, "window": " ".join(map(str, self.windows[k]))}


def _figures(file: StateFile) -> dict[str, float] | None:
    """What was found in a window; None where the file does not say it."""
    try:
        found = parse_json(file.facts.get("found", "").encode())
        check_shape(found, dict)
        for name, value in found.items():
            check_shape(value, float, name)
    except JsonError:
        return None
    return found


class LiftedVideo:
    """video[i] is the layer of the plate's i-th frame, (13, h, w): CHANNELS, the colour straight.

    Where windows overlap they are mixed, the later one more and more; frames between edited ones are mixed by distance.
    """

    def __init__(self, kept: KeptWindows) -> None:
        """Once nothing is missing."""
        self.kept = kept
        self.files = [StateFile(path) for path in kept.files]
        found = [_figures(file) or {} for file in self.files]
        self.found = {name: round(sum(f[name] for f in found) / len(found), 4) for name in found[0]}

    def __getitem__(self, frame: int) -> torch.Tensor:
        before, after, part = neighbours(self.kept.indices, frame)
        layer = self._mixed(before)
        if part > 0:
            layer = torch.lerp(layer, self._mixed(after), part)
        return torch.cat([(layer[:3] / layer[3:4].clamp_min(1e-3)).clamp(0, 1), layer[3:]])

    def _mixed(self, place: int) -> torch.Tensor:
        layer: torch.Tensor | None = None
        done = 0
        for (start, end), file in zip(self.kept.windows, self.files):
            if start <= place < end:
                own = file.read(place - start, place - start + 1)[0].float()
                # `done` is where the window before ends: they share what lies between.
                layer = own if layer is None else torch.lerp(layer, own, (place - start + 1) / (done - start + 1))
            done = end
        assert layer is not None  # windows cover all places
        return layer
