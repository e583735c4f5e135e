"""Composite mini's layers in latent space, as the baseline of its composite."""

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

RIDGE = 1e-4  # ridge of the fit, relative to the inputs' mean square; raising it gives smaller weights


class Blend(nn.Module):
    """forward(source, edit, alpha): latents of the layer over the plate, fp32, from latents (B, C, T, H, W) of the
    plate, the layer's straight colour and its alpha.

    With a codec whose cells are linear in their latents, compositing is bilinear: source + sum of weight[k, i, j]
    alpha_i (edit - source)_j, with a constant after alpha's channels. Other codecs are approximated by it. Before
    `fit` the weights are zero, and the result is the plate.
    """

    def __init__(self, channels: int):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(channels, channels + 1, channels))

    def forward(self, source: Tensor, edit: Tensor, alpha: Tensor) -> Tensor:
        source, edit, alpha = (x.float().movedim(1, -1) for x in (source, edit, alpha))
        return (source + pairs(source, edit, alpha) @ self.weight.float().flatten(1).T).movedim(-1, 1)

    @torch.no_grad()
    def fit(self, examples: Iterable[Sequence[Tensor]]) -> None:
        """Fit by least squares. Each example has latents (B, C, T, H, W) of source, edit, alpha and their composite."""
        channels = self.weight.shape[0]
        square = torch.zeros(channels * (channels + 1), channels * (channels + 1), dtype=torch.float64)
        wanted = torch.zeros(channels * (channels + 1), channels, dtype=torch.float64)
        for latents in examples:
            source, edit, alpha, composite = (x.double().movedim(1, -1).flatten(0, 3) for x in latents)
            given = pairs(source, edit, alpha)
            square, wanted = square.to(given) + given.T @ given, wanted.to(given) + given.T @ (composite - source)
        ridge = RIDGE * square.diagonal().mean() * torch.eye(len(square), dtype=square.dtype, device=square.device)
        self.weight.copy_(torch.linalg.solve(square + ridge, wanted).T.unflatten(1, self.weight.shape[1:]))


def pairs(source: Tensor, edit: Tensor, alpha: Tensor) -> Tensor:
    """Products (..., (C + 1) C) of alpha's channels and a constant with each channel of edit - source; inputs (...,
    C)."""
    alpha = torch.cat([alpha, torch.ones_like(alpha[..., :1])], dim=-1)
    return torch.einsum("...i,...j->...ij", alpha, edit - source).flatten(-2)
