"""The layer once more, in the files of hosts that read no EXR: 16-bit PNG, and ProRes 4444 with alpha.

Both hold straight colour (unassociated), encoded with sRGB's curve, and alpha as in the EXR. The same alpha is
another picture in another blending space: hosts that add up display values want --blend-space encoded.
"""

from fractions import Fraction

import av
import numpy as np
import OpenImageIO as oiio
import torch

from vera.core.files import replacing
from vera.core.plate.color_curve import encode_srgb
from vera.kernels.planes import pull_push

# Luma of BT.709 (H.273), 10 bits, limited range.
_RED, _BLUE = 0.2126, 0.0722
_BLACK, _LUMA, _CHROMA, _GREY = 64, 876, 896, 512
_ALPHA_BITS, _DECODED_BITS = 10, 12  # what goes into ProRes, and what its decoder gives


def straight(layer, blending):
    """Layer (H, W, 4) premultiplied -> straight display colour (H, W, 3) float32 in [0, 1], 0 where alpha is 0."""
    color, alpha = layer[..., :3].astype(np.float32), layer[..., 3:].astype(np.float32)
    color = np.divide(color, alpha, out=np.zeros_like(color), where=alpha > 0)
    return np.clip(encode_srgb(blending.to_light(color)) if blending.name == "linear" else color, 0, 1)


def png_codes(layer, blending):
    """The layer as a 16-bit PNG holds it: (H, W, 4) uint16, straight; exact 0 and 65535 where alpha is 0 and 1."""
    values = np.concatenate([straight(layer, blending), layer[..., 3:].astype(np.float32)], -1)
    return np.rint(values * 65535).astype(np.uint16)


def png_header(plate):
    spec = oiio.ImageSpec(plate.width, plate.height, 4, "uint16")
    spec.attribute("oiio:UnassociatedAlpha", 1)
    spec.attribute("oiio:ColorSpace", "srgb_rec709_scene")
    spec.attribute("PixelAspectRatio", float(plate.pixel_aspect))
    return spec


def write_prores(path, layers, plate, blending):
    """ProRes 4444 with alpha, of premultiplied layers (H, W, 4), one a frame of the plate.

    Where alpha is 0 the colour of the layer's edge goes on, so that the codec mixes nothing foreign into an
    edge. Read back: as many frames, and an alpha within half a step of 10 bits, exactly 0 and 1 at its ends.
    Raises OSError otherwise; there is then no file.
    """
    rate = plate.fps if plate.fps and plate.fps > 0 else Fraction(24)
    alphas = []
    with replacing(path) as part:
        with av.open(str(part), "w", format="mov") as movie:
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
                    plane.update(rows)
                movie.mux(stream.encode(frame))
            movie.mux(stream.encode())
        _verify(part, path, alphas, len(plate.frames))


def _prores_codes(layer, blending):
    """Y, U, V and alpha, (H, W) uint16 of 10 bits each."""
    alpha = layer[..., 3].astype(np.float32)
    planes = torch.from_numpy(straight(layer, blending)).movedim(-1, 0)[None]
    r, g, b = pull_push(planes, torch.from_numpy((alpha > 0).astype(np.float32))[None, None])[0].numpy()
    y = _RED * r + (1 - _RED - _BLUE) * g + _BLUE * b
    u, v = (b - y) / (2 * (1 - _BLUE)), (r - y) / (2 * (1 - _RED))
    codes = (_BLACK + _LUMA * y, _GREY + _CHROMA * u, _GREY + _CHROMA * v, alpha * (2**_ALPHA_BITS - 1))
    return [np.rint(np.clip(c, 0, 2**10 - 1)).astype(np.uint16) for c in codes]


def _ends(alpha, top):
    """What is compared of an alpha plane: where it is exactly 0 and 1, packed, and its values thinned out."""
    return np.packbits(alpha == 0), np.packbits(alpha == top), alpha[::7, ::5] / np.float32(top)


def _verify(part, path, alphas, count):
    seen = 0
    with av.open(str(part)) as movie:
        for frame in movie.decode(video=0):
            if frame.format.name != "yuva444p12le":
                raise OSError(f"{path}: reads back as {frame.format.name}, without its alpha")
            plane = frame.planes[3]
            alpha = np.frombuffer(plane, "<u2").reshape(plane.height, -1)[:, : frame.width]
            found, meant = _ends(alpha, 2**_DECODED_BITS - 1), alphas[seen]
            exact = all(np.array_equal(f, m) for f, m in zip(found[:2], meant[:2]))
            if not exact or np.abs(found[2] - meant[2]).max() > 2.0**-_ALPHA_BITS:
                raise OSError(f"{path}: frame {seen + 1}: alpha does not read back as it was written")
            seen += 1
    if seen != count or len(alphas) != count:
        raise OSError(f"{path}: holds {seen} of {count} frames")
