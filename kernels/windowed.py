"""Aligned windows: full attention within a layer, local attention across layers, forward only.

The layers are aligned in time and space, so what a token needs from another layer lies
near its own place. Here it sees, in the two other layers, the lines of the picture
within a window of (times, lines) around its own, at full width; in its own layer it
sees everything. With `window=(3, 11)` on 832x480 that keeps 37 % of dense attention.

Two passes: dense attention within each layer, then a second walk that takes up the
first one's result and log-sum-exp where it stopped, over the tiles of keys that touch
the window. Those tiles are listed from the grid, once per grid; their edges are masked,
so the result is exactly that of dense attention under `window_mask`.

Opt-in: weights trained with dense attention lose something under it.
"""

from __future__ import annotations

import functools
import math

import torch

from vera.kernels.choice import has_kernel
from vera.kernels.flash import flash_attention, softmax_step, tiles
from vera.kernels.language import give_scratch, jit, launch_options, tl

WINDOW = (3, 11)


def windowed_attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    grid: tuple[int, int, int],
    window: tuple[int, int] = WINDOW,
) -> torch.Tensor:
    """Attention under `window_mask`, (B, 3, L, H, K) in and out; no gradient through the kernel.

    grid    (T, H, W) tokens of one layer, in raster order: L = T * H * W
    window  odd (times, lines) that a token sees of another layer, centred on its own
    Where the kernel cannot run (see kernels/choice.py) the reference computes it, mask and all.
    """
    check_window(grid, window, query.shape[2])
    wants_gradient = torch.is_grad_enabled() and any(x.requires_grad for x in (query, key, value))
    if not has_kernel(query.device, query.dtype, query.shape[-1], wants_gradient):
        return windowed_attention_reference(query, key, value, grid, window)
    return torch.ops.vera.windowed_attention(query, key, value, list(grid), list(window))


def windowed_attention_reference(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    grid: tuple[int, int, int],
    window: tuple[int, int] = WINDOW,
) -> torch.Tensor:
    """Dense attention, written out, with the mask; in the inputs' own type."""
    q, k, v = (x.flatten(1, 2).transpose(1, 2) for x in (query, key, value))
    scores = q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])
    scores = scores.masked_fill(~window_mask(grid, window, query.device), -math.inf)
    return (torch.softmax(scores, dim=-1) @ v).transpose(1, 2).reshape(query.shape)


def window_mask(
    grid: tuple[int, int, int], window: tuple[int, int] = WINDOW, device: torch.device | str = "cpu"
) -> torch.Tensor:
    """(3L, 3L) bool: whether the query token of a row may see the key token of a column."""
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
    """ValueError unless the grid has this many tokens and the window is odd."""
    if math.prod(grid) != length:
        raise ValueError(f"a grid of {tuple(grid)} has {math.prod(grid)} tokens, not {length}")
    if len(window) != 2 or any(n < 1 or n % 2 == 0 for n in window):
        raise ValueError(f"window {tuple(window)} is not two odd numbers (times, lines)")


def across_tiles(capability: tuple[int, int], dim: int) -> tuple[int, int, int, int, bool]:
    """As `vera.kernels.flash.tiles`, for the second pass: its masks leave older cards fewer registers."""
    return tiles(capability, dim) if capability[0] == 9 else (128, 32, 8, 3, False)


def key_tiles(
    grid: tuple[int, int, int], window: tuple[int, int], block_m: int, block_n: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """First keys of the tiles that each tile of queries walks in the other layers.

    Returns (starts, counts): int32 (3 * tiles of a layer, longest list) and (3 * tiles,),
    joint positions in 0 .. 3L. A tile begins where the window does, at the start of a
    line of one frame, and may reach past it: the mask trims it.
    """
    times, lines, width = grid
    frame, length = lines * width, math.prod(grid)
    local = []
    for first in range(0, length, block_m):
        last = min(first + block_m, length) - 1
        # Lines of the tile's queries, all of them once the tile reaches into a second frame.
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
    return tuple(x.to(device) for x in key_tiles(grid, window, block_m, block_n))


@torch.library.custom_op("vera::windowed_attention", mutates_args=())
def _attend(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, grid: list[int], window: list[int]
) -> torch.Tensor:
    query, key, value = (x.contiguous() for x in (query, key, value))
    batch, layers, length, heads, dim = query.shape
    within, lse = flash_attention(*(x.reshape(batch * layers, 1, length, heads, dim) for x in (query, key, value)))
    capability = torch.cuda.get_device_capability(query.device) if query.is_cuda else (9, 0)
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
    """Goes on from attention within the layer: `within` (3B, L, H, K) and its lse (3B, H, L)."""
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

    # What each query sees of a frame within reach: a run of whole lines.
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
