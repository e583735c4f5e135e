"""The worker's parts, without its process; the whole of it is in test_faults.py."""

import errno
import json
import queue
import threading

import numpy as np
import pytest
import torch

from core.errors import InputError, OutOfMemory
from core.service import worker
from core.service.lock import FileLock, Held


class Heard:
    """A line to a server that only listens."""

    def __init__(self):
        self.said = []

    def send(self, event, **values):
        self.said.append((event, values))


@pytest.mark.parametrize(
    "error, kind, words",
    [
        (InputError("plate.exr: no such file; check the name"), "input", "check the name"),
        (OutOfMemory("out of memory; free some"), "memory", "free some (the worker may take 2.0 GiB)"),
        (OutOfMemory("out of the GPU's memory; free some"), "memory", "the GPU's memory; free some"),
        (OSError(errno.ENOSPC, "No space left on device"), "system", "retry"),
        (RuntimeError("I/O error: No space left on device (os error 28)"), "system", "retry"),
        (ZeroDivisionError("two\nlines"), "fault", "ZeroDivisionError: two lines"),
        (InputError("a\udcff.exr: odd name"), "input", "a?.exr"),
    ],
)
def test_a_failure_says_what_and_the_mend_in_one_line(error, kind, words):
    found, reason = worker.failure(error, 2 * 2**30)
    assert found == kind and words in reason and "\n" not in reason
    reason.encode("utf-8")


def test_the_model_is_kept_until_its_files_change(tmp_path, monkeypatch):
    from core.model import load

    loads = []

    class Model:
        device = "cpu"

    monkeypatch.setattr(load, "load_model", lambda name, device, offload: loads.append((name, device, offload)) or Model())
    (tmp_path / "weights").write_bytes(b"1")
    warm = worker.WarmModel(Heard())
    first = warm(str(tmp_path), "cpu")
    assert warm(str(tmp_path), "cpu") is first and len(loads) == 1
    (tmp_path / "weights").write_bytes(b"22")
    assert warm(str(tmp_path), "cpu") is not first
    warm(str(tmp_path), "other")
    warm(str(tmp_path), "other", offload=True)
    assert loads[1:] == [(str(tmp_path), "cpu", False), (str(tmp_path), "other", False), (str(tmp_path), "other", True)]


def test_out_of_memory_is_tried_by_cheaper_means_and_said(tmp_path, monkeypatch):
    """The model has no room for two passes at once: the job is made in two, and its report says why."""
    from core.model.transformer import Transformer
    from tests.plate.media import write_sequence

    forward = Transformer.forward

    def small(self, latents, *given, **more):
        if len(latents) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return forward(self, latents, *given, **more)

    monkeypatch.setattr(Transformer, "forward", small)
    line = Heard()
    line.commands, line.stopping = queue.Queue(), threading.Event()
    for _ in range(2):
        line.commands.put({"do": "go", "donors": []})
    plate = str(write_sequence(tmp_path, (1, 2), size=(48, 64, 3)))
    recipe = {"plate": plate, "prompt": "Add fog", "out": str(tmp_path / "out"), "steps": 1, "one_batch": True}
    command = {"recipe": recipe, "device": "cpu", "roots": [str(tmp_path)], "thumbnails": str(tmp_path / "thumbnails")}
    report = worker.make(command, line, worker.WarmModel(line))
    first, second = (said for event, said in line.said if event == "prepared")
    assert first["identity"] == second["identity"] and first["warnings"] == []
    assert second["warnings"] == report["warnings"] and "one after the other" in report["warnings"][0]
    assert [event for event, _ in line.said].count("model") == 1, "the model was loaded again for no reason"
    assert json.loads((tmp_path / "out/manifest.json").read_text())["extra"] == report


def test_the_warm_model_is_of_what_was_asked_and_of_its_files(tmp_path, monkeypatch):
    from types import SimpleNamespace

    loads, lora = [], tmp_path / "lora.safetensors"
    monkeypatch.setattr("core.model.load.load_model", lambda *g, **a: loads.append(a) or SimpleNamespace(device="cpu"))
    warm = worker.WarmModel(Heard())
    lora.write_bytes(b"a")
    for asked in ({}, {}, {"lora": (f"{lora}:0.5",)}, {"lora": (f"{lora}:0.5",)}, {"lora": (f"{lora}:1",)}, {"weights": "int8"}):
        warm("mini", "cpu", **asked)
    assert [a.get("lora") for a in loads] == [None, (f"{lora}:0.5",), (f"{lora}:1",), None]
    warm("mini", "cpu", lora=(str(lora),))
    lora.write_bytes(b"other")
    warm("mini", "cpu", lora=(str(lora),))
    assert len(loads) == 6


def test_out_of_memory_to_the_end_is_the_jobs_failure(tmp_path, monkeypatch):
    from core.model.transformer import Transformer
    from tests.plate.media import write_sequence

    def never(*given, **more):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(Transformer, "forward", never)
    line = Heard()
    line.commands, line.stopping = queue.Queue(), threading.Event()
    line.commands.put({"do": "go", "donors": []})
    plate = str(write_sequence(tmp_path, (1, 2), size=(48, 64, 3)))
    recipe = {"plate": plate, "prompt": "Add fog", "out": str(tmp_path / "out"), "steps": 1}
    command = {"recipe": recipe, "device": "cpu", "roots": [str(tmp_path)], "thumbnails": str(tmp_path / "thumbnails")}
    with pytest.raises(OutOfMemory) as caught:
        worker.make(command, line, worker.WarmModel(line))
    assert worker.failure(caught.value, None) == ("memory", str(caught.value))


@pytest.mark.parametrize("count, shown", [(1, {1}), (3, {1, 2, 3}), (6, {1, 2, 3, 4, 5, 6}), (101, {1, 21, 41, 61, 81, 101})])
def test_thumbnails_are_evenly_over_the_frames(tmp_path, count, shown):
    class Plate:
        frames = tuple(range(1, count + 1))

    class Job:
        plate = Plate

    progress = worker.JobProgress(Heard(), tmp_path)
    progress.begin(Job)
    assert progress.shown == shown


def test_a_thumbnail_is_the_layer_over_a_checkerboard(tmp_path):
    from PIL import Image

    from core.layer.blend import Blending
    from core.layer.preview import THUMBNAIL, write_thumbnail
    from core.plate.color_space import LINEAR

    class Plate:
        width, height, pixel_aspect = 40, 20, 1.0

    layer = np.zeros((20, 40, 4), np.float16)
    layer[:, 20:] = (1, 0, 0, 1)
    write_thumbnail(tmp_path / "1.png", layer, Plate, Blending("linear", LINEAR))
    picture = np.asarray(Image.open(tmp_path / "1.png"))
    assert picture.shape == (THUMBNAIL // 2, THUMBNAIL, 3)
    assert (picture[:, 200:] == (255, 0, 0)).all()
    left = picture[:, :120]
    assert len(np.unique(left.reshape(-1, 3), axis=0)) == 2 and (left[..., 0] == left[..., 1]).all()


def test_progress_tells_stage_frame_and_time_left(tmp_path):
    class Plate:
        frames = (1001, 1002)

    class Job:
        plate = Plate

    line = Heard()
    progress = worker.JobProgress(line, tmp_path)
    progress.begin(Job)
    progress.stage("read", 2)
    progress.advance()
    event, said = line.said[-1]
    assert event == "progress" and said["seconds_left"] >= 0
    assert (said["stage"], said["done"], said["total"], said["frame"]) == ("read", 1, 2, 1001)
    progress.stage("denoise", 20)
    progress.advance()
    assert line.said[-1][1]["frame"] is None


def test_a_lock_has_one_holder(tmp_path):
    lock = FileLock(tmp_path / "lock")
    with pytest.raises(Held):
        FileLock(tmp_path / "lock")
    lock.release()
    FileLock(tmp_path / "lock").release()
