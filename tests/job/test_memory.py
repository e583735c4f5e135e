"""Injected out-of-memory errors: which cheaper settings are tried, in which order, and the messages."""

import json
import weakref
from dataclasses import dataclass, replace
from types import SimpleNamespace

import pytest
import torch

from tests.plate.media import write_sequence
from vera.core.cli import render
from vera.core.errors import InputError, OutOfMemoryError
from vera.core.job import gpu_plan, memory
from vera.core.job.memory import ModelLoading, within_memory
from vera.core.model.limits import Limits
from vera.core.model.mini.mini_transformer import MiniTransformer
from vera.core.recipe import EditRecipe

BOTH = EditRecipe("plate.exr", "Add fog", "out", one_batch=True)


@dataclass(frozen=True)
class Job:
    """What the ladder knows of one, and with which plan it was prepared."""

    recipe: EditRecipe
    device: str
    model: object
    warnings: tuple = ()
    plate = SimpleNamespace(frames=range(1, 101))

    @property
    def frames_at_once(self):
        return min(len(self.plate.frames), self.model.limits.max_frames)


@dataclass(frozen=True)
class Model:
    limits: Limits
    offload: str
    weights: str


def load(name, device, offload="none", weights="auto"):
    return Model(Limits(max_frames=49), offload, weights)


@pytest.fixture
def gpu(monkeypatch):
    """As if there were one."""
    monkeypatch.setattr(memory, "choose_device", lambda name: "cpu" if name == "cpu" else "cuda")
    monkeypatch.setattr(memory, "prepare", lambda recipe, device, load, _: Job(recipe, device, load("mini", device)))


def failing(times, error=torch.OutOfMemoryError("CUDA out of memory")):
    """Work that runs out of memory so many times, and notes with which plan."""
    tried = []

    def work(job):
        tried.append((job.recipe.one_batch, job.model.offload, job.model.limits.max_frames, job.device))
        if len(tried) <= times:
            raise error
        return job.warnings

    return work, tried


def test_each_cheaper_setting_is_tried_in_order(gpu):
    work, tried = failing(6)
    said = within_memory(work, BOTH, "auto", ModelLoading(load))
    assert tried == [
        (True, "none", 49, "auto"),
        (False, "none", 49, "auto"),
        (False, "parts", 49, "auto"),
        (False, "parts", 25, "auto"),
        (False, "parts", 13, "auto"),
        (False, "parts", 9, "auto"),
        (False, "none", 49, "cpu"),
    ]
    words = ("one after the other", "outside the GPU", "of 25 frames", "of 13 frames", "of 9 frames", "CPU")
    assert all(word in line for word, line in zip(words, said, strict=True))


def test_a_full_size_model_has_two_settings_more(gpu, monkeypatch, tmp_path):
    """Its blocks leave the GPU before its weights are rounded; what was asked for is not changed."""
    monkeypatch.setattr(memory, "first_plan", lambda recipe, device, _: memory.ExecutionPlan(recipe, device))
    monkeypatch.setattr(memory, "prepare", lambda recipe, device, load, _: Job(recipe, device, load("vera", device)))

    def tried(**asked):
        recipe, seen = EditRecipe("plate.exr", "Add fog", "out", model=str(tmp_path), **asked), []

        def work(job):
            seen.append((job.model.offload, job.model.weights, job.model.limits.max_frames))
            raise torch.OutOfMemoryError

        with pytest.raises(OutOfMemoryError):
            within_memory(work, recipe, "cuda", ModelLoading(load))
        return seen

    assert tried()[:5] == [
        ("none", "auto", 49),
        ("parts", "auto", 49),
        ("blocks", "auto", 49),
        ("blocks", "int8", 49),
        ("blocks", "int8", 25),
    ]
    assert {weights for _, weights, _ in tried(weights="fp8")} == {"auto"}
    assert {offload for offload, _, _ in tried(offload="parts")} == {"none"}
    monkeypatch.setattr(gpu_plan, "missing_library", lambda weights, offload: "torchao")
    assert [window for *_, window in tried()] == [49, 49, 25, 13, 9], "a setting whose library is missing was tried"


def test_what_is_enough_is_enough(gpu):
    work, tried = failing(1)
    assert len(within_memory(work, BOTH, "auto", ModelLoading(load))) == 1 and len(tried) == 2
    work, tried = failing(0)
    assert within_memory(work, BOTH, "auto", ModelLoading(load)) == () and len(tried) == 1


@pytest.mark.parametrize(
    "failures, next_begins_with",
    [
        (0, (False, "none", 49, "auto")),
        (2, (False, "parts", 49, "auto")),  # what helped is kept
        (3, (False, "parts", 25, "auto")),
        (6, (False, "parts", 9, "auto")),  # the CPU is not: the next job may fit
    ],
)
def test_the_next_job_of_a_model_begins_with_the_settings_that_fit_the_gpu(gpu, failures, next_begins_with):
    loading = ModelLoading(load)
    within_memory(failing(failures)[0], BOTH, "auto", loading)
    work, tried = failing(0)
    within_memory(work, replace(BOTH, one_batch=False), "auto", loading)
    assert tried == [next_begins_with]


@pytest.mark.parametrize("device, tries, last", [("auto", 10, "cpu"), ("cuda", 6, "cuda"), ("cpu", 5, "cpu")])
def test_at_the_end_the_reason_names_all_that_was_tried(gpu, device, tries, last):
    """The CPU is taken only where the device was left open."""
    work, tried = failing(99)
    with pytest.raises(
        OutOfMemoryError, match="^out of the GPU's memory, also with both guidance passes.*--frames"
    ) as caught:
        within_memory(work, BOTH, device, ModelLoading(load))
    assert len(tried) == tries and tried[-1][-1] == last and "\n" not in str(caught.value)


def test_windows_are_not_cut_below_the_shot_nor_where_nothing_was_seen(gpu, monkeypatch):
    monkeypatch.setattr(Job, "plate", SimpleNamespace(frames=range(9)))
    work, tried = failing(99)
    with pytest.raises(OutOfMemoryError):
        within_memory(work, BOTH, "cpu", ModelLoading(load))
    assert len(tried) == 2

    def never(name, device, offload="none"):
        raise torch.OutOfMemoryError("CUDA out of memory while it is loaded")

    with pytest.raises(
        OutOfMemoryError, match="one after the other and text encoder and codec outside the GPU while they wait;"
    ):
        within_memory(work, BOTH, "cuda", ModelLoading(never))


@pytest.mark.parametrize(
    "error", [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried")]
)
def test_the_hosts_memory_is_not_spared_by_what_spares_the_gpus(gpu, error):
    work, tried = failing(99, error)
    with pytest.raises(OutOfMemoryError, match="^out of memory; free some"):
        within_memory(work, BOTH, "cuda", ModelLoading(load))
    assert len(tried) == 1


@pytest.mark.parametrize("error", [InputError("a wrong plate"), RuntimeError("CUDA error: device-side assert")])
def test_other_failures_are_not_tried_again(gpu, error):
    work, tried = failing(99, error)
    with pytest.raises(type(error), match=str(error)):
        within_memory(work, BOTH, "auto", ModelLoading(load))
    assert len(tried) == 1


def test_what_the_failed_attempt_held_is_free_before_the_next(gpu):
    class Tensor:
        pass

    held = []

    def work(job):
        if held:
            return held[0]()
        tensor = Tensor()
        held.append(weakref.ref(tensor))
        raise torch.OutOfMemoryError("with the tensor in this frame")

    assert within_memory(work, BOTH, "auto", ModelLoading(load)) is None


def run(plate, out, *more):
    given = [
        "--plate",
        plate,
        "--out",
        str(out),
        "--prompt",
        "Add a red ball",
        "--steps",
        "1",
        "--guidance",
        "2",
        "--device",
        "cpu",
    ]
    return render.main([*given, "--progress", "none", *more])


def test_a_render_without_room_for_one_batch_is_made_in_two_passes(tmp_path, monkeypatch, capsys):
    """The model itself fails, mid-way; the delivery is the one of two passes, bit for bit, and says so."""
    plate = str(write_sequence(tmp_path, (1, 2), size=(48, 64, 3)))
    assert run(plate, tmp_path / "two") == 0
    forward, batches = MiniTransformer.forward, []

    def small(self, latents, *given, **more):
        batches.append(len(latents))
        if len(latents) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return forward(self, latents, *given, **more)

    monkeypatch.setattr(MiniTransformer, "forward", small)
    assert run(plate, tmp_path / "one", "--one-batch") == 0
    assert batches == [2, 1, 1]
    assert "warning: memory ran out; retrying with both guidance passes" in capsys.readouterr().err
    two, one = (json.loads((tmp_path / name / "manifest.json").read_text()) for name in ("two", "one"))
    assert one["frames"] == two["frames"] and one["recipe_hash"] == two["recipe_hash"]
    assert "one after the other" in one["extra"]["warnings"][-1] and two["extra"]["warnings"] == []


def test_a_render_without_room_for_its_window_is_made_in_smaller_ones(tmp_path, monkeypatch, capsys):
    """13 frames are 4 latent ones; there is room for 3, which 9 frames are."""
    plate = str(write_sequence(tmp_path, range(1, 14), size=(48, 64, 3)))
    forward, seen = MiniTransformer.forward, []

    def small(self, latents, *given, **more):
        seen.append(latents.shape[3])
        if latents.shape[3] > 3:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return forward(self, latents, *given, **more)

    monkeypatch.setattr(MiniTransformer, "forward", small)
    assert run(plate, tmp_path / "out") == 0
    assert seen[0] == 4 and set(seen[1:]) == {3}
    manifest = json.loads((tmp_path / "out/manifest.json").read_text())
    assert len(manifest["frames"]) == 13 and "windows of 9 frames" in manifest["extra"]["warnings"][0]
    assert "retrying with windows of 9 frames" in capsys.readouterr().err


def test_a_render_without_any_room_is_one_line(tmp_path, monkeypatch, capsys):
    def never(*given, **more):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(MiniTransformer, "forward", never)
    plate = str(write_sequence(tmp_path, (1, 2), size=(48, 64, 3)))
    assert run(plate, tmp_path / "out") == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: out of the GPU's memory; free some")
    assert not (tmp_path / "out/manifest.json").exists()


def test_a_lift_can_only_fall_back_to_the_cpu(monkeypatch):
    monkeypatch.setattr(memory, "choose_device", lambda name: "cpu" if name == "cpu" else "cuda")
    plan = memory.ExecutionPlan(EditRecipe("plate.exr", "Add fog", "out", model="vace:folder"), "auto")
    cheaper = memory.next_cheaper(plan, True, None)
    assert cheaper.device == "cpu" and cheaper.offload == "auto" and cheaper.fallbacks == ("the CPU, which is slow",)
    assert memory.next_cheaper(cheaper, False, None) is None
