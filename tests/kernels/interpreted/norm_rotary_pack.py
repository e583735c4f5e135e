import pytest
import torch

from tests.kernels import truth
from tests.kernels.packing import exact, packing_inputs
from vera.kernels.norm_rotary_pack import norm_rotary_pack, norm_rotary_pack_reference

torch.set_num_threads(1)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize("batch, length, heads, dim", [(2, 7, 6, 32), (1, 3, 12, 128), (1, 1, 2, 20)])
def test_error_is_at_most_twice_the_references(dtype, batch, length, heads, dim):
    given = packing_inputs(batch, length, heads, dim, dtype)
    for result, reference, wanted in zip(norm_rotary_pack(*given), norm_rotary_pack_reference(*given), exact(*given)):
        assert result.dtype == dtype and result.shape == (batch, 3, length, heads, dim)
        small = torch.finfo(torch.float32).eps * wanted.abs().max().item()
        assert truth.error(result, wanted) <= 2 * truth.error(reference, wanted) + small


def test_small_rows_keep_their_epsilon():
    given = packing_inputs(1, 3, 2, 32, torch.float32, scale=1e-3)
    for result, wanted in zip(norm_rotary_pack(*given), exact(*given)):
        assert truth.error(result, wanted) < 2e-6


def test_projections_that_are_not_contiguous():
    given = packing_inputs(1, 4, 2, 64, torch.float32)
    query, key, query_weight, key_weight, cos, sin, _, eps = given
    query, key, query_weight, key_weight = ([x[..., ::2] for x in part] for part in given[:4])
    given = (query, key, query_weight, key_weight, cos[:, ::2], sin[:, ::2], 2, eps)
    for result, wanted in zip(norm_rotary_pack(*given), exact(*given)):
        assert truth.error(result, wanted) < 2e-6


def gradients(results, given):
    """Of all projections and norm weights, under one fixed random gradient of each result, in fp64."""
    generator = torch.Generator().manual_seed(7)
    weights = [torch.randn(r.shape, generator=generator, dtype=torch.float64).to(r.dtype) for r in results]
    return torch.autograd.grad(results, [x for part in given[:4] for x in part], weights)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_errors_of_the_gradients_are_at_most_twice_the_references(dtype):
    given = packing_inputs(2, 3, 2, 32, dtype)
    wide = [[x.double().requires_grad_() for x in part] for part in given[:4]]
    given = [*([x.requires_grad_() for x in part] for part in given[:4]), *given[4:]]
    wanted = gradients(exact(*wide, *given[4:]), wide)
    found, plain = (gradients(run(*given), given) for run in (norm_rotary_pack, norm_rotary_pack_reference))
    for result, reference, truly in zip(found, plain, wanted):
        assert result.dtype == dtype
        small = 4 * torch.finfo(torch.float32).eps * truly.abs().max().item()
        assert truth.error(result, truly) <= 2 * truth.error(reference, truly) + small
