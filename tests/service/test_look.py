"""What is read, before the job: asked through the service, in a process of its own."""

import asyncio
import sys

import numpy as np
import pytest

from tests.plate.media import write_image, write_sequence
from vera.core.errors import InputError
from vera.core.service import client, look
from vera.core.service.client import ServiceError
from vera.core.service.security import RequestError


@pytest.fixture
def recipe(tmp_path):
    plate = str(write_sequence(tmp_path, (1001, 1002), size=(48, 64, 3)))
    write_image(tmp_path / "mask.png", np.full((48, 64, 1), 255, np.uint8))
    return {"plate": plate, "prompt": "Add a red ball", "out": str(tmp_path / "o"), "mask": str(tmp_path / "mask.png")}


def test_plate_mask_and_prompt_are_said_a_line_each(recipe, tmp_path):
    before = sorted(tmp_path.rglob("*"))
    lines = look.lines_of(recipe, [str(tmp_path)])
    page = "\n".join(lines)
    for words in ("plate.####.exr", "1001-1002 (2)", "64x48", "colour space", "mask.png", "Add a red ball"):
        assert words in page
    assert sorted(tmp_path.rglob("*")) == before


def test_what_a_job_would_refuse_is_refused(recipe, tmp_path):
    with pytest.raises(InputError, match="1003"):
        look.lines_of({**recipe, "frames": "1001-1003"}, [str(tmp_path)])
    with pytest.raises(InputError, match="outside the folders"):
        look.lines_of(recipe, [str(tmp_path / "other")])
    with pytest.raises(InputError, match="lift"):
        look.lines_of({**recipe, "model": "lift:/e.mov", "guidance": 3.0}, ["/"])


def test_a_client_gets_the_look_from_the_service(shared):
    plate = str(write_sequence(shared.home, (1, 2), size=(48, 64, 3)))
    asked = {"plate": plate, "prompt": "Add a red ball", "out": str(shared.home / "o"), "mask": None}
    lines = shared.client.look(asked)
    assert any(line.startswith("frames") and "1-2 (2)" in line for line in lines)
    with pytest.raises(ServiceError, match="outside the folders") as refused:
        shared.client.look({**asked, "plate": "/none.####.exr"})
    assert refused.value.status == 400 and shared.client.jobs() == []


def test_a_refusal_comes_out_as_one(monkeypatch):
    monkeypatch.setattr(look, "LOOK", (sys.executable, "-c", 'print(\'{"error": "frame 3: missing; supply it"}\')'))
    with pytest.raises(InputError, match="frame 3: missing; supply it"):
        asyncio.run(look.look({}, [], None))


@pytest.mark.parametrize(
    "script, words",
    [
        ("import time; time.sleep(60)", "within 0.5 s"),
        ("import os; os.abort()", "ended the process"),
        ("print('no JSON')", "ended the process"),
    ],
)
def test_files_that_end_the_process_end_nothing_else(monkeypatch, script, words):
    monkeypatch.setattr(look, "LOOK", (sys.executable, "-c", script))
    monkeypatch.setattr(look, "LOOK_SECONDS", 0.5 if "sleep" in script else 30)
    with pytest.raises(RequestError, match=words) as refused:
        asyncio.run(look.look({}, [], None))
    assert refused.value.status == 422


def test_an_older_service_is_said(shared, monkeypatch):
    def older(*_):
        raise ServiceError("Not Found", 404)

    monkeypatch.setattr(client, "_exchange", older)
    with pytest.raises(ServiceError, match="this service is older"):
        shared.client.look({"plate": "/p", "prompt": "a", "out": "/o"})
