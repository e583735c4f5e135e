"""The GPU planner: its memory estimates against real allocations, and its choices."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from tests.plate.media import write_sequence
from vera.core.cli import plan as plan_command
from vera.core.errors import InputError
from vera.core.job import gpu_plan, memory
from vera.core.job.gpu_plan import GIB, WAYS, Geometry, Planner
from vera.core.model.config import TransformerConfig
from vera.core.model.footprint import LiveBytes, decoding_bytes, denoising_bytes, encoding_bytes, weight_bytes
from vera.core.model.limits import Limits
from vera.core.model.transformer import Transformer
from vera.core.recipe import EditRecipe

SMALL = TransformerConfig(dim=128, heads=4, layers=3, ffn_dim=512, text_dim=64, freq_dim=32)


def small_vae():
    from diffusers import AutoencoderKLWan

    return AutoencoderKLWan(base_dim=8, dim_mult=[1, 2, 2, 2], num_res_blocks=1).eval()


def on_meta(build):
    with torch.device("meta"):
        return build()


def allocated(work) -> int:
    """Peak bytes that torch's CPU allocator handed out during the work, from torch's profiler."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as record:
        result = work()
    del result
    steps = [e for e in record.profiler.kineto_results.events() if e.name() == "[memory]"]
    now = peak = 0
    for event in sorted(steps, key=lambda e: e.start_ns()):
        now += event.nbytes()
        peak = max(peak, now)
    return peak


def test_live_bytes_are_those_of_tensors_alive():
    with LiveBytes() as live:
        a = torch.empty(1000)
        b = (a + 1)[:10]  # a view holds all of what it looks at
        del a
        assert live.now == 4000 and live.peak == 8000
        b.add_(1)
        assert live.peak == 8000
        del b
        assert live.now == 0
        torch.empty(500, device="meta")
    assert (live.now, live.peak) == (0, 8000)


@torch.inference_mode()
def test_a_steps_peak_memory_matches_its_rehearsal():
    """The real model on the CPU, with another number of blocks, against the allocator's record."""
    size, frames = (256, 160), 13
    counted = denoising_bytes(SMALL, size, frames)
    torch.manual_seed(0)
    model = Transformer(SMALL).to(torch.bfloat16).eval()
    shape = (16, 4, size[1] // 8, size[0] // 8)

    def step():
        latents = torch.zeros(1, 3, *shape, dtype=torch.bfloat16)
        held = torch.zeros(9, 3, *shape), torch.zeros(1, *shape), torch.zeros(1, *shape)
        text = torch.zeros(1, 512, 64, dtype=torch.bfloat16)
        return model(latents, torch.zeros(1), text, *held[1:]), held

    found = allocated(step)
    assert 0.9 < counted / found < 1.1
    assert denoising_bytes(SMALL, size, frames, batch=2) > 1.5 * counted


@torch.inference_mode()
def test_the_codecs_peak_memory_matches_its_rehearsal():
    from vera.core.model.codec import WanCodec

    vae, size = small_vae(), (48, 32)
    codec, latents = WanCodec(vae), torch.zeros(1, 16, 3, 4, 6)
    with LiveBytes() as live:  # of real tensors: what a CPU's convolution needs beside them no GPU's does
        for _ in zip(*(codec.decode_stream(latents) for _ in range(2))):
            pass
    assert 0.98 < decoding_bytes(on_meta(small_vae), size, streams=2) / live.peak < 1.02
    video = torch.zeros(1, 3, 9, 32, 48)

    def encode():
        streams = [codec.encode_stream() for _ in range(2)]
        return [encode(video[:, :, a:b]) for a, b in ((0, 1), (1, 5), (5, 9)) for encode in streams]

    with LiveBytes() as live:
        encode()
    assert 0.9 < encoding_bytes(on_meta(small_vae), size) / live.peak < 1.1


# Choosing


@pytest.fixture(scope="module")
def planner():
    """A planner for a model whose parts are all large enough to offload, on a GPU without a CUDA context."""
    config = TransformerConfig(dim=256, heads=4, layers=12, ffn_dim=1024, text_dim=64, freq_dim=32)
    geometry = Geometry(
        config, Limits(max_frames=81, pixels=160 * 96), on_meta(small_vae), on_meta(lambda: nn.Linear(3000, 3000))
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gpu_plan, "CONTEXT", 0)
        patch.setattr(gpu_plan, "TEXT_WORK", 0)
        yield Planner(geometry, (1600, 960), 200)


def test_the_first_plan_that_fits_is_chosen(planner):
    """At every memory size the chosen plan fits, and no earlier plan in the list fits."""
    ways = [planner.plan(*way, window) for window in planner.windows() for way in WAYS]
    assert [p.window for p in ways[:: len(WAYS)]] == [81, 41, 21, 11, 9]
    taken = set()
    for memory_bytes in sorted({p.peak for p in ways} | {p.peak - 1 for p in ways}):
        chosen = planner.choose(memory_bytes)
        fitting = [p for p in ways if p.peak <= memory_bytes]
        assert chosen == (fitting[0] if fitting else None)
        taken.add(chosen and (chosen.weights, chosen.offload, chosen.window == 81))
    assert {("bf16", "none", True), ("bf16", "parts", True), ("bf16", "blocks", True), None} <= taken


def test_a_plan_counts_each_part_where_it_is(planner):
    whole, text, codec = weight_bytes(planner.geometry.config, "bf16"), 3000 * 3001 * 2, planner.geometry.codec_bytes
    everything = whole["blocks"] + whole["rest"]
    none, parts, blocks = (planner.plan("bf16", offload, 81) for offload in ("none", "parts", "blocks"))
    work = denoising_bytes(planner.geometry.config, planner.size, 81)
    assert none.phases["denoise"] == int(1.05 * (everything + text + codec + work))
    assert parts.phases["denoise"] == int(1.05 * (everything + work))
    assert blocks.phases["denoise"] == int(1.05 * (whole["rest"] + 2 * whole["block"] + work))
    # Of parts that take turns each is alone, and one stream is decoded at a time.
    assert parts.phases["text"] == blocks.phases["text"] == int(1.05 * text)
    alone, beside = (decoding_bytes(planner.geometry.vae, planner.size, streams) for streams in (1, 4))
    assert parts.phases["decode"] == int(1.05 * (codec + alone))
    assert none.phases["decode"] == int(1.05 * (everything + text + codec + beside))
    assert (none.host, parts.host, blocks.host) == (0, *[text + codec + everything] * 2)


def test_explicit_choices_are_kept_and_unavailable_ones_skipped(planner, monkeypatch):
    assert planner.ways("int8") == [("int8", "parts"), ("int8", "blocks")]
    assert planner.ways("fp8", "parts") == [("fp8", "parts")] and len(planner.ways("fp8")) == 3
    assert planner.ways("bf16", "none") == [("bf16", "none")]
    monkeypatch.setattr("vera.core.extras.find_spec", lambda name: None)
    assert planner.ways() == [("bf16", "none"), ("bf16", "parts")]


def test_without_a_fitting_plan_windows_are_not_shortened(planner, monkeypatch):
    """If decoding alone exceeds the memory, a shorter window would not help."""
    for streams in (1, 4):
        monkeypatch.setitem(planner._work, (gpu_plan.decoding_bytes, (planner.size, streams)), 10 * GIB)
    assert planner.choose(GIB) is None
    least = planner.least()
    assert (least.weights, least.offload, least.window) == ("bf16", "parts", 81)


def test_the_hosts_memory_counts(planner):
    tight = planner.plan("bf16", "blocks", 81)
    assert planner.choose(tight.peak) == tight
    other = planner.choose(tight.peak, host=tight.host // 2)
    assert other is None or other.host <= tight.host // 2


def test_the_command(tmp_path, monkeypatch, capsys):
    geometry = Geometry(SMALL, Limits(max_frames=49), on_meta(small_vae), on_meta(lambda: nn.Linear(64, 64)))
    monkeypatch.setattr(Geometry, "of", lambda name: geometry)
    for name in ("decoding_bytes", "encoding_bytes"):  # have a test of their own
        monkeypatch.setattr(gpu_plan, name, lambda *given: 0)
    assert plan_command.main(["--model", "1.3b", "--size", "1920x1080", "--frames", "20", "--memory", "24"]) == 0
    told = capsys.readouterr().out
    assert "848x480, 20 frames (6 latent ones) at once" in told and told.count("fits") == 5
    assert "chosen for 24 GiB: --weights bf16 --offload none, windows of 20 frames:" in told
    assert plan_command.main(["--memory", "0.01"]) == 1 and "nothing fits 0.01 GiB" in capsys.readouterr().out


def test_wrong_arguments(capsys):
    assert plan_command.main(["--model", "nonsense", "--memory", "24"]) == 2
    assert "neither a model directory nor 1.3b" in capsys.readouterr().err
    assert plan_command.main(["--size", "1920"]) == 2
    with pytest.raises(InputError):
        Geometry.of("mini")


# By itself, where there is CUDA


@pytest.fixture
def gpu(monkeypatch, tmp_path):
    """Pretend to have a GPU with a given number of bytes, and a shot of 30 frames."""
    monkeypatch.setattr(memory, "choose_device", lambda name: "cpu" if name == "cpu" else "cuda")
    for name in ("decoding_bytes", "encoding_bytes"):  # so that it is the window that counts
        monkeypatch.setattr(gpu_plan, name, lambda *given: 0)
    for name in ("CONTEXT", "TEXT_WORK"):
        monkeypatch.setattr(gpu_plan, name, 0)
    geometry = Geometry(
        SMALL, Limits(max_frames=21, pixels=160 * 96), on_meta(small_vae), on_meta(lambda: nn.Linear(64, 64))
    )
    monkeypatch.setattr(Geometry, "of", lambda name: geometry)
    (tmp_path / "plate").mkdir()
    plate = write_sequence(tmp_path / "plate", range(1, 31), size=(48, 80, 3))
    (tmp_path / "vera").mkdir()

    def planned(size, device="auto", **asked):
        monkeypatch.setattr(torch.cuda, "get_device_properties", lambda i: SimpleNamespace(total_memory=int(size)))
        recipe = EditRecipe(str(plate), "Add fog", "out", **{"model": str(tmp_path / "vera")} | asked)
        return memory.first_plan(recipe, device)

    return planned, Planner(geometry, (80, 48), 30)


def test_a_render_begins_with_the_plan(gpu):
    planned, planner = gpu
    ample = planned(24 * GIB)
    assert (ample.weights, ample.offload, ample.window, ample.planned) == ("bf16", "none", 21, ())
    tight = planned(min(planner.plan(*way, 9).peak for way in WAYS))
    assert tight.window == 9 and "windows of 9 frames, which changes the picture" in tight.planned[0]
    hopeless = planned(1)
    assert (hopeless.weights, hopeless.offload, hopeless.window) == ("int8", "blocks", 9)
    assert "weights of 8 bits (int8) and windows of 9 frames" in hopeless.planned[0]
    assert planned(24 * GIB, weights="fp8").weights == "fp8" and planned(24 * GIB, weights="fp8").planned == ()


def test_nothing_is_planned_for_the_cpu_nor_for_mini(gpu):
    planned, _ = gpu
    assert (
        planned(1, device="cpu").weights
        == planned(1, model="mini").weights
        == planned(1, model="vace:x").weights
        == "auto"
    )


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@torch.inference_mode()
def test_the_gpus_own_count():
    """One step at a third of the published width: the allocator's peak is at most the plan's, and not far below it."""
    config = TransformerConfig(dim=512, heads=4, layers=4, ffn_dim=2048, text_dim=64)
    size, frames = (416, 240), 49
    model = Transformer(config).to("cuda", torch.bfloat16).eval()
    shape = (16, 13, size[1] // 8, size[0] // 8)
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    latents = torch.zeros(1, 3, *shape, dtype=torch.bfloat16, device="cuda")
    source = torch.zeros(1, *shape, device="cuda")
    model(latents, torch.zeros(1, device="cuda"), torch.zeros(1, 512, 64, device="cuda"), source, source)
    peak = torch.cuda.max_memory_allocated() - before
    assert 0.5 < peak / denoising_bytes(config, size, frames) < 1.05
