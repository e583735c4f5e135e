"""Match the frames of a result to the frames of the plate.

Other editors change size, frame rate and length. These changes are undone or refused; the table's notes list the undone
ones.

size    An aspect within 3 % of the plate's is scaled to the plate's size. Any other was cropped or padded: refused.
rate    Results with as many frames as the plate match frame by frame; the rate in the header is ignored. A rate that is
        a multiple or an integer fraction of the plate's matches frames of equal time. Any other would need new frames:
        refused.
length  A result of 80 to 120 % of the plate's length is measured over the common part from the start. Any other:
        refused.
"""

import hashlib
import json
from fractions import Fraction
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from vera.core.comparing.benchmark_rows import Row
from vera.core.errors import InputError
from vera.core.layer import image_file
from vera.core.plate.color import PlateColor
from vera.core.plate.color_space import resolve_space
from vera.core.plate.source import open_mask, open_plate

# Relative differences from the plate that are accepted; raising one accepts results that match the plate less well.
SHAPE_TOLERANCE = 0.03  # largest relative difference of aspect ratios; raising it accepts more distorted results
RATE_TOLERANCE = 0.01  # largest relative distance of the frame rate from a multiple or fraction of the plate's
LENGTH_TOLERANCE = 0.2  # largest relative difference of durations; raising it accepts shorter and longer results
MIN_MASK_AGREEMENT = 0.1  # share of pixels on which alpha and mask agree, below which the alpha is taken for inverted


class Case:
    """The plate of a row, and the true alpha of the edit if the row has one.

    alpha_of: "layer" if the test set's alpha is 1 on the edited part, "subject" if it is 1 on the subject in front of a
    changed background. Raises InputError.
    """

    def __init__(self, row: Row, alpha_of: str = "layer") -> None:
        self.row = row
        self.plate = open_plate(str(row.input))
        self.color = PlateColor(resolve_space(None, self.plate), self.plate.pixel_type)
        self.size = (self.plate.height, self.plate.width)
        self.count = len(self.plate.frames)
        self._alpha = open_mask(str(row.alpha), self.plate) if row.alpha else None
        self._mask = open_mask(str(row.mask), self.plate) if row.mask else None
        self._inverted = alpha_of == "subject" and row.edit_type == "background_replace"
        self._refuse_inverse()

    @property
    def has_alpha(self) -> bool:
        return self._alpha is not None

    def show(self, pixels: np.ndarray) -> np.ndarray:
        """Convert pixels of the plate's type to display values (H, W, 3) float32 in [0, 1]."""
        return self.color.for_display(pixels)

    def pixels(self, index: int) -> np.ndarray:
        return self.plate.read(self.plate.frames[index])

    def alpha(self, index: int) -> np.ndarray | None:
        """The true alpha of the edit (H, W) float32, 1 on the edited part; None if the row has no alpha."""
        if self._alpha is None:
            return None
        alpha = self._alpha.read(self.plate.frames[index])
        return 1 - alpha if self._inverted else alpha

    def edit_region(self, index: int) -> np.ndarray | None:
        """The alpha, else the mask, else None; a result must equal the plate where this is 0."""
        if self._alpha is not None or self._mask is None:
            return self.alpha(index)
        return self._mask.read(self.plate.frames[index])

    def fingerprint(self) -> list[str]:
        """Hashes of all that the case reads, for the cache key."""
        plate = [self.plate.fingerprint(f) for f in self.plate.frames]
        others = [file_hash(p) for p in (self.row.alpha, self.row.mask) if p]
        return [*plate, *others, str(self._inverted)]

    def _refuse_inverse(self) -> None:
        """Raise InputError for an alpha that looks inverted, since all figures outside it would be wrong."""
        if self._alpha is None or self._mask is None:
            return
        mask, alpha = self._mask.read(self.plate.frames[0]), self.alpha(0)
        if alpha is not None and np.mean((alpha > 0.5) == (mask > 0.5)) < MIN_MASK_AGREEMENT:
            other = "layer" if self._inverted else "subject"
            raise InputError(f"{self.row.alpha}: is the inverse of the mask; use --alpha-of {other}")


class Delivery:
    """A result of `vera render`: the folder of a delivery. pairs: (index in the plate, index here) of equal time."""

    def __init__(self, folder: Path, case: Case) -> None:
        self.folder, self.case = folder, case
        try:
            manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
            self.entries = manifest["frames"]
            plates = [entry["plate"] for entry in self.entries]
            self.has_matte = "matte.A" in manifest["edit"]["channels"]
        except (OSError, ValueError, KeyError, TypeError):
            raise InputError(f"{folder / 'manifest.json'}: not a delivery's manifest; render it again") from None
        if plates != [case.plate.fingerprint(f) for f in case.plate.frames]:
            raise InputError(f"{folder}: its plate is not {case.row.input}; render it again")
        self.count, self.note, self.pairs = len(plates), "", [(i, i) for i in range(len(plates))]

    def pixels(self, index: int) -> np.ndarray:
        """The composite, in the plate's type."""
        return self._image(index, "composite")

    def picture(self, index: int) -> np.ndarray:
        """The composite as display values (H, W, 3) in [0, 1]."""
        return self.case.show(self.pixels(index))

    def matte(self, index: int) -> np.ndarray | None:
        """The model's alpha, for display-encoded colour (H, W) in [0, 1]; None if it was not delivered."""
        return np.clip(self._image(index, "edit")[..., 4].astype(np.float32), 0, 1) if self.has_matte else None

    def layer_alpha(self, index: int) -> np.ndarray:
        """The alpha of the delivered layer."""
        return self._image(index, "edit")[..., 3]

    def fingerprint(self) -> list[str]:
        """Hash of the manifest, which contains the hashes of all files."""
        return [file_hash(self.folder / "manifest.json")]

    def _image(self, index: int, kind: str) -> np.ndarray:
        path = self.folder / self.entries[index][kind]["file"]
        try:
            return image_file.read_image(path)
        except OSError as error:
            raise InputError(f"{error}; render it again") from None


class Video:
    """A result of any editor: a movie, and optionally its alpha as a second movie of equal size and length.

    pairs: (index in the plate, index here) of equal time.
    """

    def __init__(self, path: Path, alpha: Path | None, case: Case) -> None:
        self.case, self.files = case, [p for p in (path, alpha) if p]
        self.video = open_plate(str(path))
        self.color = PlateColor(resolve_space(None, self.video), self.video.pixel_type)
        size = (self.video.height, self.video.width)
        self.pairs, notes = pairing(case.count, case.plate.fps, len(self.video.frames), self.video.fps, str(path))
        self.count = len(self.pairs)
        if size != case.size:
            refuse_other_shape(size, case.size, str(path))
            notes.append(f"{size[1]}x{size[0]} scaled to {case.size[1]}x{case.size[0]}")
        self.note = "; ".join(notes)
        self._alpha = open_mask(str(alpha), self.video) if alpha else None

    def picture(self, index: int) -> np.ndarray:
        """A frame as display values (H, W, 3) in [0, 1], at the plate's size."""
        picture = self.color.for_display(self.video.read(self.video.frames[index]))
        return scaled(picture, self.case.size)

    def matte(self, index: int) -> np.ndarray | None:
        """The alpha (H, W) in [0, 1], at the plate's size; None without one."""
        if self._alpha is None:
            return None
        return scaled(self._alpha.read(self.video.frames[index])[..., None], self.case.size)[..., 0]

    def fingerprint(self) -> list[str]:
        """Hashes of all frames and of the alpha's file."""
        frames = [self.video.fingerprint(f) for f in self.video.frames]
        return frames + [file_hash(p) for p in self.files[1:]]


def pairing(
    plate_count: int, plate_fps: Fraction | None, count: int, fps: Fraction | None, name: str
) -> tuple[list[tuple[int, int]], list[str]]:
    """Match frames of equal time: ((index in the plate, index in the result), ...), and notes for the table.

    Raises InputError by the rules of this module; name: the result's name in messages.
    """
    notes, every, each = [], 1, 1  # steps between matched frames: in the result, in the plate
    if count != plate_count and fps and plate_fps:
        ratio = float(fps / plate_fps)
        whole = round(ratio if ratio >= 1 else 1 / ratio)
        if abs((ratio if ratio >= 1 else 1 / ratio) / whole - 1) > RATE_TOLERANCE:
            fix = f"convert it to {float(plate_fps):g} fps"
            raise InputError(f"{name}: {float(fps):g} fps beside the plate's {float(plate_fps):g}; {fix}")
        every, each = (whole, 1) if ratio >= 1 else (1, whole)
        if whole > 1:
            notes.append(f"{float(fps):g} fps beside {float(plate_fps):g}: frames of equal time")
    lasts = -(-count // every) * each  # the result's duration in frames of the plate
    if abs(lasts / plate_count - 1) > LENGTH_TOLERANCE:
        raise InputError(f"{name}: lasts {lasts} frames beside the plate's {plate_count}; another clip, or truncated")
    pairs = [(i, i // each * every) for i in range(0, min(plate_count, lasts), each)]
    if lasts != plate_count and not (each > 1 and 0 <= lasts - plate_count < each):
        notes.append(f"lasts {lasts} of {plate_count} frames")
    return pairs, notes


def refuse_other_shape(size: tuple[int, int], plate_size: tuple[int, int], name: str) -> None:
    """Raise InputError if the aspects of two sizes (height, width) differ by more than SHAPE_TOLERANCE."""
    shape, plate_shape = (width / height for height, width in (size, plate_size))
    if abs(shape / plate_shape - 1) > SHAPE_TOLERANCE:
        sizes = f"{size[1]}x{size[0]} beside the plate's {plate_size[1]}x{plate_size[0]}"
        raise InputError(f"{name}: {sizes} was cropped or padded; undo that first (only scaling is undone here)")


def scaled(picture: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resize (H, W, C) in [0, 1]: antialiased bicubic, clamped. A picture of this size is returned unchanged."""
    if picture.shape[:2] == size:
        return picture
    planes = torch.from_numpy(np.ascontiguousarray(picture)).movedim(-1, 0)[None]
    planes = F.interpolate(planes, size, mode="bicubic", antialias=True, align_corners=False)
    return planes[0].movedim(0, -1).clamp(0, 1).numpy()


def file_hash(path: Path) -> str:
    """SHA-256 of a file."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
