"""Find the people that a new background keeps, or behind whom a thing is put, for jobs without a mask.

The embedded model cannot separate real people from their background. The people found by a detector become the model's
mask. The delivered alpha is still the model's own, refined with the plate.
"""

import tempfile
from collections.abc import Callable, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from scipy.ndimage import label

from vera.core.errors import InputError
from vera.core.model.people import load_people
from vera.core.plate.fit import shrink
from vera.kernels.planes import smoothstep

# Frames, evenly spaced over the plate, that are searched for people before work starts. More frames also find a person
# who appears only briefly.
CHECKED_FRAMES = 5
# Smallest share of the frame that people cover; smaller detections are often texture. Raising it refuses more plates
# with people far from the camera.
MIN_PEOPLE_AREA = 0.02
# Smallest share of the detected pixels (confidence above 0.5) with confidence above 0.9. Animals and puppets are
# detected with less: rabbit 0.70 to 0.78, walkers far away 0 to 0.38, people near the camera 0.90 to 0.96. Raising it
# refuses more plates.
MIN_SURE_SHARE = 0.85

# Confidence above which pixels form connected parts, and the area, as a share of the largest part's, below which a part
# is dropped. Raising the second drops people far behind the one in front.
ISLAND_LEVEL, MIN_ISLAND = 0.2, 0.03
Picture = Callable[[int], torch.Tensor]  # a frame's number -> (H, W, 3), encoded, in [0, 1]

# Size in samples of the picture for the second detection, and the margin around the people found first, as a factor on
# their size. Raising the margin makes the second detection like the first.
LOOKED_AT, CLOSER_MARGIN = 512, 0.15
# Confidence of a person at which a pixel begins to hide what is behind it, and at which it hides it fully. Raising them
# shows more of it at necks and in hair.
IN_FRONT = (0.1, 0.6)

PEOPLE_KEPT = (
    "no mask was given for the new background: the people found in the plate are kept; for another subject give --mask,"
    " white where the background is; --mask none lets the model decide"
)
PEOPLE_BEFORE = (
    "no mask was given for the subject in front: the people found in the plate hide the added thing, which is moved"
    " aside where they hide most of it; for another subject give --mask, black where the thing is hidden"
)
NOTHING_BEFORE = (
    "it is unknown where the {subject} hides the added thing, so nothing hides it: give --mask, black where the thing"
    " is hidden"
)


def refuse_without_people(frames: Sequence[int], picture: Picture) -> None:
    """Raise InputError unless people near the camera are found."""
    if not people_near(frames, picture):
        numbers = ", ".join(map(str, _checked(frames)))
        raise InputError(
            f"mask: none was given for the new background, and no person was found to keep (frames {numbers}); give"
            " --mask, white where the background is, or --mask none to let the model decide"
        )


def people_near(frames: Sequence[int], picture: Picture) -> bool:
    """Whether people near the camera are found."""
    confidence = torch.stack([_looks(picture(frame))[0] for frame in _checked(frames)])
    person, sure = ((confidence > level).float().mean().item() for level in (0.5, 0.9))
    return person >= MIN_PEOPLE_AREA and sure >= MIN_SURE_SHARE * person


def _checked(frames: Sequence[int]) -> Sequence[int]:
    return frames[:: max(1, -(-len(frames) // CHECKED_FRAMES))]


class PeopleInFront:
    """The occlusion by people in each frame of a shot, smoothed over time.

    The results of all frames are in a temporary file, so memory does not grow with the shot.
    """

    def __init__(self, frames: Sequence[int], picture: Picture, size: tuple[int, int]) -> None:
        """picture is called for all frames, in rising order. size: (width, height) of the planes."""
        self._width, self._height = size
        self._count = len(frames)
        self._file = tempfile.TemporaryFile()
        for frame in frames:
            plane = 1 - background_of(picture(frame), size)
            self._file.write((plane * 255).round().byte().numpy().tobytes())

    def at(self, time: int) -> torch.Tensor:
        """Occlusion (h, w) in [0, 1]. time: frames since the shot's first."""
        near = [min(max(time + step, 0), self._count - 1) for step in (-1, 0, 0, 1)]
        return smoothstep(torch.stack([self._read(number) for number in near]).mean(0), *IN_FRONT)

    def _read(self, number: int) -> torch.Tensor:
        area = self._width * self._height
        self._file.seek(number * area)
        codes = np.frombuffer(self._file.read(area), np.uint8).reshape(self._height, self._width)
        return torch.from_numpy(codes.astype(np.float32) / 255)


def people_in(picture: torch.Tensor) -> torch.Tensor:
    """Confidence (h, w) in [0, 1] that a pixel belongs to a person, at the detector's resolution; picture (H, W, 3).

    It is the mean over the picture and its mirror image, without small islands. That is closer to hand-drawn mattes
    than one detection.
    """
    return without_islands(_looks(picture).mean(0))


@torch.inference_mode()
def _looks(picture: torch.Tensor) -> torch.Tensor:
    """The detector's confidence (2, 256, 256) for a picture (H, W, 3) and for its mirror image, mirrored back.

    MIN_SURE_SHARE was chosen for the first alone; the mean of both has fewer confident pixels.
    """
    seen = shrink(picture, 256, 256)
    straight, mirrored = load_people()(torch.stack([seen, seen.flip(2)]))[:, 0]
    return torch.stack([straight, mirrored.flip(1)])


def without_islands(confidence: torch.Tensor) -> torch.Tensor:
    """Confidence (h, w), set to 0 in connected parts that are much smaller than the largest."""
    parts, count = label(confidence.numpy() > ISLAND_LEVEL)
    if count < 2:
        return confidence
    areas = np.bincount(parts.ravel())
    small = areas < MIN_ISLAND * areas[1:].max()
    return confidence * torch.from_numpy(~small[parts] | (parts == 0))


def background_of(picture: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """A mask (h, w) at `size` (width, height), 1 on the background and 0 on the people in a picture (H, W, 3)."""
    return 1 - shrink(looked_at_twice(picture)[..., None], *size)[0]


def looked_at_twice(picture: torch.Tensor) -> torch.Tensor:
    """Confidence (h, w) that a pixel of a picture (H, W, 3) belongs to a person, at most LOOKED_AT samples per side.

    The detector has 256 samples per side. So it runs again on the part of the picture in which it found people.
    """
    height, width = picture.shape[:2]
    scale = min(1.0, LOOKED_AT / max(height, width))
    seen = shrink(picture, max(1, round(width * scale)), max(1, round(height * scale))).movedim(0, -1).contiguous()
    found = _enlarged(people_in(seen), (seen.shape[0], seen.shape[1]))
    box = _box_around(found > 0.5)
    if box is not None:
        closer = seen[box].contiguous()
        found[box] = _enlarged(people_in(closer), (closer.shape[0], closer.shape[1]))
    return found


def _box_around(there: torch.Tensor) -> tuple[slice, slice] | None:
    """Rows and columns of the box around the true pixels of a mask (h, w), with a margin; None for an empty mask."""
    if not there.any():
        return None
    ends = []
    for axis, whole in ((1, there.shape[0]), (0, there.shape[1])):
        line = there.any(axis).nonzero()[:, 0]
        first, last = int(line[0]), int(line[-1]) + 1
        margin = int(CLOSER_MARGIN * (last - first))
        ends.append(slice(max(0, first - margin), min(whole, last + margin)))
    return ends[0], ends[1]


def _enlarged(plane: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    return F.interpolate(plane[None, None], size, mode="bilinear", align_corners=False)[0, 0]
