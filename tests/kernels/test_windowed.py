import math

import pytest
import torch

from tests.kernels import truth
from vera.kernels.windowed import (
    FLEX_BLOCK,
    default_kind,
    flex_mask,
    kept_share,
    key_tiles,
    window_mask,
    window_rule,
    windowed_attention,
    windowed_attention_reference,
)

GRIDS = [((3, 5, 7), (1, 3)), ((5, 9, 4), (3, 5)), ((2, 12, 8), (3, 1)), ((4, 3, 11), (9, 9)), ((1, 1, 1), (1, 1))]


def sees(grid, window, query, key):
    """Whether one joint position sees another, spelled out."""
    (ql, qt, qh), (kl, kt, kh) = (
        (i // math.prod(grid), i % math.prod(grid) // (grid[1] * grid[2]), i % (grid[1] * grid[2]) // grid[2])
        for i in (query, key)
    )
    return ql == kl or (abs(qt - kt) <= window[0] // 2 and abs(qh - kh) <= window[1] // 2)


@pytest.mark.parametrize("grid, window", GRIDS[:2])
def test_the_mask_is_the_window_spelled_out(grid, window):
    tokens = 3 * math.prod(grid)
    wanted = torch.tensor([[sees(grid, window, i, j) for j in range(tokens)] for i in range(tokens)])
    assert torch.equal(window_mask(grid, window), wanted)


@pytest.mark.parametrize("grid, window", GRIDS)
@pytest.mark.parametrize("block_m, block_n", [(16, 8), (128, 64)])
def test_the_tiles_hold_each_key_in_the_window_once(grid, window, block_m, block_n):
    length, frame = math.prod(grid), grid[1] * grid[2]
    starts, counts = key_tiles(grid, window, block_m, block_n)
    per_layer = -(-length // block_m)
    assert starts.shape[0] == counts.shape[0] == 3 * per_layer
    mask = window_mask(grid, window)
    for tile in range(3 * per_layer):
        layer, first = tile // per_layer, tile % per_layer * block_m
        walked = []
        for start in starts[tile, : counts[tile]].tolist():
            end_of_frame = start - start % length % frame + frame
            walked += range(start, min(start + block_n, end_of_frame))
        assert len(walked) == len(set(walked))
        assert not any(key // length == layer for key in walked)
        rows = slice(layer * length + first, layer * length + min(first + block_m, length))
        wanted = mask[rows].any(0)
        wanted[layer * length : (layer + 1) * length] = False
        assert set(wanted.nonzero().flatten().tolist()) <= set(walked)


@pytest.mark.parametrize("grid, window", GRIDS)
def test_kept_share_is_the_masks_mean(grid, window):
    assert kept_share(grid, window) == pytest.approx(window_mask(grid, window).double().mean().item(), rel=1e-12)


def test_a_full_size_clip_keeps_about_three_eighths():
    grid = (21, 30, 52)
    assert 0.36 < kept_share(grid) < 0.37
    starts, counts = key_tiles(grid, (3, 11), 128, 128)
    length = math.prod(grid)
    walked = 128 * 128 * (counts.sum().item() + 3 * math.ceil(length / 128) ** 2) / (3 * length) ** 2
    assert kept_share(grid) < walked < 0.39


def test_reference_is_float64_attention_under_the_mask():
    given = truth.inputs((2, 3, 24, 2, 8), torch.float64)
    wanted, _ = truth.attention(*given, allowed=window_mask((2, 3, 4), (1, 1)))
    assert truth.error(windowed_attention(*given, (2, 3, 4), (1, 1)), wanted) < 1e-13
    assert truth.error(windowed_attention_reference(*given, (2, 3, 4), (3, 5)), truth.attention(*given)[0]) < 1e-13


@pytest.mark.parametrize(
    "grid, window, message",
    [((2, 3, 5), (3, 3), "30 tokens, not 24"), ((2, 3, 4), (2, 3), "odd"), ((2, 3, 4), (3, 3, 3), "two odd numbers")],
)
def test_a_grid_or_window_that_does_not_fit_is_refused(grid, window, message):
    given = truth.inputs((1, 3, 24, 1, 8), torch.float32)
    with pytest.raises(ValueError, match=message):
        windowed_attention(*given, grid, window)


@pytest.mark.parametrize("grid, window", GRIDS)
def test_the_rule_for_flex_attention_is_the_mask(grid, window):
    tokens = torch.arange(3 * math.prod(grid))
    assert torch.equal(window_rule(grid, window)(None, None, tokens[:, None], tokens), window_mask(grid, window))


@pytest.mark.parametrize("grid, window", [((5, 9, 4), (3, 5)), ((2, 12, 16), (1, 3)), ((2, 16, 16), (1, 3))])
def test_the_blocks_for_flex_attention_are_the_masks(grid, window):
    """Blocks without a pair are left out; a full one, which is not masked, holds all pairs."""
    made, mask = flex_mask(grid, window, torch.device("cpu")), window_mask(grid, window)
    blocks = -(-len(mask) // FLEX_BLOCK)
    padded = torch.zeros(blocks * FLEX_BLOCK, blocks * FLEX_BLOCK, dtype=torch.bool)
    padded[: len(mask), : len(mask)] = mask
    pairs = padded.unflatten(1, (blocks, -1)).unflatten(0, (blocks, -1)).sum((1, 3))
    for listed, wanted in (
        ((made.kv_num_blocks, made.kv_indices), (pairs > 0) & (pairs < FLEX_BLOCK**2)),
        ((made.full_kv_num_blocks, made.full_kv_indices), pairs == FLEX_BLOCK**2),
    ):
        counts, columns = (x[0, 0].tolist() for x in listed)
        assert [row[:n] for row, n in zip(columns, counts)] == [row.nonzero().flatten().tolist() for row in wanted]


def test_flex_attention_and_its_gradients_are_those_of_the_reference(monkeypatch):
    """In fp64. torch refuses flex_attention's gradients on a CPU, though its uncompiled form has them."""
    monkeypatch.setattr("torch.nn.attention.flex_attention._validate_device", lambda *tensors: None)
    grid, window = (3, 5, 12), (1, 3)  # 540 tokens: several blocks, the last one not whole
    given = [x.requires_grad_() for x in truth.inputs((2, 3, math.prod(grid), 2, 8), torch.float64)]
    found, wanted = (windowed_attention(*given, grid, window, kind) for kind in ("flex", "reference"))
    assert truth.error(found, wanted) < 1e-13
    change = torch.randn(found.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(5))
    pairs = zip(*(torch.autograd.grad(result, given, change) for result in (found, wanted)))
    assert max(truth.error(a, b) for a, b in pairs) < 1e-13


def test_flex_attention_is_for_gradients_on_cuda_and_kinds_have_names():
    given = truth.inputs((1, 3, 24, 1, 8), torch.float32)
    assert default_kind(*given) == default_kind(*(x.requires_grad_() for x in given)) == "reference"
    on_cuda = type("OnCuda", (), {"is_cuda": True, "requires_grad": True, "device": given[0].device})()
    on_cuda.dtype, on_cuda.shape = torch.bfloat16, given[0].shape
    assert default_kind(on_cuda, on_cuda, on_cuda) == "flex"
    with pytest.raises(ValueError, match="unknown windowed attention 'fast'"):
        windowed_attention(*given, (2, 3, 4), (1, 1), "fast")
