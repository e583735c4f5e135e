"""A dataset of odd own layers: sixty clips of many sizes, rates, lengths and formats, trained on as they arrive."""

import json
import math
import os
from dataclasses import dataclass
from functools import cache

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from tests.data.datasets.layers import write_movie
from tests.plate import media
from tests.plate.media import write_image
from tests.tiny_vera import CHANNELS, vera_directory
from vera.core.data.datasets.layered import LAYERS
from vera.core.data.datasets.layered_cache import Encoders
from vera.core.data.datasets.layered_media import model_layers
from vera.core.model.codec import SPACE_STRIDE, TIME_STRIDE
from vera.core.plate.color_curve import decode_srgb
from vera.core.training.full.trainer import Run, train

FRAMES, CLIP_FPS = 49, 16
DARKEST = 0.1  # frame f of every shot is a grey of DARKEST + shot.step * f, as a display shows it
EDIT, ALPHA = (0.75, 0.5, 0.25), 0.5  # the layer: a rectangle of this colour, half transparent


@dataclass(frozen=True)
class Shot:
    """A kind of shot, and how many clips it has to become.

    size: width and height. fps: stated by its files; None states none. media: see WRITERS.
    """

    size: tuple[int, int]
    clips: int
    count: int = 130
    fps: float | None = 24
    media: str = "exr"

    @property
    def name(self) -> str:
        return f"{self.media}-{self.size[0]}x{self.size[1]}-{self.count}-at-{self.fps}"

    @property
    def step(self) -> float:
        return 1 / 90 if self.media == "movie" else 1 / 160  # movies are short, and have 219 codes

    @property
    def rate(self) -> float:
        return self.fps or 24


# 130 frames at 24 a second are 87 at 16: two clips that overlap.
SIZES = [
    (33, 19),
    (50, 34),
    (64, 50),
    (19, 33),
    (31, 31),
    (47, 18),
    (57, 25),
    (36, 36),
    (21, 40),
    (63, 49),
    (40, 40),
    (49, 21),
]
SHOTS = [
    *(Shot(size, 2) for size in SIZES),
    *(
        Shot(size, 2, media=media)
        for size, media in zip(SIZES, ["cropped", "pair", "matte", "still mask", "composite"])
    ),
    *(Shot((33, 19), clips, fps=fps) for fps, clips in [(23.976, 2), (25, 2), (30, 1), (None, 2), (16, 3), (12, 3)]),
    *(Shot((50, 34), 1, count) for count in (49, 60, 73, 74, 81, 109)),
    *(Shot((47, 31), clips, count, fps, "png") for count, fps, clips in [(130, None, 2), (50, None, 1)]),
    *(Shot((46, 30), clips, count, fps, "movie") for count, fps, clips in [(75, 24, 1), (80, 16, 2), (60, 30, 1)]),
]


def grey(shot, frame):
    return DARKEST + shot.step * frame


def alpha_of(shot):
    """(H, W, 1)"""
    width, height = shot.size
    alpha = np.zeros((height, width, 1), np.float32)
    alpha[height // 4 : height - height // 4, width // 4 : width - width // 4] = ALPHA
    return alpha


class Frames:
    """Writes frames; one that was written before is linked."""

    def __init__(self, store):
        self.store, self.made = store, {}

    def write(self, file, make, *key, **header):
        key = (file.suffix, *key, *header.values())
        if key not in self.made:
            self.made[key] = self.store / f"{len(self.made)}{file.suffix}"
            write_image(self.made[key], np.ascontiguousarray(make()), **header)
        os.link(self.made[key], file)

    def write_exr(self, folder, frame, shot):
        """A layer as compositors render it: premultiplied, linear, half floats; one kind has other data windows."""
        alpha = alpha_of(shot)
        light = decode_srgb(np.full((*alpha.shape[:2], 3), grey(shot, frame), np.float32))
        colour = decode_srgb(np.broadcast_to(np.float32(EDIT), light.shape)) * alpha
        layers = {"layer": np.concatenate([colour, alpha], -1)}
        if shot.media in ("pair", "matte"):
            layers = {"edit": colour, "alpha": alpha}
        if shot.media == "composite":
            layers["composite"] = colour + (1 - alpha) * light
        for name, pixels in {"source": light, **layers}.items():
            moves = frame if name in ("source", "composite") else frame % 3 if shot.media == "cropped" else 0
            header = {"framesPerSecond": float(shot.fps)} if shot.fps else {}
            if shot.media == "cropped" and name == "layer":
                header["spec_hook"], pixels = cropped(shot.size, moves), pixels[moves:, 2 * moves :]
            if shot.media == "matte" and name == "alpha":
                header["names"] = ("A",)
            self.write(
                folder / f"{name}.{1001 + frame}.exr",
                lambda p=pixels: p.astype(np.float16),
                name,
                shot.size,
                moves,
                **header,
            )
        if shot.media == "still mask" and not frame:
            write_image(folder / "mask.png", np.uint8(255 * (alpha > 0)))

    def write_png(self, folder, frame, shot):
        """Straight colour in codes, 16 bits."""
        codes = np.full((*shot.size[::-1], 3), grey(shot, frame))
        layer = np.concatenate([np.broadcast_to(EDIT, codes.shape), alpha_of(shot)], -1)
        for name, pixels, moves in (("source", codes, frame), ("layer", layer, 0)):
            header = {"oiio__UnassociatedAlpha": 1} if name == "layer" else {}
            sixteen = np.rint(pixels * 65535).astype(np.uint16)
            self.write(folder / f"{name}.{frame:04d}.png", lambda p=sixteen: p, name, shot.size, moves, **header)


@cache
def cropped(size, moves):
    def crop(spec):
        spec.x, spec.y, spec.full_width, spec.full_height = 2 * moves, moves, *size

    return crop


def write_movies(folder, shot):
    alpha = np.broadcast_to(alpha_of(shot), (shot.count, *shot.size[::-1], 3))
    source = np.broadcast_to(grey(shot, np.arange(shot.count))[:, None, None, None], alpha.shape)
    pictures = np.rint(255 * source).astype(np.uint8)  # their greys tell the frames apart
    media.write_movie(folder / "source.mkv", pictures, "ffv1", "yuv444p10le", rate=shot.fps)
    write_movie(folder / "edit.mov", np.broadcast_to(EDIT, alpha.shape), rate=shot.fps)
    write_movie(folder / "alpha.mp4", alpha, rate=shot.fps)


def write_shot(folder, shot, frames):
    folder.mkdir(parents=True)
    (folder / "instruction.txt").write_text("Add a red boat")
    if shot.media == "movie":
        return write_movies(folder, shot)
    for frame in range(shot.count):
        (frames.write_png if shot.media == "png" else frames.write_exr)(folder, frame, shot)


def write_faulty_shots(root, frames):
    """Shots that cannot be used: folder -> part of the reason that is logged."""
    usual, short = Shot((40, 40), 0, FRAMES), Shot((40, 40), 0, FRAMES - 1)
    for name in FAULTY:
        write_shot(root / name, short if name == "short" else usual, frames)
    (root / "gap/source.1020.exr").unlink()
    for frame in range(1001, 1001 + FRAMES):
        for name, layer in (("other size", (33, 40, 4)), ("no alpha", (40, 40, 3)), ("no edit", (40, 40, 4))):
            file = root / name / f"layer.{frame}.exr"
            file.unlink()
            frames.write(file, lambda shape=layer: np.zeros(shape, np.float16), layer)
    damage_pixels(root / "damaged/source.1030.exr")


def damage_pixels(file):
    """Spoil the second of three blocks of an EXR's pixels; a file is opened by its first and its last line."""
    data = bytearray(file.read_bytes())
    file.unlink()  # it is a link
    # Of 16 lines each, of 40; the index of their places, 8 bytes each, ends where the first begins.
    [index] = [i for i in range(len(data) - 8) if int.from_bytes(data[i : i + 8], "little") == i + 8 * 3]
    begin = int.from_bytes(data[index + 8 : index + 16], "little") + 8  # after its number and size
    data[begin : begin + 8] = bytes(8)
    file.write_bytes(data)


FAULTY = {
    "short": "48 frames; 49 are the fewest of a clip",
    "gap": "frame 1020 missing",
    "other size": "40x33, but the source is 40x40",
    "no alpha": "has no alpha",
    "no edit": "the alpha is 0 everywhere",
    "damaged": "frame 1030",
}


ROWS = 60 + 2  # two are found broken while they are encoded; others take their places in the epoch


class PixelEncoder:
    """In place of the codec, whose 13,000 small convolutions take half a minute: latents are means of pixels.

    seen: row -> its layers as the codec would get them.
    """

    def __init__(self):
        self.seen = {}

    def latents(self, encoders, row, layers):
        self.seen[row.name] = unit = model_layers(row, layers)
        stacked = torch.stack([unit[name] for name in LAYERS if name in unit])[:, :, ::TIME_STRIDE]
        small = F.avg_pool3d(stacked, (1, SPACE_STRIDE, SPACE_STRIDE))
        return torch.cat([small, torch.ones_like(small[:, : CHANNELS - 3])], 1).to(torch.float16)


def check_frames(shot, clips):
    """The clips together show the whole shot, at 16 frames a second or, where that leaves too few, each frame."""
    positions = [(unit["source"].mean((0, 2, 3)).double() - DARKEST) / shot.step for unit in clips]
    tolerance = 0.4 if shot.media == "movie" else 0.05  # 8 bits
    assert max(float((p - p.round()).abs().max()) for p in positions) < tolerance, shot
    rounded = [p.round().int().tolist() for p in positions]
    assert all(len(clip) == FRAMES for clip in rounded)
    retimed = shot.rate > CLIP_FPS and (shot.count - 1) / shot.rate * CLIP_FPS >= FRAMES - 1
    every = shot.rate / CLIP_FPS if retimed else 1
    for clip in rounded:
        assert max(abs(p - clip[0] - every * k) for k, p in enumerate(clip)) <= (1 if retimed else 0), (shot, clip)
    left = (shot.count - 1 - rounded[-1][-1]) / every  # of a rest shorter than half a clip, no clip is made
    assert rounded[0][0] == 0 and 0 <= left < (1 if len(clips) > 1 else FRAMES / 2), shot


def check_layers(shot, unit):
    """Sizes in sixteens near the shot's; the layer's colour and alpha; premultiplied ones laid over in linear light."""
    height, width = unit["source"].shape[2:]
    assert height % 16 == width % 16 == 0
    assert max(abs(math.log(width / shot.size[0])), abs(math.log(height / shot.size[1]))) < 0.35, (shot, width, height)
    near = 0.02 if shot.media == "movie" else 3e-3
    red, grey_, alpha, composite = (
        unit[name][:, 0, height // 2, width // 2].numpy() for name in ("edit", "source", "alpha", "composite")
    )
    assert alpha == pytest.approx(ALPHA, abs=near) and float(unit["alpha"].min()) < near
    assert composite == pytest.approx(alpha * red + (1 - alpha) * grey_, abs=near)
    if shot.media in ("png", "movie"):
        assert red == pytest.approx(EDIT, abs=near)
    else:
        light = ALPHA * decode_srgb(np.float32(EDIT)) + (1 - ALPHA) * decode_srgb(grey_)
        assert decode_srgb(composite) == pytest.approx(light, abs=near)
    assert ("mask" in unit) == (shot.media == "still mask")


def test_sixty_clips_of_odd_layers_are_trained_on_as_they_arrive(tmp_path, monkeypatch, capfd):
    """An epoch trains on every clip; what cannot be used is left out, with the reason."""
    (tmp_path / "frames").mkdir()
    frames, encoder, trained = Frames(tmp_path / "frames"), PixelEncoder(), []
    for shot in SHOTS:
        write_shot(tmp_path / "shots" / shot.name, shot, frames)
    write_faulty_shots(tmp_path / "shots/faulty", frames)
    vera_directory(tmp_path / "vera", {"max_frames": FRAMES}, layers=1)
    monkeypatch.setattr(Encoders, "latents", lambda self, *given: encoder.latents(self, *given))
    errors_of_draw = Run._errors_of_draw
    monkeypatch.setattr(
        Run, "_errors_of_draw", lambda self, sample, at: trained.append(sample.row) or errors_of_draw(self, sample, at)
    )
    settings = {"train": "vera", "model": str(tmp_path / "vera"), "data": str(tmp_path / "shots"), "workers": 0}
    train(
        settings | {"batch": ROWS, "steps": 1, "held_out": 0, "bf16": False, "recompute": False},
        tmp_path / "run",
        lambda: False,
    )

    logged = [json.loads(line) for line in (tmp_path / "run/log.jsonl").open()]
    clips = {shot: [unit for row, unit in encoder.seen.items() if row.split("#")[0] == shot.name] for shot in SHOTS}
    assert {shot.name: len(units) for shot, units in clips.items()} == {shot.name: shot.clips for shot in SHOTS}
    assert len(encoder.seen) == 60 and len(trained) == ROWS and set(trained) == set(encoder.seen)
    for shot, units in clips.items():
        check_frames(shot, units)
        check_layers(shot, units[0])
    [losses] = [line["losses"] for line in logged if "losses" in line]
    assert all(math.isfinite(value) and value > 0 for value in losses.values())

    broken = {line["broken_row"]: f"{line['file']} {line['reason']}" for line in logged if "broken_row" in line}
    assert broken.keys() == {f"faulty/{name}" for name in FAULTY}
    assert not [name for name, reason in FAULTY.items() if reason not in broken[f"faulty/{name}"]], broken
    said = capfd.readouterr().err
    assert "62 rows of 49 frames, and 4 that cannot be used" in said
