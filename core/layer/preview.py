"""What a person looks at first: a movie and a contact sheet, encoded for a display."""

from dataclasses import dataclass
from fractions import Fraction

import av
import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageDraw

from core.layer.blend import Blending
from core.layer.exact_file import replacing
from core.plate.color_curve import decode_srgb, encode_srgb

_MOVIE_WIDTH = 1280
_SHEET_FRAMES, _SHEET_WIDTH, _MARGIN, _LABEL = 5, 300, 8, 16
THUMBNAIL = 320
_GREYS, _SQUARE = (0.32, 0.48), 12  # the checkerboard: display values, pixels


@dataclass
class Shown:
    """One frame: plate and composite (H, W, 3) float32 display values in [0, 1];
    layer (H, W, 4) float32 premultiplied, as delivered for `blending`; gain: the shot's exposure."""

    frame: int
    plate: np.ndarray
    layer: np.ndarray
    composite: np.ndarray
    blending: Blending
    gain: float = 1.0


def write_movie(path, shown_frames, plate):
    """H.264: the composite large, beside it the plate and the layer over a checkerboard.

    `shown_frames(frames)` yields a Shown for each. Raises OSError.
    """
    width = _even(min(_MOVIE_WIDTH / 3, plate.width / 2))
    size = (_even(width * _shape(plate)), width)
    rate = plate.fps if plate.fps and plate.fps > 0 else Fraction(24)
    with replacing(path) as part:
        with av.open(str(part), "w") as movie:
            stream = _h264(movie, rate, 3 * size[1], 2 * size[0])
            for shown in shown_frames(plate.frames):
                frame = av.VideoFrame.from_ndarray(_bytes(_movie_picture(shown, size)), "rgb24")
                movie.mux(stream.encode(_bt709(frame)))
            movie.mux(stream.encode())
        with av.open(str(part)) as movie:
            count = sum(1 for _ in movie.decode(video=0))
        if count != len(plate.frames):
            raise OSError(f"{path}: holds {count} of {len(plate.frames)} frames")


def write_contact_sheet(path, shown_frames, plate):
    """PNG: plate, layer over a checkerboard, alpha and composite, for frames over the shot."""
    places = np.linspace(0, len(plate.frames) - 1, min(_SHEET_FRAMES, len(plate.frames)))
    frames = [plate.frames[round(place)] for place in places]
    height = max(1, round(_SHEET_WIDTH * _shape(plate)))
    columns = [
        [_shrink(shown.plate, (height, _SHEET_WIDTH)), *_layer_views(shown, (height, _SHEET_WIDTH)),
         _shrink(shown.composite, (height, _SHEET_WIDTH))]
        for shown in shown_frames(frames)
    ]  # fmt: skip
    sheet = _sheet(frames, columns, height)
    with replacing(path) as part:
        sheet.save(part, format="PNG")


def write_thumbnail(path, layer, plate, blending):
    """PNG of one delivered layer (H, W, 4) over a checkerboard, THUMBNAIL pixels on its longer side."""
    scale = THUMBNAIL / max(plate.width * plate.pixel_aspect, plate.height)
    size = (max(1, round(plate.height * scale)), max(1, round(plate.width * plate.pixel_aspect * scale)))
    picture, _ = _layer_views(Shown(0, None, layer.astype("float32"), None, blending), size)
    with replacing(path) as part:
        Image.fromarray(_bytes(picture)).save(part, format="PNG")


def _movie_picture(shown, size):
    height, width = size
    checkered, _ = _layer_views(shown, size)
    beside = np.concatenate([_shrink(shown.plate, size), checkered])
    return np.concatenate([_shrink(shown.composite, (2 * height, 2 * width)), beside], axis=1)


def _layer_views(shown, size):
    """The layer over a checkerboard, laid in its blending space, and its alpha."""
    layer = _shrink(shown.layer, size)
    color, alpha = layer[..., :3], layer[..., 3:]
    behind = shown.blending.from_light(decode_srgb(_checkerboard(size)) / np.float32(shown.gain))
    light = shown.blending.to_light(color + (1 - alpha) * behind) * np.float32(shown.gain)
    picture = encode_srgb(np.maximum(light, 0))
    return picture, np.broadcast_to(alpha, picture.shape)


def _checkerboard(size):
    y, x = np.indices(size) // _SQUARE
    return np.where((y + x) % 2, *_GREYS).astype(np.float32)[..., None].repeat(3, axis=2)


def _sheet(frames, columns, height):
    step_x, step_y = _SHEET_WIDTH + _MARGIN, height + _MARGIN + _LABEL
    names = ("plate", "edit layer", "alpha", "composite")
    sheet = Image.new("RGB", (len(frames) * step_x + _MARGIN, 4 * step_y + _MARGIN), (24, 24, 24))
    draw = ImageDraw.Draw(sheet)
    for column, (frame, pictures) in enumerate(zip(frames, columns)):
        for row, (name, picture) in enumerate(zip(names, pictures)):
            x, y = _MARGIN + column * step_x, _MARGIN + row * step_y
            draw.text((x, y), f"{frame}  {name}", fill=(210, 210, 210))
            sheet.paste(Image.fromarray(_bytes(picture)), (x, y + _LABEL))
    return sheet


def _h264(movie, rate, width, height):
    stream = movie.add_stream("libx264", rate=rate, options={"crf": "18", "preset": "veryfast"})
    stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
    stream.thread_count = 2
    context = stream.codec_context
    context.colorspace, context.color_primaries, context.color_trc, context.color_range = 1, 1, 1, 1
    return stream


def _bt709(frame):
    return frame.reformat(format="yuv420p", dst_colorspace="ITU709", dst_color_range="MPEG")


def _shape(plate):
    """Height over width as seen."""
    return plate.height / (plate.width * plate.pixel_aspect)


def _even(length):
    return max(2, 2 * round(length / 2))


def _shrink(image, size):
    """To `size` with a triangular filter: no negative lobes beside highlights."""
    planes = torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)[None]
    planes = F.interpolate(planes, size=size, mode="bilinear", antialias=True)
    return planes[0].permute(1, 2, 0).numpy()


def _bytes(picture):
    return np.rint(np.clip(picture, 0, 1) * 255).astype(np.uint8)
