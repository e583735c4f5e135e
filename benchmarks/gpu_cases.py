"""What benchmarks.gpu compares: inputs, truths in fp64, and contenders by name."""

import gc
import math
import os
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import torch
from torch import nn
from torch.nn.attention import sdpa_kernel

from vera.core.model import transformer as model_file
from vera.core.model.transformer import Transformer, kept_in_float32
from vera.kernels.attention_choice import VARIABLE
from vera.kernels.int8 import int8_attention
from vera.kernels.joint_attention import CUDNN_FIRST, joint_attention
from vera.kernels.norm_rotary_pack import norm_rotary_pack, norm_rotary_pack_reference
from vera.kernels.windowed import WINDOW, windowed_attention

BF16 = torch.bfloat16
EAGER = "eager, stacked, sdpa"
SINGLE = "one-branch Wan, compiled, cuDNN first"

# Parts of the names of the GPU kernels that a contender must run, in lower case; of torch's operations on the CPU.
ROUTES = {
    "dense, ours": ("_flash",),
    "8-bit, ours": ("_flash_int8",),
    "window, ours": ("_across",),
    "cudnn": ("cudnn",),
    "fa3": ("flash",),
    "fa4": ("flash",),
    "sdpa": ("flash", "fmha", "efficient"),
}
ROWS = 96  # queries that are held against the truth, a third of them of each layer


def routes_of(contender: str, device: str) -> tuple[str, ...]:
    if device == "cuda":
        return ROUTES[contender]
    return ("scaled_dot_product",) if contender == "sdpa" else ()


def dense(kind: str):
    return lambda q, k, v: joint_attention(q, k, v, kind=kind)


def attention_calls(grid) -> dict:
    return {
        "dense, ours": dense("triton"),
        "cudnn": dense("cudnn"),
        "fa3": dense("fa3"),
        "fa4": dense("fa4"),
        "sdpa": dense("sdpa"),
        "8-bit, ours": int8_attention,
        "window, ours": lambda q, k, v: windowed_attention(q, k, v, grid),
    }


def inputs_of(shape, device, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=generator).to(device, BF16) for _ in range(3)]


def sharp_inputs(shape, device):
    """Sharp attention over keys with a large part in common, which is where 8 bits are hardest."""
    query, key, value = inputs_of(shape, device, 1)
    return [2 * query, key + 3 * key[:, :1, :1], value]


class SampledTruth:
    """Attention in fp64 of ROWS queries spread over all layers, dense and under the window's mask."""

    def __init__(self, query, key, value, grid):
        joint = [x.flatten(1, 2).transpose(1, 2) for x in (query, key, value)]  # (B, H, 3L, K)
        length = joint[0].shape[2]
        ends = [0, length // 3 - 1, length // 3, length - 1]  # where tiles are ragged and layers meet
        self.at = torch.unique(torch.cat([torch.linspace(0, length - 1, ROWS).long(), torch.tensor(ends)])).to(
            query.device
        )
        q, k, v = joint[0][:, :, self.at].double(), joint[1], joint[2]
        scores = torch.cat([q @ part.double().transpose(-1, -2) for part in k.split(8192, dim=2)], dim=-1)
        scores = scores / math.sqrt(q.shape[-1])
        hidden = ~self._mask(grid)
        self.dense = self._attend(scores, v)
        self.windowed = self._attend(scores.masked_fill(hidden, -math.inf), v)
        # What the written-out attention loses that rounds to the inputs' type after each operation.
        rounded = torch.cat([q.to(k.dtype) @ part.transpose(-1, -2) for part in k.split(8192, dim=2)], dim=-1)
        rounded = torch.softmax((rounded / math.sqrt(q.shape[-1])).masked_fill(hidden, -math.inf), dim=-1)
        self.error_in_halves = ((rounded @ v).transpose(1, 2).double() - self.windowed).abs().max().item()

    @staticmethod
    def _attend(scores, value):
        weights = torch.softmax(scores, dim=-1)
        parts = zip(weights.split(8192, dim=-1), value.split(8192, dim=2))
        return sum(w @ v.double() for w, v in parts).transpose(1, 2)

    def _mask(self, grid):
        """As window_mask, of the sampled rows alone."""
        device = self.at.device
        place = torch.cartesian_prod(*(torch.arange(n, device=device) for n in grid)).reshape(-1, 3).repeat(3, 1)
        layer = torch.arange(3, device=device).repeat_interleave(math.prod(grid))
        apart = (place[self.at][:, None] - place).abs()
        near = (apart[..., 0] <= WINDOW[0] // 2) & (apart[..., 1] <= WINDOW[1] // 2)
        return near | (layer[self.at][:, None] == layer)

    def _found(self, result):
        return result.flatten(1, 2)[:, self.at].double()

    def error(self, result, windowed=False) -> float:
        """The largest."""
        return (self._found(result) - (self.windowed if windowed else self.dense)).abs().max().item()

    def likeness(self, result) -> tuple[float, float]:
        """(cosine, relative L1) with the dense truth."""
        found, wanted = self._found(result).flatten(), self.dense.flatten()
        cosine = torch.nn.functional.cosine_similarity(found, wanted, dim=0).item()
        return cosine, ((found - wanted).abs().sum() / wanted.abs().sum()).item()


def packing_inputs(length, heads, dim, device):
    generator = torch.Generator().manual_seed(0)

    def rows(*size):
        return [torch.randn(size, generator=generator).to(device, BF16) for _ in range(3)]

    query, key = rows(1, length, heads * dim), rows(1, length, heads * dim)
    angles = torch.randn(length, dim // 2, generator=generator).to(device)
    return query, key, rows(heads * dim), rows(heads * dim), angles.cos(), angles.sin(), heads, 1e-6


def packing_truth(inputs):
    query, key, query_weight, key_weight, cos, sin, heads, eps = inputs
    wide = [[x.double() for x in part] for part in (query, key, query_weight, key_weight)]
    found = []
    for xs, ws in ((wide[0], wide[2]), (wide[1], wide[3])):
        layers = []
        for x, w in zip(xs, ws):
            x = (x * (x.pow(2).mean(-1, keepdim=True) + eps).rsqrt() * w).unflatten(-1, (heads, -1))
            even, odd = x.unflatten(-1, (-1, 2)).unbind(-1)
            c, s = cos.double()[:, None], sin.double()[:, None]
            layers.append(torch.stack([even * c - odd * s, even * s + odd * c], dim=-1).flatten(-2))
        found.append(torch.stack(layers, dim=1))
    return found


def packing_calls(compiler="eager"):
    """The compiled one gets static shapes: dynamo would make them dynamic at the second clip."""
    torch.compiler.reset()
    return {
        "eager": norm_rotary_pack_reference,
        "torch.compile": torch.compile(norm_rotary_pack_reference, backend=compiler, dynamic=False),
        "pack, ours": norm_rotary_pack,
    }


def pass_calls(config, size, device, compiler, wrong) -> dict:
    """One forward pass of a denoising step with random weights, by contender; wrong: kernels that are not to be
    used."""
    torch.compiler.reset()  # static shapes for this clip, whatever ran before
    model = random_weights(Transformer, (config,), device)
    latents, source, mask, time, text = clip_inputs(config, size, device)
    for block in model.blocks:
        block.compile(fullgraph=True, backend=compiler, dynamic=False)
    compiled = [block._compiled_call_impl for block in model.blocks]

    def contender(attention="dense", kind=None, compile=True, pack=True):
        def call():
            model.attention = attention
            for block, made in zip(model.blocks, compiled):
                block._compiled_call_impl = made if compile else None
            with forced(kind), packing(pack):
                return model(latents, time, text, source, mask)

        return call

    calls = {
        EAGER: contender(kind="sdpa", compile=False, pack=False),
        "the choice": contender(compile=False),
        "the choice, compiled": contender(),
        "cudnn, compiled": contender(kind="cudnn"),
        "dense, ours, compiled": contender(kind="triton"),
        "8-bit, ours, compiled": contender("int8"),
        "window, ours, compiled": contender("window"),
    }
    calls = {name: call for name, call in calls.items() if not any(name.startswith(w) for w in wrong)}
    try:
        calls[SINGLE] = single_branch(config, size, device, compiler)
    except ImportError:  # diffusers is not among what this needs
        pass
    return calls


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
    from diffusers import WanTransformer3DModel

    model = random_weights(
        WanTransformer3DModel.from_config,
        (
            dict(
                num_attention_heads=config.heads,
                attention_head_dim=config.head_dim,
                num_layers=config.layers,
                ffn_dim=config.ffn_dim,
                text_dim=config.text_dim,
                freq_dim=config.freq_dim,
                in_channels=config.latent_channels,
                out_channels=config.latent_channels,
            ),
        ),
        device,
    )
    for block in model.blocks:
        block.compile(fullgraph=True, backend=compiler, dynamic=False)
    latents, _, _, time, text = clip_inputs(config, size, device)

    def call():
        with sdpa_kernel(CUDNN_FIRST, set_priority=True) if device == "cuda" else nullcontext():
            return model(latents[:, 0], time, text, return_dict=False)

    return call


def random_weights(build, given, device):
    """A model of bf16 random weights, built where it runs; what Wan keeps in fp32 stays so."""
    with torch.device(device):
        torch.manual_seed(0)
        kept = torch.get_default_dtype()
        torch.set_default_dtype(BF16)
        try:
            model = build(*given)
        finally:
            torch.set_default_dtype(kept)
    for name, parameter in model.named_parameters():
        nn.init.normal_(parameter, mean=1.0 if "norm" in name and name.endswith("weight") else 0.0, std=0.02)
        if kept_in_float32(name):
            parameter.data = parameter.data.float()
    return model.eval().requires_grad_(False)


class ClipTensors(NamedTuple):
    """Inputs of one pass of a transformer, see `Transformer.forward`."""

    latents: torch.Tensor
    source: torch.Tensor
    mask: torch.Tensor
    timestep: torch.Tensor
    text: torch.Tensor


def clip_inputs(config, size, device):
    generator = torch.Generator().manual_seed(0)

    def draw(*shape):
        return torch.randn(shape, generator=generator).to(device, BF16)

    channels = config.latent_channels
    latents, source, mask = draw(1, 3, channels, *size), draw(1, channels, *size), draw(1, channels, *size)
    timestep = torch.tensor([500.0], device=device)
    return ClipTensors(latents, source, mask, timestep, draw(1, 512, config.text_dim))


def mini_render(device, frames, steps=None):
    """A call that samples and decodes one clip of the embedded model. steps: its own number where None."""
    from vera.core.model.codec import latent_frames
    from vera.core.model.mini.edition import load_mini
    from vera.core.sampling.solver import Solver

    model = load_mini(Path(__file__).parents[1] / "core/weights/mini", device)
    channels, count = model.transformer.config.latent_channels, latent_frames(frames)
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(count, 3, channels, 10, 18, generator=generator).to(device)
    source = torch.randn(1, channels, count, 10, 18, generator=generator).to(device)
    solver = Solver(steps or model.limits.steps, model.limits.shift)

    def call():
        text, state = model.text.encode(["add a red balloon rising"]), solver.start(noise)
        for i, timestep in enumerate(solver.timesteps):
            latents = state[:, 0].movedim(0, 2)[None]
            velocity = model.transformer(latents, timestep.to(device).expand(1), text, source)
            state = solver.step(i, velocity[0].movedim(2, 0), state)
        layers = state[:, 0].movedim(0, 2)
        return [model.codec.decode(layer[None], frames) for layer in layers]

    return call


def mini_step(device, dtype, batch, layers=None):
    """A call that is one training step of a model of mini's geometry, on random latents, in this type.

    layers: mini's own number where None.
    """
    from vera.core.model.mini.mini_config import MINI
    from vera.core.model.mini.mini_transformer import MiniTransformer

    config = replace(MINI, layers=layers or MINI.layers)
    torch.manual_seed(0)
    with torch.enable_grad():
        model = MiniTransformer(config).to(device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
    shape = (config.latent_channels, 5, 10, 18)
    clean, source = torch.randn(batch, 3, *shape, device=device), torch.randn(batch, *shape, device=device)
    text, time = torch.randn(batch, 12, config.text_dim, device=device), torch.full((batch,), 600.0, device=device)

    def call():
        with torch.enable_grad(), torch.autocast(device, dtype or BF16, enabled=dtype is not None):
            model(clean, time, text, source).float().pow(2).mean().backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return call


def peak_memory(call, device) -> float:
    """GiB allocated at most while it runs, weights and inputs included."""
    if device != "cuda":
        return 0.0
    torch.cuda.reset_peak_memory_stats()
    call()
    return torch.cuda.max_memory_allocated() / 2**30


def release(device) -> None:
    gc.collect()
    torch.compiler.reset()
    if device == "cuda":
        torch.cuda.empty_cache()
