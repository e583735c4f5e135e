from functools import partial

import pytest
import torch
from torch.utils.checkpoint import checkpoint, create_selective_checkpoint_contexts

from tests.kernels import truth
from tests.kernels.packing import exact, packing_inputs
from vera.kernels.norm_rotary_pack import can_pack, norm_rotary_pack, norm_rotary_pack_reference


def test_reference_is_the_complex_product_in_float64():
    given = packing_inputs(2, 11, 6, 32, torch.float32)
    for reference, wanted in zip(norm_rotary_pack_reference(*given), exact(*given)):
        assert 0 < truth.error(reference, wanted) < 4e-6


def test_without_a_gpu_it_is_the_reference():
    given = packing_inputs(1, 5, 2, 32, torch.bfloat16)
    for result, reference in zip(norm_rotary_pack(*given), norm_rotary_pack_reference(*given)):
        assert torch.equal(result, reference)


def test_the_kernel_is_not_for_the_cpu():
    assert not can_pack(torch.zeros(1, 3, 4, 8))


def operator(tensors, rotary, heads, eps, run=torch.ops.vera.norm_rotary_pack):
    """The custom operator with its tensors as one list: three of each of query, key and their weights."""
    return run(*(list(tensors[i : i + 3]) for i in range(0, 12, 3)), *rotary, heads, eps)


def leaves(dtype, batch=2, length=3, heads=2, dim=6):
    """(twelve tensors that want a gradient, the rotary table, heads, eps)."""
    *parts, cos, sin, heads, eps = packing_inputs(batch, length, heads, dim, dtype)
    tensors = [x.requires_grad_() for part in parts for x in part]
    return tensors, (cos.to(dtype), sin.to(dtype)), heads, eps


def gradients(results, tensors):
    """Gradients of both results under one fixed random gradient each."""
    generator = torch.Generator().manual_seed(7)
    weights = [torch.randn(r.shape, generator=generator, dtype=torch.float64).to(r.dtype) for r in results]
    return torch.autograd.grad(results, tensors, weights)


def test_backward_is_the_numeric_gradient_in_float64():
    tensors, *given = leaves(torch.float64, batch=1, length=2, dim=4)
    assert torch.autograd.gradcheck(lambda *x: operator(x, *given), tensors)


def test_backward_is_that_of_plain_torch_in_float64():
    tensors, *given = leaves(torch.float64)
    found = gradients(operator(tensors, *given), tensors)
    wanted = gradients(operator(tensors, *given, run=norm_rotary_pack_reference), tensors)
    assert max(truth.error(a, b) for a, b in zip(found, wanted)) < 1e-12


@pytest.mark.parametrize("keep", [False, True])
def test_checkpointing_recomputes_it(keep):
    """Blocks are recomputed in training, as a whole or but for attention's results."""
    tensors, *given = leaves(torch.float32)
    wanted = gradients(operator(tensors, *given), tensors)
    options = {"context_fn": partial(create_selective_checkpoint_contexts, [])} if keep else {}
    results = checkpoint(lambda *x: operator(x, *given), *tensors, use_reentrant=False, **options)
    assert all(torch.equal(a, b) for a, b in zip(gradients(results, tensors), wanted))


def test_only_the_inputs_are_kept_for_the_backward():
    """Projections and weights, which others hold anyway, and the table: no fp32 copy."""
    tensors, rotary, *given = leaves(torch.bfloat16)
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda x: kept.append(x.data_ptr()) or x, lambda x: x):
        operator(tensors, rotary, *given)
    assert set(kept) == {x.data_ptr() for x in (*tensors, *rotary)}
