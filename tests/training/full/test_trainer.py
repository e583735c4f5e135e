"""A tiny Vera of Wan's geometry trained on rows in the public dataset's format."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from datetime import timedelta

import pytest
import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
import torch.multiprocessing as mp
from safetensors.torch import load_file, save_file

from tests.data.datasets.layers import write_dataset
from tests.tiny_vera import vera_directory
from vera.core.cli.train import main
from vera.core.data.datasets.layered_cache import checksum
from vera.core.errors import InputError
from vera.core.model.load import load_model
from vera.core.model.wan.names import NEW
from vera.core.training.full.frozen import FrozenLinear
from vera.core.training.full.state import states
from vera.core.training.full.trainer import Run, Settings, noise_level, train, world


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A model of one block, eight clips of 49 frames, and their latents, which every test shares."""
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
        save_every=2,
        evaluate_every=100,
    )
    return usual | changes


def go(place, name, stop=lambda: False, **changes):
    """Train; returns the losses of all steps so far."""
    train(config(place, **changes), place / name, stop)
    return losses(place / name)


def lines(folder, key):
    return [line for line in map(json.loads, (folder / "log.jsonl").open()) if key in line]


def losses(folder):
    return torch.tensor([[*line["losses"].values()] for line in lines(folder, "losses")])


def state(folder):
    """All tensors of a run's newest state, whole."""
    metadata = dcp.FileSystemReader(states(folder)[-1]).read_metadata().state_dict_metadata
    tensors = {name: torch.empty(m.size, dtype=m.properties.dtype) for name, m in metadata.items()}
    dcp.load(tensors, checkpoint_id=states(folder)[-1], no_dist=True)
    return tensors


def stop_after(steps):
    """Said yes to in the middle of the next step: of two questions a step, after eight while rows are encoded."""
    asked = iter([False] * (8 + 2 * steps) + [True])
    return lambda: next(asked)


def alike(a, b, tolerance):
    assert a.keys() == b.keys()
    return max(float((a[k] - b[k]).abs().max()) for k in a if a[k].numel() and not k.startswith("step/")) < tolerance


@pytest.fixture(scope="module")
def one(place):
    """Four steps on one rank, and a run that was stopped after two of them."""
    go(place, "one")
    go(place, "stopped", stop_after(2))
    shutil.copytree(place / "stopped", place / "stopped-for-two")
    return place / "one"


def test_a_stopped_run_goes_on_as_if_it_had_not_stopped(place, one):
    assert len(losses(place / "stopped")) == 2
    resumed = go(place, "stopped")
    assert (resumed - losses(one)).abs().max() < 1e-6 and alike(state(place / "stopped"), state(one), 1e-6)
    assert (losses(one)[0] - losses(one)[-1]).abs().max() > 1e-3  # it did learn
    assert [p.name for p in states(one)] == ["step-000002", "step-000004"]


@pytest.fixture(scope="module")
def two(place, one):
    """What two gloo ranks make of the same: sharing the batch, sharing each clip, going on where one rank stopped."""
    with tempfile.TemporaryDirectory() as meeting:
        mp.spawn(on_two_ranks, (place, meeting), 2)
    return place


def on_two_ranks(rank, place, meeting):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", store=dist.FileStore(f"{meeting}/store", 2), rank=rank, world_size=2)
    train(config(place), place / "two-batch", lambda: False)
    train(config(place, context=2), place / "two-context", lambda: False)
    train(config(place, recompute=False), place / "stopped-for-two", lambda: False)
    dist.destroy_process_group()


@pytest.mark.parametrize("name", ["two-batch", "two-context", "stopped-for-two"])
def test_two_ranks_are_one(two, name):
    assert (losses(two / name) - losses(two / "one")).abs().max() < 1e-5
    # Where a gradient is nearly 0, Adam makes of its rounding a hundredth of a step (2e-3).
    assert alike(state(two / name), state(two / "one"), 5e-5)


def test_what_saves_memory_or_time_changes_rounding_at_most(place, one):
    """The average in the host's memory, attention's results kept: the same run. No average: the same weights."""
    for name, changes in {
        "host": {"ema_on": "host"},
        "kept": {"recompute": "but attention"},
        "plain": {"ema": 0},
    }.items():
        assert (go(place, name, **changes) - losses(one)).abs().max() < 1e-6, name
    assert alike(state(place / "host"), state(one), 1e-6)
    without = state(place / "plain")
    assert not any(k.startswith("average/") for k in without)
    assert alike(without, {k: v for k, v in state(one).items() if not k.startswith("average/")}, 1e-6)
    train(config(place, ema=0), place / "plain", lambda: False, place / "plain-exported")
    exported = load_model(str(place / "plain-exported"), "cpu").transformer.state_dict()
    name = "blocks.0.edit.ffn.net.2.weight"
    torch.testing.assert_close(exported[name].float(), without[f"weights/{name}"], atol=1e-2, rtol=1e-2)


@pytest.fixture
def spoiled(place, tmp_path):
    """The rows' latents, in a cache of their own, to put an infinity into."""
    shutil.copytree(place / "cache", tmp_path / "cache")

    def spoil(count):
        for file in sorted((tmp_path / "cache/latents").rglob("*.safetensors"))[:count]:
            values = load_file(file)["values"]
            values[1, 0, 0, 0, 0] = torch.inf
            save_file({"values": values}, file, {"crc32": checksum(values)})
        return {"cache": str(tmp_path / "cache")}

    return spoil


def test_a_loss_that_is_not_finite_is_skipped_and_told(place, spoiled):
    course = go(place, "spoiled", steps=8, **spoiled(1))
    told = lines(place / "spoiled", "skipped")
    assert len(told) == 2 and len(course) == 6 and course.isfinite().all()  # two epochs, each of which draws it once
    assert [line["rows"] for line in told] == [told[0]["rows"]] * 2 and told[0]["rows"][0].startswith("train.jsonl:")
    assert all(v.isfinite().all() for v in state(place / "spoiled").values())


def test_a_run_of_nothing_but_such_losses_ends(place, spoiled):
    with pytest.raises(InputError, match="5 steps in a row"):
        go(place, "all-spoiled", steps=20, **spoiled(8))
    assert all(v.isfinite().all() for v in state(place / "all-spoiled").values())


def test_a_state_that_cannot_be_read_gives_way_to_the_one_before(place, one):
    folder = place / "halved"
    shutil.copytree(one, folder)
    for file in (folder / "step-000004").glob("*.distcp"):
        file.write_bytes(file.read_bytes()[:1000])
    assert (go(place, "halved")[-2:] - losses(one)[-2:]).abs().max() < 1e-6
    told = lines(folder, "unreadable_state")
    assert len(told) == 1 and "step-000004" in told[0]["unreadable_state"] and told[0]["reason"]
    assert alike(state(folder), state(one), 1e-6)
    for file in folder.rglob(".metadata"):
        file.write_bytes(b"")
    with pytest.raises(InputError, match="no state of this run can be read"):
        go(place, "halved", steps=6)


def test_waiting_for_a_rank_is_no_failure():
    with world():
        group = dist.distributed_c10d._get_default_group()
        assert group._get_backend(torch.device("cpu")).options._timeout >= timedelta(days=7)


@pytest.mark.skipif(not hasattr(os, "killpg"), reason="needs process groups")
def test_a_signal_to_the_whole_group_saves_and_ends_with_3(place):
    """As a terminal's Ctrl-C, SLURM and torchrun send it; the workers that read ahead must not die of it first."""
    (place / "signalled.json").write_text(json.dumps(config(place, steps=10**6, workers=1, save_every=10**6)))
    command = [
        sys.executable,
        "-m",
        "vera.core.cli.train",
        str(place / "signalled.json"),
        "--out",
        str(place / "signalled"),
    ]
    reached = []
    for number in (signal.SIGINT, signal.SIGTERM):
        before = reached[-1] if reached else 0
        run = subprocess.Popen(command, start_new_session=True, stderr=subprocess.PIPE, text=True)
        for line in run.stderr:  # the terminal is not silent: steps are told
            if line.startswith("step ") and int(line.split()[1].replace(",", "")) > before:
                break
        os.killpg(run.pid, number)
        said = run.stderr.read()
        assert run.wait(120) == 3, said
        reached.append(int(states(place / "signalled")[-1].name.removeprefix("step-")))
        assert reached[-1] > before and f"saving step {reached[-1]:,}" in said
    assert len(losses(place / "signalled")) == reached[-1]  # no step twice, none lost


def test_learns_eight_clips(place):
    """Over 80 steps the loss falls to a fifth."""
    vera_directory(place / "wide", layers=1, dim=96, ffn_dim=192)
    course = go(
        place,
        "long",
        model=str(place / "wide"),
        steps=80,
        batch=4,
        rate=0.006,
        warmup=10,
        decay=0.3,
        mask_drop=0.0,
        text_drop=0.0,
        recompute=False,
        weight_decay=0.0,
        save_every=1000,
    )
    assert len(course) == 80
    assert course[-10:].mean() < 0.2 * course[:2].mean(), (course[:2].mean(0), course[-20:].mean(0))


def test_a_row_that_breaks_late_is_replaced_and_told(place):
    """A file that vanishes in the middle of training: no crash, the others go on, and the log names it."""
    shutil.copytree(place / "data", place / "losing")
    steps = []

    def lose():
        steps.append(1)
        for clip in range(3) if len(steps) == 9 else ():  # asked for each of the eight rows, then for each clip
            (place / f"losing/clip{clip}/alpha.mp4").unlink()
        return False

    course = go(place, "losing-run", lose, data=str(place / "losing"), steps=6, batch=2)
    told = lines(place / "losing-run", "broken_row")
    assert len(course) == 6 and course.isfinite().all()
    named = [line["broken_row"] for line in told]  # of the lost ones, those that were drawn again, once each
    assert len(named) == len(set(named)) >= 2 and set(named) <= {"train.jsonl:1", "train.jsonl:2", "train.jsonl:3"}
    assert all("alpha.mp4" in line["file"] and line["step"] >= 1 for line in told)


def test_held_out_rows_are_measured_with_the_average_and_change_nothing(place, one):
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
        assert run._evaluate(held) != first
    again = go(place, "evaluated", held_out=3, evaluate_every=2)
    assert [line["step"] for line in lines(place / "evaluated", "held_out")] == [2, 4] and len(again) == 4


def test_a_mask_that_is_not_shown_is_no_mask(place):
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


def test_bf16_computes_in_bf16_and_learns_in_fp32(place):
    """Steps far too small for bf16 weights still move the masters."""
    go(place, "bf16", bf16=True, rate=1e-6, steps=2, weight_decay=0.0)
    start, now = load_model(str(place / "vera"), "cpu").transformer.state_dict(), state(place / "bf16")
    moved = (now["weights/blocks.0.edit.ffn.net.2.weight"] - start["blocks.0.edit.ffn.net.2.weight"]).abs()
    assert 0 < moved.max() < 3e-6 and now["weights/blocks.0.edit.ffn.net.2.weight"].dtype == torch.float32


def test_what_was_reached_is_exported_as_a_model(place, one):
    (place / "one.json").write_text(json.dumps(config(place)))
    given = [str(place / "one.json"), "--out", str(one), "--export", str(place / "exported")]
    assert main(given) == 0 and main(given) == 2  # is there already
    reached, exported = state(one), load_model(str(place / "exported"), "cpu")
    for name, value in exported.transformer.state_dict().items():
        torch.testing.assert_close(value.float(), reached[f"average/{name}"], atol=1e-2, rtol=1e-2)
    assert exported.transformer.blocks[0].edit.scale_shift_table.dtype == torch.float32
    assert exported.limits.max_frames == 49


def test_lora_trains_adapters_and_what_is_new_alone(place):
    """Stopped, resumed, exported: the base's weights beside adapters that were learned in one branch."""
    lora = {"rank": 2, "alpha": 4, "branches": ["edit"]}
    whole = go(place, "lora", lora=lora, rate=0.01)
    go(place, "lora-stopped", stop_after(2), lora=lora, rate=0.01)
    assert (go(place, "lora-stopped", lora=lora, rate=0.01) - whole).abs().max() < 1e-6
    trained = {k.removeprefix("weights/") for k in state(place / "lora") if k.startswith("weights/")}
    assert all(".edit." in k and "lora_" in k or k.startswith(NEW) for k in trained)
    assert (
        len(trained) == 2 * 10 + 5
    )  # both attentions' four projections and the feed-forward's two, and what Wan lacks
    train(config(place, lora=lora), place / "lora", lambda: False, place / "adapted")
    start, now = (load_model(str(place / name), "cpu").transformer.state_dict() for name in ("vera", "adapted"))
    for name, value in start.items():
        moved = now[name].float().sub(value).abs().max()
        assert moved > 1e-3 if name.startswith(NEW) else torch.equal(now[name], value.to(now[name].dtype)), name
    adapters = load_file(place / "adapted/lora.safetensors")
    assert set(adapters) == {f"transformer.{k.replace('.default.', '.')}" for k in trained if "lora_" in k}
    assert min(v.abs().max() for k, v in adapters.items() if "lora_B" in k) > 1e-4
    # A render takes them: scaled by alpha / rank, on top of the base, in their branch alone.
    lora_file = str(place / "adapted/lora.safetensors")
    given = load_model(str(place / "adapted"), "cpu", dtype=torch.float32, lora=(lora_file,)).transformer.state_dict()
    base = load_model(str(place / "adapted"), "cpu", dtype=torch.float32).transformer.state_dict()
    for name, value in base.items():
        key = f"transformer.{name.removesuffix('.weight')}.lora_{{}}.weight"
        change = 2 * adapters[key.format("B")] @ adapters[key.format("A")] if key.format("A") in adapters else 0
        torch.testing.assert_close(given[name], value + change, atol=1e-6, rtol=1e-6)


def test_frozen_weights_may_be_small_and_wait_elsewhere(place):
    """A base of bf16 or of 8 bits, and blocks that are fetched when they work, learn what the fp32 base learns."""
    lora = {"rank": 2, "alpha": 4, "branches": ["edit"]}
    given = {"lora": lora, "rate": 0.01, "steps": 3}
    wide = go(place, "lora-fp32", base="fp32", **given)
    swapped = go(place, "lora-swapped", base="fp32", swap=True, **given)
    assert (swapped - wide).abs().max() < 1e-6
    assert alike(state(place / "lora-swapped"), state(place / "lora-fp32"), 1e-6)
    for base, error in (("bf16", 0.02), ("int8", 0.02)):
        for swap in (False, True):
            course = go(place, f"lora-{base}-{swap}", base=base, swap=swap, bf16=True, **given)
            assert 0 < (course / wide - 1).abs().max() < error, (base, swap)


def test_frozen_weights_of_8_bits_are_those_weights_and_let_gradients_through():
    torch.manual_seed(0)
    linear, x = torch.nn.Linear(40, 24).double(), torch.randn(5, 40, dtype=torch.float64, requires_grad=True)
    frozen = FrozenLinear(linear.weight, linear.bias)
    wide = (frozen.weight * frozen.scale).double()
    assert (wide - linear.weight).norm() / linear.weight.norm() < 0.01 and frozen.weight.dtype == torch.int8
    torch.testing.assert_close(frozen(x), x @ wide.T + linear.bias)
    torch.autograd.gradcheck(lambda x: frozen(x), x)


def test_curves_where_tensorboard_is_installed(place, one):
    reader = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    events = reader.EventAccumulator(str(one / "tensorboard")).Reload()
    values = [event.value for event in events.Scalars("losses/alpha")]
    assert values == pytest.approx(losses(one)[:, 1].tolist())


@pytest.mark.parametrize(
    "changes, reason",
    [
        ({"rank": 4}, "'rank': no such setting"),
        ({"model": None}, "'model': missing"),
        ({"batch": 2.5}, "'batch': 2.5 is not a whole number"),
        ({"rate": -1}, "'rate': -1 is not a number from 0"),
        ({"weights": [1, 1]}, "not three weights"),
        ({"context": 2}, "1 ranks are not groups of 2"),
        ({"ema_on": "disk"}, "'ema_on': 'disk' is not one of"),
        ({"recompute": 1}, "'recompute': 1 is not one of"),
        ({"swap": True}, "'swap': only weights that are not trained"),
        ({"batch": 0}, "0 rows cannot be shared"),
        ({"frames": 81}, "holds no train rows of 81 frames|none|leaves no row"),
        ({"held_out": 8}, "leaves no row to train on"),
        ({"data": "gone"}, "no such folder"),
    ],
)
def test_wrong_settings_are_one_line(place, changes, reason):
    with pytest.raises(InputError, match=reason):
        train(config(place, **changes), place / "wrong", lambda: False)


def test_noise_levels_are_shifted_as_the_sampler_shifts_them():
    assert noise_level(0.5, 3.0) == pytest.approx(0.75) and noise_level(0.25, 1.0) == 0.25
