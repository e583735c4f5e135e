"""The VACE door on tiny random weights: the whole way, on the CPU, from a directory of safetensors."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from diffusers import WanVACEPipeline

from tests.plate.media import write_image
from tests.recipe.test_identity import OTHER
from tests.tiny_vace import SIZE, vace_directory
from vera.core.backends import lift as lift_backend
from vera.core.cli import render
from vera.core.job.prepare import prepare
from vera.core.layer.image_file import read_image as pixels
from vera.core.lifting import vace_editor
from vera.core.lifting.vace_editor import (
    CARRIED_FRAMES,
    MASKED_VALUE,
    NEGATIVE_PROMPT,
    PARTS,
    WEIGHTS_SHARE,
    Vace,
    bytes_in_bf16,
    chosen_offload,
)
from vera.core.model.tensors import TensorFiles
from vera.core.model.text import WanText
from vera.core.recipe import EditRecipe
from vera.core.recipe.table import FIELDS


@pytest.fixture(scope="module")
def vace(tmp_path_factory):
    return vace_directory(tmp_path_factory.mktemp("vace"))


@pytest.fixture
def shot(tmp_path):
    """Twelve half frames, more than one window, and a mask of the left third."""
    for frame in range(1001, 1013):
        values = np.random.default_rng(frame).random((*SIZE, 3))
        write_image(tmp_path / f"in/plate.{frame}.exr", (values * 2).astype(np.float16))
    mask = np.zeros((*SIZE, 3), np.uint8)
    mask[:, : SIZE[1] // 3] = 255
    write_image(tmp_path / "mask.png", mask)
    return tmp_path


def run(shot, vace, *more):
    given = ["--plate", str(shot / "in/plate.####.exr"), "--out", str(shot / "out"), "--prompt", "add a red boat"]
    return render.main([*given, "--model", f"vace:{vace}", "--progress", "none", "--device", "cpu", *more])


@pytest.fixture(autouse=True)
def folder(tmp_path):
    (tmp_path / "in").mkdir()


def test_the_whole_door_is_exact_where_alpha_is_zero(shot, vace, monkeypatch, capsys):
    """Random weights spoil all alike, so that no change stands out: an alpha is planted."""

    def planted(plate, edited, mask, step_done, *controls):
        found = lift_clip(plate, edited, mask, step_done, *controls)
        found.alpha = 0.6 * (mask > 0)
        return found

    lift_clip = lift_backend.lift_clip
    monkeypatch.setattr(lift_backend, "lift_clip", planted)
    assert run(shot, vace, "--mask", str(shot / "mask.png"), "--verbose") == 0
    said = capsys.readouterr().err
    assert f"model: VACE of {vace}" in said and "64x48, 9 frames at once, 2 steps" in said
    changed = 0
    for frame in range(1001, 1013):
        filmed = pixels(shot / f"in/plate.{frame}.exr")
        layer = pixels(shot / f"out/edit/edit.{frame}.exr")
        composite = pixels(shot / f"out/composite/composite.{frame}.exr")
        kept = layer[..., 3] == 0
        assert composite[kept].tobytes() == filmed[kept].tobytes() and not layer[kept].any()
        assert kept[:, SIZE[1] // 3 :].all()  # nothing outside the mask
        changed += (~kept).sum()
    assert changed > 12 * 48 * 5
    manifest = json.loads((shot / "out/manifest.json").read_text())
    assert [f["frame"] for f in manifest["frames"]] == list(range(1001, 1013))
    assert (shot / "out/report.png").is_file()


def test_it_is_handed_grey_where_it_is_to_paint_and_the_plate_elsewhere(shot, vace, monkeypatch):
    """Random weights cannot tell; what is handed over can. Frames carried from the window before are no holes."""
    handed, made, asked, shifts = [], [], [], []

    def encoded(self, prompts):
        asked.extend(prompts)
        return encode(self, prompts)

    encode = WanText.encode
    monkeypatch.setattr(WanText, "encode", encoded)

    def listened(self, **given):
        shifts.append(self.scheduler.config.shift)
        handed.append((given["video"][0], given["mask"][0]))
        made.append(call(self, **given))
        return made[-1]

    call = WanVACEPipeline.__call__
    monkeypatch.setattr(WanVACEPipeline, "__call__", listened)
    assert run(shot, vace, "--mask", str(shot / "mask.png")) == 0
    assert asked == ["add a red boat", NEGATIVE_PROMPT] and shifts == [16.0, 16.0]  # VACE's own settings
    (first, hole), (second, later_hole) = handed
    assert hole[:, :, :, : SIZE[1] // 3 - 1].eq(1).all() and hole[:, :, :, SIZE[1] // 3 + 1 :].eq(0).all()
    for video, mask in handed:
        assert video[mask > 0].eq(MASKED_VALUE).all() and video[mask == 0].std() > 0.1
    carried = made[0].frames[0][-CARRIED_FRAMES:].clamp(0, 1).half().float()
    assert later_hole[:CARRIED_FRAMES].eq(0).all() and torch.equal(second[:CARRIED_FRAMES], carried)
    assert later_hole[CARRIED_FRAMES:].eq(1).any()


def test_a_stop_keeps_the_windows_made_and_goes_on(shot, vace, monkeypatch):
    """Stopped in the second window, the command goes on there and ends as an undisturbed one does."""
    mask = ("--mask", str(shot / "mask.png"))
    assert run(shot, vace, *mask) == 0
    whole = json.loads((shot / "out/manifest.json").read_text())["frames"]
    (shot / "out").rename(shot / "undisturbed")
    asked = []

    def stop_request():
        return lambda: asked.append(1) or len(asked) == 4  # two windows of two steps each, the last of them

    monkeypatch.setattr(render, "stop_request", stop_request)
    assert run(shot, vace, *mask) == 3
    assert len(list((shot / "out/.job").glob("vace-*.safetensors"))) == 1
    assert run(shot, vace, *mask) == 0
    assert json.loads((shot / "out/manifest.json").read_text())["frames"] == whole


def refused(capsys, shot, vace, *more):
    before = sorted(shot.rglob("*"))
    assert run(shot, vace, *more) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert sorted(shot.rglob("*")) == before
    return line


def test_without_a_mask_it_is_refused_with_the_reason(shot, vace, capsys):
    assert "whole frame" in refused(capsys, shot, vace)


@pytest.mark.parametrize("part", ["transformer", "vae", "text_encoder", "tokenizer", "scheduler"])
def test_a_missing_part_is_named(shot, vace, capsys, part):
    (vace / part).rename(vace / "away")
    try:
        assert part in refused(capsys, shot, vace, "--mask", str(shot / "mask.png"))
    finally:
        (vace / "away").rename(vace / part)


def test_pickles_are_refused(shot, vace, capsys):
    file = vace / "vae/diffusion_pytorch_model.safetensors"
    file.rename(file.with_suffix(".bin"))
    try:
        assert "safetensors" in refused(capsys, shot, vace, "--mask", str(shot / "mask.png"))
    finally:
        file.with_suffix(".bin").rename(file)


def test_vace_gets_negative_prompt_shift_references_and_conditioning_scale(shot, vace, monkeypatch):
    picture = np.zeros((8, 8, 3), np.uint8)
    picture[..., 0] = 255
    write_image(shot / "boat.png", picture)
    handed, asked = {}, []

    class HandedError(Exception):
        pass

    def encoded(self, prompts):
        asked.extend(prompts)
        return encode(self, prompts)

    def listened(self, **given):
        handed.update(given, shift=self.scheduler.config.shift)
        raise HandedError

    encode = WanText.encode
    monkeypatch.setattr(WanText, "encode", encoded)
    monkeypatch.setattr(WanVACEPipeline, "__call__", listened)
    options = ["--negative-prompt", "blur", "--shift", "4", "--conditioning-scale", "0.5"]
    run(shot, vace, "--mask", str(shot / "mask.png"), "--reference", str(shot / "boat.png"), *options)
    assert asked == ["add a red boat", "blur"]
    (reference,) = handed["reference_images"]
    assert np.array_equal(np.asarray(reference), picture)
    assert (handed["shift"], handed["conditioning_scale"]) == (4.0, 0.5)


def test_references_and_settings_make_another_job(shot, vace):
    """What determines the pixels is part of the hash: the contents of a reference, not its path."""
    colors = {"a": 255, "b": 128, "same_as_a": 255}
    for name, value in colors.items():
        write_image(shot / f"{name}.png", np.full((8, 8, 3), value, np.uint8))

    def hash_of(**values):
        given = {"plate": str(shot / "in/plate.####.exr"), "mask": str(shot / "mask.png"), "out": str(shot / "out")}
        given |= {"prompt": "add a red boat", "model": f"vace:{vace}"}
        return prepare(EditRecipe(**given | values), "cpu").hash

    fields = [f for f in FIELDS if "vace" in f.row.backends and f.name in OTHER and f.row.part is not None]
    other = OTHER | {"frames": "1001-1004"}
    wrong = [f.name for f in fields if hash_of(**{f.name: other[f.name]}) == hash_of()]
    assert not wrong and {"steps", "seed", "shift", "negative_prompt", "sensitivity"} < {f.name for f in fields}
    hashes = [hash_of(reference=(str(shot / f"{name}.png"),)) for name in colors]
    assert len({*hashes, hash_of()}) == 3 and hashes[0] == hashes[2]


@pytest.mark.parametrize("guidance", ["1", "0"])
def test_a_negative_prompt_without_guidance_is_refused(shot, vace, guidance, capsys):
    options = ["--mask", str(shot / "mask.png"), "--negative-prompt", "blur", "--guidance", guidance]
    assert run(shot, vace, *options) == 2
    assert "negative prompt: has no effect" in capsys.readouterr().err and not (shot / "out").exists()


@pytest.mark.parametrize("offload", ["none", "parts", "blocks"])
def test_weights_lie_where_the_offload_says(vace, monkeypatch, offload):
    """The meta device stands for the GPU: what is on it holds no numbers. diffusers moves parts there when they run."""
    moved, read_to = {}, set()

    def tensor_files(folder, device):
        read_to.add(device)
        return TensorFiles(folder, "cpu")

    monkeypatch.setattr(vace_editor, "TensorFiles", tensor_files)
    for name in ("enable_model_cpu_offload", "enable_sequential_cpu_offload"):
        monkeypatch.setattr(WanVACEPipeline, name, lambda self, device, name=name: moved.update({name: device}))
    editor = Vace.__new__(Vace)
    for name, value in {"root": vace, "offload": offload, "device": "meta", "shift": 16.0}.items():
        object.__setattr__(editor, name, value)
    pipeline, _ = editor._load()
    parts = {"transformer": pipeline.transformer, "vae": pipeline.vae, "text_encoder": pipeline.text_encoder}
    lie = {name: {p.device.type for p in part.parameters()} for name, part in parts.items()}
    wanted = {"none": "meta", "parts": "cpu", "blocks": "cpu"}[offload]
    assert lie == dict.fromkeys(parts, {wanted})
    asked = {
        "none": {},
        "parts": {"enable_model_cpu_offload": "meta"},
        "blocks": {"enable_sequential_cpu_offload": "meta"},
    }
    assert moved == asked[offload]
    if offload != "none":  # what waits in host memory has its numbers, in the types in which it computes
        assert {p.dtype for p in pipeline.text_encoder.parameters()} == {torch.bfloat16}
        assert {p.dtype for p in pipeline.vae.parameters()} == {torch.float32}


@pytest.mark.parametrize(
    ("share", "chosen"), [(1.1, "none"), (0.9, "parts"), (0.3, "blocks")], ids=["fits", "a part fits", "no part fits"]
)
def test_auto_offloads_what_does_not_fit(vace, monkeypatch, share, chosen):
    sizes = [bytes_in_bf16(vace / part) for part in PARTS]
    memory = share * sum(sizes) / WEIGHTS_SHARE
    assert max(sizes) < 0.9 * sum(sizes) and max(sizes) > 0.3 * sum(sizes)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: SimpleNamespace(total_memory=memory))
    assert chosen_offload("auto", vace, "cuda") == chosen
    assert chosen_offload("auto", vace, "cpu") == chosen_offload("parts", vace, "cpu") == "none"
    assert chosen_offload("blocks", vace, "cuda") == "blocks"
