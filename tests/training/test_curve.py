"""The picture of the loss curve."""

import json

import numpy as np
from PIL import Image, ImageColor

from vera.core.training.curve import BOTTOM, COLORS, HEIGHT, TOP, draw_curve


def test_curves_are_drawn_at_the_height_of_their_values(tmp_path):
    """Constant losses a decade apart: flat lines, in order, evenly spaced."""
    rows = [{"step": i, "losses": [10.0, 1.0, 0.1]} for i in range(500)]
    (tmp_path / "log.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    draw_curve(tmp_path / "log.jsonl", tmp_path / "curve.png")
    pixels = np.asarray(Image.open(tmp_path / "curve.png"))
    middle = pixels[TOP - 5 :, 400]
    heights = [np.flatnonzero((middle == ImageColor.getrgb(c)).all(-1)).mean() + TOP - 5 for c in COLORS[:3]]
    expected = [TOP, (TOP + HEIGHT - BOTTOM) / 2, HEIGHT - BOTTOM]
    assert np.abs(np.subtract(heights, expected)).max() <= 1.5


def test_a_log_of_one_line_draws_no_curve(tmp_path):
    (tmp_path / "log.jsonl").write_text(json.dumps({"step": 4, "losses": [1.0]}) + "\n")
    draw_curve(tmp_path / "log.jsonl", tmp_path / "curve.png")
    assert not (tmp_path / "curve.png").exists()
