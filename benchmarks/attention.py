"""Joint attention and its preparation, each kernel against the others in one process.

    python -m benchmarks.attention [--rounds N] [--only CLIP] [--json FILE] [--dry-run]

bf16, 12 heads of 128, the joint lengths of 49 and 81 frames of 832x480 (60,840 and
98,280 tokens). The limits that shares refer to, a large matrix product and a copy, are
measured in the same run. Every contender's result is first held against cuDNN's or torch's.
"""

import math

import torch

from benchmarks.timing import Report, arguments, limits, measure, quantile, ratio
from vera.kernels.choice import explain
from vera.kernels.int8 import int8_attention, quantisation_error
from vera.kernels.joint_attention import joint_attention
from vera.kernels.norm_rotary_pack import norm_rotary_pack, norm_rotary_pack_reference
from vera.kernels.windowed import kept_share, windowed_attention

GRIDS = {"49 frames": (13, 30, 52), "81 frames": (21, 30, 52)}
TINY = {"tiny": (2, 3, 5)}
SEEDS = (0, 1, 2)


def main():
    given = arguments(__doc__.splitlines()[0])
    device, rounds = ("cpu", 2) if given.dry_run else ("cuda", given.rounds)
    heads, dim = (2, 32) if given.dry_run else (12, 128)
    torch.set_grad_enabled(False)
    report = Report(device)
    product, copy = limits(device, torch.bfloat16, rounds)
    print(f"limits measured here: matrix product {product / 1e12:.0f} TFLOP/s, copy {copy / 1e12:.2f} TB/s")
    for name, grid in (TINY if given.dry_run else GRIDS).items():
        if given.only not in name:
            continue
        shape = (1, 3, math.prod(grid), heads, dim)
        attention(report, name, grid, shape, device, rounds, product)
        packing(report, name, shape, device, rounds, copy, compiler="eager" if given.dry_run else "inductor")
    report.save(given.json)


def attention(report, name, grid, shape, device, rounds, limit):
    query, key, value = draw(shape, device, seed=0)
    tokens = 3 * shape[2]
    work = 4 * tokens**2 * shape[-1] * shape[-2]
    title = f"attention, {name}, {tokens:,} tokens"
    print(f"\n{explain(device, query.dtype, shape)}")
    print(f"8-bit against dense, by seed: {'; '.join(map(str, eight_bit_errors(shape, device)))}")
    calls = {
        "reference, eager": lambda: joint_attention(query, key, value, kind="reference"),
        "sdpa": lambda: joint_attention(query, key, value, kind="sdpa"),
        "cudnn": lambda: joint_attention(query, key, value, kind="cudnn"),
        "dense, ours": lambda: joint_attention(query, key, value, kind="triton"),
        "the choice": lambda: joint_attention(query, key, value),
        "8-bit, ours": lambda: int8_attention(query, key, value),
        "window, ours": lambda: windowed_attention(query, key, value, grid),
    }
    if device == "cpu":
        print(f"no kernel runs here: {[n for n in calls if 'ours' in n]} take their references or do not run")
    agree(calls, ("dense, ours", "cudnn", "the choice"), calls["sdpa"]())
    taken = measure(calls, device, rounds)
    report.table(title, ("TFLOP/s", "share of product", "times cudnn", "times sdpa"))
    for contender, seconds in taken.items():
        done = work * (kept_share(grid) if "window" in contender else 1)
        rate = 0.0 if isinstance(seconds, str) else done / quantile(seconds, 0.5)
        report.row(
            title, contender, seconds, tflops=rate / 1e12, share=rate / limit,
            cudnn=ratio(seconds, taken["cudnn"]), sdpa=ratio(seconds, taken["sdpa"]),
        )  # fmt: skip
    print(f"window against dense, ours: {ratio(taken['window, ours'], taken['dense, ours'])}")


def packing(report, name, shape, device, rounds, limit, compiler):
    _, _, length, heads, dim = shape
    generator = torch.Generator().manual_seed(0)

    def rows(*size):
        return [torch.randn(size, generator=generator).to(device, torch.bfloat16) for _ in range(3)]

    query, key = rows(1, length, heads * dim), rows(1, length, heads * dim)
    angles = torch.randn(length, dim // 2, generator=generator).to(device)
    inputs = (query, key, rows(heads * dim), rows(heads * dim), angles.cos(), angles.sin(), heads, 1e-6)
    compiled = torch.compile(norm_rotary_pack_reference, backend=compiler)
    calls = {
        "eager": lambda: norm_rotary_pack_reference(*inputs),
        "torch.compile": lambda: compiled(*inputs),
        "ours": lambda: norm_rotary_pack(*inputs),
    }
    for found, wanted in zip(calls["ours"](), calls["eager"]()):
        check("norm, rotary, pack", found, wanted)
    taken = measure(calls, device, rounds)
    title = f"norm, rotary, pack, {name}, {3 * length:,} tokens"
    moved = 2 * 2 * 3 * length * heads * dim * 2 + 2 * 3 * length * dim * 2
    report.table(title, ("TB/s", "share of copy", "times torch.compile"))
    for contender, seconds in taken.items():
        rate = 0.0 if isinstance(seconds, str) else moved / quantile(seconds, 0.5)
        against = ratio(seconds, taken["torch.compile"])
        report.row(title, contender, seconds, terabytes=rate / 1e12, share=rate / limit, compiled=against)


def draw(shape, device, seed):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=generator).to(device, torch.bfloat16) for _ in range(3)]


def eight_bit_errors(shape, device):
    """On sharp attention over keys with a large common part, a seed each; a shorter clip, for the reference's sake."""
    for seed in SEEDS:
        query, key, value = draw((1, 3, min(shape[2], 4096), *shape[3:]), device, seed)
        yield quantisation_error(2 * query, key + 3 * key[:, :1, :1], value)


def agree(calls, names, wanted):
    for name in names:
        try:
            found = calls[name]()
        except (RuntimeError, ValueError):
            continue  # it will say why when it is timed
        check(name, found, wanted)


def check(name, found, wanted):
    """The figures of a wrong kernel are worth nothing: stop."""
    found, wanted = found.float(), wanted.float()
    apart = ((found - wanted).norm() / wanted.norm()).item()
    if not apart < 0.02:
        raise SystemExit(f"{name} is wrong: relative error {apart:.3g}")


if __name__ == "__main__":
    main()
