"""mini's transformer: Vera's, with a drawing as baseline and heads that predict clean latents.

Additions to the published architecture, each with a switch in MiniConfig:
    place_input      every token gets its position in the frame
    drawing          baseline of edit and alpha, drawn from the words alone (drawing.py) and moved with the plate's
                     camera (camera.py); the composite's baseline is these layers over the plate (latent_over.py)
    text_modulation  the text affects the modulation
    latent_std       heads predict clean latents, relative to the baseline
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from vera.core.model.config import BRANCHES
from vera.core.model.functional import mean_of_words, zero_init
from vera.core.model.interfaces import BlockRunner, LatentsByFrame
from vera.core.model.mini.drawing import PLACE_FEATURES, Drawing, place_features
from vera.core.model.mini.mini_config import MiniConfig
from vera.core.model.mini.shot import MiniShot
from vera.core.model.transformer import Embedders, Transformer, flatten, patch_embedding

# Smallest noise level by which an error of clean latents is divided. Raising it gives calmer last steps.
MIN_NOISE_LEVEL = 0.05


class MiniTransformer(Transformer):
    """Predicts the velocity of the three layers' latents, see `Transformer`."""

    config: MiniConfig
    channel_mask: Tensor | None

    def __init__(self, config: MiniConfig):
        super().__init__(config)
        for name in BRANCHES:
            branch = getattr(self, name)
            if config.place_input:
                branch.place_embedding = zero_init(nn.Linear(PLACE_FEATURES, config.dim))
            if config.drawing:
                drawn_channels = 2 * config.latent_channels  # edit and alpha
                branch.drawing_embedding = zero_init(patch_embedding(config, drawn_channels))
        self.coarse_channels = config.coarse_channels  # whose noise does not depend on the others, see `seeded_noise`
        channels = config.latent_channels, config.coarse_channels
        self.drawing = Drawing(config.text_dim, *channels) if config.drawing else None
        # 1 for each predicted channel of a layer and 0 for the others, (3, C, 1, 1, 1); None: all are predicted
        self.register_buffer("channel_mask", _predicted_channels(config), persistent=False)

    def make_embedders(self, text: bool) -> Embedders:
        pooled = self.config.text_modulation and text
        return PooledTextEmbedders(self.config, text) if pooled else Embedders(self.config, text)

    def read_shot(self, source: LatentsByFrame, mask: LatentsByFrame | None, window: int) -> MiniShot:
        """Position in the shot of each latent frame, and the movement of the plate's camera."""
        return MiniShot.read(None if self.drawing is None else self.drawing.camera, source, mask, window)

    def forward(
        self,
        latents: Tensor,
        timestep: Tensor,
        text: Tensor,
        source: Tensor,
        mask: Tensor | None = None,
        shot: MiniShot | None = None,
        cache: BlockRunner | None = None,
    ) -> Tensor:
        """See `Transformer.forward`. shot: None stands for a whole shot with a camera at rest."""
        shot = MiniShot.whole(latents.shape[3]) if shot is None else shot
        grid = self.grid_of(latents)
        branches = [getattr(self, name) for name in BRANCHES]
        tokens = self.embed(latents, source, mask)
        if self.config.place_input:
            places = place_features(grid, latents.device).to(self.dtype)
            tokens = [t + branch.place_embedding(places) for t, branch in zip(tokens, branches)]
        drawn = self.draw(latents, text, mask, shot)
        if drawn is not None:
            seen = drawn.flatten(1, 2).to(self.dtype)  # (B, 2 C, T, H, W)
            tokens = [t + flatten(branch.drawing_embedding(seen)) for t, branch in zip(tokens, branches)]
        heads = self.predict(torch.stack(tokens, dim=1), timestep, text, grid, cache, shot.times)
        if self.config.latent_std is None:
            return heads.to(latents.dtype)
        clean = self.clean_latents(heads, source.to(self.dtype), drawn, self.config.latent_std)
        return velocity_towards(clean, latents.to(self.dtype), timestep).to(latents.dtype)

    def draw(self, latents: Tensor, text: Tensor, mask: Tensor | None, shot: MiniShot) -> Tensor | None:
        """The drawing of edit and alpha, (B, 2, C, T, H, W), fp32, without gradient; None if the model has none."""
        if self.drawing is None:
            return None
        frames, height, width = latents.shape[3:]
        grid = (frames, height, width)
        drawn = self.drawing(text.to(self.dtype), mask, shot.progress, grid, shot.path, views=shot.views).detach()
        return drawn if self.channel_mask is None else drawn * self.channel_mask[:2]  # edit and alpha

    def clean_latents(self, heads: Tensor, source: Tensor, drawn: Tensor | None, std: float) -> Tensor:
        """Clean latents of the three layers, (B, 3, C, T, H, W), fp32: baseline + std x heads.

        The baseline of edit and alpha is the drawing, or 0. That of the composite is the drawn layers over the plate,
        or the plate. Channels that are not predicted, see MiniConfig.fine_layers, are the baseline's.
        """
        heads = heads.float() if self.channel_mask is None else heads.float() * self.channel_mask
        edit, alpha, composite = (std * head for head in heads.unbind(1))
        baseline = source.float()
        if drawn is not None and self.drawing is not None:
            edit, alpha = (base + new for base, new in zip(drawn.unbind(1), (edit, alpha)))
            baseline = self.drawing.blend(source, edit, alpha).detach()
        return torch.stack([edit, alpha, baseline + composite], dim=1)


def _predicted_channels(config: MiniConfig) -> Tensor | None:
    if config.fine_layers is None:
        return None
    predicted = torch.ones(len(BRANCHES), config.latent_channels, 1, 1, 1)
    for i, name in enumerate(BRANCHES):
        if name not in config.fine_layers:
            predicted[i, config.coarse_channels :] = 0
    return predicted


class PooledTextEmbedders(Embedders):
    """Embedders whose time embedding includes the mean of the text states."""

    def __init__(self, config: MiniConfig, text: bool):
        super().__init__(config, text)
        self.text_pooler = zero_init(nn.Linear(config.text_dim, config.dim))

    def embed_time(self, timestep: Tensor, text: Tensor) -> Tensor:
        return super().embed_time(timestep, text) + self.text_pooler(mean_of_words(text))


def velocity_towards(clean: Tensor, latents: Tensor, timestep: Tensor) -> Tensor:
    """The velocity noise - clean, from clean and noisy latents (B, 3, C, T, H, W) and timestep (B,); fp32.

    Noisy latents are (1 - s) clean + s noise, so the velocity is (noisy - clean) / s.
    """
    level = (timestep / 1000).clamp_min(MIN_NOISE_LEVEL)[:, None, None, None, None, None]
    return (latents.float() - clean) / level
