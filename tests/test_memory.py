"""Memory that runs out, planted: which cheaper means are tried, in which order, and what is said."""

import json
import weakref

import pytest
import torch

from core import memory, render
from core.errors import InputError, OutOfMemory
from core.memory import within_memory
from core.model.transformer import Transformer
from core.recipe import EditRecipe
from tests.plate.media import write_sequence

BOTH = EditRecipe("plate.exr", "Add fog", "out", one_batch=True)


@pytest.fixture
def gpu(monkeypatch):
    """As if there were one."""
    monkeypatch.setattr(memory, "choose_device", lambda name: "cpu" if name == "cpu" else "cuda")


def failing(times, error=torch.OutOfMemoryError("CUDA out of memory")):
    """Work that runs out of memory so many times, and notes by which means."""
    tried = []

    def work(means):
        tried.append((means.recipe.one_batch, means.offload, means.device))
        if len(tried) <= times:
            raise error
        return means.said

    return work, tried


def test_each_cheaper_means_is_tried_in_order(gpu):
    work, tried = failing(3)
    said = within_memory(work, BOTH, "auto")
    assert tried == [(True, False, "auto"), (False, False, "auto"), (False, True, "auto"), (False, False, "cpu")]
    assert len(said) == 3 and "one after the other" in said[0] and "outside the GPU" in said[1] and "CPU" in said[2]


def test_what_is_enough_is_enough(gpu):
    work, tried = failing(1)
    assert len(within_memory(work, BOTH, "auto")) == 1 and len(tried) == 2
    work, tried = failing(0)
    assert within_memory(work, BOTH, "auto") == () and len(tried) == 1


@pytest.mark.parametrize("device, tries", [("auto", 4), ("cuda", 3), ("cpu", 2)])
def test_at_the_end_the_reason_names_all_that_was_tried(gpu, device, tries):
    """The CPU is taken only where the device was left open."""
    work, tried = failing(99)
    with pytest.raises(OutOfMemory, match="^out of the GPU's memory, also with both guidance passes.*--frames") as caught:
        within_memory(work, BOTH, device)
    assert len(tried) == tries and "\n" not in str(caught.value)
    assert all(where in ("cuda", device) for *_, where in tried) or device == "auto"


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried")])
def test_the_hosts_memory_is_not_spared_by_what_spares_the_gpus(gpu, error):
    work, tried = failing(99, error)
    with pytest.raises(OutOfMemory, match="^out of memory; free some"):
        within_memory(work, BOTH, "cuda")
    assert len(tried) == 1


@pytest.mark.parametrize("error", [InputError("a wrong plate"), RuntimeError("CUDA error: device-side assert")])
def test_other_failures_are_not_tried_again(gpu, error):
    work, tried = failing(99, error)
    with pytest.raises(type(error), match=str(error)):
        within_memory(work, BOTH, "auto")
    assert len(tried) == 1


def test_what_the_failed_attempt_held_is_free_before_the_next(gpu):
    class Tensor:
        pass

    held = []

    def work(means):
        if held:
            return held[0]()
        tensor = Tensor()
        held.append(weakref.ref(tensor))
        raise torch.OutOfMemoryError("with the tensor in this frame")

    assert within_memory(work, BOTH, "auto") is None


def run(plate, out, *more):
    given = ["--plate", plate, "--out", str(out), "--prompt", "Add a red ball", "--steps", "1", "--device", "cpu"]
    return render.main([*given, "--progress", "none", *more])


def test_a_render_without_room_for_one_batch_is_made_in_two_passes(tmp_path, monkeypatch, capsys):
    """The model itself fails, mid-way; the delivery is the one of two passes, bit for bit, and says so."""
    plate = str(write_sequence(tmp_path, (1, 2), size=(48, 64, 3)))
    assert run(plate, tmp_path / "two") == 0
    forward, batches = Transformer.forward, []

    def small(self, latents, *given, **more):
        batches.append(len(latents))
        if len(latents) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return forward(self, latents, *given, **more)

    monkeypatch.setattr(Transformer, "forward", small)
    assert run(plate, tmp_path / "one", "--one-batch") == 0
    assert batches == [2, 1, 1]
    assert "warning: memory ran out; once more with both guidance passes" in capsys.readouterr().err
    two, one = (json.loads((tmp_path / name / "manifest.json").read_text()) for name in ("two", "one"))
    assert one["frames"] == two["frames"] and one["recipe_hash"] == two["recipe_hash"]
    assert "one after the other" in one["extra"]["warnings"][-1] and two["extra"]["warnings"] == []


def test_a_render_without_any_room_is_one_line(tmp_path, monkeypatch, capsys):
    def never(*given, **more):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(Transformer, "forward", never)
    plate = str(write_sequence(tmp_path, (1, 2), size=(48, 64, 3)))
    assert run(plate, tmp_path / "out") == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: out of the GPU's memory; free some")
    assert not (tmp_path / "out/manifest.json").exists()
