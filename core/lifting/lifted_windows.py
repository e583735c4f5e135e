"""Store the lifted windows of a long shot, one file each, and read them as one video.

At most one window is in memory, and a stopped command resumes with the next window.
"""

import json
import math
from collections.abc import Callable, Iterable
from pathlib import Path

import torch

from vera.core.files import JsonError, check_shape, parse_json
from vera.core.lifting.between import between
from vera.core.state_file import StateFile, state_writer, whole_state

# Channels of colour (premultiplied in the files), alpha, clean edited video, detail, and kinds (core/layer/split.py).
CHANNELS = (3, 1, 3, 3, 3)
OVERLAP = 8  # frames shared by two windows and cross-faded; raising it costs time and hides seams better


def windows_of(count: int, longest: int) -> list[tuple[int, int]]:
    """[start, end) of windows of about equal length that share OVERLAP frames."""
    longest = max(longest, 2 * OVERLAP)
    if count <= longest:
        return [(0, count)]
    number = math.ceil((count - OVERLAP) / (longest - OVERLAP))
    step = (count - OVERLAP) / number
    return [(round(i * step), min(count, round((i + 1) * step) + OVERLAP)) for i in range(number)]


def neighbours(indices: list[int], frame: int) -> tuple[int, int, float]:
    """(before, after, part): positions in the ascending `indices` between which a frame lies, and how far from the
    first to the second.

    A frame beyond all of them follows the nearest two, with a part below 0 or above 1, for one more step at most.
    """
    last = len(indices) - 1
    after = next((j for j, at in enumerate(indices) if at >= frame), last)
    if indices[after] == frame or not last:
        return after, after, 0.0
    after = max(1, after)
    span = indices[after] - indices[after - 1]
    return after - 1, after, min(2.0, max(-1.0, (frame - indices[after - 1]) / span))


class KeptWindows:
    """The files of a shot's windows.

    indices: plate frames that have an edited frame, ascending
    longest: frames of a window
    job: identity of the job
    """

    def __init__(self, folder: Path, indices: list[int], longest: int, job: str = "") -> None:
        self.indices, self.windows, self.job = indices, windows_of(len(indices), longest), job
        self.files = [folder / f"lifted-{k:04d}.safetensors" for k in range(len(self.windows))]

    def missing(self) -> list[int]:
        """Numbers of the windows that are missing or damaged."""
        return [k for k in range(len(self.files)) if self.whole(k) is None]

    def whole(self, k: int) -> StateFile | None:
        """The window's file; None if it is missing, damaged or of another job."""
        file = whole_state(self.files[k], self._facts(k))
        start, end = self.windows[k]
        if file is None or file.shape[:2] != (end - start, sum(CHANNELS)) or _figures(file) is None:
            return None
        return file

    def keep(self, k: int, layers: Iterable[torch.Tensor], found: dict[str, float]) -> None:
        """Store a window. layers: frames (13, h, w) with CHANNELS. found: measurements of the window."""
        with state_writer(self.files[k], {**self._facts(k), "found": json.dumps(found)}, torch.float16) as add:
            for layer in layers:
                add(layer[None])

    def _facts(self, k: int) -> dict[str, str]:
        return {"job": self.job, "window": " ".join(map(str, self.windows[k]))}


def _figures(file: StateFile) -> dict[str, float] | None:
    """The measurements of a window; None if the file does not contain them."""
    try:
        found = parse_json(file.facts.get("found", "").encode())
        check_shape(found, dict)
        for name, value in found.items():
            check_shape(value, float, name)
    except JsonError:
        return None
    return found


def _add_plate(layer: torch.Tensor, plate: torch.Tensor, times: int) -> torch.Tensor:
    """The layer with what its colour takes from the plate (3, h, w) under a gain added `times`; -1 takes it out."""
    color, alpha, _, detail, _ = layer.split(CHANNELS)
    return torch.cat([color + times * alpha * detail * plate, layer[3:]])


class LiftedVideo:
    """video[i] is the layer of the plate's i-th frame, (13, h, w): CHANNELS, with straight colour.

    Overlapping windows are cross-faded. Plate frames without an edited frame are carried from both
    neighbours, see `between`; a gain is laid on their own plate.
    """

    def __init__(self, kept: KeptWindows, plate: Callable[[int], torch.Tensor] | None = None) -> None:
        """plate(i): the plate's i-th frame (3, h, w) at working size, encoded; without it a gain is carried with the
        picture under it. Requires that no window is missing."""
        self.kept, self.plate = kept, plate
        self.files = [StateFile(path) for path in kept.files]
        found = [_figures(file) or {} for file in self.files]
        self.found = {name: round(sum(f[name] for f in found) / len(found), 4) for name in found[0]}

    def __getitem__(self, frame: int) -> torch.Tensor:
        before, after, part = neighbours(self.kept.indices, frame)
        layer = self._mixed(before) if before == after else self._carried(frame, before, after, part)
        return torch.cat([(layer[:3] / layer[3:4].clamp_min(1e-3)).clamp(0, 1), layer[3:]])

    def alpha(self, frame: int) -> torch.Tensor:
        """`self[frame][3:4]`, without its other channels where they need not be computed."""
        before, after, _ = neighbours(self.kept.indices, frame)
        return self._mixed(before, slice(3, 4)) if before == after else self[frame][3:4]

    def _carried(self, frame: int, before: int, after: int, part: float) -> torch.Tensor:
        """The layer of a plate frame without an edited one; the edited video is cross-faded."""
        color, alpha, clean, *_ = CHANNELS
        edited = slice(color + alpha, color + alpha + clean)
        ends = [self._mixed(place) for place in (before, after)]
        if self.plate is not None:
            ends = [_add_plate(v, self.plate(self.kept.indices[p]), -1) for v, p in zip(ends, (before, after))]
        layer = between(ends[0], ends[1], part)
        layer[edited] = torch.lerp(ends[0][edited], ends[1][edited], min(1.0, max(0.0, part)))
        return layer if self.plate is None else _add_plate(layer, self.plate(frame), 1)

    def _mixed(self, place: int, channels: slice = slice(None)) -> torch.Tensor:
        layer: torch.Tensor | None = None
        done = 0
        for (start, end), file in zip(self.kept.windows, self.files):
            if start <= place < end:
                own = file.read(place - start, place - start + 1)[0, channels].float()
                # `done` is the end of the window before: the two share the frames from `start` to `done`.
                layer = own if layer is None else torch.lerp(layer, own, (place - start + 1) / (done - start + 1))
            done = end
        assert layer is not None  # windows cover all places
        return layer
