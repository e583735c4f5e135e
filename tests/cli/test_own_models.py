"""A self-trained model, from training to use, each step by its command; and wrong calls of these commands."""

import json
import os
import signal
import stat
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.comparing.media import make_set
from tests.plate.media import write_noise
from tests.service.conftest import Running, until
from vera.core import cli
from vera.core.cli import train as train_command
from vera.core.model.names import EMBEDDED

CONFIG = {
    "train": "transformer",
    "codec": str(EMBEDDED),
    "seed": 9,
    "steps": 2,
    "geometry": {"layers": 1},
    "stages": [{"until": 2, "batch": 1, "latents": 2, "keep": 1, "repeats": 1, "shapes": [[32, 32]]}],
    "rate": 0.001,
    "ema": 0.9,
    "text_drop": 0.3,
    "mask_keep": 0.5,
    "shift": 2.0,
    "save_every": 1,
    "sample_every": 1000,
    "camera_plates": 2,
    "blend_clips": 2,
    "aim_steps": 1,
}


@pytest.fixture(scope="module")
def run(tmp_path_factory, spawned_as_copies):
    """A run of two steps, by the command."""
    folder = tmp_path_factory.mktemp("training")
    (folder / "small.json").write_text(json.dumps(CONFIG))
    with spawned_as_copies():
        assert cli.main(["train", str(folder / "small.json"), "--out", str(folder / "run")]) == 0
    return folder / "run"


@pytest.fixture(scope="module")
def model(run):
    """The run as a model, by the command."""
    assert cli.main(["model", "export", str(run), "--to", str(run.parent / "model")]) == 0
    return run.parent / "model"


def test_a_run_leaves_state_log_curve_and_page(run):
    names = {path.name for path in run.iterdir()}
    assert {"state.safetensors", "codec.safetensors", "log.jsonl", "curve.png", "watch.html"} <= names
    rows = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [1, 2]
    assert set(rows[0]["losses"]) == {"edit", "alpha", "composite", "drawing", "aim"}


def test_the_page_shows_the_curve_and_refreshes(run, monkeypatch, capsys):
    opened = []
    monkeypatch.setattr(train_command.webbrowser, "open", opened.append)
    assert cli.main(["train", "--watch", str(run)]) == 0
    assert opened == [(run / "watch.html").resolve().as_uri()] and opened[0] in capsys.readouterr().out
    data = json.loads((run / "watch.js").read_text().removeprefix("show(").rstrip().removesuffix(");"))
    assert (data["step"], data["steps"], data["names"][:3]) == (2, 2, ["edit", "alpha", "composite"])
    assert [point["step"] for point in data["points"]] == [1, 2]


def test_a_model_of_one_s_own_renders(model, tmp_path):
    plate = write_noise(tmp_path / "in", (1001, 1002), size=(48, 64))
    given = ["--plate", str(plate), "--prompt", "Add a red ball", "--out", str(tmp_path / "out"), "--steps", "1"]
    assert cli.main(["render", *given, "--model", str(model), "--progress", "none", "--device", "cpu"]) == 0
    manifest = json.loads((tmp_path / "out/manifest.json").read_text())
    assert [entry["frame"] for entry in manifest["frames"]] == [1001, 1002]
    assert manifest["extra"]["model"] == str(model)


def test_a_model_of_one_s_own_is_evaluated(model, tmp_path, capsys):
    given = ["--model", str(model), "--count", "1", "--steps", "1", "--progress", "none"]
    assert cli.main(["evaluate", *given, "--json", str(tmp_path / "figures.json")]) == 0
    assert json.loads((tmp_path / "figures.json").read_text())["clips"]


def test_a_model_of_one_s_own_is_compared(model, tmp_path):
    rows, _ = make_set(tmp_path / "set")
    given = ["--out", str(tmp_path / "out"), "--model", f"own={model}", "--clips", "1", "--steps", "1"]
    assert cli.main(["compare", str(rows), *given, "--progress", "none", "--device", "cpu"]) == 0
    assert "own" in (tmp_path / "out/table.md").read_text()


def test_a_model_of_one_s_own_is_served(model, tmp_path):
    plate = write_noise(tmp_path / "in", (1,), size=(48, 64))
    service = Running(tmp_path / "state", [tmp_path, model.parent]).start()
    try:
        recipe = {
            "plate": str(plate),
            "prompt": "Add a red ball",
            "out": str(tmp_path / "out"),
            "model": str(model),
            "steps": 1,
        }
        number = service.client.submit(recipe)["id"]
        ended = until(lambda: _ended(service.client.job(number)), 120, "the job to end")
        assert ended["state"] == "done", ended
    finally:
        service.stop()


def _ended(job):
    return job if job["state"] not in ("queued", "running") else None


def test_an_exported_model_can_be_read_by_whom_the_folder_lets(model):
    probe = model / "probe"
    probe.touch()
    wanted = stat.S_IMODE(probe.stat().st_mode)
    probe.unlink()
    assert {path.name: stat.S_IMODE(path.stat().st_mode) for path in model.iterdir()} == {
        path.name: wanted for path in model.iterdir()
    }


def test_permissions_follow_the_umask(run, tmp_path):
    before = os.umask(0o007)
    try:
        assert cli.main(["model", "export", str(run), "--to", str(tmp_path / "m")]) == 0
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "m/transformer.safetensors").stat().st_mode) == 0o660


def test_an_export_leaves_the_shipped_weights_alone(run, capsys):
    before = {path.name: path.stat().st_mtime_ns for path in EMBEDDED.iterdir()}
    assert cli.main(["model", "export", str(run), "--to", str(EMBEDDED)]) == 2
    assert "exists already" in capsys.readouterr().err
    assert {path.name: path.stat().st_mtime_ns for path in EMBEDDED.iterdir()} == before


def config_with(**changes):
    """A function of a folder that writes a configuration there, and gives its path."""

    def write(folder: Path) -> str:
        (folder / "c.json").write_text(json.dumps(CONFIG | changes))
        return str(folder / "c.json")

    return write


GOOD = config_with()
WRONG_CALLS = [
    ("train",),
    ("train", "nowhere.json"),
    ("train", "."),
    ("train", GOOD, "--minutes", "0"),
    ("train", GOOD, "--minutes", "-3"),
    ("train", GOOD, "--minutes", "nan"),
    ("train", GOOD, "--minutes", "soon"),
    ("train", GOOD, "--threads", "0"),
    ("train", GOOD, "--threads", "2"),
    ("train", GOOD, "--threads", "x"),
    ("train", GOOD, "--export", "e"),
    ("train", GOOD, "--nothing"),
    ("train", GOOD, "more"),
    ("train", GOOD, "--out"),
    ("train", GOOD, "--watch", "."),
    ("train", "--watch", "nowhere"),
    ("train", "--watch"),
    ("train", GOOD, "--exp", "e"),
    ("train", config_with(train="nothing")),
    ("train", config_with(train=None)),
    ("train", config_with(train=["codec"])),
    ("train", config_with(ratee=3)),
    ("train", config_with(batch=0)),
    ("train", config_with(rate="x")),
    ("train", config_with(steps=-1)),
    ("train", config_with(codec="nowhere")),
    ("train", config_with(codec=".")),
    ("train", config_with(start="nowhere")),
    ("train", config_with(start=".")),
    ("train", config_with(stages=[])),
    ("train", config_with(stages=3)),
    ("train", config_with(processes=0)),
    ("train", config_with(device="tpu")),
    ("train", config_with(geometry={"layers": 10**9})),
    ("train", config_with(train="codec")),
    ("train", config_with(train="vae")),
    ("train", config_with(train="vera")),
    ("model",),
    ("model", "exprot"),
    ("model", "export"),
    ("model", "export", "nowhere", "--to", "m"),
    ("model", "export", "."),
    ("model", "export", ".", "--to", "m"),
    ("model", "export", ".", "--to", "."),
    ("model", "export", ".", "--to", "m", "--codec", "nowhere"),
    ("model", "export", ".", "extra", "--to", "m"),
    ("model", "cost", "nowhere.json"),
    ("model", "cost", GOOD),
    ("model", "cost", "a", "b"),
    ("model", "from-wan", "nowhere", "m"),
    ("model", "from-wan", "nowhere"),
    ("model", "from-wan", ".", "m", "--dtype", "int4"),
    ("model", "from-wan", ".", "m", "--max-shard-size", "0"),
    ("model", "sheet", "a.jpg"),
    ("model", "sheet", "nowhere/a.png"),
    ("model", "sheet", "a.png", "--model", "nowhere"),
    ("model", "sheet", "a.png", "--steps", "0"),
    ("data", "check"),
    ("data", "check", "nowhere"),
    ("data", "check", ".", "--workers", "0"),
    ("data", "sheet"),
    ("data", "sheet", "nowhere/a.png"),
    ("data", "sheet", "."),
    ("evaluate", "--count", "0"),
    ("evaluate", "--model", "nowhere"),
    ("evaluate", "--steps", "0"),
    ("evaluate", "--guidance", "-1"),
    ("evaluate", "--json", "nowhere/a.json"),
]


def name_of(call):
    return " ".join("CONFIG" if callable(word) else word for word in call)


@pytest.mark.parametrize("call", WRONG_CALLS, ids=name_of)
def test_a_wrong_call_is_one_line_and_writes_nothing(call, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    arguments = [word(tmp_path) if callable(word) else word for word in call]
    there = sorted(tmp_path.rglob("*"))
    assert cli.main(arguments) == 2
    said = capsys.readouterr()
    if call != ("model",):  # says what there is
        assert said.err.startswith("error: ") and said.err.count("\n") == 1 and len(said.err) < 1000
    assert sorted(tmp_path.rglob("*")) == there


@pytest.mark.parametrize(
    "minutes, signalled, code, said",
    [
        (None, None, 0, ""),
        (1e-9, None, 0, "stopped after 1e-09 minutes, as requested"),
        (None, signal.SIGINT, 3, "stopping after this step"),
        (None, signal.SIGTERM, 3, "stopping after this step"),
        (1e-9, signal.SIGTERM, 3, "stopping after this step"),
    ],
)
def test_the_exit_code_says_whether_a_signal_stopped_the_training(
    tmp_path, monkeypatch, capsys, minutes, signalled, code, said
):
    asked = []

    def train(config, folder, stop):
        if signalled:
            signal.raise_signal(signalled)
        asked.append(stop())

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda number, frame: None)  # if it is not listened to, it does not end the tests
    monkeypatch.setattr(train_command, "read", lambda args: ({}, "codec"))
    monkeypatch.setattr(train_command.importlib, "import_module", lambda name: SimpleNamespace(train=train))
    args = train_command.parser().parse_args(["a.json", "--out", str(tmp_path / "run")])
    args.minutes = minutes
    assert train_command.run(args) == code
    assert asked == [bool(minutes or signalled)] and capsys.readouterr().err.startswith(said)
