"""Mini's compositing of latents: what its layers compose is where its composite begins."""

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

RIDGE = 1e-4  # of the mean square of what is fitted with, added to each; higher: smaller weights


class Blend(nn.Module):
    """forward(source, edit, alpha): latents (B, C, T, H, W) of a plate, a layer's straight colour and its alpha ->
    those
    of the layer over the plate, fp32.

    A codec whose cells are linear in their latents composes bilinearly: source + sum of weight[k, i, j] alpha_i
    (edit - source)_j, with a constant after alpha's channels; another codec does so nearly. Zeros before `fit`: the
    plate.
    """

    def __init__(self, channels: int):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(channels, channels + 1, channels))

    def forward(self, source: Tensor, edit: Tensor, alpha: Tensor) -> Tensor:
        source, edit, alpha = (x.float().movedim(1, -1) for x in (source, edit, alpha))
        return (source + pairs(source, edit, alpha) @ self.weight.float().flatten(1).T).movedim(-1, 1)

    @torch.no_grad()
    def fit(self, examples: Iterable[Sequence[Tensor]]) -> None:
        """Least squares, from latents (B, C, T, H, W) of source, edit, alpha and their composite, set after
        set of them."""
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
    """(..., C) each -> (..., (C + 1) C): alpha's channels and a constant, each times each channel of what the edit
    changes."""
    alpha = torch.cat([alpha, torch.ones_like(alpha[..., :1])], dim=-1)
    return torch.einsum("...i,...j->...ij", alpha, edit - source).flatten(-2)
