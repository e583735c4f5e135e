"""A contact sheet of an edition's results: `vera model sheet docs/mini.png`.

Each cell is one frame of a layer over a held-out plate, at model size. Only the instructions are chosen by hand.
"""

from pathlib import Path
from typing import Any

import torch
from PIL import Image, ImageDraw

from vera.core.data.engine.clips import make_clip
from vera.core.evaluation.sample_clip import delivered, run

SUBJECT_PLATE_LABELS = {"edit": "background", "background": "sea"}  # labels that give a plate with a subject
# Labels that give a plate without a subject.
EMPTY_PLATE_LABELS = {
    "edit": "effect",
    "effect": "fog",
    "amount": "light",
}
INSTRUCTIONS = (
    "Add a large red balloon rising on the right",
    "Add a yellow star at the top",
    "Put a glossy green apple in the centre",
    "Add a pink heart in the top left corner",
    "Add a large blue umbrella on the left",
    "Add an orange fish drifting right",
    "Add a metallic cyan rocket rising",
    "Place a purple mushroom at the bottom",
    "Add a glowing white lantern on the right",
    "Add a large red butterfly",
    "Add a white paper plane in the upper part",
    "Add a large yellow flower on the left",
    "Add falling snow",
    "Add heavy rain",
    "Add a plume of smoke",
    "Add fire and embers",
    "Add confetti",
    "Add sun rays",
    "Change the background to a sunset. Keep the person intact.",
    "Change the background to a brick wall. Keep the dancer intact.",
    "Change the background to a starry night. Keep the woman intact.",
    "Change the background to a green field. Keep the man intact.",
    "Put snowy mountains behind the person.",
    "Change the background to a stormy sea. Keep the dancer intact.",
)
FIRST_SEED = 5_900_000  # seed of the first plate
HEIGHT, WIDTH = 80, 144  # pixels of a plate
FRAMES = 13
SHOWN_FRAME = 8  # index of the frame in the sheet
COLUMNS = 4
SCALE = 2  # magnification of a picture in the sheet
CAPTION = 16  # pixels of height for a caption


def draw_sheet(model: Any, steps: int, path: Path) -> None:
    """Sample every instruction and write the sheet as a picture."""
    rows = -(-len(INSTRUCTIONS) // COLUMNS)
    cell = WIDTH * SCALE + 6, HEIGHT * SCALE + CAPTION + 6
    sheet = Image.new("RGB", (cell[0] * COLUMNS, cell[1] * rows), "white")
    draw = ImageDraw.Draw(sheet)
    for k, text in enumerate(INSTRUCTIONS):
        labels = SUBJECT_PLATE_LABELS if "ackground" in text or "behind" in text else EMPTY_PLATE_LABELS
        source = make_clip(FIRST_SEED + k, HEIGHT, WIDTH, torch.arange(FRAMES), labels, held_out=True).source
        color, alpha, _ = run(model, source, text, None, steps, model.limits.guidance)
        alpha = delivered(alpha, source, subject=labels is SUBJECT_PLATE_LABELS)[SHOWN_FRAME]
        composed = alpha * color[:, SHOWN_FRAME] + (1 - alpha) * source[SHOWN_FRAME]
        pixels = (composed.permute(1, 2, 0) * 255).round().clamp(0, 255).byte().numpy()
        at = k % COLUMNS * cell[0], k // COLUMNS * cell[1]
        sheet.paste(Image.fromarray(pixels).resize((WIDTH * SCALE, HEIGHT * SCALE), Image.Resampling.BICUBIC), at)
        draw.text((at[0] + 2, at[1] + HEIGHT * SCALE + 2), text.split(". ")[0], fill="black")
    sheet.save(path)
