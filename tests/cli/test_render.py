"""The command, end to end on the embedded model: plates in, deliveries out, wrong input refused."""

import errno
import json
import os
import shutil
import signal
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from tests import forked
from tests.layer.recorded import recorded_edits
from tests.plate.media import grey_levels, write_image, write_movie, write_noise, write_sequence
from tests.tiny import composite_file, draw, keep_some
from vera.core.cli import render
from vera.core.files import FileLock
from vera.core.job.run import stop_request
from vera.core.layer.image_file import read_image as pixels
from vera.core.model.device import choose_device

SIZE = (48, 64)


def shot(folder, frames, *kind, **how):
    return str(write_noise(folder, frames, *kind, size=SIZE, **how))


def run(*args, prompt="Add a red ball on the left", steps="1"):
    return render.main([*args, "--prompt", prompt, "--steps", steps, "--progress", "none", "--device", "cpu"])


def read(out, frames):
    return {f: (pixels(out / f"edit/edit.{f:04d}.exr"), pixels(composite_file(out, f))) for f in frames}


# What is delivered


@pytest.mark.parametrize(
    "kind, extension",
    [(np.float16, "exr"), (np.float32, "exr"), (np.uint8, "png"), (np.uint16, "tif")],
)
@pytest.mark.parametrize("blend_space", ["linear", "encoded"])
def test_the_plate_stays_where_alpha_is_zero(tmp_path, kind, extension, blend_space, monkeypatch):
    """With an alpha that is 0 in places, whatever the model draws: bits of the plate, special values included."""
    draw(monkeypatch, keep_some)
    frames = (1001, 1002)
    plate = shot(tmp_path / "in", frames, kind, extension, planted=extension == "exr")
    out = tmp_path / "out"
    assert run("--plate", plate, "--out", str(out), "--blend-space", blend_space) == 0
    for frame, (layer, composite) in read(out, frames).items():
        filmed = pixels(tmp_path / f"in/plate.{frame}.{extension}")
        kept = layer[..., 3] == 0
        assert 0.2 < kept.mean() < 0.9
        assert composite.dtype == filmed.dtype == kind
        assert composite[kept].tobytes() == filmed[kept].tobytes()
        assert not layer[kept].any()
        assert not np.array_equal(composite[~kept], filmed[~kept])


def test_other_types_and_files_come_on_request_and_once(tmp_path, monkeypatch):
    draw(monkeypatch, keep_some)
    plate = shot(tmp_path / "in", (1001, 1002), planted=True)
    out = tmp_path / "out"
    asked = (
        "--plate",
        plate,
        "--out",
        str(out),
        "--layer-type",
        "float",
        "--compression",
        "piz",
        "--also",
        "matte,png,prores",
    )
    assert run(*asked) == 0
    layer, composite = read(out, (1001,))[1001]
    assert layer.dtype == np.float32 and layer.shape[2] == 5 and composite.dtype == np.float16
    kept = layer[..., 3] == 0
    assert 0.2 < kept.mean() < 0.9 and not layer[kept].any() and (layer[..., 4] > 0)[~kept].all()
    filmed = pixels(tmp_path / "in/plate.1001.exr")
    assert composite[kept].tobytes() == filmed[kept].tobytes()
    made = {p: p.stat().st_mtime_ns for p in out.rglob("*") if p.is_file()}
    assert {out / "edit.mov", out / "png/edit.1001.png", out / "png/edit.1002.png"} < set(made)
    assert run(*asked) == 0
    assert {p: p.stat().st_mtime_ns for p in out.rglob("*") if p.is_file()} == made
    assert run(*asked[:-1], "matte") == 2  # another delivery is there


@pytest.mark.parametrize("count", [1, 2, 16, 17, 18, 49])
def test_exactly_as_many_frames_as_asked_for(tmp_path, count):
    plate = str(write_movie(tmp_path / "in.mp4", grey_levels(49)))
    out = tmp_path / "out"
    assert run("--plate", plate, "--out", str(out), "--frames", f"1-{count}") == 0
    names = [f"{i:04d}" for i in range(1, count + 1)]
    assert sorted(p.name for p in (out / "edit").iterdir()) == [f"edit.{n}.exr" for n in names]
    assert sorted(p.name for p in (out / "composite").iterdir()) == [f"composite.{n}.png" for n in names]
    manifest = json.loads((out / "manifest.json").read_text())
    assert [e["frame"] for e in manifest["frames"]] == list(range(1, count + 1))


def test_the_same_recipe_gives_the_same_pixels(tmp_path):
    plate = shot(tmp_path / "in", range(3))
    outs = [tmp_path / name for name in ("one", "two", "three")]
    for out, seed in zip(outs, "778"):
        assert run("--plate", plate, "--out", str(out), "--seed", seed, steps="2") == 0
    one, two, three = (json.loads((o / "manifest.json").read_text()) for o in outs)
    assert one["frames"] == two["frames"] and one["recipe_hash"] == two["recipe_hash"]
    assert one["frames"] != three["frames"] and one["recipe_hash"] != three["recipe_hash"]


def test_a_delivery_is_a_job_that_can_be_run_again(tmp_path, capsys):
    plate = shot(tmp_path / "in", [5])
    assert run("--plate", plate, "--out", str(tmp_path / "a")) == 0
    stamps = {p: p.stat().st_mtime_ns for p in (tmp_path / "a").rglob("*.*")}
    assert render.main([str(tmp_path / "a/recipe.json"), "--progress", "none", "--device", "cpu"]) == 0
    assert stamps == {p: p.stat().st_mtime_ns for p in (tmp_path / "a").rglob("*.*")}  # nothing to do
    again = [str(tmp_path / "a/recipe.json"), "--out", str(tmp_path / "b"), "--progress", "none", "--device", "cpu"]
    assert render.main(again) == 0
    a, b = (json.loads((tmp_path / x / "manifest.json").read_text()) for x in "ab")
    assert a["frames"] == b["frames"]


def test_a_mask_changes_the_edit(tmp_path):
    plate = shot(tmp_path / "in", [1, 2])
    white = np.zeros((*SIZE, 3), np.uint8)
    white[:, 32:] = 255
    write_image(tmp_path / "mask.png", white)
    assert run("--plate", plate, "--out", str(tmp_path / "a")) == 0
    assert run("--plate", plate, "--out", str(tmp_path / "b"), "--mask", str(tmp_path / "mask.png")) == 0
    a, b = (json.loads((tmp_path / x / "manifest.json").read_text()) for x in "ab")
    assert a["recipe_hash"] != b["recipe_hash"] and a["frames"] != b["frames"]


def test_jsonl_progress_is_json_and_reaches_the_end(tmp_path, capsys):
    plate = shot(tmp_path / "in", [1, 2])
    args = ["--plate", plate, "--out", str(tmp_path / "out"), "--prompt", "Add a bouncy ball", "--steps", "2"]
    assert render.main([*args, "--progress", "jsonl", "--device", "cpu"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert any(e["event"] == "warning" and "'bouncy'" in e["text"] for e in lines)
    for stage, total in (("read", 2), ("denoise", 2), ("deliver", 2)):
        seen = [(e["done"], e["total"]) for e in lines if e.get("stage") == stage]
        assert seen == [(i, total) for i in range(1, total + 1)]
    assert lines[-1]["event"] == "done"


def test_what_the_model_does_not_know_goes_on_anyway_and_is_in_the_manifest(tmp_path):
    plate, out = shot(tmp_path / "in", [1]), tmp_path / "out"
    assert run("--plate", plate, "--out", str(out), prompt="Add a dog on a red ball") == 2
    assert not out.exists()
    assert run("--plate", plate, "--out", str(out), "--anyway", prompt="Add a dog on a red ball") == 0
    warnings = json.loads((out / "manifest.json").read_text())["extra"]["warnings"]
    assert any("'dog'" in text for text in warnings) and any("'on a red ball'" in text for text in warnings)


def test_verbose_tells_what_was_chosen_and_why(tmp_path, capsys, monkeypatch):
    monkeypatch.delenv("VERA_ATTENTION", raising=False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    plate = shot(tmp_path / "in", [1, 2])
    args = [
        "--plate",
        plate,
        "--out",
        str(tmp_path / "out"),
        "--prompt",
        "Add fog",
        "--steps",
        "1",
        "--progress",
        "none",
    ]
    assert render.main([*args, "--verbose", "--cache", "0.1", "--one-batch", "--guidance", "2"]) == 0
    said = capsys.readouterr().err
    for words in (
        "device: cpu (auto: torch finds no CUDA device)",
        "model: mini,",
        "million weights of float32",
        "2 frames at once, 1 steps",
        "joint attention: sdpa (no CUDA device (cpu)); 3 x ",
        "cache: first block, threshold 0.1 (requested)",
        "compile: off",
        "both passes in one batch (requested)",
    ):
        assert words in said
    for guidance, words in (("2", "guidance: two passes"), ("1", "guidance: one pass")):
        again = [*args, "--out", str(tmp_path / guidance), "--verbose", "--guidance", guidance, "--progress", "jsonl"]
        assert render.main(again) == 0
        events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        assert any(e["event"] == "message" and words in e["text"] for e in events)


def test_a_saver_that_changes_the_picture_is_of_the_jobs_hash(tmp_path, monkeypatch):
    """The cache and the opt-ins of attention are; what changes rounding only, as the device does, is not."""
    from vera.core.job.prepare import prepare
    from vera.core.model.load import load_model
    from vera.core.recipe import EditRecipe

    monkeypatch.delenv("VERA_ATTENTION", raising=False)
    plate, mini = shot(tmp_path / "in", [1]), load_model("mini", "cpu")

    def hash_with(**speed):
        return prepare(
            EditRecipe(plate, "Add fog", str(tmp_path / "out"), **speed), "cpu", lambda *_, **asked: mini
        ).hash

    changing = [{}, {"cache": 0.1}, {"cache": 0.2}, {"attention": "int8"}, {"attention": "window"}, {"weights": "int8"}]
    assert len({hash_with(**speed) for speed in changing}) == len(changing)
    rounding = ({"cache": 0.0}, {"compile": True}, {"one_batch": True}, {"offload": "parts"})
    assert {hash_with(**speed) for speed in rounding} == {hash_with()}


def test_a_lora_is_of_the_jobs_hash_by_its_content(tmp_path):
    """Wherever it lies; a job file keeps it beside itself, a delivery's recipe by its whole path."""
    from safetensors.torch import save_file

    from vera.core.job.prepare import prepare
    from vera.core.recipe import EditRecipe

    plate = shot(tmp_path / "in", [1])
    name, files = "transformer.blocks.0.edit.attn1.to_q.lora_{}.weight", []
    for folder, value in (("a", 1.0), ("b", 1.0), ("c", 2.0)):
        (tmp_path / folder).mkdir()
        files.append(str(tmp_path / folder / "l.safetensors"))
        save_file({name.format("A"): torch.full((2, 192), value), name.format("B"): torch.ones(192, 2)}, files[-1])

    def hash_with(*lora):
        return prepare(EditRecipe(plate, "Add fog", str(tmp_path / "out"), lora=lora), "cpu").hash

    a, b, c = files
    assert hash_with(a) == hash_with(b) == hash_with(f"{a}:1")
    assert len({hash_with(*lora) for lora in ((), (a,), (c,), (f"{a}:0.5",), (a, c))}) == 5

    (tmp_path / "job.json").write_text(
        json.dumps({"plate": "p.png", "prompt": "x", "out": "o", "lora": ["a/l.safetensors:0.5"]})
    )
    recipe = EditRecipe.from_file(str(tmp_path / "job.json"))
    assert recipe.lora == (f"{tmp_path / 'a/l.safetensors'}:0.5",) == tuple(recipe.to_json()["lora"])


def test_each_saver_reaches_the_model(tmp_path, monkeypatch):
    """The flags change what is computed: other pixels under the cache, one pass of two under one batch."""
    from vera.core.model.mini.mini_transformer import MiniTransformer

    forward, seen = MiniTransformer.forward, []

    def noting(self, latents, *given, cache=None, **more):
        compiled = self.blocks[0]._compiled_call_impl is not None
        seen.append((len(latents), self.attention, cache.cache and cache.cache.threshold, compiled))
        return forward(self, latents, *given, cache=cache, **more)

    monkeypatch.setattr(MiniTransformer, "forward", noting)
    monkeypatch.setattr(
        torch.nn.Module, "compile", lambda self, **_: setattr(self, "_compiled_call_impl", self._call_impl)
    )
    plate = shot(tmp_path / "in", [1])
    for name, flags in (("a", []), ("b", ["--attention", "window", "--cache", "0.3", "--one-batch", "--compile"])):
        assert run("--plate", plate, "--out", str(tmp_path / name), "--steps", "1", "--guidance", "2", *flags) == 0
    assert seen == [(1, "dense", None, False)] * 2 + [(2, "window", 0.3, True)]


# Stopping


def start(plate, out):
    given = ("--plate", plate, "--out", str(out), "--prompt", "Add fog", "--steps", "2", "--device", "cpu")
    return forked.Command("vera.core.cli.render", *given, "--progress", "jsonl")


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A plate, and its delivery made in one go."""
    folder = tmp_path_factory.mktemp("whole")
    plate = shot(folder / "in", range(1, 10))
    assert run("--plate", plate, "--out", str(folder / "out"), prompt="Add fog", steps="2") == 0
    return plate, json.loads((folder / "out/manifest.json").read_text())


@pytest.mark.parametrize(
    "stage, number, code",
    [
        ("deliver", signal.SIGINT, 3),
        ("deliver", signal.SIGKILL, -signal.SIGKILL),
        ("denoise", signal.SIGKILL, -signal.SIGKILL),
    ],
)
def test_stopped_half_way_and_resumed_is_identical(tmp_path, whole, stage, number, code):
    plate, made_in_one_go = whole
    process = start(plate, tmp_path / "part")
    for line in process.stdout:
        if json.loads(line).get("stage") == stage:
            process.send_signal(number)
            break
    _, errors = process.communicate(timeout=120)
    assert process.returncode == code, errors
    assert not (tmp_path / "part/manifest.json").exists()
    written = recorded_edits(tmp_path / "part")
    assert 1 <= len(written) < 9 if stage == "deliver" else not written

    assert run("--plate", plate, "--out", str(tmp_path / "part"), prompt="Add fog", steps="2") == 0
    assert {p: p.stat().st_mtime_ns for p in written} == written  # recorded frames are not made again
    part = json.loads((tmp_path / "part/manifest.json").read_text())
    assert made_in_one_go["frames"] == part["frames"]
    assert not list((tmp_path / "part").rglob("*.part*")) and not (tmp_path / "part/.job").exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_and_a_farms_signal_ask_for_a_stop(number):
    signal.signal(number, lambda number, frame: None)  # if it is not listened to, it does not end the tests
    stopping = stop_request()
    assert not stopping()
    signal.raise_signal(number)
    assert stopping() and signal.getsignal(number) is not signal.SIG_DFL
    signal.raise_signal(number)
    assert signal.getsignal(number) is signal.SIG_DFL  # a third one ends the process


# Wrong input: one line, exit code 2, nothing written


def wrong(name):
    def register(make):
        CASES.append(pytest.param(make, id=name))
        return make

    return register


CASES = []
RED = ["--prompt", "Add a red ball"]


def plate_of(t, frames=(1, 2)):
    return ["--plate", str(write_sequence(t, frames, size=(*SIZE, 3))), *RED]


def simple(name, expected, *args, prompt=True):
    """A case in which only the arguments beside a good plate are wrong."""

    @wrong(name)
    def make(t, monkeypatch):
        base = plate_of(t)
        return (base if prompt else base[:2]) + [a.format(t=t) for a in args], expected


simple("empty prompt", "prompt is empty", "--prompt", "", prompt=False)
simple("blank prompt", "prompt is empty", "--prompt", " \t ", prompt=False)
simple("no prompt", "prompt is missing", prompt=False)
simple(
    "prompt of another act", "mini cannot take things away ('remove')", "--prompt", "Remove the rabbit", prompt=False
)
simple("prompt of another act, anyway", "('remove')", "--prompt", "Remove the rabbit", "--anyway", prompt=False)
simple("prompt in another script", "'左に赤い風船を追加'", "--prompt", "左に赤い風船を追加", prompt=False)
simple("prompt of two edits", "ask one by one", "--prompt", "Add rain and fog", prompt=False)
simple("prompt that is misspelt", "did you mean 'balloon'", "--prompt", "Add a red baloon", prompt=False)
simple("range outside", "1-9", "--frames", "1-9")
simple("range reversed", "2-1", "--frames", "2-1")
simple("range of words", "'some'", "--frames", "some")
simple("unknown model", "neither 'mini' nor a directory", "--model", "maxi")
simple("model without weights", "no weights of that size are public", "--model", "14b")
simple("seed below zero", "seed -1", "--seed", "-1")
simple("seed too large", "seed 9223372036854775808", "--seed", "9223372036854775808")
simple("seed of letters", "--seed", "--seed", "x")
simple("no steps", "steps 0", "--steps", "0")
simple("guidance not a number", "guidance nan", "--guidance", "nan")
simple("guidance too strong", "guidance 99", "--guidance", "99")
simple("colour space", "is it ACEScg", "--color-space", "ACES cg.")
simple("layer space that is no light", "not linear", "--layer-space", "ACEScct")
simple("exposure of letters", "exposure bright", "--exposure", "bright")
simple("exposure out of range", "exposure 99", "--exposure", "99")
simple("layer mode", "--layer-mode", "--layer-mode", "add")
simple("blend space", "--blend-space", "--blend-space", "log")
simple("cache above one", "cache 2", "--cache", "2")
simple("cache not a number", "cache nan", "--cache", "nan")
simple("weights of another kind", "choose from", "--weights", "int4")
simple("LoRA that is not there", "--lora away.safetensors: no such file", "--lora", "away.safetensors:0.5")
simple("LoRA of another strength", "a number up to 10", "--lora", "x.safetensors:99")
simple("attention of another kind", "--attention", "--attention", "sparse")
simple("unknown option", "--colour", "--colour", "red")
simple("region of words", "not X,Y,W,H", "--region", "left")
simple("region of three numbers", "not X,Y,W,H", "--region", "1,2,3")
simple("region outside", "not inside the plate, which has x 0 to 63 and y 0 to 47", "--region", "40,0,30,30")
simple("region too small", "at least 16 pixels", "--region", "0,0,15,40")
simple("cuts of words", "not frame numbers", "--cuts", "here")
simple("cuts that do not rise", "do not rise", "--cuts", "2,2")
simple("cut outside", "cut 3 is not among the frames 1 to 2", "--cuts", "3")
simple("cut at the first frame", "cut 1 is not among the frames", "--cuts", "1")
simple("mask missing", "mask.png", "--mask", "{t}/mask.png")


@wrong("no plate")
def _(t, monkeypatch):
    return RED, "plate is missing"


@wrong("plate missing")
def _(t, monkeypatch):
    return ["--plate", str(t / "none.mp4"), *RED], "none.mp4"


@wrong("pattern without files")
def _(t, monkeypatch):
    return ["--plate", str(t / "none.####.exr"), *RED], "none.####.exr"


@wrong("a gap")
def _(t, monkeypatch):
    return plate_of(t, (1, 2, 4)), "3"


@wrong("truncated EXR")
def _(t, monkeypatch):
    args = plate_of(t)
    file = t / "plate.0002.exr"
    file.write_bytes(file.read_bytes()[:-40])
    return args, "plate.0002.exr"


@wrong("text named exr")
def _(t, monkeypatch):
    args = plate_of(t)
    (t / "plate.0001.exr").write_text("not a picture")
    return args, "plate.0001.exr"


@wrong("a directory")
def _(t, monkeypatch):
    (t / "in.exr").mkdir()
    return ["--plate", str(t / "in.exr"), *RED], "directory"


@wrong("zero bytes")
def _(t, monkeypatch):
    (t / "in.png").touch()
    return ["--plate", str(t / "in.png"), *RED], "in.png"


@wrong("unknown extension")
def _(t, monkeypatch):
    (t / "in.doc").write_text("x")
    return ["--plate", str(t / "in.doc"), *RED], "doc"


@wrong("a frame of another size")
def _(t, monkeypatch):
    args = plate_of(t)
    write_image(t / "plate.0002.exr", np.zeros((10, 10, 3), np.float16))
    return args, "plate.0002.exr"


@wrong("OCIO that is no config")
def _(t, monkeypatch):
    (t / "c.ocio").write_text("x")
    monkeypatch.setenv("OCIO", str(t / "c.ocio"))
    return plate_of(t), "$OCIO"


@wrong("mask of another size")
def _(t, monkeypatch):
    write_image(t / "mask.png", np.zeros((9, 9, 3), np.uint8))
    return [*plate_of(t), "--mask", str(t / "mask.png")], "9x9"


@wrong("mask of another length")
def _(t, monkeypatch):
    (t / "m").mkdir()
    mask = write_sequence(t / "m", [1], "mask.{:04d}.exr", size=(*SIZE, 3))
    return [*plate_of(t), "--mask", str(mask)], "mask"


@wrong("mask with NaN")
def _(t, monkeypatch):
    write_image(t / "mask.exr", np.full((*SIZE, 3), np.nan, np.float16))
    return [*plate_of(t), "--mask", str(t / "mask.exr")], "NaN"


@wrong("pickled weights")
def _(t, monkeypatch):
    (t / "model/transformer").mkdir(parents=True)
    for part in ("vae", "text_encoder", "tokenizer"):
        (t / "model" / part).mkdir()
    (t / "model/transformer/weights.pt").write_bytes(b"pickle")
    return [*plate_of(t), "--model", str(t / "model")], "model"


@wrong("attention forced that cannot be")
def _(t, monkeypatch):
    monkeypatch.setenv("VERA_ATTENTION", "triton")
    return [*plate_of(t), "--device", "cpu"], "VERA_ATTENTION: attention 'triton' was forced but"


@wrong("nothing to compile with")
def _(t, monkeypatch):
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CXX", raising=False)
    return [*plate_of(t), "--compile", "--device", "cpu"], "--compile: no C++ compiler"


@wrong("no CUDA")
def _(t, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    return [*plate_of(t), "--device", "cuda"], "--device cpu"


@wrong("disk full")
def _(t, monkeypatch):
    import shutil

    usage = shutil.disk_usage(t)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1000))
    return plate_of(t), "make room"


@wrong("out cannot be written")
def _(t, monkeypatch):
    monkeypatch.setattr(os, "access", lambda *_: False)
    return plate_of(t), "not writable"


def job(t, text):
    (t / "job.json").write_text(text)
    return [str(t / "job.json")]


@wrong("job file missing")
def _(t, monkeypatch):
    return [str(t / "job.json")], "no such job file"


@wrong("job file not JSON")
def _(t, monkeypatch):
    return job(t, '{"plate": '), "not JSON, line 1"


@wrong("job file with a surplus key")
def _(t, monkeypatch):
    return job(t, '{"plate": "x", "prompt": "y", "colour": 1}'), "unknown 'colour'"


@wrong("job file with a word for yes")
def _(t, monkeypatch):
    return job(t, '{"plate": "x", "prompt": "y", "keep": "yes"}'), "keep 'yes' is not true or false"


@wrong("job file of another schema")
def _(t, monkeypatch):
    return job(t, '{"schema": "vera.recipe/9"}'), "vera.recipe/1"


@wrong("job file with a number for a text")
def _(t, monkeypatch):
    return job(t, '{"plate": 5, "prompt": "y"}'), "plate"


@pytest.mark.parametrize("make", CASES)
def test_wrong_input_is_one_line_and_nothing_is_written(tmp_path, monkeypatch, capsys, make):
    args, expected = make(tmp_path, monkeypatch)
    before = sorted(tmp_path.rglob("*"))
    out = tmp_path / "out"
    assert render.main([*args, "--out", str(out), "--progress", "none"]) == 2
    printed = capsys.readouterr()
    (line,) = printed.err.splitlines()
    assert line.startswith("error: ") and expected in line and printed.out == ""
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("full", [".job/latents/plate.1", ".job/latents/state.1.step0001", "preview"])
def test_a_disk_that_fills_is_one_line_that_names_the_file(tmp_path, monkeypatch, capsys, full):
    from vera.core import files as exact_file

    fsync, there = os.fsync, lambda: [p.name for p in (tmp_path / "out").rglob("*.part*")]

    def failing(number):
        if any(name.startswith(full.rsplit("/")[-1] + ".part") for name in there()):
            raise OSError(errno.ENOSPC, "No space left on device")
        fsync(number)

    monkeypatch.setattr(exact_file.os, "fsync", failing)
    plate = shot(tmp_path / "in", [1])
    assert run("--plate", plate, "--out", str(tmp_path / "out")) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ") and full in line and "could not be written (No space left on device)" in line
    assert "MiB are free" in line and not there()
    monkeypatch.undo()
    assert run("--plate", plate, "--out", str(tmp_path / "out")) == 0


def test_a_whole_delivery_is_generated_again_to_be_kept(tmp_path):
    plate, out = shot(tmp_path / "in", [1]), tmp_path / "out"
    assert run("--plate", plate, "--out", str(out)) == 0
    date = (out / "edit/edit.0001.exr").stat().st_mtime_ns
    assert run("--plate", plate, "--out", str(out), "--keep") == 0
    assert (out / "kept/layers.1.safetensors").exists() and (out / "manifest.json").exists()
    assert (out / "edit/edit.0001.exr").stat().st_mtime_ns == date


@pytest.fixture(scope="module")
def kept_once(tmp_path_factory):
    """A plate, the folder of its delivery with kept latents, and what these give in another blending space."""
    folder = tmp_path_factory.mktemp("kept")
    plate = shot(folder / "in", [1])
    assert run("--plate", plate, "--out", str(folder / "out"), "--keep") == 0
    shutil.copytree(folder / "out", folder / "other")
    assert run("--plate", plate, "--out", str(folder / "other"), "--keep", "--blend-space", "encoded") == 0
    return plate, folder / "out", read(folder / "other", [1])


@pytest.mark.parametrize("damage", ["flip", "nan", "cut", "link"])
def test_damaged_latents_are_generated_again_with_a_message(tmp_path, capsys, kept_once, damage):
    plate, whole, expected = kept_once
    out = tmp_path / "out"
    shutil.copytree(whole, out)
    file = out / "kept/layers.1.safetensors"
    kept = file.read_bytes()
    content = bytearray(kept)
    if damage == "flip":
        content[-2] ^= 0x40
    elif damage == "nan":
        content[-4:] = np.float32(np.nan).tobytes()
    elif damage == "cut":
        del content[-1:]
    file.unlink()
    (tmp_path / "elsewhere").write_bytes(content)
    file.symlink_to(tmp_path / "elsewhere") if damage == "link" else file.write_bytes(content)
    assert run("--plate", plate, "--out", str(out), "--keep", "--blend-space", "encoded") == 0
    assert "kept/layers.1.safetensors: damaged; its latents are computed again" in capsys.readouterr().err
    found = read(out, [1])
    assert all(np.array_equal(a, b) for a, b in zip(found[1], expected[1]))
    assert file.read_bytes() == kept and not file.is_symlink()
    assert (tmp_path / "elsewhere").read_bytes() == content


def test_two_commands_in_one_folder_are_one_job_and_one_line(tmp_path, capsys):
    from vera.core.layer.out_folder import claimed

    plate, out = shot(tmp_path / "in", [1]), tmp_path / "out"
    with claimed(out):
        assert run("--plate", plate, "--out", str(out)) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert f"process {os.getpid()} on" in line and "--wait" in line
        assert [p.name for p in out.iterdir()] == [".lock"]
    assert run("--plate", plate, "--out", str(out), "--wait") == 0


def test_a_job_that_may_wait_begins_when_the_folder_is_free(tmp_path, monkeypatch):
    from vera.core.layer import out_folder

    plate, out = shot(tmp_path / "in", [1]), tmp_path / "out"
    out.mkdir()
    held = [FileLock(out / out_folder.LOCK, "process 1 on elsewhere")]
    monkeypatch.setattr(out_folder, "time", SimpleNamespace(sleep=lambda seconds: held.pop().release(remove=True)))
    assert run("--plate", plate, "--out", str(out), "--wait") == 0 and not held


def test_latents_are_among_what_must_fit_on_the_disk(tmp_path, monkeypatch, capsys):
    """Without them 1 MiB would do for 49 small frames."""
    from vera.core.layer import out_folder

    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(out_folder.shutil, "disk_usage", lambda path: usage._replace(free=1 << 20))
    plate = str(write_sequence(tmp_path, range(1, 50), size=(*SIZE, 3)))
    assert run("--plate", plate, "--out", str(tmp_path / "out")) == 2
    assert "will be written and 1 MiB are free" in capsys.readouterr().err


def test_an_out_that_is_a_file(tmp_path, capsys):
    (tmp_path / "out").write_text("mine")
    assert run("--plate", shot(tmp_path / "in", [1]), "--out", str(tmp_path / "out")) == 2
    assert "not a directory" in capsys.readouterr().err and (tmp_path / "out").read_text() == "mine"


def test_an_out_that_holds_another_job(tmp_path, capsys):
    plate = shot(tmp_path / "in", [1])
    assert run("--plate", plate, "--out", str(tmp_path / "out")) == 0
    before = {p: p.read_bytes() for p in (tmp_path / "out").rglob("*.*")}
    assert run("--plate", plate, "--out", str(tmp_path / "out"), prompt="Add snow") == 2
    assert "another job" in capsys.readouterr().err
    assert before == {p: p.read_bytes() for p in (tmp_path / "out").rglob("*.*")}


def test_help_names_what_matters(capsys):
    with pytest.raises(SystemExit) as stop:
        render.main(["--help"])
    text = capsys.readouterr().out
    assert stop.value.code == 0
    for word in (
        "plate.####.exr",
        "--mask",
        "--frames",
        "--seed",
        "premultiplied",
        "exit codes",
        "resumes a stopped job",
    ):
        assert word in text


def test_auto_takes_what_is_there(monkeypatch):
    for there, device in ((True, "cuda"), (False, "cpu")):
        monkeypatch.setattr(torch.cuda, "is_available", lambda there=there: there)
        assert choose_device("auto") == device and choose_device("cpu") == "cpu"
