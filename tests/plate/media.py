"""Test files made on the fly."""

from pathlib import Path

import av
import numpy as np
import OpenImageIO as oiio

_KINDS = {"float16": "half", "float32": "float", "float64": "double", "uint32": "uint"}


def write_image(file: Path, pixels: np.ndarray, names=None, spec_hook=None, **attributes) -> Path:
    """Write (H, W, C) in its own type. In attribute names `__` stands for `:`."""
    kind = str(pixels.dtype)
    height, width, channels = pixels.shape
    spec = oiio.ImageSpec(width, height, channels, _KINDS.get(kind, kind))
    if names:
        spec.channelnames = names
    for name, value in attributes.items():
        name = name.replace("__", ":")
        if isinstance(value, tuple):
            spec.attribute(name, *value)
        else:
            spec.attribute(name, value)
    if spec_hook:
        spec_hook(spec)
    out = oiio.ImageOutput.create(str(file))
    assert out is not None, oiio.geterror()
    assert out.open(str(file), spec), out.geterror()
    assert out.write_image(pixels), out.geterror()
    assert out.close(), out.geterror()
    return file


def noise(frame: int, kind=np.float16, size=(48, 64), planted=False) -> np.ndarray:
    """A frame (H, W, 3) of noise, floats up to 4; planted: floats with every special value that a plate may hold."""
    rng = np.random.default_rng(frame)
    pixels = rng.random((*size, 3), np.float32)
    if np.issubdtype(kind, np.integer):
        return (pixels * np.iinfo(kind).max).astype(kind)
    pixels = (pixels * 4).astype(kind)
    if planted:
        special = [np.nan, np.inf, -np.inf, -0.0, np.finfo(kind).smallest_subnormal, np.finfo(kind).max, -3.0]
        some = pixels.reshape(-1)[::32]
        some[:] = np.resize(np.array(special, kind), some.shape)
    return pixels


def write_noise(folder: Path, frames, kind=np.float16, extension="exr", size=(48, 64), planted=False, **how) -> Path:
    """A sequence of `noise`; how: of write_image. Returns the pattern."""
    folder.mkdir(exist_ok=True)
    for frame in frames:
        write_image(folder / f"plate.{frame:04d}.{extension}", noise(frame, kind, size, planted), **how)
    return folder / f"plate.####.{extension}"


def write_sequence(folder: Path, frames, name="plate.{:04d}.exr", kind=np.float16, size=(6, 8, 3)) -> Path:
    """Files of one value each: the frame number over 1024. Returns the pattern."""
    for frame in frames:
        write_image(folder / name.format(frame), np.full(size, frame / 1024).astype(kind))
    return folder / name.replace("{:04d}", "####")


def write_movie(
    file: Path, pictures, codec="libx264", pix_fmt="yuv420p", options=None, tune=None, rate=24, **container
) -> Path:
    """Encode pictures: rgb arrays (H, W, 3) or frames already in `pix_fmt`."""
    with av.open(str(file), "w", options=container) as out:
        stream = None
        for picture in pictures:
            frame = picture
            if isinstance(picture, np.ndarray):
                frame = av.VideoFrame.from_ndarray(picture, "rgb24").reformat(format=pix_fmt)
            if stream is None:
                stream = out.add_stream(codec, rate=rate)
                stream.width, stream.height, stream.pix_fmt = frame.width, frame.height, pix_fmt
                stream.options = options or {}
                if tune:
                    tune(stream)
            frame.pts = None
            out.mux(stream.encode(frame))
        out.mux(stream.encode())
    return file


def grey_levels(count: int, size=(48, 64)) -> list[np.ndarray]:
    """Pictures that can be told apart after lossy coding: level 10 + 12 k, each flat."""
    return [np.full((*size, 3), 10 + 12 * (k % 20), np.uint8) for k in range(count)]


def planar(pix_fmt: str, *planes: np.ndarray) -> av.VideoFrame:
    """A frame out of its stored planes."""
    frame = av.VideoFrame(planes[0].shape[1], planes[0].shape[0], pix_fmt)
    for plane, values in zip(frame.planes, planes):
        rows = np.zeros((plane.height, plane.line_size // values.dtype.itemsize), values.dtype)
        rows[:, : values.shape[1]] = values
        plane.update(rows.tobytes())
    return frame
