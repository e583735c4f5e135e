import pytest
import torch

from tests.kernels import truth
from vera.kernels.windowed import window_mask, windowed_attention, windowed_attention_reference

torch.set_num_threads(1)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize(
    "grid, window",
    [
        ((3, 5, 7), (1, 3)),  # ragged everywhere, tiles across frames
        ((5, 9, 4), (3, 5)),  # more than one tile of queries a layer
        ((2, 12, 8), (3, 1)),
        ((4, 3, 11), (9, 9)),  # the window holds the whole clip: dense attention
        ((1, 1, 1), (1, 1)),
    ],
)
def test_is_dense_attention_under_the_mask(grid, window, dtype):
    length = grid[0] * grid[1] * grid[2]
    given = truth.inputs((2 if length < 128 else 1, 3, length, 1, 32), dtype, seed=length, sharpness=2.0)
    wanted, _ = truth.attention(*given, allowed=window_mask(grid, window))
    result = windowed_attention(*given, grid, window)
    baseline = windowed_attention_reference(*given, grid, window)
    small = torch.finfo(dtype).eps * wanted.abs().max().item()
    assert truth.error(result, wanted) <= 2 * truth.error(baseline, wanted) + small


def test_weight_across_layers_may_be_all_or_nothing():
    # Keys of the own layer far below, then far above, those of the others.
    query, key, value = truth.inputs((1, 3, 2 * 4 * 5, 1, 32), torch.float32)
    query = query * 0.1 + 2
    for shift in (-3.0, 3.0):
        key[:, 1] += shift
        wanted, _ = truth.attention(query, key, value, allowed=window_mask((2, 4, 5), (1, 3)))
        assert truth.error(windowed_attention(query, key, value, (2, 4, 5), (1, 3)), wanted) < 2e-5
