"""Parts of the worker, without a worker process; tests/service/test_faults.py tests the process."""

import errno
import json
import queue
import threading

import numpy as np
import pytest
import torch

from tests.plate.media import write_sequence
from vera.core.errors import InputError, OutOfMemoryError
from vera.core.files import FileLock, LockHeldError
from vera.core.service import worker


class Heard:
    """A connection to a server that records messages and answers only "prepared"."""

    def __init__(self):
        self.said = []

        self.commands, self.stopping = queue.Queue(), threading.Event()

    def send(self, event, **values):
        self.said.append((event, values))

    def ready(self, goes=1, donors=()):
        """With the server's answers to so many "prepared"."""
        for _ in range(goes):
            self.commands.put({"do": "go", "donors": list(donors)})
        return (self,)


def job(folder, out, frames=2, **values):
    """A render command for the worker. Each frame of the plate is a uniform grey."""
    plate = folder / "in"
    if not plate.exists():
        plate.mkdir()
        write_sequence(plate, range(1, 1 + frames), size=(48, 64, 3))
    recipe = {
        "plate": str(plate / "plate.####.exr"),
        "prompt": "Add fog",
        "out": str(folder / out),
        "steps": 1,
        **values,
    }
    return {"recipe": recipe, "device": "cpu", "roots": [str(folder)], "thumbnails": str(folder / "thumbnails")}


@pytest.mark.parametrize(
    "total, done, advanced, left",
    [(20, 0, 5, 60.0), (20, 10, 5, 20.0), (20, 18, 1, 20.0), (20, 15, 5, None)],
)
def test_time_left_of_a_stage_is_by_what_this_run_has_done_of_it(tmp_path, monkeypatch, total, done, advanced, left):
    """20 seconds have passed; what an earlier run has done of the stage took none of them."""
    now = [100.0]
    monkeypatch.setattr(worker.time, "monotonic", lambda: now[0])
    line = Heard()
    progress = worker.JobProgress(line, tmp_path)
    progress.stage("denoise", total, done)
    now[0] += 20
    progress.advance(advanced)
    assert [values["seconds_left"] for _, values in line.said] == [None, left]


@pytest.mark.parametrize(
    "error, kind, words",
    [
        (InputError("plate.exr: no such file; check the name"), "input", "check the name"),
        (OutOfMemoryError("out of memory; free some"), "memory", "free some (the worker may take 2.0 GiB)"),
        (OutOfMemoryError("out of the GPU's memory; free some"), "memory", "the GPU's memory; free some"),
        (OSError(errno.ENOSPC, "No space left on device"), "system", "retry"),
        (RuntimeError("I/O error: No space left on device (os error 28)"), "system", "retry"),
        (ZeroDivisionError("two\nlines"), "fault", "ZeroDivisionError: two lines"),
        (InputError("a\udcff.exr: odd name"), "input", "a\\udcff.exr"),
    ],
)
def test_a_failure_gives_problem_and_fix_in_one_line(error, kind, words):
    found, reason = worker.failure(error, 2 * 2**30)
    assert found == kind and words in reason and "\n" not in reason
    reason.encode("utf-8")


def test_the_model_is_kept_until_its_files_change(tmp_path, monkeypatch):
    from vera.core.model import load

    loads = []

    class Model:
        device = "cpu"

    monkeypatch.setattr(
        load, "load_model", lambda name, device, **asked: loads.append((name, device, asked)) or Model()
    )
    (tmp_path / "weights").write_bytes(b"1")
    warm = worker.WarmModel(Heard())
    first = warm(str(tmp_path), "cpu")
    assert warm(str(tmp_path), "cpu") is first and len(loads) == 1
    (tmp_path / "weights").write_bytes(b"22")
    assert warm(str(tmp_path), "cpu") is not first
    warm(str(tmp_path), "other")
    warm(str(tmp_path), "other", offload="parts")
    assert loads[1:] == [
        (str(tmp_path), "cpu", {}),
        (str(tmp_path), "other", {}),
        (str(tmp_path), "other", {"offload": "parts"}),
    ]


def test_out_of_memory_retries_with_cheaper_settings_and_reports_them(tmp_path, monkeypatch):
    """The model lacks memory for both guidance passes in one batch. The job runs them one by one and reports why."""
    from vera.core.model.mini.mini_transformer import MiniTransformer

    forward = MiniTransformer.forward

    def small(self, latents, *given, **more):
        if len(latents) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return forward(self, latents, *given, **more)

    monkeypatch.setattr(MiniTransformer, "forward", small)
    line = Heard()
    report = worker.make(job(tmp_path, "out", one_batch=True, guidance=2.0), *line.ready(2), worker.WarmModel(line))
    first, second = (said for event, said in line.said if event == "prepared")
    assert first["identity"] == second["identity"] and first["warnings"] == []
    assert second["warnings"] == report["warnings"] and "one after the other" in report["warnings"][0]
    assert [event for event, _ in line.said].count("model") == 1, "the model was loaded again for no reason"
    assert json.loads((tmp_path / "out/manifest.json").read_text())["extra"] == report


def test_the_warm_model_is_reused_only_for_the_same_options_and_files(tmp_path, monkeypatch):
    from types import SimpleNamespace

    loads, lora = [], tmp_path / "lora.safetensors"
    monkeypatch.setattr(
        "vera.core.model.load.load_model", lambda *g, **a: loads.append(a) or SimpleNamespace(device="cpu")
    )
    warm = worker.WarmModel(Heard())
    lora.write_bytes(b"a")
    for asked in (
        {},
        {},
        {"lora": (f"{lora}:0.5",)},
        {"lora": (f"{lora}:0.5",)},
        {"lora": (f"{lora}:1",)},
        {"weights": "int8"},
    ):
        warm("mini", "cpu", **asked)
    assert [a.get("lora") for a in loads] == [None, (f"{lora}:0.5",), (f"{lora}:1",), None]
    warm("mini", "cpu", lora=(str(lora),))
    lora.write_bytes(b"other")
    warm("mini", "cpu", lora=(str(lora),))
    assert len(loads) == 6


def test_out_of_memory_with_every_setting_fails_the_job(tmp_path, monkeypatch):
    from vera.core.model.mini.mini_transformer import MiniTransformer

    def never(*given, **more):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(MiniTransformer, "forward", never)
    line = Heard()
    with pytest.raises(OutOfMemoryError) as caught:
        worker.make(job(tmp_path, "out"), *line.ready(), worker.WarmModel(line))
    assert worker.failure(caught.value, None) == ("memory", str(caught.value))


def test_the_next_job_begins_with_the_setting_that_fitted(tmp_path, monkeypatch):
    """Three latent frames fit, four do not. The second job starts with three and warns with the reason."""
    from vera.core.model.mini.mini_transformer import MiniTransformer

    forward, seen = MiniTransformer.forward, []

    def small(self, latents, *given, **more):
        seen.append(latents.shape[3])
        if latents.shape[3] > 3:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return forward(self, latents, *given, **more)

    monkeypatch.setattr(MiniTransformer, "forward", small)
    line, load = Heard(), worker.WarmModel(Heard())
    commands = [job(tmp_path, f"out{seed}", frames=13, seed=seed, guidance=1) for seed in (0, 1)]
    reports = [worker.make(command, *line.ready(goes), load) for command, goes in zip(commands, (2, 1))]
    assert seen[0] == 4 and set(seen[1:]) == {3}
    first, second = (report["warnings"] for report in reports)
    assert "ran out; retrying with windows of 9" in first[0]
    assert "in an earlier job; this one starts with windows of 9" in second[0]
    load.key = ("another", *load.key[1:])
    load("mini", "cpu")
    assert not load.learned


@pytest.mark.parametrize("after", [0, 2])
def test_a_job_renders_frames_that_vanish_while_they_are_copied(tmp_path, monkeypatch, after):
    """A job copies frames of an earlier delivery, and one of them vanishes. Copied frames stay, the job renders the
    others, and the pixels are the same."""
    from vera.core.layer.delivery import Delivery

    line, load = Heard(), worker.WarmModel(Heard())
    command = job(tmp_path, "first", frames=3)
    worker.make(command, *line.ready(), load)
    read, write, gone, written = Delivery.read_frame, Delivery.write, [], []

    def vanishing(self, frame):
        if self.dir.name == "first" and len(gone) == after:
            raise OSError("first/edit/edit.0001.exr: cannot be read")
        gone.append(frame)
        return read(self, frame)

    monkeypatch.setattr(worker.JobProgress, "thumbnail", lambda self, frame: None)
    monkeypatch.setattr(Delivery, "read_frame", vanishing)
    noting = lambda self, frame, *more: written.append(frame) or write(self, frame, *more)  # noqa: E731
    monkeypatch.setattr(Delivery, "write", noting)
    again = job(tmp_path, "second", frames=3)
    worker.make(again, *line.ready(donors=[str(tmp_path / "first")]), load)
    assert sorted(written) == [1, 2, 3], "each once"
    first, second = (json.loads((tmp_path / out / "manifest.json").read_text()) for out in ("first", "second"))
    assert first["frames"] == second["frames"]


def test_keep_after_a_whole_delivery_generates_again_and_delivers_no_frame_again(tmp_path):
    line, load = Heard(), worker.WarmModel(Heard())
    worker.make(job(tmp_path, "out", frames=2), *line.ready(), load)
    dates = {p: p.stat().st_mtime_ns for p in (tmp_path / "out").rglob("*.exr")}
    before = json.loads((tmp_path / "out/manifest.json").read_text())["frames"]
    for _ in range(2):  # the second time there is nothing to do
        worker.make(job(tmp_path, "out", frames=2, keep=True), *line.ready(), load)
        assert [p.name for p in (tmp_path / "out/kept").iterdir()] == ["layers.1.safetensors"]
    stages = [said["stage"] for event, said in line.said if event == "progress"]
    assert len(dates) == 4 and [s for s, before in zip(stages, ["", *stages]) if s != before].count("denoise") == 2
    assert {p: p.stat().st_mtime_ns for p in (tmp_path / "out").rglob("*.exr")} == dates
    assert json.loads((tmp_path / "out/manifest.json").read_text())["frames"] == before


@pytest.mark.parametrize(
    "count, shown", [(1, {1}), (3, {1, 2, 3}), (6, {1, 2, 3, 4, 5, 6}), (101, {1, 21, 41, 61, 81, 101})]
)
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

    from vera.core.layer.blend_space import Blending
    from vera.core.layer.preview import THUMBNAIL, write_thumbnail
    from vera.core.plate.color_space import LINEAR

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


def test_progress_has_stage_frame_and_time_left(tmp_path):
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
    with pytest.raises(LockHeldError):
        FileLock(tmp_path / "lock")
    lock.release()
    FileLock(tmp_path / "lock").release()


class TestProgress:
    """Progress and messages of a job of three frames during its delivery."""

    @pytest.fixture
    def said(self, tmp_path):
        from types import SimpleNamespace

        from tests.layer.stand_in import BLENDINGS, StandInPlate

        plate = StandInPlate(size=(48, 64), frames=(7, 8, 9))
        layer, composite = np.zeros((48, 64, 4), np.float32), np.full((48, 64, 3), 0.5, np.float32)
        delivery = SimpleNamespace(read_layer=lambda frame: layer, read_composite=lambda frame: composite)
        color = SimpleNamespace(for_display=lambda pixels: pixels)
        line = Heard()
        progress = worker.JobProgress(line, tmp_path)
        progress.begin(SimpleNamespace(plate=plate, delivery=delivery, blending=BLENDINGS["linear"], color=color))
        progress.stage("deliver", 3)
        for _ in range(3):
            progress.advance()
        return line.said

    def test_no_time_is_left_while_the_preview_is_written(self, said):
        told = [(v["stage"], v["done"], v["seconds_left"]) for event, v in said if event == "progress"]
        assert told[-2:] == [("deliver", 3, None), ("finish", 0, None)]
        assert all(left is None or done < 3 for _, done, left in told)

    def test_the_middle_frame_is_the_poster(self, said, tmp_path):
        from PIL import Image

        assert [event for event, _ in said].count("poster") == 1
        with Image.open(tmp_path / "poster.png") as poster:
            assert poster.size == (320, 240) and abs(poster.getpixel((10, 10))[0] - 127.5) < 1
        assert sorted(path.name for path in tmp_path.glob("?.png")) == ["7.png", "8.png", "9.png"]
