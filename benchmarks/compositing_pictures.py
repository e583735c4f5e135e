"""Make the pictures and figures of docs/compositing.md: `python -m benchmarks.compositing_pictures FOLDER`."""

import sys
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from vera.core.layer.blend_space import Change, ModelLayer, composite, find_blending, layer_for_blending
from vera.core.plate.color import PlateColor
from vera.core.plate.color_curve import DISPLAY, SCENE, decode_srgb, encode_srgb
from vera.core.plate.color_space import LINEAR, SRGB
from vera.core.plate.source import open_plate

SIZE = (180, 320)


def frame():
    """A frame of the demo's plate, small: (h, w, 3) display values."""
    pixels = open_plate("demo/plate.mp4", "20").read(20)
    return np.asarray(Image.fromarray(pixels).resize(SIZE[::-1], Image.Resampling.BOX), np.float32) / 255


def drawn():
    """A straight layer like a model's: a soft shadow on the left, smoke on the right, a ball between."""
    y, x = np.mgrid[: SIZE[0], : SIZE[1]] / SIZE[0]

    def at(cx, cy, r):
        return np.clip(1 - np.hypot(x - cx, y - cy) / r, 0, 1)

    shadow = 0.75 * np.clip(2 * at(0.4, 0.6, 0.45), 0, 1)
    smoke = 0.7 * np.clip(1.5 * at(1.35, 0.45, 0.45), 0, 1)
    ball = np.clip(40 * at(0.88, 0.5, 0.2), 0, 1)
    alpha = np.maximum(np.maximum(shadow, smoke), ball)
    color = np.where((smoke > shadow)[..., None], [0.75, 0.75, 0.78], [0.02, 0.02, 0.04])
    light = np.clip(1.1 - 3 * np.hypot(x - 0.83, y - 0.44), 0.1, 1)[..., None]
    color = np.where((ball > 0.02)[..., None], light * [0.85, 0.12, 0.08], color)
    return color.astype(np.float32), alpha.astype(np.float32)


def sheet(path, panels):
    """Panels (title, display values) side by side, two in a row, as a PNG."""
    height, width, margin, label = *SIZE, 8, 16
    rows = (len(panels) + 1) // 2
    page = Image.new("RGB", (2 * (width + margin) + margin, rows * (height + label + margin) + margin), (24, 24, 24))
    draw = ImageDraw.Draw(page)
    for i, (title, picture) in enumerate(panels):
        left, top = margin + (i % 2) * (width + margin), margin + (i // 2) * (height + label + margin)
        draw.text((left, top), title, fill=(220, 220, 220))
        page.paste(Image.fromarray(np.rint(np.clip(picture, 0, 1) * 255).astype(np.uint8)), (left, top + label))
    page.save(path, optimize=True)


def steps(picture, truth):
    error = 255 * np.abs(np.clip(picture, 0, 1) - truth)
    return f"{error.mean():.2f} steps of 255 on average, {error.max():.0f} at worst"


def blending_space(path):
    """The layer composited in linear light: converted for it, and unconverted."""
    plate, (edit, alpha) = frame(), drawn()
    color, a = PlateColor(SRGB, "float"), alpha[..., None]
    truth = a * edit + (1 - a) * plate
    ours = composite(
        plate,
        layer_for_blending(ModelLayer(edit, alpha, plate), color, find_blending("linear", None, SRGB)),
        color,
        find_blending("linear", None, SRGB),
    )
    naive = encode_srgb((a * decode_srgb(edit) + (1 - a) * decode_srgb(plate)).astype(np.float32))
    print("blending space: made for it", steps(ours, truth), "| unchanged", steps(naive, truth))
    sheet(
        path,
        [
            ("plate", plate),
            ("as the model composed it", truth),
            ("the layer, laid over in linear light", ours),
            ("the same alpha and colour, not made for linear light", naive),
        ],
    )


def highlights(path):
    """A shadow of half the codes over a window of 30 times white; shown three stops down."""
    plate = decode_srgb(frame()) * np.float32(0.7)
    plate[30:90, 60:110] = 30
    plate[30:90, 200:250] = 30
    alpha = np.zeros(SIZE, np.float32)
    alpha[:, 160:] = 0.5
    edit, color = np.zeros((*SIZE, 3), np.float32), PlateColor(LINEAR, "float")
    source, blending = color.to_model(plate), find_blending("linear", None, LINEAR)
    ours = composite(plate, layer_for_blending(ModelLayer(edit, alpha, source), color, blending), color, blending)
    crushed = SCENE.decode((1 - alpha[..., None]) * source)
    print(
        f"highlight of 30 under half a shadow: {ours[60, 225, 0]:.2f};"
        f" white keeps {SCENE.passes(np.float32([0.5]))[0]:.4f};"
        f" composed in codes {crushed[60, 225, 0]:.2f}"
    )

    def down(light):
        return DISPLAY.encode((light / np.float32(8)).astype(np.float32))

    sheet(
        path,
        [
            ("plate, two windows of 30 x white, three stops down", down(plate)),
            ("half a shadow on the right: the layer", down(ours)),
            ("the same, composed in codes: the window is gone", down(crushed)),
            ("the layer, at its own exposure", DISPLAY.encode(ours)),
        ],
    )


def relative(path):
    """Day for night through a codec that loses grain and highlights: decoded colour, and colour relative to the
    plate."""
    rng = np.random.default_rng(0)
    smooth = decode_srgb(frame())
    plate = (smooth * 2 ** (0.3 * rng.standard_normal((*SIZE, 1)))).astype(np.float32)
    color, blending = PlateColor(LINEAR, "float"), find_blending("linear", None, LINEAR)

    def low(light):
        codes = Image.fromarray(np.rint(255 * SCENE.encode(light)).astype(np.uint8)).resize(
            (80, 45), Image.Resampling.BOX
        )
        return np.asarray(codes.resize(SIZE[::-1], Image.Resampling.BILINEAR), np.float32) / 255

    codec, night = low(plate), low(plate * np.float32([0.25, 0.35, 0.6]))
    alpha, one = np.ones(SIZE, np.float32), np.ones(SIZE, np.float32)
    source = color.to_model(plate)

    def lay(change):
        layer = layer_for_blending(ModelLayer(night, alpha, source, change), color, blending)
        return composite(plate, layer, color, blending)

    sheet(
        path,
        [
            ("plate with grain", DISPLAY.encode(plate)),
            ("the plate, out of a codec", DISPLAY.encode(SCENE.decode(codec))),
            ("replace: the decoded colour", DISPLAY.encode(lay(None))),
            ("relative: the plate, changed as much", DISPLAY.encode(lay(Change(plate, codec, one)))),
        ],
    )


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    blending_space(folder / "compositing-space.png")
    highlights(folder / "compositing-highlights.png")
    relative(folder / "compositing-relative.png")
