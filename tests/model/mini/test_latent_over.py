"""Latents composed as their pictures would be."""

import torch
from torch import nn

from vera.core.data.engine.clips import make_clip
from vera.core.model.mini.latent_over import Blend
from vera.core.model.names import EMBEDDED
from vera.core.training.mini.fit_latent_over import fit_blend
from vera.core.training.mini.transformer_training import load_codec


def test_layers_of_a_linear_codec_are_composed_exactly():
    """Cells of 3 colours and 4 pixels, as many latents, no two of them alike; told from other layers."""
    torch.manual_seed(0)
    encoder = nn.Conv2d(12, 12, 1)
    nn.init.orthogonal_(encoder.weight)

    def latents():
        source, edit = torch.rand(2, 20, 12, 6, 5)
        alpha = torch.rand(20, 1, 4, 6, 5).expand(-1, 3, -1, -1, -1).flatten(1, 2)  # one for the three colours
        composite = alpha * edit + (1 - alpha) * source
        with torch.no_grad():
            return [encoder(2 * x - 1)[:, :, None] for x in (source, edit, alpha, composite)]

    blend = Blend(12)
    blend.fit(latents() for _ in range(4))
    *layers, wanted = latents()
    with torch.no_grad():
        torch.testing.assert_close(blend(*layers), wanted, atol=2e-3, rtol=0)
        assert torch.equal(Blend(12)(*layers), layers[0])  # before it is fitted


def test_mini_s_codec_composes_nearly_as_its_pictures():
    codec = load_codec(EMBEDDED)
    blend = Blend(codec.channels, codec.coarse)
    fit_blend(blend, codec, 1_000, count=40)
    if codec.coarse < codec.channels:
        blend.copy_codec(codec)
    errors = []
    for seed in range(8):
        clip = make_clip(seed, 80, 144, range(5))
        pictures = torch.stack([clip.source, clip.edit, clip.alpha.expand(-1, 3, -1, -1), clip.composite]).transpose(
            1, 2
        )
        with torch.inference_mode():
            *layers, wanted = codec.encode(pictures)[:, None]
            composed, plate, wanted = (codec.decode(z, 5) for z in (blend(*layers), layers[0], wanted))
        errors.append([(x - wanted).pow(2).mean() for x in (composed, plate)])
    composed, plate = torch.tensor(errors).mean(0)
    assert composed < 0.001 and composed < 0.05 * plate  # 30 dB
