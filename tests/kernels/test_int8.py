import torch

from tests.kernels import truth
from vera.kernels import int8


def test_quantising_is_within_half_a_step_of_each_group():
    x = truth.inputs((2, 3, 37, 2, 16), torch.float32)[0]
    x[:, 2] *= 50  # later groups are louder; the first keep their own scale
    whole, scale = int8.quantise_reference(x, 64)
    assert whole.dtype == torch.int8 and scale.shape == (2, 2, 2)
    step = int8.spread(scale, 111, 64)
    apart = (whole.float() * step - x.flatten(1, 2)).abs()
    assert (apart <= step * 0.5001).all()
    assert whole.abs().max() == 127
    assert scale[:, :, 0].max() * 10 < scale[:, :, 1].min()


def test_groups_of_zeros_stay_zero():
    whole, scale = int8.quantise_reference(torch.zeros(1, 3, 5, 1, 8), 64)
    assert not whole.any() and (scale > 0).all()


def test_error_is_small_and_the_common_part_of_the_keys_costs_nothing():
    query, key, value = truth.inputs((1, 3, 100, 2, 64), torch.float32, sharpness=3.0)
    plain = int8.quantisation_error(query, key, value)
    assert plain.passes, str(plain)
    common = 20 * torch.randn(64, generator=torch.Generator().manual_seed(2))
    assert abs(int8.quantisation_error(query, key + common, value).relative_l1 - plain.relative_l1) < 0.002


def test_the_mean_is_over_all_layers():
    # The composite layer's keys lie apart from the others': taking a mean for each
    # layer would lose that and change every weight.
    query, key, value = truth.inputs((1, 3, 64, 1, 32), torch.float32)
    key[:, 2] += 0.5
    assert torch.allclose(int8.key_mean(key)[0, 0], key.flatten(1, 2).mean(1)[0, 0], atol=1e-6)
    found = int8.int8_attention(query, key, value)
    wanted = truth.attention(query, key, value)[0]
    assert truth.error(found, wanted) < 0.02
    by_layer = truth.attention(query, key - key.mean(2, keepdim=True), value)[0]
    assert truth.error(by_layer, wanted) > 0.1


def test_the_gate_fails_what_is_too_coarse():
    assert not int8.QuantisationError(0.9989, 0.01).passes
    assert not int8.QuantisationError(0.9999, 0.031).passes
    assert "outside" in str(int8.QuantisationError(0.99, 0.1))
    assert "within" in str(int8.QuantisationError(0.9999, 0.01))


def test_gradients_take_the_reference():
    query, key, value = truth.inputs((1, 3, 9, 1, 32), torch.float32)
    int8.int8_attention(query, key, value.requires_grad_()).sum().backward()
    assert value.grad.abs().sum() > 0
