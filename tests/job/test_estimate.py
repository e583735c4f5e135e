"""What a dry run says a job will take, and on which basis."""

import numpy as np
import pytest

from tests.plate.media import write_noise
from tests.tiny import prepare, tiny_model
from vera.core.job.estimate import LIFT, MEASURED, MINI, Estimate, estimate, estimate_lines, model_bytes
from vera.core.recipe import EditRecipe


def job(tmp_path, frames=2, size=(48, 64), **values):
    plate = write_noise(tmp_path / f"{frames}.{size[0]}", range(1, frames + 1), size=size)
    recipe = EditRecipe(**{"plate": str(plate), "prompt": "Add a red ball", "out": str(tmp_path / "out")} | values)
    model = tiny_model()
    return prepare(recipe, "cpu", lambda name, device, **asked: model)


@pytest.fixture
def small(tmp_path):
    return job(tmp_path)


def test_time_grows_with_frames_pixels_steps_and_guidance(tmp_path, small):
    base = estimate(small, "cpu").time.value
    more = [
        job(tmp_path, frames=9),
        job(tmp_path, size=(96, 64)),
        job(tmp_path, steps=50),
        job(tmp_path, guidance=3.0, steps=20),
    ]
    assert all(estimate(each, "cpu").time.value > base > MINI.start for each in more)
    halves = [estimate(job(tmp_path, guidance=g, steps=20), "cpu").time.value for g in (1.0, 3.0)]
    assert halves[1] > halves[0]


def test_memory_and_disk_grow_with_the_picture(tmp_path, small):
    large = estimate(job(tmp_path, size=(480, 640)), "cpu")
    few = estimate(small, "cpu")
    assert large.memory.value > few.memory.value and large.disk.value > 50 * few.disk.value
    assert few.disk.value == small.delivery.bytes_to_write() and few.memory.basis == few.time.basis == MEASURED


def test_the_weights_are_counted(small):
    modules = (small.model.transformer, small.model.codec, small.model.text)
    expected = sum(p.nbytes for m in modules if hasattr(m, "parameters") for p in m.parameters())
    assert model_bytes(small) == expected > 0


def test_a_lift_has_figures_of_its_own(tmp_path, small):
    plate = small.recipe.plate
    recipe = EditRecipe(plate=plate, prompt="x", out=str(tmp_path / "out"), model=f"lift:{plate}")
    lifted = prepare(recipe, "cpu", lambda name, device, **asked: None)
    told = estimate(lifted, "cpu")
    assert told.time.value not in (None, estimate(small, "cpu").time.value) and model_bytes(lifted) is None


def test_a_lifts_memory_grows_with_the_frames_lifted_together(tmp_path):
    def told(frames):
        plate = job(tmp_path, frames=frames).recipe.plate
        recipe = EditRecipe(plate=plate, prompt="x", out=str(tmp_path / "out"), model=f"lift:{plate}")
        return estimate(prepare(recipe, "cpu", lambda name, device, **asked: None), "cpu").memory.value

    assert told(8) - told(2) == pytest.approx(6 * 48 * 64 * LIFT.memory_lifted)


def test_what_was_never_measured_is_not_known(small, monkeypatch):
    monkeypatch.setattr("vera.core.job.estimate.choose_device", lambda device: "cuda")
    told = estimate(small, "cuda")
    assert told.time.value is None and told.time.basis == "not known: never measured on a GPU"
    lines = dict(estimate_lines({n: vars(f) for n, f in vars(told).items()}, "out"))
    assert lines["time"] == told.time.basis and lines["disk"].endswith("will be written to out")


def test_every_figure_has_a_basis(small):
    told = estimate(small, "cpu")
    assert isinstance(told, Estimate) and all(np.isfinite(f.value) and f.basis for f in vars(told).values())
