"""report.png: what was kept of the edited video, and what was thrown away, on a few frames."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageDraw, ImageFont

from vera.core.files import replacing
from vera.core.layer.delivery import Delivery
from vera.core.lifting.haze import LEAST_TOLD
from vera.core.lifting.lifted_windows import CHANNELS, LiftedVideo
from vera.core.lifting.read_frames import LiftedJob

FILE = "report.png"
WIDTH, GAP, EDGE, ROWS = 256, 8, 20, 3
TITLE, TEXT, SMALL = 20, 14, 12  # sizes of type
INK, FAINT, PAPER = (235, 235, 235), (160, 160, 160), (28, 28, 28)
SHOWN_TIMES = 8  # how much what was thrown away is enlarged about grey
SQUARES = 32  # of the checkerboard behind the layer, across
COLUMNS = (
    ("plate", "as filmed"),
    ("edited video", "as it came"),
    ("kept: layer", "over a checkerboard"),
    ("kept: alpha", "black stays as filmed"),
    ("result", "layer over plate"),
    ("thrown away", f"drift, shift and noise, times {SHOWN_TIMES}"),
)


def write(
    delivery: Delivery,
    job: LiftedJob,
    layers: LiftedVideo,
    found: dict[str, Any],
    read_edited: Callable[[int], torch.Tensor],
) -> None:
    """layers[i]: of the plate's i-th frame, as LiftedVideo gives them; found: the windows' figures;
    read_edited(position): the edited frame (3, h, w) at that place in job.indices. Raises OSError."""
    count = len(job.indices)
    positions = sorted({round(k * (count - 1) / max(1, ROWS - 1)) for k in range(ROWS)})
    height = round(WIDTH * job.plate.height / (job.plate.width * job.plate.pixel_aspect))
    top, step_x, step_y = (EDGE + TITLE + 2 * TEXT + 56, WIDTH + GAP, height + GAP + SMALL + 8)
    size = (2 * EDGE + len(COLUMNS) * step_x - GAP, top + len(positions) * step_y + EDGE - GAP)
    sheet = Image.new("RGB", size, PAPER)
    draw = ImageDraw.Draw(sheet)

    def say(x, y, words, size=TEXT, ink=INK):
        draw.text((x, y), words, fill=ink, font=ImageFont.load_default(size))

    covered = sum(delivery.facts(f)["coverage"] for f in job.plate.frames) / len(job.plate.frames)
    say(
        EDGE,
        EDGE,
        f"{1 - covered:.1%} of the picture stays as filmed, bit for bit; the layer covers {covered:.1%}",
        TITLE,
    )
    away = f"{found['shift_pixels']:.2f} pixels of shift and {found['color_drift']:.1%} of colour drift (means)"
    haze = f" A haze of {found['haze']:.0%} over {found['haze_share']:.0%} of the picture is part of the layer."
    haze = haze if found["haze"] * found["haze_share"] >= LEAST_TOLD else ""
    say(
        EDGE,
        EDGE + TITLE + 12,
        f"Taken out of the edited video: {away}, and its noise wherever the layer is clear.{haze}",
        ink=FAINT,
    )
    for column, (name, meaning) in enumerate(COLUMNS):
        x = EDGE + column * step_x
        say(x, top - TEXT - SMALL - 14, name)
        say(x, top - SMALL - 8, meaning, SMALL, FAINT)
    for row, position in enumerate(positions):
        y = top + row * step_y
        for column, picture in enumerate(_pictures(job, layers, position, read_edited(position))):
            sheet.paste(_image(picture, height), (EDGE + column * step_x, y))
        say(EDGE, y + height + 3, f"frame {job.plate.frames[job.indices[position]]}", SMALL, FAINT)
    with replacing(delivery.dir / FILE) as part:
        sheet.save(part, format="PNG")


def _pictures(job, layers, position, edited):
    """Those of COLUMNS, (3, h, w) each, encoded."""
    index = job.indices[position]
    plate = torch.from_numpy(
        np.ascontiguousarray(job.color.for_display(job.plate.read(job.plate.frames[index])), np.float32)
    )
    plate = plate.movedim(-1, 0)
    small = F.interpolate(plate[None], edited.shape[1:], mode="area")[0]
    color, alpha, *_ = layers[index].float().split(CHANNELS)
    side = max(1, edited.shape[2] // SQUARES)
    squares = torch.arange(edited.shape[1])[:, None] // side + torch.arange(edited.shape[2]) // side
    behind = 0.35 + 0.1 * (squares % 2)
    result = alpha * color + (1 - alpha) * small
    left = 0.5 + SHOWN_TIMES * (edited - result)
    return (plate, edited, alpha * color + (1 - alpha) * behind, alpha.expand(3, -1, -1), result, left)


def _image(picture, height):
    shown = F.interpolate(picture[None], (height, WIDTH), mode="bilinear", antialias=True)[0].movedim(0, -1)
    return Image.fromarray(np.rint(shown.clamp(0, 1).numpy() * 255).astype(np.uint8))
