"""Write a row of a dataset as a clip of lossless movies."""

from pathlib import Path

import av
import numpy as np

from vera.core.data.datasets.layered import FPS, Row
from vera.core.data.datasets.layered_media import read_layers

PIXELS = "gbrp16le"  # FFV1's, which keeps 16-bit RGB bit for bit


def write_clip(row: Row, folder: Path) -> None:
    """Write `instruction.txt` and a movie for each layer into a new folder. Raises BrokenRowError, OSError."""
    layers = read_layers(row)
    folder.mkdir(parents=True)
    for name, frames in layers.items():
        _write_movie(folder / f"{name}.mkv", frames.numpy())
    # Last: a folder without it is no row.
    (folder / "instruction.txt").write_text(row.instruction + "\n", encoding="utf-8")


def _write_movie(file: Path, frames: np.ndarray) -> None:
    """frames (T, H, W, 3) uint8 or uint16, as FFV1 of 16 bits."""
    with av.open(str(file), "w") as out:
        stream = out.add_stream("ffv1", rate=FPS)
        stream.height, stream.width, stream.pix_fmt = frames.shape[1], frames.shape[2], PIXELS
        for frame in frames:
            wide = frame if frame.dtype == np.uint16 else frame.astype(np.uint16) * 257
            out.mux(stream.encode(av.VideoFrame.from_ndarray(wide, "rgb48le").reformat(format=PIXELS)))
        out.mux(stream.encode())
