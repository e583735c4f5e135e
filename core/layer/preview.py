"""Preview movie, contact sheet and thumbnails of a delivery, encoded for a display."""

import functools
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageDraw
from PIL.PngImagePlugin import PngInfo

from vera.core.files import replacing
from vera.core.layer.blend_space import Blending
from vera.core.layer.origin import KEEP_TAGS, UNSTATED, Origin
from vera.core.plate.color_curve import decode_srgb, encode_srgb
from vera.core.plate.source import Plate
from vera.kernels import shrink
from vera.kernels.halves import to_halves
from vera.kernels.part import Part
from vera.kernels.shrink import alpha_box

_MOVIE_WIDTH = 1280  # largest width of the movie in pixels; raising it shows more detail and slows down delivery
# (row, column) of the movie's four pictures. They have one size, so that a wipe can compare them.
VIEWS = {"composite": (0, 0), "plate": (0, 1), "layer": (1, 0), "alpha": (1, 1)}
_SHEET_FRAMES, _SHEET_WIDTH, _MARGIN, _LABEL = 5, 300, 8, 16
THUMBNAIL = 320
_GREYS, _SQUARE = (0.32, 0.48), 12  # the checkerboard: display values, pixels


@dataclass
class Shown:
    """One frame of the preview. The three pictures may differ in size.

    plate, composite: (H, W, 3) float32 display values in [0, 1]
    layer: (H, W, 4) float32 premultiplied, as delivered for `blending`
    gain: the shot's exposure
    """

    frame: int
    plate: np.ndarray
    layer: np.ndarray
    composite: np.ndarray
    blending: Blending
    gain: float = 1.0


@dataclass(frozen=True)
class SmallFrame:
    """Plate, layer and composite (h, w, C), each in its own type, at the movie's picture size. The composite is the
    plate outside of `part`."""

    plate: np.ndarray
    layer: np.ndarray
    composite: np.ndarray
    part: Part


def shrunk(
    plate: Plate, filmed: np.ndarray, layer: np.ndarray, composite: np.ndarray, white: float = np.inf
) -> SmallFrame:
    """A frame's pixels (H, W, C) at the movie's picture size. The composite has the plate's bits where alpha is 0.

    white: value of display white in a linear plate. Highlights of plate and composite are clipped there before they are
        averaged, as the display does; otherwise they would bleed into their neighbours.
    """
    size = _small(plate)
    small = _reduced(filmed, size, Part.whole(size), white)
    _, box = alpha_box(layer)
    layer_small, composite_small = np.zeros((*size, 4), layer.dtype), small.copy()
    if box is None:
        return SmallFrame(small, layer_small, composite_small, Part(0, 0, 0, 0))
    part = _reached(box, layer.shape[:2], size)
    layer_small[part.slices] = _reduced(layer, size, part)
    composite_small[part.slices] = _reduced(composite, size, part, white)
    return SmallFrame(small, layer_small, composite_small, part)


def _reached(box: Part, have: tuple[int, ...], size: tuple[int, int]) -> Part:
    """The part of a picture shrunk to `size` that pixels of a box in the whole one, of size `have`, contribute to."""
    ends = []
    for low, high, old, new in ((box.top, box.bottom, have[0], size[0]), (box.left, box.right, have[1], size[1])):
        margin = 1 + math.ceil(1.5 * max(1.0, new / old))
        ends += [max(0, low * new // old - margin), min(new, -(-high * new // old) + margin)]
    return Part(*ends)


def movie_picture(shown: Shown, plate: Plate) -> np.ndarray:
    """The four `VIEWS`: composite and plate, below them layer over a checkerboard and alpha. (2 h, 2 w, 3) uint8."""
    height, width = size = _small(plate)
    checkered, alpha = _layer_views(shown.layer, shown.blending, size, shown.gain)
    views = {
        "composite": _shrink(shown.composite, size),
        "plate": _shrink(shown.plate, size),
        "layer": checkered,
        "alpha": alpha,
    }
    picture = np.empty(movie_shape(plate), np.uint8)
    for name, (row, column) in VIEWS.items():
        picture[height * row : height * (row + 1), width * column : width * (column + 1)] = _bytes(views[name])
    return picture


def movie_shape(plate: Plate) -> tuple[int, int, int]:
    """Shape of the pictures of `movie_picture`."""
    height, width = _small(plate)
    return 2 * height, 2 * width, 3


def write_movie(path: Path, pictures: Iterable[np.ndarray], plate: Plate, origin: Origin = UNSTATED) -> None:
    """Write an H.264 movie of `movie_picture` pictures, one per plate frame. Raises OSError."""
    height, width = _small(plate)
    rate = plate.fps if plate.fps and plate.fps > 0 else Fraction(24)
    with replacing(path) as part:
        with av.open(str(part), "w", options=KEEP_TAGS) as movie:
            movie.metadata.update(origin.movie_tags())
            stream = h264_stream(movie, rate, 2 * width, 2 * height)
            for picture in pictures:
                movie.mux(stream.encode(as_bt709(av.VideoFrame.from_ndarray(picture, "rgb24"))))
            movie.mux(stream.encode())
        with av.open(str(part)) as movie:
            count = sum(1 for _ in movie.decode(video=0))
        if count != len(plate.frames):
            raise OSError(f"{path}: holds {count} of {len(plate.frames)} frames")


def has_views(path: Path, plate: Plate) -> bool:
    """Whether the movie has the layout `VIEWS`, judged by its size. Older versions had another layout."""
    height, width = _small(plate)
    try:
        with av.open(str(path)) as movie:
            context = movie.streams.video[0].codec_context
            return (context.width, context.height) == (2 * width, 2 * height)
    except (OSError, IndexError, av.FFmpegError):
        return False


def sheet_frames(plate: Plate) -> list[int]:
    """The frames of the contact sheet, spread over the shot."""
    places = np.linspace(0, len(plate.frames) - 1, min(_SHEET_FRAMES, len(plate.frames)))
    return [plate.frames[round(place)] for place in places]


def sheet_column(shown: Shown, plate: Plate) -> list[np.ndarray]:
    """A frame's pictures on the contact sheet, uint8: plate, layer over a checkerboard, alpha and composite."""
    size = _sheet_height(plate), _SHEET_WIDTH
    views = _layer_views(shown.layer, shown.blending, size, shown.gain)
    pictures = [_bytes(picture) for picture in (_shrink(shown.plate, size), *views, _shrink(shown.composite, size))]
    pictures[2] = pictures[2].repeat(3, axis=2)  # alpha
    return pictures


def write_contact_sheet(
    path: Path, column: Callable[[int], list[np.ndarray]], plate: Plate, origin: Origin = UNSTATED
) -> None:
    """PNG of `sheet_frames`. column(frame) gives the frame's `sheet_column`."""
    frames = sheet_frames(plate)
    sheet = _sheet(frames, [column(frame) for frame in frames], _sheet_height(plate))
    with replacing(path) as part:
        sheet.save(part, format="PNG", pnginfo=_text_chunks(origin))


def write_thumbnail(path: Path, layer: np.ndarray, plate: Plate, blending: Blending) -> None:
    """PNG of one delivered layer (H, W, 4) over a checkerboard, THUMBNAIL pixels on its longer side."""
    picture, _ = _layer_views(layer.astype("float32"), blending, _thumbnail_size(plate))
    with replacing(path) as part:
        Image.fromarray(_bytes(picture)).save(part, format="PNG")


def write_poster(path: Path, picture: np.ndarray, plate: Plate) -> None:
    """PNG of one composite, (H, W, 3) float32 display values, THUMBNAIL pixels on its longer side."""
    with replacing(path) as part:
        Image.fromarray(_bytes(_shrink(picture, _thumbnail_size(plate)))).save(part, format="PNG")


def _thumbnail_size(plate: Plate) -> tuple[int, int]:
    """(height, width)"""
    scale = THUMBNAIL / max(plate.width * plate.pixel_aspect, plate.height)
    return max(1, round(plate.height * scale)), max(1, round(plate.width * plate.pixel_aspect * scale))


def _text_chunks(origin: Origin) -> PngInfo:
    chunks = PngInfo()
    for name, value in origin.attributes().items():
        chunks.add_text(name, value)
    return chunks


def _small(plate: Plate) -> tuple[int, int]:
    """(height, width) of each of the movie's four pictures."""
    width = _even(min(_MOVIE_WIDTH / 2, plate.width))
    return _even(width * _shape(plate)), width


def _layer_views(
    layer: np.ndarray, blending: Blending, size: tuple[int, int], gain: float = 1.0
) -> tuple[np.ndarray, np.ndarray]:
    """The layer over a checkerboard, laid in its blending space, (h, w, 3); and its alpha, (h, w, 1)."""
    layer = np.ascontiguousarray(_shrink(layer, size))
    behind, picture = _checkerboard_as_laid(size, blending, gain)
    _, box = alpha_box(layer)
    if box is not None:
        here = layer[box.slices]
        picture = picture.copy()
        picture[box.slices] = _shown_light(here[..., :3] + (1 - here[..., 3:]) * behind[box.slices], blending, gain)
    return picture, layer[..., 3:]


@functools.lru_cache(maxsize=4)
def _checkerboard_as_laid(size: tuple[int, int], blending: Blending, gain: float) -> tuple[np.ndarray, np.ndarray]:
    """The checkerboard in the blending space, of a shot whose exposure is gain; and as it is shown."""
    behind = blending.from_light(decode_srgb(checkerboard(size)) / np.float32(gain))
    return behind, _shown_light(behind, blending, gain)


def _shown_light(values: np.ndarray, blending: Blending, gain: float) -> np.ndarray:
    return encode_srgb(np.maximum(blending.to_light(values) * np.float32(gain), 0))


def checkerboard(size: tuple[int, int]) -> np.ndarray:
    y, x = np.indices(size) // _SQUARE
    return np.where((y + x) % 2, *_GREYS).astype(np.float32)[..., None].repeat(3, axis=2)


def _sheet_height(plate: Plate) -> int:
    return max(1, round(_SHEET_WIDTH * _shape(plate)))


def _sheet(frames: list[int], columns: list[list[np.ndarray]], height: int) -> Image.Image:
    step_x, step_y = _SHEET_WIDTH + _MARGIN, height + _MARGIN + _LABEL
    names = ("plate", "edit layer", "alpha", "composite")
    sheet = Image.new("RGB", (len(frames) * step_x + _MARGIN, 4 * step_y + _MARGIN), (24, 24, 24))
    draw = ImageDraw.Draw(sheet)
    for column, (frame, pictures) in enumerate(zip(frames, columns)):
        for row, (name, picture) in enumerate(zip(names, pictures)):
            x, y = _MARGIN + column * step_x, _MARGIN + row * step_y
            draw.text((x, y), f"{frame}  {name}", fill=(210, 210, 210))
            sheet.paste(Image.fromarray(picture), (x, y + _LABEL))
    return sheet


def h264_stream(movie: Any, rate: Fraction, width: int, height: int) -> Any:
    stream = movie.add_stream("libx264", rate=rate, options={"crf": "18", "preset": "veryfast"})
    stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
    stream.thread_count = 2
    context = stream.codec_context
    context.colorspace, context.color_primaries, context.color_trc, context.color_range = 1, 1, 1, 1
    return stream


def as_bt709(frame: av.VideoFrame) -> av.VideoFrame:
    return frame.reformat(format="yuv420p", dst_colorspace="ITU709", dst_color_range="MPEG")


def _shape(plate: Plate) -> float:
    """Height over width as seen."""
    return plate.height / (plate.width * plate.pixel_aspect)


def _even(length: float) -> int:
    return max(2, 2 * round(length / 2))


def _shrink(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The image at `size`, by a triangular filter, which has no negative lobes beside highlights."""
    if image.shape[:2] == size:
        return image
    planes = torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)[None]
    planes = F.interpolate(planes, size=size, mode="bilinear", antialias=True)
    return planes[0].permute(1, 2, 0).numpy()


def _reduced(image: np.ndarray, size: tuple[int, int], part: Part, white: float = np.inf) -> np.ndarray:
    """A part of the image at `size`, in its own type.

    Large images are subsampled first, to at least twice `size`. In float images NaN becomes 0, and values above `white`
    become white.
    """
    step = max(1, min(have // (2 * wanted) for have, wanted in zip(image.shape, size)))
    is_float = image.dtype.kind == "f"
    most = min(white, float(np.finfo(image.dtype).max)) if is_float else np.inf
    small = shrink.shrunk(image[::step, ::step], size, part, most)
    if is_float:
        return to_halves(small) if image.dtype == np.float16 else small.astype(image.dtype, copy=False)
    top = np.iinfo(image.dtype).max
    return np.minimum(np.rint(small.astype(np.float64)), top).astype(image.dtype)


def _bytes(picture: np.ndarray) -> np.ndarray:
    return (
        torch.from_numpy(np.require(picture, requirements=("C", "W")))
        .clamp(0, 1)
        .mul_(255)
        .round_()
        .to(torch.uint8)
        .numpy()
    )
