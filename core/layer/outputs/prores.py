"""edit.mov: the layer as ProRes 4444 with alpha, straight colour, sRGB-encoded, BT.709.

Alpha has 10 bits, exactly 0 and 1 at its ends.
"""

from collections.abc import Iterable, Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from vera.core.files import replacing
from vera.core.layer.blend_space import Blending
from vera.core.layer.origin import KEEP_TAGS, UNSTATED, Origin
from vera.core.layer.outputs.display import straight
from vera.core.layer.outputs.output import Shot, ShotOutput
from vera.core.plate.source import Plate

# Luma of BT.709 (H.273), 10 bits, limited range.
_RED, _BLUE = 0.2126, 0.0722
_BLACK, _LUMA, _CHROMA, _GREY = 64, 876, 896, 512
_ALPHA_BITS, _DECODED_BITS = 10, 12  # bits of alpha when encoded, and of all planes as decoded
_BYTES_PER_PIXEL = 2.0  # estimated bytes on the disk per pixel


class ProRes(ShotOutput):
    name, file = "prores", "edit.mov"

    def write(self, shot: Shot, layers: Iterator[np.ndarray]) -> None:
        write_prores(self.path(shot), layers, shot.plate, shot.blending, shot.origin)

    def bytes_per_pixel(self, shot: Shot) -> float:
        return _BYTES_PER_PIXEL


def write_prores(
    path: Path, layers: Iterable[np.ndarray], plate: Plate, blending: Blending, origin: Origin = UNSTATED
) -> None:
    """ProRes 4444 with alpha, of premultiplied layers (H, W, 4), one a frame of the plate.

    Where alpha is 0, the colour of the layer's edge is continued, so that the codec mixes no other colour into the
    edge. The file is read back: the frame count must match, and alpha must lie within half a step of 10 bits and be
    exactly 0 and 1 at its ends. Raises OSError otherwise; no file then exists.
    """
    rate = plate.fps if plate.fps and plate.fps > 0 else Fraction(24)
    alphas = []
    with replacing(path) as part:
        with av.open(str(part), "w", format="mov", options=KEEP_TAGS) as movie:
            movie.metadata.update(origin.movie_tags())
            stream = movie.add_stream("prores_ks", rate=rate, options={"profile": "4444", "alpha_bits": "16"})
            stream.width, stream.height, stream.pix_fmt = plate.width, plate.height, "yuva444p10le"
            context = stream.codec_context
            context.sample_aspect_ratio = Fraction(plate.pixel_aspect).limit_denominator(1000)
            context.colorspace, context.color_primaries, context.color_trc, context.color_range = 1, 1, 1, 1
            for number, layer in enumerate(layers):
                codes = _prores_codes(layer, blending)
                alphas.append(_ends(codes[3], 2**_ALPHA_BITS - 1))
                frame = av.VideoFrame(plate.width, plate.height, "yuva444p10le")
                frame.pts = number
                for plane, values in zip(frame.planes, codes):
                    rows = np.zeros((plane.height, plane.line_size // 2), "<u2")
                    rows[:, : values.shape[1]] = values
                    plane.update(rows.tobytes())
                movie.mux(stream.encode(frame))
            movie.mux(stream.encode())
        _verify(part, path, alphas, len(plate.frames))


def _prores_codes(layer: np.ndarray, blending: Blending) -> list[np.ndarray]:
    """Y, U, V and alpha, (H, W) uint16 of 10 bits each."""
    import torch  # here, so that the table of outputs loads without torch

    from vera.kernels.planes import pull_push

    alpha = layer[..., 3].astype(np.float32)
    planes = torch.from_numpy(straight(layer, blending)).movedim(-1, 0)[None]
    r, g, b = pull_push(planes, torch.from_numpy((alpha > 0).astype(np.float32))[None, None])[0].numpy()
    y = _RED * r + (1 - _RED - _BLUE) * g + _BLUE * b
    u, v = (b - y) / (2 * (1 - _BLUE)), (r - y) / (2 * (1 - _RED))
    codes = (_BLACK + _LUMA * y, _GREY + _CHROMA * u, _GREY + _CHROMA * v, alpha * (2**_ALPHA_BITS - 1))
    return [np.rint(np.clip(c, 0, 2**10 - 1)).astype(np.uint16) for c in codes]


def _ends(alpha: np.ndarray, top: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The parts of an alpha plane that are compared: packed masks of exact 0 and 1, and a thinned set of values."""
    return np.packbits(alpha == 0), np.packbits(alpha == top), alpha[::7, ::5] / np.float32(top)


def _verify(part: Path, path: Path, alphas: list[tuple[np.ndarray, np.ndarray, np.ndarray]], count: int) -> None:
    seen = 0
    with av.open(str(part)) as movie:
        for frame in movie.decode(video=0):
            if frame.format.name != "yuva444p12le":
                raise OSError(f"{path}: reads back as {frame.format.name}, without its alpha")
            plane = frame.planes[3]
            alpha = np.frombuffer(memoryview(plane), "<u2").reshape(plane.height, -1)[:, : frame.width]
            found, meant = _ends(alpha, 2**_DECODED_BITS - 1), alphas[seen]
            exact = all(np.array_equal(f, m) for f, m in zip(found[:2], meant[:2]))
            if not exact or np.abs(found[2] - meant[2]).max() > 2.0**-_ALPHA_BITS:
                raise OSError(f"{path}: frame {seen + 1}: alpha does not read back as it was written")
            seen += 1
    if seen != count or len(alphas) != count:
        raise OSError(f"{path}: holds {seen} of {count} frames")
