"""Every kind of source in every state that an editor brings it to, in real Blender; see matrix.py."""

import json
import os
import subprocess
import sys
from pathlib import Path

import av
import numpy as np
import OpenImageIO as oiio
import pytest

from tests.blender_addon.test_addon import ASKED, blender_python, build

HERE = Path(__file__).parent
BLENDERS = ASKED.split(",") if ASKED else ["45", "50"]
FRAMES = 16


def discs(folder):
    """Frames of a dark plate through which a green disc moves, 2 pixels a frame: PNG, and movies of 24 and 30 frames
    a second without loss."""
    folder.mkdir()
    y, x = np.mgrid[0:64, 0:96]
    movies = {}
    for name, rate in (("disc_movie", 24), ("fast_movie", 30)):
        movies[name] = container, stream = _movie(folder / f"{name}.mov", rate)
    for index in range(FRAMES):
        frame = np.stack([(x + 2 * index) % 40 + 20, np.full_like(x, 40), y % 30 + 20], -1).astype(np.uint8)
        frame[(x - 30 - 2 * index) ** 2 + (y - 30) ** 2 <= 36] = (20, 220, 30)
        for number in (1001 + index, index + 1):  # as the sequence and as the movie counts
            _still(folder / f"{'d' if number > 1000 else 'm'}.{number:04d}.png", frame)
        for container, stream in movies.values():
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
    for container, stream in movies.values():
        container.mux(stream.encode())
        container.close()
    named = {name: str(folder / f"{name}.mov") for name in movies}
    for number in (1001, 1002):  # an antialiased logo's alpha; a phone's photo
        with_alpha = np.dstack([frame, np.full((64, 96), 128, np.uint8)])
        _still(folder / f"clear.{number}.png", with_alpha, {"oiio:UnassociatedAlpha": 1})
        _still(folder / f"turned.{number}.jpg", frame, {"Orientation": 6})
    named |= {"clear": str(folder / "clear.####.png"), "turned": str(folder / "turned.####.jpg")}
    return {"disc": str(folder / "d.####.png"), "disc_of_movie": str(folder / "m.####.png"), **named}


def _still(path, pixels, attributes=()):
    spec = oiio.ImageSpec(96, 64, pixels.shape[2], "uint8")
    for name, value in dict(attributes).items():
        spec.attribute(name, value)
    image = oiio.ImageOutput.create(str(path))
    assert image.open(str(path), spec) and image.write_image(pixels)
    image.close()


def _movie(path, rate):
    container = av.open(str(path), "w")
    stream = container.add_stream("qtrle", rate=rate)
    stream.width, stream.height, stream.pix_fmt = 96, 64, "rgb24"
    return container, stream


def run(blender, case, tmp_path):
    """What the case printed."""
    python = blender_python(blender)
    told = {
        **discs(tmp_path / "plates"),
        "zip": str(build.build(tmp_path / "dist")),
        "work": str(tmp_path),
        "seed": 1,
        "python": sys.executable,
        "root": str(HERE.parents[1]),
        "deliver": str(HERE / "stand_in_delivery.py"),
    }
    environment = {
        **os.environ,
        "VERA_SERVICE_DIR": str(tmp_path / "service"),
        "BLENDER_USER_RESOURCES": str(tmp_path / "user"),
        "OMP_NUM_THREADS": "1",
    }
    environment.pop("PYTHONPATH", None)
    answer = subprocess.run(
        [python, HERE / "matrix.py", case, json.dumps(told)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert answer.returncode == 0 and "case passed" in answer.stdout, (answer.stdout + answer.stderr)[-6000:]
    return answer.stdout


@pytest.mark.parametrize("blender", BLENDERS)
def test_what_an_editor_does_to_layers_and_strips(blender, tmp_path):
    run(blender, "artist", tmp_path)


@pytest.mark.parametrize("blender", BLENDERS)
def test_a_layer_follows_what_is_seen(blender, tmp_path):
    """In every cell. If a source that was rendered first looks different afterwards, a message says so."""
    cells = json.loads(run(blender, "matrix", tmp_path).split("TOLD ")[1].split("\n")[0])
    assert len(cells) == 5 * (16 + 8) + 2 * 2
    wrong = {cell: words for cell, words in cells.items() if not words.startswith(("follows", "refused: ", "told: "))}
    assert not wrong, "\n".join(f"{cell}: {words}" for cell, words in wrong.items())
    # Before 5.0, Blender's renders lose keyframes of a scene strip's opacity.
    refused = {cell for cell, words in cells.items() if words.startswith("refused")}
    assert refused == ({"scene x fade", "scene x keyed opacity of an effect"} if blender < "50" else set())
    # What was rendered first cannot follow a change of its picture: said, with the way out.
    told = {cell for cell, words in cells.items() if words.startswith("told: ")}
    rendered = ("movie at another rate", "scene", "meta")
    looks = ("keyed offset", "keyed scale", "crop", "keyed crop", "mirrored and turned")
    assert told == {f"{kind} x {look} x after" for kind in rendered for look in looks}
