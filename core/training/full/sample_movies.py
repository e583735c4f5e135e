"""Sample movies of a full-size run: held-out rows, sampled in few steps with the weights reached so far."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

from vera.core.files import replacing
from vera.core.layer.preview import as_bt709, checkerboard, h264_stream
from vera.core.sampling.solver import Solver

FOLDER = "samples"  # folder of the movies within the run's folder
STEPS = 8  # sampling steps; raising it sharpens the samples and takes proportionally longer
GUIDANCE = 5.0  # scale of guidance, Wan's usual one; 1 would take half the passes, and follow the instruction less
CELL_WIDTH, CELL_HEIGHT = 320, 192  # pixels that a picture fits into, even numbers; larger shows more, on more disk
SHEET_FRAMES = 3  # frames of a row that the contact sheet shows; raising it makes the sheet higher
RATE = Fraction(16)  # frames per second of the datasets' clips
VIEWS = ("plate", "composite", "layer over a checkerboard", "alpha")  # the columns
BACKGROUND = 24  # grey beside pictures of another shape than the cell, of 255


@dataclass(frozen=True)
class SampledRow:
    """A held-out row's name, latents of its plate (C, t, h, w), and sampled latents of the three layers (3, C, ...)."""

    row: str
    source: torch.Tensor
    layers: torch.Tensor


def sample_layers(
    velocity: Callable[[torch.Tensor, torch.Tensor], torch.Tensor | None], noise: torch.Tensor, shift: float
) -> torch.Tensor | None:
    """Layers' latents (1, 3, C, t, h, w) from noise of that shape.

    velocity(noisy, timestep (1,)) is the guided prediction, noise - clean; None ends sampling, and None is returned.
    """
    solver = Solver(STEPS, shift)
    state = solver.start(noise)
    for i, timestep in enumerate(solver.timesteps):
        predicted = velocity(state[:, 0], timestep[None].to(noise.device, torch.float32))
        if predicted is None:
            return None
        state = solver.step(i, predicted, state)
    return state[:, 0]


def pictures_of(
    sampled: SampledRow, decode: Callable[[torch.Tensor, int], torch.Tensor], frames: int
) -> list[np.ndarray]:
    """One picture a frame: the `VIEWS` side by side, (CELL_HEIGHT, 4 CELL_WIDTH, 3) uint8.

    decode(latents (1, C, t, h, w), frames) -> (3, T, H, W). One stream is decoded at a time and shrunk at once.
    """
    edit, alpha, _ = (fitted(decode(latents[None], frames)) for latents in sampled.layers)
    plate = fitted(decode(sampled.source[None], frames))
    alpha = alpha.mean(-1, keepdim=True)
    board = torch.from_numpy(checkerboard(tuple(plate.shape[1:3])))
    views = (plate, alpha * edit + (1 - alpha) * plate, alpha * edit + (1 - alpha) * board, alpha.expand_as(edit))
    return [np.concatenate([in_cell(view[t].numpy()) for view in views], axis=1) for t in range(len(plate))]


def fitted(video: torch.Tensor) -> torch.Tensor:
    """(3, T, H, W) -> (T, h, w, 3) in [0, 1] on the CPU, shrunk to fit the cell in its own shape."""
    video = video.movedim(1, 0).float().clamp(0, 1)
    height, width = video.shape[2:]
    scale = min(1.0, CELL_WIDTH / width, CELL_HEIGHT / height)
    if scale < 1:
        size = max(1, round(height * scale)), max(1, round(width * scale))
        video = F.interpolate(video, size=size, mode="bilinear", antialias=True)
    return video.movedim(1, -1).cpu()


def in_cell(picture: np.ndarray) -> np.ndarray:
    """A picture (h, w, 3) in [0, 1] in the middle of a cell, uint8."""
    cell = np.full((CELL_HEIGHT, CELL_WIDTH, 3), BACKGROUND, np.uint8)
    top, left = (CELL_HEIGHT - picture.shape[0]) // 2, (CELL_WIDTH - picture.shape[1]) // 2
    cell[top : top + picture.shape[0], left : left + picture.shape[1]] = np.rint(picture * 255)
    return cell


def write_samples(folder: Path, step: int, rows: Sequence[Sequence[np.ndarray]]) -> Path:
    """Write step-NNNNNN.mp4, the rows' pictures one below the other, and a contact sheet of the same name as PNG.

    Returns the sheet's path. Raises OSError.
    """
    folder.mkdir(parents=True, exist_ok=True)
    movie, sheet = (folder / f"step-{step:06d}{suffix}" for suffix in (".mp4", ".png"))
    with replacing(movie) as part, av.open(str(part), "w", format="mp4") as out:
        frames = [np.concatenate(pictures) for pictures in zip(*rows)]
        stream = h264_stream(out, RATE, frames[0].shape[1], frames[0].shape[0])
        for frame in frames:
            out.mux(stream.encode(as_bt709(av.VideoFrame.from_ndarray(frame, "rgb24"))))
        out.mux(stream.encode())
    with replacing(sheet) as part:
        shown = [row[round(place)] for row in rows for place in np.linspace(0, len(row) - 1, SHEET_FRAMES)]
        Image.fromarray(np.concatenate(shown)).save(part, format="PNG")
    return sheet
