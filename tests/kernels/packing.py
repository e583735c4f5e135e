"""Inputs and fp64 truth for the packing of query and key."""

import torch

EPS = 1e-6


def packing_inputs(batch, length, heads, dim, dtype, scale=1.0, device="cpu"):
    """Arguments of `norm_rotary_pack`: six projections, six different weights, a table of random angles."""
    generator = torch.Generator().manual_seed(3)

    def draw(*shape):
        return torch.randn(shape, generator=generator)

    query, key = ([(scale * draw(batch, length, heads * dim)).to(device, dtype) for _ in range(3)] for _ in range(2))
    weights = [[(1 + 0.5 * draw(heads * dim)).to(device, dtype) for _ in range(3)] for _ in range(2)]
    angles = 10 * draw(length, dim // 2).to(device)
    return query, key, *weights, angles.cos(), angles.sin(), heads, EPS


def exact(query, key, query_weight, key_weight, cos, sin, heads, eps):
    """The same in fp64, the rotation as a product of complex numbers."""
    turn = torch.complex(cos.double(), sin.double())[:, None]
    joint = []
    for rows, weights in ((query, query_weight), (key, key_weight)):
        slices = []
        for x, weight in zip(rows, weights):
            x = x.double()
            x = x / torch.sqrt((x * x).mean(-1, keepdim=True) + eps) * weight.double()
            pairs = torch.view_as_complex(x.unflatten(-1, (heads, -1, 2)).contiguous())
            slices.append(torch.view_as_real(pairs * turn).flatten(-2))
        joint.append(torch.stack(slices, dim=1))
    return joint
