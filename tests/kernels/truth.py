"""fp64 truth and inputs that the tests of joint attention share."""

import math

import torch


def inputs(shape, dtype, seed=0, sharpness=1.0):
    """Query, key and value of a shape; sharpness scales the queries, so that few keys take the weight."""
    generator = torch.Generator().manual_seed(seed)
    query, key, value = (torch.randn(shape, generator=generator, dtype=torch.float64) for _ in range(3))
    return [x.to(dtype) for x in (query * sharpness, key, value)]


def attention(query, key, value, allowed=None):
    """(attended, log-sum-exp (B, H, 3L)) in fp64; allowed (3L, 3L) says which key a query may see."""
    q, k, v = (x.double().flatten(1, 2).transpose(1, 2) for x in (query, key, value))
    scores = q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])
    if allowed is not None:
        scores = scores.masked_fill(~allowed, -math.inf)
    attended = (torch.softmax(scores, dim=-1) @ v).transpose(1, 2).reshape(query.shape)
    return attended, torch.logsumexp(scores, dim=-1)


def error(result, truth):
    return (result.double() - truth).abs().max().item()
