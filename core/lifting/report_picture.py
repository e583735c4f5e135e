"""report.png shows on a few frames which part of the edited video became the layer and which was discarded."""

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageDraw, ImageFont

from vera.core.files import replacing
from vera.core.layer.delivery import Delivery
from vera.core.lifting.haze import MIN_REPORTED_ALPHA
from vera.core.lifting.lifted_windows import CHANNELS, LiftedVideo
from vera.core.lifting.parts import Parts
from vera.core.lifting.read_frames import LiftedJob
from vera.kernels.area_means import shrunk_planes

FILE = "report.png"
WIDTH, GAP, EDGE = 256, 8, 20  # pixels: of a picture, between pictures, around the sheet
ROWS = 3  # frames shown
TITLE, TEXT, SMALL = 20, 14, 12  # type sizes in pixels
INK, FAINT, PAPER = (235, 235, 235), (160, 160, 160), (28, 28, 28)  # RGB of text, minor text and sheet
NUMBER_COLOR = (255, 190, 60)  # RGB of the parts' numbers
RESIDUAL_SCALE = 8  # factor about grey by which the discarded difference is amplified
MAX_NUMBERS = 12  # parts numbered on one frame; more hide the alpha
CHECKER_COLUMNS = 32  # squares of the checkerboard across the frame
COLUMNS = (
    ("plate", "as filmed"),
    ("edited video", "as it came"),
    ("kept: layer", "over a checkerboard"),
    ("kept: alpha", "black stays as filmed; numbers of --parts"),
    ("result", "layer over plate"),
    ("thrown away", f"drift, shift and noise, times {RESIDUAL_SCALE}"),
)
ALPHA_COLUMN = 3  # index in COLUMNS of the picture with the parts' numbers


def write(
    delivery: Delivery,
    job: LiftedJob,
    video: LiftedVideo,
    parts: Parts,
    read_edited: Callable[[int], torch.Tensor],
) -> None:
    """Write the picture into the delivery. Raises OSError.

    video: the whole layer
    parts: its parts, dropped ones included
    read_edited: gives the edited frame (3, h, w) of a position in job.indices
    """
    count, found = len(job.indices), video.found
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
    haze = haze if found["haze"] * found["haze_share"] >= MIN_REPORTED_ALPHA else ""
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
        layer = parts.kept(video[job.indices[position]].float(), job.indices[position])
        for column, picture in enumerate(_pictures(job, layer, position, read_edited(position))):
            sheet.paste(_image(picture, height), (EDGE + column * step_x, y))
        for numbered in parts.there(job.indices[position])[:MAX_NUMBERS]:
            left = EDGE + ALPHA_COLUMN * step_x + min(numbered.box[0] * WIDTH + 2, WIDTH - 4 * SMALL)
            words = f"{numbered.number}" if parts.stays(numbered.number) else f"{numbered.number} dropped"
            place = left, y + numbered.box[1] * (height - SMALL)
            draw.text(place, words, NUMBER_COLOR, ImageFont.load_default(SMALL), stroke_width=2, stroke_fill=PAPER)
        say(EDGE, y + height + 3, f"frame {job.plate.frames[job.indices[position]]}", SMALL, FAINT)
    with replacing(delivery.dir / FILE) as part:
        sheet.save(part, format="PNG")


def _pictures(job, layer, position, edited):
    """The pictures of COLUMNS, (3, h, w) each, encoded."""
    index = job.indices[position]
    plate = torch.from_numpy(
        np.ascontiguousarray(job.color.for_display(job.plate.read(job.plate.frames[index])), np.float32)
    )
    plate = plate.movedim(-1, 0)
    small = shrunk_planes(plate, (edited.shape[1], edited.shape[2]))
    color, alpha, *_ = layer.split(CHANNELS)
    side = max(1, edited.shape[2] // CHECKER_COLUMNS)
    squares = torch.arange(edited.shape[1])[:, None] // side + torch.arange(edited.shape[2]) // side
    behind = 0.35 + 0.1 * (squares % 2)
    result = alpha * color + (1 - alpha) * small
    left = 0.5 + RESIDUAL_SCALE * (edited - result)
    return (plate, edited, alpha * color + (1 - alpha) * behind, alpha.expand(3, -1, -1), result, left)


def _image(picture, height):
    shown = F.interpolate(picture[None], (height, WIDTH), mode="bilinear", antialias=True)[0].movedim(0, -1)
    return Image.fromarray(np.rint(shown.clamp(0, 1).numpy() * 255).astype(np.uint8))
