"""report.png: what was kept of the edited video, and what was thrown away, on a few frames."""

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageDraw

from core.layer.exact_file import replacing

WIDTH, MARGIN, LABEL, COLUMNS = 300, 8, 16, 4
SHOWN_TIMES = 8  # how much what was thrown away is enlarged about grey


def write(delivery, job, layers, found, read_edited):
    """layers[i]: (7, h, w) of the plate's i-th frame (colour, alpha, clean); found: the figures of the manifest;
    read_edited(position): the edited frame (3, h, w) at that place in job.indices. Raises OSError."""
    count = len(job.indices)
    positions = sorted({round(k * (count - 1) / max(1, COLUMNS - 1)) for k in range(COLUMNS)})
    height = round(WIDTH * job.size[1] / job.size[0])
    names = ("plate", "edited video", "kept: layer", "kept: alpha", f"thrown away, x{SHOWN_TIMES}")
    step_x, step_y = WIDTH + MARGIN, height + MARGIN + LABEL
    head = 2 * LABEL
    sheet = Image.new("RGB", (len(positions) * step_x + MARGIN, len(names) * step_y + MARGIN + head), (24, 24, 24))
    draw = ImageDraw.Draw(sheet)
    words = f"taken away: {found['shift_pixels']:.2f} pixels of shift, {found['color_drift']:.2%} of colour drift (means)"
    draw.text((MARGIN, MARGIN), words, fill=(210, 210, 210))
    for column, position in enumerate(positions):
        index = job.indices[position]
        frame = job.plate.frames[index]
        plate = job.color.for_display(job.plate.read(frame))
        layer = layers[index].float()
        color, alpha = layer[:3].movedim(0, -1).numpy(), layer[3:4].movedim(0, -1).numpy()
        edited = read_edited(position)
        small = F.interpolate(_planes(plate), edited.shape[1:], mode="area")[0].movedim(0, -1).numpy()
        edited = edited.movedim(0, -1).numpy()
        composite = alpha * color + (1 - alpha) * small
        pictures = (
            plate,
            edited,
            alpha * color + (1 - alpha) * 0.4,
            np.repeat(alpha, 3, 2),
            0.5 + SHOWN_TIMES * (edited - composite),
        )
        for row, (name, picture) in enumerate(zip(names, pictures)):
            x, y = MARGIN + column * step_x, MARGIN + head + row * step_y
            draw.text((x, y), f"{frame}  {name}", fill=(210, 210, 210))
            shown = F.interpolate(_planes(picture), (height, WIDTH), mode="bilinear", antialias=True)[0].movedim(0, -1)
            sheet.paste(Image.fromarray(np.rint(shown.clamp(0, 1).numpy() * 255).astype(np.uint8)), (x, y + LABEL))
    with replacing(delivery.dir / "report.png") as part:
        sheet.save(part, format="PNG")


def _planes(picture):
    return torch.from_numpy(np.ascontiguousarray(picture, np.float32)).movedim(-1, 0)[None]
