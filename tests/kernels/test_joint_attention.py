import math

import pytest
import torch

from vera.kernels.joint_attention import joint_attention, joint_attention_reference


def qkv(dtype=torch.float64, shape=(2, 3, 5, 2, 8)):
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype) for _ in range(3)]


def by_tokens(query, key, value):
    """One output token after the other, in Python sums."""
    batch, layers, length, heads, dim = query.shape
    out = torch.zeros_like(query)
    everyone = [(layer, token) for layer in range(layers) for token in range(length)]
    for b in range(batch):
        for h in range(heads):
            for i, t in everyone:
                scores = [float(query[b, i, t, h] @ key[b, j, u, h]) / math.sqrt(dim) for j, u in everyone]
                weights = [math.exp(s - max(scores)) for s in scores]
                for w, (j, u) in zip(weights, everyone):
                    out[b, i, t, h] += w / sum(weights) * value[b, j, u, h]
    return out


def test_reference_is_the_sum_over_all_tokens_of_all_layers():
    q, k, v = qkv()
    torch.testing.assert_close(joint_attention_reference(q, k, v), by_tokens(q, k, v), rtol=0, atol=1e-13)


def test_fused_is_the_reference_in_float64():
    q, k, v = qkv(shape=(2, 3, 37, 4, 16))
    torch.testing.assert_close(joint_attention(q, k, v), joint_attention_reference(q, k, v), rtol=0, atol=1e-13)


@pytest.mark.parametrize("dtype, tolerance", [(torch.float32, 2e-6), (torch.bfloat16, 2e-2)])
def test_lower_precision_stays_near_float64(dtype, tolerance):
    q, k, v = qkv(dtype, shape=(1, 3, 37, 4, 16))
    truth = joint_attention_reference(q.double(), k.double(), v.double())
    error = (joint_attention(q, k, v).double() - truth).abs().max()
    assert 0 < error < tolerance
