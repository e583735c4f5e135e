"""One forward pass of a denoising step at full size, with random weights.

    python -m benchmarks.step [--rounds N] [--only CLIP] [--json FILE] [--dry-run]

1.3B geometry, bf16, 832x480, 49 and 81 frames, 512 text tokens. Contenders, all in this
process: the same model in eager diffusers style with torch's default attention, ours
with and without the opt-ins, and one single-branch Wan of the same geometry, compiled,
with cuDNN's attention. A step with guidance is two passes. Peak memory is that of the
transformer and its pass: the text encoder and the codec are not loaded.
"""

import gc
import os
from contextlib import contextmanager

import torch
from diffusers import WanTransformer3DModel
from torch import nn
from torch.nn.attention import sdpa_kernel

from benchmarks.timing import Report, arguments, measure, ratio
from vera.core.model import transformer as model_file
from vera.core.model.config import PRESETS, TransformerConfig
from vera.core.model.transformer import Transformer, kept_in_float32
from vera.core.sampling.speed_options import SpeedOptions
from vera.kernels.choice import VARIABLE, explain
from vera.kernels.joint_attention import CUDNN_FIRST

CLIPS = {"49 frames": (13, 60, 104), "81 frames": (21, 60, 104)}
TINY = {"tiny": (2, 4, 6)}
TINY_CONFIG = TransformerConfig(dim=64, heads=2, layers=1, ffn_dim=96, text_dim=24, freq_dim=32, latent_channels=4)
BASE = "eager, stacked, sdpa"
SINGLE = "one-branch Wan, compiled, cuDNN first"


def main():
    given = arguments(__doc__.splitlines()[0])
    device, rounds = ("cpu", 2) if given.dry_run else ("cuda", min(given.rounds, 5))
    config, clips = (TINY_CONFIG, TINY) if given.dry_run else (PRESETS["1.3b"], CLIPS)
    compiler = "eager" if given.dry_run else "inductor"
    torch.set_grad_enabled(False)
    report = Report(device)
    for name, size in clips.items():
        if given.only not in name:
            continue
        tokens = size[0] * size[1] * size[2] // 4
        print(explain(device, torch.bfloat16, (1, 3, tokens, config.heads, config.head_dim)))
        one_clip(report, name, config, size, device, rounds, compiler)
    report.save(given.json)


def one_clip(report, name, config, size, device, rounds, compiler):
    title = f"one pass, {name}, {3 * size[0] * size[1] * size[2] // 4:,} tokens"
    taken, peak = {}, {}
    for build in (single_branch, joint):
        for contender, ready in build(config, size, device, compiler).items():
            with ready() as call:
                taken |= measure({contender: call}, device, rounds, warm_up=2)
                peak[contender] = peak_memory(call, device) if not isinstance(taken[contender], str) else 0.0
        release(device)
    report.table(title, ("times eager", "of Wan's pass", "peak GiB"))
    for contender, seconds in taken.items():
        slower = ratio(taken[SINGLE], seconds)
        report.row(title, contender, seconds, eager=ratio(seconds, taken[BASE]), wan=slower, peak=peak[contender])


def joint(config, size, device, compiler):
    """One three-branch model: plain, then with our kernels, then with the opt-ins; name -> context of its call."""
    model = random_weights(Transformer, (config,), device)
    latents, source, mask, time, text = inputs(config, size, device)

    @contextmanager
    def ready(speed, kind=None, pack=True, batch=1):
        torch._dynamo.reset()
        for block in model.blocks:
            block._compiled_call_impl = None  # what an earlier contender compiled
        speed.prepare(model, backend=compiler)
        clip = [x.expand(batch, *x.shape[1:]) for x in (latents, source, mask)]
        times, states = time.expand(batch), text.expand(batch, -1, -1)
        with forced(kind), packing(pack):
            yield lambda: model(clip[0], times, states, *clip[1:])

    return {
        BASE: lambda: ready(SpeedOptions(), "sdpa", pack=False),
        "packed, the choice": lambda: ready(SpeedOptions()),
        "packed, the choice, compiled": lambda: ready(SpeedOptions(compile=True)),
        "packed, cudnn, compiled": lambda: ready(SpeedOptions(compile=True), "cudnn"),
        "packed, ours, compiled": lambda: ready(SpeedOptions(compile=True), "triton"),
        "packed, 8-bit, compiled": lambda: ready(SpeedOptions("int8", compile=True)),
        "packed, window, compiled": lambda: ready(SpeedOptions("window", compile=True)),
        "two passes in one batch, compiled": lambda: ready(SpeedOptions(compile=True), batch=2),
    }


@contextmanager
def forced(kind):
    """Joint attention of this kind, or by choice, whatever the environment said before."""
    kept = os.environ.pop(VARIABLE, None)
    if kind:
        os.environ[VARIABLE] = kind
    try:
        yield
    finally:
        os.environ.pop(VARIABLE, None)
        if kept is not None:
            os.environ[VARIABLE] = kept


@contextmanager
def packing(wanted):
    """Without it, as a model in diffusers' style: norms, rotation and stack one after the other."""
    kept = model_file.can_pack
    if not wanted:
        model_file.can_pack = lambda hidden: False
    try:
        yield
    finally:
        model_file.can_pack = kept


def single_branch(config, size, device, compiler):
    """One Wan of the same geometry, as diffusers has it."""
    model = random_weights(
        WanTransformer3DModel.from_config,
        (
            dict(
                num_attention_heads=config.heads, attention_head_dim=config.head_dim, num_layers=config.layers,
                ffn_dim=config.ffn_dim, text_dim=config.text_dim, freq_dim=config.freq_dim,
                in_channels=config.latent_channels, out_channels=config.latent_channels,
            ),
        ),
        device,
    )  # fmt: skip
    for block in model.blocks:
        block.compile(fullgraph=True, backend=compiler)
    latents, _, _, time, text = inputs(config, size, device)

    @contextmanager
    def ready():
        with sdpa_kernel(CUDNN_FIRST, set_priority=True):
            yield lambda: model(latents[:, 0], time, text, return_dict=False)

    return {SINGLE: ready}


def random_weights(build, given, device):
    """A model of bf16 random weights, built where it runs; what Wan keeps in fp32 stays so."""
    with torch.device(device):
        torch.manual_seed(0)
        kept = torch.get_default_dtype()
        torch.set_default_dtype(torch.bfloat16)
        try:
            model = build(*given)
        finally:
            torch.set_default_dtype(kept)
    for name, parameter in model.named_parameters():
        nn.init.normal_(parameter, mean=1.0 if "norm" in name and name.endswith("weight") else 0.0, std=0.02)
        if kept_in_float32(name):
            parameter.data = parameter.data.float()
    return model.eval()


def inputs(config, size, device):
    generator = torch.Generator().manual_seed(0)

    def draw(*shape):
        return torch.randn(shape, generator=generator).to(device, torch.bfloat16)

    channels = config.latent_channels
    latents, source, mask = draw(1, 3, channels, *size), draw(1, channels, *size), draw(1, channels, *size)
    return latents, source, mask, torch.tensor([500.0], device=device), draw(1, 512, config.text_dim)


def peak_memory(call, device):
    """GiB allocated at most while it runs, weights and inputs included."""
    if device != "cuda":
        return 0.0
    torch.cuda.reset_peak_memory_stats()
    call()
    return torch.cuda.max_memory_allocated() / 2**30


def release(device):
    gc.collect()
    torch._dynamo.reset()
    if device == "cuda":
        torch.cuda.empty_cache()


if __name__ == "__main__":
    main()
