import pytest
import torch

from tests.kernels import truth
from vera.kernels import int8

torch.set_num_threads(1)


@pytest.mark.parametrize("length", [50, 128])
@pytest.mark.parametrize("group", [int8.QUERY_GROUP, int8.KEY_GROUP])
def test_quantising_is_the_references(length, group):
    _, key, _ = truth.inputs((2, 3, length, 2, 32), torch.float32)
    mean = int8.key_mean(key + 2)
    whole, scale = int8.quantise(key + 2, mean, group)
    wanted, wanted_scale = int8.quantise_reference(key + 2 - mean[:, None, None], group)
    torch.testing.assert_close(scale, wanted_scale, rtol=1e-6, atol=0)
    apart = (whole.int() - wanted.int()).abs()
    assert apart.max() <= 1 and apart.float().mean() < 1e-3  # a step may fall on either side


@pytest.mark.parametrize("dim, length", [(32, 50), (64, 128), (128, 43)])
def test_attention_is_the_references(dim, length):
    given = truth.inputs((1, 3, length, 2, dim), torch.float16, sharpness=2.0)
    wanted = int8.int8_attention_reference(*(x.float() for x in given))
    torch.testing.assert_close(int8.int8_attention(*given).float(), wanted, rtol=0, atol=3e-3)


def test_attention_is_within_the_gate():
    query, key, value = truth.inputs((1, 3, 100, 2, 64), torch.float16, sharpness=2.0)
    error = int8.quantisation_error(query, key + 3 * key[:, :1, :1], value)
    assert error.passes, str(error)


def test_keys_past_the_end_have_no_weight():
    query, key, value = truth.inputs((1, 3, 45, 1, 32), torch.float16)
    given = (query * 0.1 + 5.5, key * 0.1, value)
    wanted = int8.int8_attention_reference(*(x.float() for x in given))
    torch.testing.assert_close(int8.int8_attention(*given).float(), wanted, rtol=0, atol=3e-3)
