"""Full-size training, with a tiny model of Wan's structure and rows in the public dataset's format."""

import json
import os
import shutil
import signal
import tempfile
from datetime import timedelta
from types import SimpleNamespace

import av
import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from PIL import Image
from safetensors.torch import load_file, save_file

from tests import forked
from tests.data.datasets.layers import write_dataset
from tests.tiny_vera import vera_directory
from vera.core.cli.train import main
from vera.core.data.datasets.layered_cache import checksum
from vera.core.errors import InputError
from vera.core.model.load import load_model
from vera.core.model.wan.parameter_names import NEW_PARAMETERS
from vera.core.training.full.frozen import FrozenLinear
from vera.core.training.full.full_settings import Settings
from vera.core.training.full.sample_movies import CELL_HEIGHT, CELL_WIDTH, SHEET_FRAMES
from vera.core.training.full.sharded_state import states
from vera.core.training.full.trainer import Run, noise_level, train, world


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder that all tests share: a model of one block, eight clips of 49 frames, and their cached latents."""
    root = tmp_path_factory.mktemp("full")
    vera_directory(root / "vera", {"max_frames": 49}, layers=1)
    write_dataset(root / "data")
    return root


def config(place, **changes):
    usual = dict(
        train="vera",
        model=str(place / "vera"),
        data=str(place / "data"),
        cache=str(place / "cache"),
        bf16=False,
        workers=0,
        batch=2,
        steps=4,
        rate=2e-3,
        warmup=2,
        held_out=0,
        save_every=100,  # the last step is saved always; a state takes longer than two steps
        evaluate_every=100,
    )
    return usual | changes


def run_training(place, name, stop=lambda: False, **changes):
    """Train, and return the losses of all steps so far."""
    train(config(place, **changes), place / name, stop)
    return losses(place / name)


def logged_lines(folder, key):
    return [line for line in map(json.loads, (folder / "log.jsonl").open()) if key in line]


def losses(folder):
    return torch.tensor([[*line["losses"].values()] for line in logged_lines(folder, "losses")])


def state(folder):
    """All tensors of a run's newest state, unsharded."""
    metadata = dcp.FileSystemReader(states(folder)[-1]).read_metadata().state_dict_metadata
    tensors = {name: torch.empty(m.size, dtype=m.properties.dtype) for name, m in metadata.items()}
    dcp.load(tensors, checkpoint_id=states(folder)[-1], no_dist=True)
    return tensors


def stop_after(steps):
    """A stop function that returns True in the middle of step `steps` + 1: it is called eight times while rows are
    encoded and twice per step."""
    asked = iter([False] * (8 + 2 * steps) + [True])
    return lambda: next(asked)


def nearly_equal(a, b, tolerance):
    assert a.keys() == b.keys()
    return max(float((a[k] - b[k]).abs().max()) for k in a if a[k].numel() and not k.startswith("step/")) < tolerance


@pytest.fixture(scope="module")
def one(place):
    """Four steps on one rank, and a run that was stopped after two of them."""
    run_training(place, "one", save_every=2)
    run_training(place, "stopped", stop_after(2))
    shutil.copytree(place / "stopped", place / "stopped-for-two")
    return place / "one"


def test_a_resumed_run_equals_an_uninterrupted_one(place, one):
    assert len(losses(place / "stopped")) == 2
    resumed = run_training(place, "stopped")
    assert (resumed - losses(one)).abs().max() < 1e-6 and nearly_equal(state(place / "stopped"), state(one), 1e-6)
    assert (losses(one)[0] - losses(one)[-1]).abs().max() > 1e-3  # the weights changed
    assert [p.name for p in states(one)] == ["step-000002", "step-000004"]


@pytest.fixture(scope="module")
def two(place, one):
    """Runs of two gloo ranks: sharing the batch, sharing each clip, and resuming a run of one rank."""
    with tempfile.TemporaryDirectory() as meeting:
        forked.spawn(on_two_ranks, (place, meeting), 2)
    return place


def on_two_ranks(rank, place, meeting):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", store=dist.FileStore(f"{meeting}/store", 2), rank=rank, world_size=2)
    train(config(place), place / "two-batch", lambda: False)
    sampled = {"held_out": 3, "evaluate_every": 2, "samples": 2, "steps": 2}
    train(config(place, context=2), place / "two-context", lambda: False)
    train(config(place, **sampled), place / "two-sampled", lambda: False)
    train(config(place, context=2, **sampled), place / "two-sampled-context", lambda: False)
    train(config(place, recompute=False), place / "stopped-for-two", lambda: False)
    dist.destroy_process_group()


@pytest.mark.parametrize("name", ["two-batch", "two-context", "stopped-for-two"])
def test_two_ranks_give_the_result_of_one(two, name):
    assert (losses(two / name) - losses(two / "one")).abs().max() < 1e-5
    # Where a gradient is nearly 0, Adam turns its rounding error into up to a hundredth of a step (2e-3).
    assert nearly_equal(state(two / name), state(two / "one"), 5e-5)


@pytest.mark.parametrize("name", ["two-sampled", "two-sampled-context"])
def test_two_ranks_sample_what_one_samples(two, name):
    run_training(two, "one-sampled", held_out=3, evaluate_every=2, samples=2, steps=2)
    found, wanted = (
        np.asarray(Image.open(two / f"{run}/samples/step-000002.png")).astype(int) for run in (name, "one-sampled")
    )
    assert abs(found - wanted).max() <= 3 and wanted.std() > 10
    assert [line["rows"] for line in logged_lines(two / name, "samples")] == [
        line["rows"] for line in logged_lines(two / "one-sampled", "samples")
    ]


def test_memory_and_speed_settings_change_only_rounding(place, one):
    """An average in host memory, kept attention results and no average all give the same weights."""
    for name, changes in {
        "host": {"ema_on": "host"},
        "kept": {"recompute": "but attention"},
        "plain": {"ema": 0},
    }.items():
        assert (run_training(place, name, **changes) - losses(one)).abs().max() < 1e-6, name
    assert nearly_equal(state(place / "host"), state(one), 1e-6)
    without = state(place / "plain")
    assert not any(k.startswith("average/") for k in without)
    assert nearly_equal(without, {k: v for k, v in state(one).items() if not k.startswith("average/")}, 1e-6)
    train(config(place, ema=0), place / "plain", lambda: False, place / "plain-exported")
    exported = load_model(str(place / "plain-exported"), "cpu").transformer.state_dict()
    name = "blocks.0.edit.ffn.net.2.weight"
    torch.testing.assert_close(exported[name].float(), without[f"weights/{name}"], atol=1e-2, rtol=1e-2)


@pytest.fixture
def spoiled(place, tmp_path):
    """A function that copies the cache and puts an infinity into the latents of `count` rows."""
    shutil.copytree(place / "cache", tmp_path / "cache")

    def spoil(count):
        for file in sorted((tmp_path / "cache/latents").rglob("*.safetensors"))[:count]:
            values = load_file(file)["values"]
            values[1, 0, 0, 0, 0] = torch.inf
            save_file({"values": values}, file, {"crc32": checksum(values)})
        return {"cache": str(tmp_path / "cache")}

    return spoil


def test_a_step_with_a_non_finite_loss_is_skipped_and_logged(place, spoiled):
    course = run_training(place, "spoiled", steps=8, **spoiled(1))
    logged = logged_lines(place / "spoiled", "skipped")
    assert len(logged) == 2 and len(course) == 6 and course.isfinite().all()  # each of two epochs draws the row once
    assert [line["rows"] for line in logged] == [logged[0]["rows"]] * 2 and logged[0]["rows"][0].startswith(
        "train.jsonl:"
    )
    assert all(v.isfinite().all() for v in state(place / "spoiled").values())


def test_five_consecutive_non_finite_losses_end_the_run(place, spoiled):
    with pytest.raises(InputError, match="5 steps in a row"):
        run_training(place, "all-spoiled", steps=20, **spoiled(8))
    assert all(v.isfinite().all() for v in state(place / "all-spoiled").values())


def test_an_unreadable_state_falls_back_to_the_previous_one(place, one):
    folder = place / "halved"
    shutil.copytree(one, folder)
    for file in (folder / "step-000004").glob("*.distcp"):
        file.write_bytes(file.read_bytes()[:1000])
    assert (run_training(place, "halved")[-2:] - losses(one)[-2:]).abs().max() < 1e-6
    logged = logged_lines(folder, "unreadable_state")
    assert len(logged) == 1 and "step-000004" in logged[0]["unreadable_state"] and logged[0]["reason"]
    assert nearly_equal(state(folder), state(one), 1e-6)
    for file in folder.rglob(".metadata"):
        file.write_bytes(b"")
    with pytest.raises(InputError, match="no state of this run can be read"):
        run_training(place, "halved", steps=6)


def test_the_timeout_of_a_collective_is_days():
    with world():
        group = dist.distributed_c10d._get_default_group()
        assert group._get_backend(torch.device("cpu")).options._timeout >= timedelta(days=7)


@pytest.mark.skipif(not hasattr(os, "killpg"), reason="needs process groups")
def test_a_signal_to_the_process_group_saves_and_exits_with_3(place):
    """A terminal's Ctrl-C, SLURM and torchrun signal the group; the workers must survive until the state is saved."""
    (place / "signalled.json").write_text(json.dumps(config(place, steps=10**6, workers=1, save_every=10**6)))
    given = (str(place / "signalled.json"), "--out", str(place / "signalled"))
    reached = []
    for number in (signal.SIGINT, signal.SIGTERM):
        before = reached[-1] if reached else 0
        run = forked.Command("vera.core.cli.train", *given)
        for line in run.stderr:  # steps are printed
            if line.startswith("step ") and int(line.split()[1].replace(",", "")) > before:
                break
        os.killpg(run.pid, number)
        said = run.stderr.read()
        assert run.wait(120) == 3, said
        reached.append(int(states(place / "signalled")[-1].name.removeprefix("step-")))
        assert reached[-1] > before and f"saving step {reached[-1]:,}" in said
    assert len(losses(place / "signalled")) == reached[-1]  # no step twice, none lost


def test_sixty_steps_overfit_two_clips(place):
    """The loss falls to a quarter."""
    vera_directory(place / "wide", layers=1, dim=96, ffn_dim=192)
    write_dataset(place / "pair", count=2)
    course = run_training(
        place,
        "long",
        model=str(place / "wide"),
        data=str(place / "pair"),
        steps=60,
        rate=0.006,
        warmup=7,
        decay=0.3,
        mask_drop=0.0,
        text_drop=0.0,
        recompute=False,
        weight_decay=0.0,
        save_every=1000,
    )
    assert len(course) == 60
    assert course[-10:].mean() < 0.25 * course[:2].mean(), (course[:2].mean(0), course[-20:].mean(0))


def test_a_row_that_breaks_during_training_is_replaced_and_logged(place):
    """Files vanish during training; the run continues with other rows, and the log names the broken ones."""
    shutil.copytree(place / "data", place / "losing")
    steps = []

    def lose():
        steps.append(1)
        for clip in range(3) if len(steps) == 9 else ():  # after eight calls for the rows, the first call for a clip
            (place / f"losing/clip{clip}/alpha.mp4").unlink()
        return False

    course = run_training(place, "losing-run", lose, data=str(place / "losing"), steps=6, batch=2)
    logged = logged_lines(place / "losing-run", "broken_row")
    assert len(course) == 6 and course.isfinite().all()
    named = [line["broken_row"] for line in logged]  # each lost row that was drawn again, once
    assert len(named) == len(set(named)) >= 2 and set(named) <= {"train.jsonl:1", "train.jsonl:2", "train.jsonl:3"}
    assert all("alpha.mp4" in line["file"] and line["step"] >= 1 for line in logged)


def test_evaluation_uses_the_average_and_changes_no_weights(place, one):
    with world() as device:
        run = Run(Settings.of(config(place, held_out=3, ema=0.5)), place / "held", device)
        source, held = run.rows()
        run.load()
        names = [row.name for row in source.order.rows]
        assert len(names) == 5 and len(held) == 3 and run.counts == [1.0] * 3
        before = {k: v.clone() for k, v in run.model.masters.items()}
        first = run._evaluate(held)
        assert run._evaluate(held) == first and all(torch.equal(before[k], v) for k, v in run.model.masters.items())
        for average in run.model.average.values():
            average.mul_(2.0)
        assert run._evaluate(held) != first and all(torch.equal(before[k], v) for k, v in run.model.masters.items())
    again = run_training(place, "evaluated", held_out=3, evaluate_every=2, samples=0)
    assert [line["step"] for line in logged_lines(place / "evaluated", "held_out")] == [2, 4] and len(again) == 4
    assert not (place / "evaluated/samples").exists()


def test_evaluations_write_samples_and_change_no_losses(place):
    """One movie and one sheet an evaluation, of as many held-out rows as are asked for; the losses stay the same."""
    plain = run_training(place, "unsampled", held_out=3, evaluate_every=2, samples=0)
    sampled = run_training(place, "sampled", held_out=3, evaluate_every=2, samples=2, ema=0.5)
    assert torch.equal(sampled, plain)
    logged = logged_lines(place / "sampled", "samples")
    assert [line["samples"] for line in logged] == ["samples/step-000002.png", "samples/step-000004.png"]
    assert all(len(line["rows"]) == 2 and line["rows"][0].startswith("train.jsonl:") for line in logged)
    with av.open(str(place / "sampled/samples/step-000004.mp4")) as movie:
        frames = [frame.to_ndarray(format="rgb24") for frame in movie.decode(video=0)]
    assert len(frames) == 49 and frames[0].shape == (2 * CELL_HEIGHT, 4 * CELL_WIDTH, 3)
    sheet = np.asarray(Image.open(place / "sampled/samples/step-000004.png"))
    assert sheet.shape == (2 * SHEET_FRAMES * CELL_HEIGHT, 4 * CELL_WIDTH, 3)
    assert len(list((place / "sampled/samples").iterdir())) == 4


def test_a_stop_during_sampling_writes_no_samples_and_loses_no_step(place):
    calls = iter([False] * (8 + 4 + 5) + [True] * 2)  # rows, two steps, five sampling passes
    course = run_training(place, "stop-sampling", lambda: next(calls), held_out=3, evaluate_every=2)
    assert len(course) == 2 and not (place / "stop-sampling/samples").exists()
    assert [p.name for p in states(place / "stop-sampling")] == ["step-000002"]


def test_samples_that_cannot_be_written_do_not_end_the_run(place, capfd):
    (place / "unwritable").mkdir()
    (place / "unwritable/samples").write_text("a file in the way")
    assert len(run_training(place, "unwritable", held_out=3, evaluate_every=2, samples=1, steps=2)) == 2
    assert "step 2: no samples (" in capfd.readouterr().err


def test_training_under_the_window_takes_another_course(place, one):
    course = run_training(place, "window", attention="window")
    apart = (course - losses(one)).abs().max()
    assert course.isfinite().all()
    assert 1e-5 < apart < 1  # 13 latent frames: the other layers' are seen three at a time
    with pytest.raises(InputError, match="goes with 'attention' \"dense\" only"):
        train(config(place, attention="window", recompute="but attention"), place / "wrong", lambda: False)


def test_a_hidden_mask_equals_no_mask(place):
    vera_directory(place / "spread", layers=1, spread=0.5)
    with world() as device, torch.no_grad():
        run = Run(Settings.of(config(place, model=str(place / "spread"))), place / "mask", device)
        run.load()
        model = run.model
        plain = load_model(str(place / "spread"), "cpu").transformer
        given = (
            torch.randn(1, 3, 4, 3, 4, 4),
            torch.tensor([500.0]),
            torch.randn(1, 6, 16),
            torch.randn(1, 4, 3, 4, 4),
        )
        mask = torch.randn(1, 4, 3, 4, 4)
        for shown, same in ((False, plain(*given)), (True, plain(*given, mask))):
            model.show_mask(shown)
            torch.testing.assert_close(model.transformer(*given, mask), same, atol=1e-6, rtol=1e-5)


def test_bf16_runs_keep_fp32_masters(place):
    """Steps that are far too small for bf16 weights still change the masters."""
    run_training(place, "bf16", bf16=True, rate=1e-6, steps=2, weight_decay=0.0)
    start, now = load_model(str(place / "vera"), "cpu").transformer.state_dict(), state(place / "bf16")
    moved = (now["weights/blocks.0.edit.ffn.net.2.weight"] - start["blocks.0.edit.ffn.net.2.weight"]).abs()
    assert 0 < moved.max() < 3e-6 and now["weights/blocks.0.edit.ffn.net.2.weight"].dtype == torch.float32


def test_a_run_is_exported_as_a_model_directory(place, one):
    (place / "one.json").write_text(json.dumps(config(place)))
    given = [str(place / "one.json"), "--out", str(one), "--export", str(place / "exported")]
    assert main(given) == 0 and main(given) == 2  # the target exists now
    reached, exported = state(one), load_model(str(place / "exported"), "cpu")
    values = exported.transformer.state_dict()
    for name, value in values.items():
        assert torch.equal(value, reached[f"average/{name}"].to(value.dtype)), name
    assert exported.transformer.blocks[0].edit.scale_shift_table.dtype == torch.float32
    name = "blocks.0.edit.scale_shift_table"
    assert not torch.equal(values[name], reached[f"weights/{name}"])  # the average is not the last weights
    assert exported.limits.max_frames == 49


def test_lora_trains_only_adapters_and_new_weights(place):
    """A stopped, resumed and exported run has unchanged base weights and adapters in one branch."""
    lora = {"rank": 2, "alpha": 4, "branches": ["edit"]}
    whole = run_training(place, "lora", lora=lora, rate=0.01)
    run_training(place, "lora-stopped", stop_after(2), lora=lora, rate=0.01)
    assert (run_training(place, "lora-stopped", lora=lora, rate=0.01) - whole).abs().max() < 1e-6
    trained = {k.removeprefix("weights/") for k in state(place / "lora") if k.startswith("weights/")}
    assert all(".edit." in k and "lora_" in k or k.startswith(NEW_PARAMETERS) for k in trained)
    # Two attentions of four projections, two linear layers, and the weights that Wan lacks.
    assert len(trained) == 2 * 10 + 5
    train(config(place, lora=lora), place / "lora", lambda: False, place / "adapted")
    start, now = (load_model(str(place / name), "cpu").transformer.state_dict() for name in ("vera", "adapted"))
    for name, value in start.items():
        moved = now[name].float().sub(value).abs().max()
        assert moved > 1e-3 if name.startswith(NEW_PARAMETERS) else torch.equal(now[name], value.to(now[name].dtype)), (
            name
        )
    adapters = load_file(place / "adapted/lora.safetensors")
    assert set(adapters) == {f"transformer.{k.replace('.default.', '.')}" for k in trained if "lora_" in k}
    assert min(v.abs().max() for k, v in adapters.items() if "lora_B" in k) > 1e-4
    # A render adds the adapters to the base, scaled by alpha / rank, in their branch only.
    lora_file = str(place / "adapted/lora.safetensors")
    given = load_model(str(place / "adapted"), "cpu", dtype=torch.float32, lora=(lora_file,)).transformer.state_dict()
    base = load_model(str(place / "adapted"), "cpu", dtype=torch.float32).transformer.state_dict()
    for name, value in base.items():
        key = f"transformer.{name.removesuffix('.weight')}.lora_{{}}.weight"
        change = 2 * adapters[key.format("B")] @ adapters[key.format("A")] if key.format("A") in adapters else 0
        torch.testing.assert_close(given[name], value + change, atol=1e-6, rtol=1e-6)


def test_frozen_weights_in_int8_or_host_memory_learn_the_same(place):
    """A base in bf16, int8 or host memory learns nearly the same as an fp32 base."""
    lora = {"rank": 2, "alpha": 4, "branches": ["edit"]}
    given = {"lora": lora, "rate": 0.01, "steps": 3}
    wide = run_training(place, "lora-fp32", base="fp32", **given)
    swapped = run_training(place, "lora-swapped", base="fp32", swap=True, **given)
    assert (swapped - wide).abs().max() < 1e-6
    assert nearly_equal(state(place / "lora-swapped"), state(place / "lora-fp32"), 1e-6)
    for base, error in (("bf16", 0.02), ("int8", 0.02)):
        for swap in (False, True):
            course = run_training(place, f"lora-{base}-{swap}", base=base, swap=swap, bf16=True, **given)
            assert 0 < (course / wide - 1).abs().max() < error, (base, swap)


def test_int8_linear_layers_pass_gradients_to_their_input():
    torch.manual_seed(0)
    linear, x = torch.nn.Linear(40, 24).double(), torch.randn(5, 40, dtype=torch.float64, requires_grad=True)
    frozen = FrozenLinear(linear.weight, linear.bias)
    wide = (frozen.weight * frozen.scale).double()
    assert (wide - linear.weight).norm() / linear.weight.norm() < 0.01 and frozen.weight.dtype == torch.int8
    torch.testing.assert_close(frozen(x), x @ wide.T + linear.bias)
    torch.autograd.gradcheck(lambda x: frozen(x), x)


def test_losses_are_written_to_tensorboard(place, one):
    reader = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    events = reader.EventAccumulator(str(one / "tensorboard")).Reload()
    values = [event.value for event in events.Scalars("losses/alpha")]
    assert values == pytest.approx(losses(one)[:, 1].tolist())


@pytest.mark.parametrize(
    "changes, reason",
    [
        ({"rank": 4}, "'rank': no such setting"),
        ({"model": None}, "'model': None is not a text"),
        ({"batch": 2.5}, "'batch': 2.5 is not a whole number"),
        ({"rate": -1}, "'rate': -1 is not a number from 0"),
        ({"weights": [1, 1]}, "'weights': .*is not a list of 3"),
        ({"context": 2}, "1 ranks are not groups of 2"),
        ({"weights": [0, 0, 0]}, "have no sum above 0"),
        ({"ema_on": "disk"}, "'ema_on': 'disk' is not one of"),
        ({"recompute": 1}, "'recompute': 1 is not one of"),
        ({"swap": True}, "'swap': only weights that are not trained"),
        ({"batch": 0}, "0 rows cannot be shared"),
        ({"frames": 81}, "holds no train rows of 81 frames|none|leaves no row"),
        ({"held_out": 8}, "leaves no row to train on"),
        ({"data": "gone"}, "no such folder"),
    ],
)
def test_a_wrong_setting_is_one_line(place, changes, reason):
    with pytest.raises(InputError, match=reason):
        train(config(place, **changes), place / "wrong", lambda: False)


def test_noise_levels_are_shifted_as_in_the_sampler():
    assert noise_level(0.5, 3.0) == pytest.approx(0.75) and noise_level(0.25, 1.0) == 0.25


def bare_run(**changes):
    """A run without model, data and processes: the arithmetic of a step alone."""
    run = Run.__new__(Run)
    run.settings = Settings(train="vera", model="", data="", **changes)
    run.device, run.step, run.leads_group, run.empty_states = "cpu", 0, True, None
    return run


def test_a_step_has_the_mean_gradient_of_its_clips_by_the_branches_weights(monkeypatch):
    run, weight = bare_run(batch=4, weights=(1.0, 2.0, 5.0)), torch.ones((), requires_grad=True)
    clips = torch.tensor([[1.0, 2, 3], [4, 5, 6], [7, 8, 9], [1, 0, 1]])
    monkeypatch.setattr(run, "_errors_of_draw", lambda sample, position: weight * clips[position])
    monkeypatch.setattr(run, "_any_rank", lambda value: value)
    errors, bad = run._compute_gradients(iter([None] * 4), range(4), lambda: False)
    wanted = sum((c[0] + 2 * c[1] + 5 * c[2]) / 8 for c in clips) / 4
    assert weight.grad == pytest.approx(float(wanted)) and not bad
    assert torch.allclose(errors, clips.mean(0))


def test_noise_and_level_of_a_clip_are_those_of_its_step_and_place(monkeypatch):
    """Levels are spread over the batch; a step that is taken again draws what it drew before."""
    run, seeds, levels = bare_run(batch=4, shift=1.0, text_drop=0.0), [], []

    def errors(latents, states, level, with_mask, seed):
        seeds.append(seed), levels.append(level)

    monkeypatch.setattr(run, "_errors", errors)
    sample = SimpleNamespace(latents=None, states=None)
    for step in (0, 1, 2, 1):
        run.step = step
        for place in range(4):
            run._errors_of_draw(sample, place)
    assert len(set(seeds)) == len(set(levels)) == 12 and seeds[4:8] == seeds[12:] and levels[4:8] == levels[12:]
    assert all(k % 4 / 4 <= level < (k % 4 + 1) / 4 for k, level in enumerate(levels))
