"""Mini's compositing of latents: what its layers compose is where its composite begins."""

import torch
from torch import nn


class Blend(nn.Module):
    """forward(source, edit, alpha): latents (B, C, T, H, W) of a plate, a layer's straight colour and its alpha -> those
    of the layer over the plate, fp32.

    A codec whose cells are linear in their latents composes bilinearly: source + sum of weight[k, i, j] alpha_i
    (edit - source)_j, with a constant after alpha's channels. Zeros before `fit`: the plate.
    """

    def __init__(self, channels: int):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(channels, channels + 1, channels))

    def forward(self, source, edit, alpha):
        source, edit, alpha = (x.float().movedim(1, -1) for x in (source, edit, alpha))
        alpha = torch.cat([alpha, torch.ones_like(alpha[..., :1])], dim=-1)
        pairs = torch.einsum("...i,...j->...ij", alpha, edit - source).flatten(-2)
        return (source + pairs @ self.weight.float().flatten(1).T).movedim(-1, 1)

    @torch.no_grad()
    def fit(self, encoder, inverse):
        """From a codec's linear parts: latents = encoder(cell), cell = inverse(latents), 1x1 convolutions of cells in [-1, 1]
        whose first third is red, then green, then blue."""
        into, back = (m.weight.flatten(1).double() for m in (encoder, inverse))
        # Alpha of each pixel, 0 to 1, the mean of its three colours: linear in alpha's latents, and a constant.
        shares = torch.cat([back, inverse.bias.double()[:, None] + 1], dim=1) / 2
        shares = shares.unflatten(0, (3, -1)).mean(0).repeat(3, 1)
        self.weight.copy_(torch.einsum("kp,pi,pj->kij", into, shares, back))
