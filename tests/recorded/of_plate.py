"""Plates as they are read: pixels, colour, patterns, ranges, channels, cuts, exposure, grain and sharpness."""

from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tests.plate.media import write_image
from tests.recorded.footage import SIZE, bytes_of, disc, film, linear, plate, plates, sequence
from tests.recorded.recording import attempt, of_command, plain, record
from vera.core.plate import (
    choice,
    clock,
    color_curve,
    color_exposure,
    color_space,
    cuts,
    fit,
    grain,
    pattern,
    pixel,
    region,
    sharpness,
    source,
    timecode,
)
from vera.core.plate.color import PlateColor


def facts(opened: Any) -> Any:
    """What a plate says of itself, and its frames."""
    if isinstance(opened, Exception):
        return opened
    names = ("frames", "width", "height", "channels", "pixel_type", "extension", "fps", "pixel_aspect", "timecode")
    found = {name: str(getattr(opened, name)) for name in names if hasattr(opened, name)}
    found["space"] = [color_space.resolve_space(None, opened).name, color_space.space_reason(None, opened)]
    return found | {"pixels": [opened.read(frame) for frame in opened.frames][:2]}


@record
def sequences_of_every_type(folder: Path) -> Any:
    found = {}
    pictures = {
        "half.exr": linear(plate(0)),
        "float.exr": linear(plate(0)).astype(np.float32),
        "8.png": bytes_of(plate(0)),
        "16.png": (plate(0) * 65535).astype(np.uint16),
        "8.tif": bytes_of(plate(0)),
        "float.tif": plate(0).astype(np.float32),
        "8.tga": bytes_of(plate(0)),
        "grey.png": bytes_of(plate(0))[..., :1],
        "alpha.png": np.concatenate([bytes_of(plate(0)), bytes_of(disc(0))], -1),
        "10.dpx": (plate(0) * 65535).astype(np.uint16),
        "32.tif": (plate(0) * (2**32 - 1)).astype(np.uint32),
    }
    for name, pixels in pictures.items():
        kind, _, extension = name.partition(".")
        hook = (lambda spec: spec.attribute("oiio:BitsPerSample", 10)) if kind == "10" else None
        for number in (8, 9):
            attempt(write_image, folder / f"{kind}.{number}.{extension}", pixels, spec_hook=hook)
        found[name] = facts(attempt(source.open_plate, str(folder / f"{kind}.#.{extension}")))
    return found


@record
def headers(folder: Path) -> Any:
    pixels = linear(plate(0))
    given = {
        "rate": {"framesPerSecond": ("rational", (24000, 1001))},
        "aspect": {"PixelAspectRatio": 2.0},
        "named": {"oiio:ColorSpace": "ACEScg"},
        "turned": {"Orientation": 6},
        "timecode": {"smpte__TimeCode": ("timecode", (0x01020304, 0))},
    }
    found = {}
    for name, attributes in given.items():
        attempt(write_image, folder / f"{name}.1.exr", pixels, **attributes)
        found[name] = facts(attempt(source.open_plate, str(folder / f"{name}.#.exr")))
    for name, layers in {
        "layers": ["beauty.R", "beauty.G", "beauty.B", "normal.R", "normal.G", "normal.B"],
        "depth": ["R", "G", "B", "Z", "A", "mask.A"],
    }.items():
        write_image(folder / f"{name}.1.exr", np.concatenate([pixels, pixels / 2], -1), names=layers)
        for layer in (None, "normal", "absent"):
            opened = attempt(source.open_plate, str(folder / f"{name}.#.exr"), None, choice.Choice(layer=layer))
            found[f"{name} {layer}"] = facts(opened)
    return found


@record
def movies(folder: Path) -> Any:
    film(folder / "m.mkv", plates(4), rate=25)
    found = {}
    for frames in (None, "2-3", "4-9", "0-1"):
        found[str(frames)] = facts(attempt(source.open_plate, str(folder / "m.mkv"), frames))
    return found


@record
def refused_plates(folder: Path) -> Any:
    sequence(folder / "gap", plates(2))
    sequence(folder / "gap", plates(1), 1005)
    write_image(folder / "size.1.png", bytes_of(plate(0)))
    write_image(folder / "size.2.png", bytes_of(plate(0, (24, 32))))
    (folder / "bad.1.png").write_bytes(b"no picture")
    (folder / "note.txt").write_text("x")
    names = ["gap/frame.####.png", "size.#.png", "bad.#.png", "note.txt", "none.#.png", "gap", "", "gap/frame.1001.png"]
    found = {}
    for name in names:
        opened = attempt(source.open_plate, str(folder / name))
        found[name] = (
            opened if isinstance(opened, Exception) else [list(opened.frames), attempt(opened.read, opened.frames[-1])]
        )
    return found


@record
def masks(folder: Path) -> Any:
    shot = source.open_plate(sequence(folder / "in", plates(3)))
    shapes = {
        "still": [folder / "m.png", [bytes_of(disc(0))]],
        "grey half": [folder / "h.png", [bytes_of(0.5 * disc(0) * np.ones(3))]],
        "small": [folder / "s.png", [bytes_of(plate(0, (12, 16)))]],
        "alpha": [folder / "a.png", [np.concatenate([bytes_of(plate(0)), bytes_of(disc(3))], -1)]],
    }
    found: dict[str, Any] = {}
    for name, (path, (pixels,)) in shapes.items():
        write_image(path, pixels)
        for hold in (False, True):
            mask = attempt(source.open_mask, str(path), shot, None, hold)
            found[f"{name} {hold}"] = mask if isinstance(mask, Exception) else mask.read(shot.frames[0])
    moving = sequence(folder / "moving", [disc(n) * np.ones(3) for n in range(5)], 1000)
    for frames in (None, "1001-1003"):
        mask = attempt(source.open_mask, moving, shot, frames)
        found[f"moving {frames}"] = mask if isinstance(mask, Exception) else [mask.read(f) for f in shot.frames]
    return found


@record
def patterns(folder: Path) -> Any:
    names = [
        "a.####.exr",
        "a.%04d.exr",
        "a.%d.exr",
        "a_#.png",
        "a.1001.exr",
        "a.exr",
        "a.##.##.exr",
        "a.@@.exr",
        "a.$F4.exr",
    ]
    found: dict[str, Any] = {}
    for name in names:
        made = attempt(pattern.find_pattern, Path(name))
        found[name] = (
            made if made is None or isinstance(made, Exception) else [vars(made), pattern.frame_in_name(Path(name))]
        )
    for text in ("1-9", "7", "-3--1", "9-1", "x", "1-9x2", "1-", "0-0"):
        found[f"frames {text}"] = attempt(pattern.parse_frames, text)
    there = [1, 2, 3, 5]
    for asked in (None, range(1, 4), range(3, 6), range(9, 10)):
        found[f"chosen {asked}"] = attempt(pattern.choose_frames, asked, there if asked else [1, 2, 3], "the plate")
    return found


@record
def curves_and_spaces(folder: Path) -> Any:
    light = np.array([-0.5, 0, 0.001, 0.0031308, 0.18, 0.5, 1, 4, 60], np.float32)
    found: dict[str, Any] = {
        "encoded": color_curve.encode_srgb(light),
        "decoded": color_curve.decode_srgb(light),
    }
    pixels = np.stack([light, light[::-1], light / 2], -1)[None]
    for name in ("linear", "srgb", "ACEScg", "ACES2065-1", "ARRI LogC4", "nosuch"):
        space = attempt(color_space.find_space, name)
        if isinstance(space, Exception):
            found[name] = space
            continue
        for stops in (0.0, 1.0):
            color = PlateColor(space, "float", stops) if stops else PlateColor(space, "float")
            found[f"{name} {stops}"] = [color.to_model(pixels), color.light(pixels)]
    for kind in ("uint8", "uint10", "uint12", "uint16", "half", "float"):
        found[kind] = attempt(lambda k=kind: [str(pixel.dtype_of(k)), pixel.is_float(k)])
    return found


@record
def sizes(folder: Path) -> Any:
    shapes = [(1920, 1080, 1.0), (1080, 1920, 1.0), (2048, 858, 1.0), (1828, 1556, 2.0), (64, 48, 1.0), (5000, 20, 1.0)]
    found = {
        f"{s} {p} {m}": attempt(fit.model_size, *s, p, m) for s in shapes for p, m in ((832 * 480, 16), (48 * 32, 16))
    }
    picture = torch.from_numpy(plate(0)).movedim(-1, 0).float()
    found["shrunk"] = fit.shrink(picture, 20, 14)
    return found


@record
def cuts_and_clocks(folder: Path) -> Any:
    clips = [plate(n) for n in range(6)] + [1 - plate(n) for n in range(5)] + [np.full((*SIZE, 3), 0.1)] * 3
    film(folder / "m.mkv", clips)
    found: dict[str, Any] = {"pairs": [cuts.difference(a, b) for a, b in zip(clips, clips[1:], strict=False)]}
    found["inspected"] = of_command(folder, "inspect", str(folder / "m.mkv"), "--json")
    for name, times in {
        "even": [Fraction(n, 24) for n in range(5)],
        "late": [Fraction(n, 25) + Fraction(1, 2) for n in range(5)],
        "uneven": [Fraction(n, 1000) for n in (0, 42, 83, 125, 167)],
        "gap": [Fraction(n, 24) for n in (0, 1, 4, 5)],
        "falling": [Fraction(n, 24) for n in (0, 2, 1, 3)],
        "one": [Fraction(0)],
        "missing": [None, Fraction(1, 24)],
    }.items():
        found[name] = attempt(clock.conform, times, [Fraction(24)])
    for words in ("01:02:03:04", "00:59:59:23", "01:00:00;02", "x"):
        found[words] = [
            attempt(timecode.timecode_words, words, rate, 5) for rate in (Fraction(24), Fraction(30000, 1001), None)
        ]
    return found


@record
def exposure_grain_and_sharpness(folder: Path) -> Any:
    dark = sequence(folder / "dark", [p**2 * 0.4 for p in plates(3)], extension="exr")
    opened = source.open_plate(dark)
    noisy = [
        np.clip(plate(0, (96, 128)) * 0.2 + 0.3 + np.random.default_rng(n).normal(0, 0.02, (96, 128, 3)), 0, 1)
        for n in range(4)
    ]
    pictures = [p.astype(np.float32) for p in noisy]
    found = {
        "exposure": color_exposure.shot_exposure(opened, PlateColor(color_space.find_space("linear"), "half")),
        "pairs": [grain.measured_pairs(list(range(n))) for n in (1, 2, 5, 40)],
        "sharpness": sharpness.sharpness_of(pictures),
        "blur": [attempt(sharpness.edge_blur, np.float32(disc(0, soft=s) * np.ones(3))) for s in (1, 4, 9)],
    }
    measured = grain.measure_grain(range(4), lambda n: pictures[n])
    return found | {"grain": plain(measured)}


@record
def regions(folder: Path) -> Any:
    opened = source.open_plate(sequence(folder / "in", plates(1)))
    given = [None, (0, 0, 64, 48), (3, 5, 17, 19), (60, 40, 20, 20), (0, 0, 1, 1), (-5, 0, 20, 20)]
    return {str(each): attempt(region.region_of, opened, each) for each in given}


@record
def inspections(folder: Path) -> Any:
    shot = sequence(folder / "in", plates(2), extension="exr")
    mask = write_image(folder / "m.png", bytes_of(disc(0) * np.ones(3)))
    runs = [
        [shot],
        [shot, "--mask", mask],
        [shot, "--json"],
        [shot, "--color-space", "ACEScg"],
        [shot, "--frames", "1002"],
    ]
    runs += [[str(folder / "no.#.exr")], []]
    return {
        " ".join(str(w).replace(str(folder), "TMP") for w in words): of_command(folder, "inspect", *words)
        for words in runs
    }
