import random

import pytest
import torch
import torch.nn.functional as F

from tests.kernels import truth
from vera.kernels.flash import flash_attention
from vera.kernels.joint_attention import joint_attention
from vera.kernels.language import interpreting

torch.set_num_threads(1)


def torch_attention(query, key, value):
    q, k, v = (x.flatten(1, 2).transpose(1, 2) for x in (query, key, value))
    return F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(query.shape)


def check(query, key, value):
    """At most twice the error of torch's own attention in the same type."""
    wanted, wanted_lse = truth.attention(query, key, value)
    attended, lse = flash_attention(query, key, value)
    assert attended.dtype == query.dtype and attended.is_contiguous()
    small = 4 * torch.finfo(query.dtype).eps * wanted.abs().max().item() / 8
    assert truth.error(attended, wanted) <= 2 * truth.error(torch_attention(query, key, value), wanted) + small
    assert truth.error(lse, wanted_lse) <= 2e-5 * (1 + wanted_lse.abs().max().item())


def test_this_is_the_interpreter():
    assert interpreting()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize("shape", [(2, 3, 50, 2, 32), (1, 3, 128, 1, 64), (1, 3, 43, 2, 128)])
def test_error_is_at_most_twice_torchs(dtype, shape):
    check(*truth.inputs(shape, dtype))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_sharp_attention(dtype):
    check(*truth.inputs((1, 3, 50, 2, 32), dtype, sharpness=8.0))


def test_any_length():
    draw = random.Random(5)
    for length in [1, 2, *(draw.randrange(3, 90) for _ in range(4))]:
        check(*truth.inputs((1, 3, length, draw.randrange(1, 4), 32), torch.float32, seed=length))


def test_keys_past_the_end_have_no_weight():
    # Every real score is about -170, a zero-filled key's is 0: unmasked, it would take all the weight.
    query, key, value = truth.inputs((1, 3, 45, 1, 32), torch.float32)
    check(query * 0.1 + 5.5, key * 0.1 - 5.5, value)


def test_inputs_that_are_not_contiguous():
    wide = truth.inputs((1, 3, 40, 2, 64), torch.float32)
    check(*(x[..., ::2] for x in wide))


def test_joint_attention_can_be_forced_to_it():
    query, key, value = truth.inputs((1, 3, 20, 2, 32), torch.float32)
    forced = joint_attention(query, key, value, kind="triton")
    assert torch.equal(forced, flash_attention(query, key, value)[0])
    with pytest.raises(ValueError, match="no backward"):
        joint_attention(query.requires_grad_(), key, value, kind="triton")
