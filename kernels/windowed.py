"""Windowed attention: a token attends to all of its own layer, and to a local window of the two other layers.

The three layers (edit, alpha, composite) are aligned in time and space, so a token mostly needs nearby tokens of the
other layers. The window is (times, lines): latent frames, and lines of tokens at full width, centred on the token.
With `window=(3, 11)` at 832x480, 37 % of the query-key pairs of dense attention remain.

The kernel has two passes:
1. Dense attention within each layer, which returns its result and its log-sum-exp.
2. Attention to the other layers, which continues the softmax of the first pass. It visits only the tiles of keys that
   touch the window, from a list that is made once per grid. A mask removes keys of these tiles outside the window.
The result equals dense attention under `window_mask`, up to rounding. The kernel has no backward pass.

The backward pass on a GPU is that of torch's flex_attention under the same mask, compiled.

Windowed attention is optional: weights that were trained with dense attention lose quality with it.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import torch

from vera.kernels.attention_choice import has_kernel
from vera.kernels.flash import Tiles, flash_attention, softmax_step, tiles
from vera.kernels.language import compute_capability, give_scratch, jit, launch_options, tl

if TYPE_CHECKING:
    from torch.nn.attention.flex_attention import BlockMask

WINDOW = (3, 11)  # (latent frames, token lines); raising either keeps more pairs and costs more time
KINDS = ("kernel", "flex", "reference")
FLEX_BLOCK = 128  # side in tokens of flex_attention's mask blocks, its default; raising it computes more masked pairs


def windowed_attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    grid: tuple[int, int, int],
    window: tuple[int, int] = WINDOW,
    kind: str | None = None,
) -> torch.Tensor:
    """Attention under `window_mask`. Inputs and result are (batch, 3 layers, L tokens, heads, head width).

    grid: (times, lines, width) in tokens of one layer, in raster order; L is their product.
    window: (times, lines), odd, that a token sees of another layer.
    kind: one of KINDS. None takes the kernel where it can run (kernels/attention_choice.py), flex_attention on CUDA
        where a gradient is wanted, and otherwise the reference.
    Raises ValueError for a grid, window or kind that does not fit.
    """
    check_window(grid, window, query.shape[2])
    kind = kind or default_kind(query, key, value)
    if kind == "kernel":
        return torch.ops.vera.windowed_attention(query, key, value, list(grid), list(window))
    if kind == "flex":
        return windowed_attention_flex(query, key, value, grid, window)
    if kind == "reference":
        return windowed_attention_reference(query, key, value, grid, window)
    raise ValueError(f"unknown windowed attention {kind!r}; use one of {', '.join(KINDS)}")


def default_kind(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> str:
    """The default one of KINDS for such inputs."""
    wants_gradient = torch.is_grad_enabled() and any(x.requires_grad for x in (query, key, value))
    if has_kernel(query.device, query.dtype, query.shape[-1], wants_gradient):
        return "kernel"
    return "flex" if wants_gradient and query.is_cuda else "reference"


def windowed_attention_flex(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    grid: tuple[int, int, int],
    window: tuple[int, int] = WINDOW,
) -> torch.Tensor:
    """`windowed_attention` by torch's flex_attention, with a backward; compiled on CUDA only."""
    q, k, v = (x.flatten(1, 2).transpose(1, 2) for x in (query, key, value))
    mask = flex_mask(tuple(grid), tuple(window), query.device)
    out = flex_attention_on(query.device.type)(q, k, v, block_mask=mask)
    return out.transpose(1, 2).reshape(query.shape)


@functools.cache
def flex_attention_on(device: str) -> Callable[..., torch.Tensor]:
    """torch's flex_attention for a device type."""
    from torch.nn.attention.flex_attention import flex_attention  # imports the compiler

    return torch.compile(flex_attention, dynamic=False) if device == "cuda" else flex_attention


@functools.lru_cache(maxsize=16)
def flex_mask(grid: tuple[int, int, int], window: tuple[int, int], device: torch.device) -> BlockMask:
    """`window_mask` as flex_attention's block mask, built one row of blocks at a time: all is 9.7 GB at 81 frames."""
    from torch.nn.attention.flex_attention import BlockMask

    sees, tokens = window_rule(grid, window), 3 * math.prod(grid)
    blocks = -(-tokens // FLEX_BLOCK)
    keys, partial, full = torch.arange(tokens, device=device), [], []
    for first in range(0, tokens, FLEX_BLOCK):
        rows = torch.arange(first, min(first + FLEX_BLOCK, tokens), device=device)[:, None]
        seen = torch.zeros(FLEX_BLOCK, blocks * FLEX_BLOCK, dtype=torch.bool, device=device)
        seen[: len(rows), :tokens] = sees(None, None, rows, keys)
        each = seen.unflatten(1, (blocks, FLEX_BLOCK)).sum((0, 2))
        full.append(each == FLEX_BLOCK**2)
        partial.append((each > 0) & ~full[-1])
    lists = [part for marks in (partial, full) for part in block_lists(torch.stack(marks))]
    return BlockMask.from_kv_blocks(*lists, BLOCK_SIZE=FLEX_BLOCK, mask_mod=sees, seq_lengths=(tokens, tokens))


def window_rule(grid: tuple[int, int, int], window: tuple[int, int]) -> Callable[..., torch.Tensor]:
    """`window_mask` as a compilable function of (batch, head, query, key) with joint positions."""
    _, lines, width = grid
    frame, length = lines * width, math.prod(grid)
    reach_times, reach_lines = window[0] // 2, window[1] // 2

    def sees(batch: object, head: object, query: torch.Tensor, key: torch.Tensor) -> torch.Tensor:
        times = (query % length // frame - key % length // frame).abs()
        apart = (query % frame // width - key % frame // width).abs()
        return (query // length == key // length) | ((times <= reach_times) & (apart <= reach_lines))

    return sees


def block_lists(marked: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """For `marked` (rows, columns) bool: the number of marked columns of each row, int32 (1, 1, rows), and the column
    indices with the marked ones first, in order, int32 (1, 1, rows, columns).
    """
    order = torch.argsort(marked.to(torch.int8), dim=1, descending=True, stable=True)
    return marked.sum(1).to(torch.int32)[None, None], order.to(torch.int32)[None, None].contiguous()


def windowed_attention_reference(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    grid: tuple[int, int, int],
    window: tuple[int, int] = WINDOW,
) -> torch.Tensor:
    """`windowed_attention` as plain dense attention with `window_mask`, in the inputs' own type."""
    q, k, v = (x.flatten(1, 2).transpose(1, 2) for x in (query, key, value))
    scores = q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])
    scores = scores.masked_fill(~window_mask(grid, window, query.device), -math.inf)
    return (torch.softmax(scores, dim=-1) @ v).transpose(1, 2).reshape(query.shape)


def window_mask(
    grid: tuple[int, int, int], window: tuple[int, int] = WINDOW, device: torch.device | str = "cpu"
) -> torch.Tensor:
    """(3L, 3L) bool: whether the query token of a row attends to the key token of a column."""
    place = torch.cartesian_prod(*(torch.arange(n, device=device) for n in grid)).reshape(-1, 3).repeat(3, 1)
    layer = torch.arange(3, device=device).repeat_interleave(math.prod(grid))
    apart = (place[:, None] - place).abs()
    near = (apart[..., 0] <= window[0] // 2) & (apart[..., 1] <= window[1] // 2)
    return near | (layer[:, None] == layer)


def kept_share(grid: tuple[int, int, int], window: tuple[int, int] = WINDOW) -> float:
    """Share of dense attention's query-key pairs that the window keeps."""
    near = [sum(min(n, i + w // 2 + 1) - max(0, i - w // 2) for i in range(n)) / n**2 for n, w in zip(grid, window)]
    return (1 + 2 * math.prod(near)) / 3


def check_window(grid: tuple[int, int, int], window: tuple[int, int], length: int) -> None:
    """Raise ValueError unless the grid has `length` tokens and the window is two odd numbers."""
    if math.prod(grid) != length:
        raise ValueError(f"a grid of {tuple(grid)} has {math.prod(grid)} tokens, not {length}")
    if len(window) != 2 or any(n < 1 or n % 2 == 0 for n in window):
        raise ValueError(f"window {tuple(window)} is not two odd numbers (times, lines)")


def across_tiles(capability: tuple[int, int], dim: int) -> Tiles:
    """The tiles of the second pass; see `flash.tiles`.

    The masks of the second pass need registers, so GPUs other than Hopper use smaller tiles of keys.
    """
    return tiles(capability, dim) if capability[0] == 9 else Tiles(128, 32, 8, 3, False)


def key_tiles(
    grid: tuple[int, int, int], window: tuple[int, int], block_m: int, block_n: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """List, for each tile of `block_m` queries, the tiles of `block_n` keys in the other layers that touch its window.

    Returns (starts, counts), int32. starts: (3 * query tiles of a layer, longest list), the first key of each key tile
    as a position among the 3L tokens of all layers, padded with 0. counts: (3 * query tiles of a layer,), the length of
    each list. Key tiles begin at the start of a line and may extend past the window; the kernel masks the rest.
    """
    times, lines, width = grid
    frame, length = lines * width, math.prod(grid)
    local = []
    for first in range(0, length, block_m):
        last = min(first + block_m, length) - 1
        # Lines that the tile's queries lie on. A tile that reaches into a second frame counts as all lines.
        same = first // frame == last // frame
        top, bottom = (first % frame // width, last % frame // width) if same else (0, lines - 1)
        low, high = max(top - window[1] // 2, 0), min(bottom + window[1] // 2, lines - 1) + 1
        frames = range(max(first // frame - window[0] // 2, 0), min(last // frame + window[0] // 2, times - 1) + 1)
        local.append([t * frame + at for t in frames for at in range(low * width, high * width, block_n)])
    joint = [
        [other * length + start for other in range(3) if other != layer for start in starts]
        for layer in range(3)
        for starts in local
    ]
    longest = max(map(len, joint))
    padded = [starts + [0] * (longest - len(starts)) for starts in joint]
    counts = [len(starts) for starts in joint]
    return torch.tensor(padded, dtype=torch.int32), torch.tensor(counts, dtype=torch.int32)


@functools.lru_cache(maxsize=16)
def key_tiles_on(
    device: torch.device, grid: tuple[int, int, int], window: tuple[int, int], block_m: int, block_n: int
) -> tuple[torch.Tensor, ...]:
    """`key_tiles` on a device, cached."""
    return tuple(x.to(device) for x in key_tiles(grid, window, block_m, block_n))


@torch.library.custom_op("vera::windowed_attention", mutates_args=())
def _attend(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, grid: list[int], window: list[int]
) -> torch.Tensor:
    query, key, value = (x.contiguous() for x in (query, key, value))
    batch, layers, length, heads, dim = query.shape
    within, lse = flash_attention(*(x.reshape(batch * layers, 1, length, heads, dim) for x in (query, key, value)))
    capability = compute_capability(query.device)
    block_m, block_n, warps, stages, specialise = across_tiles(capability, dim)
    starts, counts = key_tiles_on(query.device, tuple(grid), tuple(window), block_m, block_n)
    give_scratch(query.device)
    out = torch.empty_like(query)
    _, lines, width = grid
    with torch.cuda.device_of(query):
        _across[(len(counts), batch * heads)](
            query,
            key,
            value,
            within,
            lse,
            out,
            starts,
            counts,
            heads,
            length,
            math.log2(math.e) / math.sqrt(dim),
            lines,
            width,
            window[0] // 2,
            window[1] // 2,
            starts.shape[1],
            DIM=dim,
            BLOCK_M=block_m,
            BLOCK_N=block_n,
            SPECIALISE=specialise,
            STAGES=stages,
            **launch_options(num_warps=warps, num_stages=stages),
        )
    return out


@_attend.register_fake
def _empty(query, key, value, grid, window):
    return torch.empty_like(query, memory_format=torch.contiguous_format)


@jit
def _across(
    query,
    key,
    value,
    within,
    lse,
    out,
    starts,
    counts,
    heads,
    length,
    scale,
    lines,
    width,
    reach_times,
    reach_lines,
    longest,
    DIM: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    SPECIALISE: tl.constexpr,
    STAGES: tl.constexpr,
):
    """The second pass: attention to the other layers, for one tile of queries and one head.

    It continues from attention within the layer: its result `within` (3B, L, H, K) and log-sum-exp `lse` (3B, H, L).
    """
    tile = tl.program_id(0)
    head = tl.program_id(1)
    tiles_of_layer = tl.cdiv(length, BLOCK_M)
    layer = tile // tiles_of_layer
    first = tile % tiles_of_layer * BLOCK_M
    frame = lines * width
    tokens = 3 * length
    stride = heads * DIM
    sample = (head // heads).to(tl.int64)
    joint = (sample * tokens * heads + head % heads) * DIM
    own = joint + layer * length.to(tl.int64) * stride
    q_tiles = tl.make_tensor_descriptor(query + own, [length, DIM], [stride, 1], [BLOCK_M, DIM])
    k_tiles = tl.make_tensor_descriptor(key + joint, [tokens, DIM], [stride, 1], [BLOCK_N, DIM])
    v_tiles = tl.make_tensor_descriptor(value + joint, [tokens, DIM], [stride, 1], [BLOCK_N, DIM])
    w_tiles = tl.make_tensor_descriptor(within + own, [length, DIM], [stride, 1], [BLOCK_M, DIM])
    o_tiles = tl.make_tensor_descriptor(out + own, [length, DIM], [stride, 1], [BLOCK_M, DIM])

    # The keys that each query attends to in a frame of its window: positions low .. high-1, whole lines.
    row = first + tl.arange(0, BLOCK_M)
    time = row // frame
    line = row % frame // width
    low = tl.maximum(line - reach_lines, 0) * width
    high = tl.minimum(line + reach_lines + 1, lines) * width

    q = q_tiles.load([first, 0])
    sums = w_tiles.load([first, 0]).to(tl.float32)
    lse_row = ((sample * 3 + layer) * heads + head % heads) * length + row
    top = tl.load(lse + lse_row, mask=row < length, other=0.0) * 1.4426950408889634  # log2(e)
    total = tl.full([BLOCK_M], 1.0, tl.float32)
    column = tl.arange(0, BLOCK_N)
    count = tl.load(counts + tile)
    for i in tl.range(0, count, num_stages=STAGES, warp_specialize=SPECIALISE):
        start = tl.load(starts + tile * longest + i)
        k = k_tiles.load([start, 0])
        scores = tl.dot(q, k.T, input_precision="ieee")
        here = start % length // frame
        base = start // length * length + here * frame
        end = tl.where(tl.abs(time - here) <= reach_times, high, 0)
        place = (start - base + column)[None, :]
        scores = tl.where((place >= low[:, None]) & (place < end[:, None]), scores, -float("inf"))
        weights, fade, total, top = softmax_step(scores, scale, total, top)
        sums = sums * fade[:, None]
        v = v_tiles.load([start, 0])
        sums = tl.dot(weights.to(v.dtype), v, sums, input_precision="ieee")

    o_tiles.store([first, 0], (sums / total[:, None]).to(out.dtype.element_ty))
