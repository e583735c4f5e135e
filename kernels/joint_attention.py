"""Joint attention over the three layers: every token sees every token of every layer.

Layout: (B, 3, L, H, K) for query, key and value: batch, layer (edit, alpha,
composite), tokens of one layer, heads, head dimension. The attention itself
runs over the 3L tokens of one sample, dense and bidirectional.
"""

import math

import torch
import torch.nn.functional as F


def joint_attention_reference(query, key, value):
    """softmax(Q K^T / sqrt(K)) V, written out; the truth for every other path.

    Shapes (B, 3, L, H, K) in, the same out, computed in the inputs' own type.
    """
    b, layers, length, heads, dim = query.shape
    q, k, v = (x.reshape(b, layers * length, heads, dim).transpose(1, 2) for x in (query, key, value))
    weights = torch.softmax(q @ k.transpose(-1, -2) / math.sqrt(dim), dim=-1)
    return (weights @ v).transpose(1, 2).reshape(b, layers, length, heads, dim)


def joint_attention(query, key, value):
    """The same through torch's fused attention. Shapes (B, 3, L, H, K) in and out."""
    if query.device.type == "cpu" and query.requires_grad:
        return joint_attention_reference(query, key, value)  # the fused backward is slower on a CPU
    b, layers, length, heads, dim = query.shape
    q, k, v = (x.reshape(b, layers * length, heads, dim).transpose(1, 2) for x in (query, key, value))
    out = F.scaled_dot_product_attention(q, k, v)
    return out.transpose(1, 2).reshape(b, layers, length, heads, dim)
