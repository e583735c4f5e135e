"""The losses of mini's training: flow matching of the three layers, and the drawing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F

from vera.core.training.mini.aim import aim_error
from vera.core.training.mini.codec_training import FRAMES, layers_of

if TYPE_CHECKING:
    from vera.core.model.codec import WanCodec
    from vera.core.model.mini.drawing import Drawing
    from vera.core.model.mini.mini_codec import MiniCodec
    from vera.core.model.mini.mini_transformer import MiniTransformer
    from vera.core.model.mini.shot import MiniShot

# Noise level below which the loss weight 1 / level^2 stops growing; lowering it gives fine detail more weight.
MIN_WEIGHTED_LEVEL = 0.4
# Weight of an edit-branch error where alpha is 0, against 1 where alpha is 1; raising it trains hidden colour more.
HIDDEN_WEIGHT = 0.2
DRAWN_SHARE = 3  # one cell in this many is drawn in a training step; raising it is faster and noisier


@dataclass(frozen=True)
class EncodedClips:
    """What a training step reads about its clips.

    states: (B, N, D), of the instructions; those of a dropped one are 0
    latents, seen: from `latents_of`
    shot: conditioning, with the true paths
    """

    states: torch.Tensor | None
    latents: torch.Tensor
    seen: torch.Tensor
    shot: MiniShot | None


def flow_loss(
    transformer: MiniTransformer, clips: EncodedClips, with_mask: bool, shift: float, scale: torch.Tensor
) -> torch.Tensor:
    """Weighted mean squared error of the predicted velocity per branch, (3,).

    shift: of the noise levels. scale (C,): weight of each channel's error, see `pixel_scale`.
    An error counts 1 at noise levels from MIN_WEIGHTED_LEVEL up and less below, in proportion to the level squared.
    In the edit branch, errors under alpha 0 count HIDDEN_WEIGHT. Noise levels are stratified over the batch.
    """
    latents, seen = clips.latents, clips.seen
    source, clean, mask = latents[:, 0], latents[:, 1:4], latents[:, 4]
    sigma = noise_levels(len(latents), shift).to(latents.device)
    noise = torch.randn_like(clean)
    s = sigma[:, None, None, None, None, None]
    noisy = (1 - s) * clean + s * noise
    velocity = transformer(noisy, sigma * 1000, clips.states, source, mask if with_mask else None, clips.shot)
    s = s[:, 0]
    error = (velocity.float() - (noise - clean)) * scale.view(1, 1, -1, 1, 1, 1)
    error = error.pow(2).mean(2) * (s / s.clamp_min(MIN_WEIGHTED_LEVEL)) ** 2
    visible = visible_weight(seen)
    weight = torch.stack([visible / visible.mean(), torch.ones_like(seen), torch.ones_like(seen)], dim=1)
    return (error * weight).mean((0, 2, 3, 4))


def noise_levels(count: int, shift: float) -> torch.Tensor:
    """Random noise levels (count,) in 0 .. 1, one in each of as many equal parts, after a shift as a sampler's."""
    u = (torch.arange(count) + torch.rand(count)) / count
    return shift * u / (1 + (shift - 1) * u)


def visible_weight(alpha: torch.Tensor) -> torch.Tensor:
    """Weight of an error in the edit branch: from HIDDEN_WEIGHT at alpha 0 to 1 at alpha 1."""
    return HIDDEN_WEIGHT + (1 - HIDDEN_WEIGHT) * alpha


def drawing_losses(drawing: Drawing, clips: EncodedClips, with_mask: bool, scale: torch.Tensor) -> torch.Tensor:
    """Errors (2,): of the drawing around the true path, and of the path that the mask aims at (0 without a mask).

    scale: as in `flow_loss`. The drawing's error is the root mean square per clip, so that clips with vague
    instructions do not dominate the loss. One cell in DRAWN_SHARE is drawn, preferring those near the layer. Clips
    whose text was dropped do not count.
    """
    states, latents, seen, shot = clips.states, clips.latents, clips.seen, clips.shot
    assert states is not None and shot is not None and shot.path is not None
    progress, path, mask = shot.progress, shot.path, latents[:, 4] if with_mask else None
    has_text = (states != 0).flatten(1).any(1)
    near = F.max_pool3d(seen, (1, 3, 3), 1, (0, 1, 1)).flatten(1)
    cells = (torch.rand_like(near) + near).topk(near.shape[1] // DRAWN_SHARE).indices
    drawn = drawing(states, mask, progress, latents.shape[-3:], path, cells)
    wanted = latents[:, 1:3].flatten(3).gather(3, cells[:, None, None].expand(-1, *drawn.shape[1:3], -1))
    error = ((drawn - wanted) * scale.view(1, 1, -1, 1)).pow(2).mean(2)
    visible = visible_weight(seen.flatten(1).gather(1, cells))
    weight = torch.stack([visible / visible.mean(), torch.ones_like(visible)], dim=1) * has_text.view(-1, 1, 1)
    error = ((error * weight).mean((1, 2)) + 1e-4).sqrt().mean()
    if mask is None:
        return torch.stack([error, error.new_zeros(())])
    aspect = latents.shape[-1] / latents.shape[-2]
    return torch.stack([error, aim_error(drawing.aim.path(states, mask, progress, aspect), path, has_text)])


@torch.no_grad()
def pixel_scale(codec: MiniCodec | WanCodec, std: float, step: float = 0.1) -> torch.Tensor:
    """Weights (C,) that convert errors of latents into errors of pixels; their root mean square is 1 / std.

    Measured by adding `step` to each channel of a clip's latents. Position is carried by mini's coarsest latent
    channel; without this weighting the fine channels dominate the loss.
    """
    device = next(codec.parameters()).device
    latents = codec.encode(layers_of(0, 80).to(device))
    steps = step * torch.eye(latents.shape[1], device=device).view(latents.shape[1], 1, -1, 1, 1, 1)
    still, *moved = (codec.decode(z, FRAMES)[:, :, 1:] for z in (latents, *(latents + steps)))
    scale = torch.stack([(m - still).pow(2).mean().sqrt() for m in moved])
    return scale / scale.pow(2).mean().sqrt() / std
