"""Whatever a stranger puts into a file that is read: used or refused in one line, never a traceback, never a hang.

VERA_FUZZ mutations of each target (a few by default; `make fuzz` has 2000). What is found is left in out/fuzz; it
becomes a case of the tests of the module that it was found in.
"""

import json
import os
import random
import signal
import socket
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch

from tests.fuzz.mutate import mutated_bytes, mutated_json
from tests.plate.media import grey_levels, write_image, write_movie
from vera.core.errors import InputError
from vera.core.farm.shot_lists import Mapping, read_shots
from vera.core.job.run import exit_status
from vera.core.layer.manifest import read_manifest
from vera.core.plate.source import open_mask, open_plate
from vera.core.recipe import EditRecipe
from vera.core.service import client
from vera.core.service.security import RequestError, Roots, parse_json
from vera.core.state_file import state_writer, whole_state

COUNT = int(os.environ.get("VERA_FUZZ", 25))
SECONDS = 120  # for one file: more is a hang; fewer take a busy machine for one
FOUND = Path("out/fuzz")
RECIPE = {
    "schema": "vera.recipe/1",
    "plate": "plate.####.exr",
    "prompt": "Add snow",
    "out": "out",
    "frames": "1-9",
    "seed": 7,
    "steps": 4,
    "guidance": 2.5,
    "exposure": "auto",
    "region": "0,0,64,48",
    "cuts": "none",
    "also": ["png"],
    "lora": ["a.safetensors:0.5"],
    "cache": 0.1,
    "keep": True,
    "color_space": "ACEScg",
}


@dataclass(frozen=True)
class Target:
    """name: of the file. write: makes a good one. mutate: damages its bytes. use: reads it, and may raise
    `refusals`."""

    name: str
    write: Callable[[Path], Any]
    use: Callable[[Path], Any]
    refusals: tuple[type[Exception], ...] = (InputError,)
    mutate: Callable[[bytes, random.Random], bytes] = mutated_bytes


def of_json(content: bytes, dice: random.Random) -> bytes:
    return mutated_json(json.loads(content), dice)


def still(kind: type, **attributes: Any) -> Callable[[Path], Any]:
    return lambda path: write_image(path, picture(kind), **attributes)


def picture(kind: type) -> np.ndarray:
    values = np.random.default_rng(0).random((24, 32, 3))
    return values.astype(kind) if np.issubdtype(kind, np.floating) else (values * np.iinfo(kind).max).astype(kind)


def movie(codec: str, pix_fmt: str) -> Callable[[Path], Any]:
    return lambda path: write_movie(path, grey_levels(4, (32, 48)), codec, pix_fmt)


def use_plate(path: Path) -> None:
    plate = open_plate(str(path))
    for frame in plate.frames:
        plate.read(frame)


def use_mask(path: Path) -> None:
    plate = open_plate(str(path.parent / "good.1001.png"))
    mask = open_mask(str(path), plate)
    for frame in plate.frames:
        mask.read(frame)


def use_shots(path: Path) -> None:
    for shot in read_shots([str(path)]):
        assert shot.error is None or (len(shot.error) <= 300 and "\n" not in shot.error)


def write_mask(path: Path) -> None:
    write_image(path.parent / "good.1001.png", picture(np.uint8))
    write_image(path, picture(np.uint8))


def write_manifest(path: Path) -> None:
    image = {"file": "edit/edit.1001.exr", "pixels": "0" * 32}
    entry = {"frame": 1001, "edit": image, "composite": image, "plate": "0" * 32, "facts": {"coverage": 0.5}}
    path.write_text(
        json.dumps(
            {"schema": "vera.manifest/1", "recipe_hash": "abc", "frames": [entry], "extra": {"color": {"exposure": 0}}}
        )
    )


def write_state(path: Path) -> None:
    with state_writer(path, {"generation": "abc", "frames": "1 9"}) as add:
        add(torch.zeros(9, 3, 4))


def write_entry(path: Path) -> None:
    path.write_text(json.dumps({"port": 50123, "pid": 77, "token": "t" * 43, "contract": 1, "version": "0.1.0"}))
    path.chmod(0o600)


RULE = {"source_path_format": "POSIX", "source_path": "/mnt/a", "destination_path": "/b"}
MEDIA = (
    Target("plate.1001.exr", still(np.float16, owner="somebody"), use_plate),
    Target("plate.1001.png", still(np.uint8), use_plate),
    Target("plate.1001.tif", still(np.uint16), use_plate),
    Target("plate.1001.dpx", still(np.uint16), use_plate),
    Target("plate.1001.jpg", still(np.uint8), use_plate),
    Target("plate.mov", movie("mpeg4", "yuv420p"), use_plate),
    Target("plate.mp4", movie("libx264", "yuv420p"), use_plate),
    Target("plate.mkv", movie("ffv1", "yuv420p"), use_plate),
    Target("mask.1001.png", write_mask, use_mask),
)
TEXTS = (
    Target(
        "job.json",
        lambda path: path.write_text(json.dumps(RECIPE)),
        lambda path: EditRecipe.from_file(str(path)),
        mutate=of_json,
    ),
    Target(
        "shots.json",
        lambda path: path.write_text(json.dumps([{**RECIPE, "out": f"out{i}"} for i in range(3)])),
        use_shots,
        mutate=of_json,
    ),
    Target(
        "rules.json",
        lambda path: path.write_text(json.dumps({"version": "pathmapping-1.0", "path_mapping_rules": [RULE]})),
        lambda path: Mapping(str(path)).path("/mnt/a/b"),
        mutate=of_json,
    ),
    Target("manifest.json", write_manifest, read_manifest, (), of_json),
    Target("state.safetensors", write_state, lambda path: whole_state(path, {"generation": "abc"}), ()),
    Target("service.json", write_entry, lambda path: client.discover(path.parent), (client.ServiceError,), of_json),
    Target(
        "roots.json",
        lambda path: path.write_text(json.dumps({"folders": ["/tmp"]})),
        lambda path: Roots(path).folders(),
        mutate=of_json,
    ),
    Target(
        "body.json",
        lambda path: path.write_text(json.dumps({"recipe": RECIPE, "request": "abc"})),
        lambda path: parse_json(path.read_bytes()),
        (RequestError,),
        of_json,
    ),
)


class HangError(BaseException):
    """One file took longer than SECONDS."""


@pytest.fixture
def alarm():
    def ring(number, frame):
        raise HangError

    before = signal.signal(signal.SIGALRM, ring)
    yield lambda: signal.alarm(SECONDS)
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.mark.parametrize("target", [*MEDIA, *TEXTS], ids=lambda target: target.name)
def test_a_damaged_file_is_used_or_refused_in_one_line(target, tmp_path, alarm):
    av.logging.set_level(None)
    path = tmp_path / target.name
    target.write(path)
    target.use(path)  # a good one
    good, mode = path.read_bytes(), path.stat().st_mode
    for seed in range(COUNT if target in TEXTS else max(COUNT // 2, 6)):
        path.write_bytes(target.mutate(good, random.Random(seed)))
        path.chmod(mode)
        alarm()
        try:
            target.use(path)
        except target.refusals as refused:
            text = exit_status(refused)[1] if isinstance(refused, InputError) else str(refused)
            assert "\n" not in text and len(text) <= 300, text
        except (Exception, HangError):
            FOUND.mkdir(parents=True, exist_ok=True)
            (FOUND / f"{seed}.{target.name}").write_bytes(path.read_bytes())
            print(f"mutation {seed} of {target.name} is in {FOUND}")
            raise


def test_a_damaged_request_gets_an_answer_that_is_no_fault(service):
    """Of a client with the token and of one without; afterwards the service goes on."""
    entry = service.entry
    body = json.dumps({"recipe": {"plate": "/p.####.exr", "prompt": "Add snow", "out": "/o"}}).encode()
    head = f"POST /v1/jobs HTTP/1.1\r\nHost: 127.0.0.1:{entry['port']}\r\nContent-Type: application/json\r\n"
    good = f"{head}Authorization: Bearer {entry['token']}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body
    for seed in range(COUNT):
        dice = random.Random(seed)
        request = mutated_bytes(good, dice) if seed % 2 else good.replace(body, mutated_json(json.loads(body), dice))
        with socket.create_connection(("127.0.0.1", entry["port"]), timeout=60) as link:
            link.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            try:
                link.sendall(request)
                link.shutdown(socket.SHUT_WR)
                answer = link.recv(64)
            except ConnectionError:
                answer = b""
        assert not answer.startswith(b"HTTP/1.1 5"), (seed, answer)
    assert service.client.health()["contract"]


def test_a_damaged_model_folder_is_used_or_refused_in_one_line(tmp_path, alarm):
    """Of random weights, whose damage nobody can see: what is refused is refused as an input."""
    from tests.tiny_vera import vera_directory
    from vera.core.model.load import load_model

    folder = vera_directory(tmp_path / "model", limits={})
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    for seed in range(max(COUNT // 2, 12)):
        dice = random.Random(seed)
        path = dice.choice(files)
        good = path.read_bytes()
        is_settings = path.suffix == ".json" and len(good) < 20_000
        path.write_bytes(of_json(good, dice) if is_settings else mutated_bytes(good, dice))
        alarm()
        try:
            load_model(str(folder), "cpu")
        except InputError as refused:
            assert len(exit_status(refused)[1]) <= 300, seed
        except (Exception, HangError):
            print(f"mutation {seed}, of {path.relative_to(folder)}")
            raise
        signal.alarm(0)
        path.write_bytes(good)
