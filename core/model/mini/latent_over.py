"""Composite mini's layers in latent space, as the baseline of its composite."""

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

from vera.core.model.mini.mini_codec import CELL, MiniCodec

RIDGE = 1e-4  # ridge of the fit, relative to the inputs' mean square; raising it gives smaller weights


class Blend(nn.Module):
    """forward(source, edit, alpha): latents of the layer over the plate, fp32, from latents (B, C, T, H, W) of the
    plate, the layer's straight colour and its alpha.

    With a codec whose cells are linear in their latents, compositing is bilinear: source + sum of weight[k, i, j]
    alpha_i (edit - source)_j, with a constant after alpha's channels. Other codecs are approximated by it. Before
    `fit` the weights are zero, and the result is the plate.

    coarse: leading channels that are composited so; None: all. The weights of further ones would be too many. These
    fine channels are composited in pixels: `alpha_pixels` and `pixels` decode, `fine` encodes, see `copy_codec`.
    """

    def __init__(self, channels: int, coarse: int | None = None):
        super().__init__()
        coarse = channels if coarse is None else coarse
        self.weight = nn.Parameter(torch.zeros(coarse, coarse + 1, coarse))
        if channels > coarse:
            self.alpha_pixels = nn.Parameter(torch.zeros(CELL // 3, channels + 1))
            self.pixels = nn.Parameter(torch.zeros(CELL, channels))
            self.fine = nn.Parameter(torch.zeros(channels - coarse, CELL))

    def forward(self, source: Tensor, edit: Tensor, alpha: Tensor) -> Tensor:
        source, edit, alpha = (x.float().movedim(1, -1) for x in (source, edit, alpha))
        coarse = self.weight.shape[0]
        composited = pairs(*(x[..., :coarse] for x in (source, edit, alpha))) @ self.weight.float().flatten(1).T
        if source.shape[-1] > coarse:
            covered = with_constant(alpha) @ self.alpha_pixels.float().T
            change = ((edit - source) @ self.pixels.float().T).unflatten(-1, (3, -1)) * covered[..., None, :]
            composited = torch.cat([composited, change.flatten(-2) @ self.fine.float().T], dim=-1)
        return (source + composited).movedim(-1, 1)

    @torch.no_grad()
    def copy_codec(self, codec: MiniCodec) -> None:
        """Take the fine channels' compositing from the linear part of this codec."""
        back, bias = codec.inverse.weight[:, :, 0, 0], codec.inverse.bias
        assert bias is not None
        # Cells are in [-1, 1] and alpha in [0, 1]; alpha is the mean of its three equal colours.
        alpha = torch.cat([back, bias[:, None] + 1], dim=1).unflatten(0, (3, -1)).mean(0) / 2
        self.alpha_pixels.copy_(alpha)
        self.pixels.copy_(back)
        self.fine.copy_(codec.encoder.weight[self.weight.shape[0] :, :, 0, 0])

    @torch.no_grad()
    def fit(self, examples: Iterable[Sequence[Tensor]]) -> None:
        """Fit by least squares. Each example has latents (B, C, T, H, W) of source, edit, alpha and their composite."""
        channels = self.weight.shape[0]
        square = torch.zeros(channels * (channels + 1), channels * (channels + 1), dtype=torch.float64)
        wanted = torch.zeros(channels * (channels + 1), channels, dtype=torch.float64)
        for latents in examples:
            source, edit, alpha, composite = (x[:, :channels].double().movedim(1, -1).flatten(0, 3) for x in latents)
            given = pairs(source, edit, alpha)
            square, wanted = square.to(given) + given.T @ given, wanted.to(given) + given.T @ (composite - source)
        ridge = RIDGE * square.diagonal().mean() * torch.eye(len(square), dtype=square.dtype, device=square.device)
        self.weight.copy_(torch.linalg.solve(square + ridge, wanted).T.unflatten(1, self.weight.shape[1:]))


def pairs(source: Tensor, edit: Tensor, alpha: Tensor) -> Tensor:
    """Products (..., (C + 1) C) of alpha's channels and a constant with each channel of edit - source; inputs (...,
    C)."""
    return torch.einsum("...i,...j->...ij", with_constant(alpha), edit - source).flatten(-2)


def with_constant(alpha: Tensor) -> Tensor:
    """Alpha's channels (..., C) and a constant 1, (..., C + 1)."""
    return torch.cat([alpha, torch.ones_like(alpha[..., :1])], dim=-1)
