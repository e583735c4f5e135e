"""A codec with further channels: what it had stays, and what is new holds most of what was lost."""

import pytest
import torch

from vera.core.errors import InputError
from vera.core.model.mini.camera import Camera
from vera.core.model.mini.drawing import Aim
from vera.core.model.mini.edition import read_codec, save_codec
from vera.core.model.mini.latent_over import Blend
from vera.core.model.mini.mini_codec import CELL, MiniCodec, fold, unfold
from vera.core.model.mini.mini_config import MiniConfig

COARSE, CHANNELS = 4, 9


@pytest.fixture(scope="module")
def cells():
    """Folded cells (N, CELL) whose components have deviations that halve one after the other."""
    generator = torch.Generator().manual_seed(1)
    basis = torch.linalg.qr(torch.randn(CELL, 14, generator=generator))[0]
    return torch.randn(400, 14, generator=generator) * 0.5 ** torch.arange(14) @ basis.T + 0.1


@pytest.fixture(scope="module")
def codecs(cells):
    """A codec of COARSE channels with a random refiner, and its extension."""
    torch.manual_seed(2)
    codec = MiniCodec(COARSE, width=192, blocks=1).eval()
    codec.fit(cells, torch.ones(len(cells)))
    torch.nn.init.normal_(codec.refiner[-1].weight, std=0.05)
    off = cells.double() - codec.inverse.bias.double()
    return codec, codec.extended(CHANNELS, off.T @ off / len(off)).eval()


def latents_of(codec, cells):
    return codec.encoder(cells[:, :, None, None]).detach()


def test_the_first_channels_keep_their_bits(codecs):
    codec, wider = codecs
    assert torch.equal(wider.encoder.weight[:COARSE], codec.encoder.weight)
    assert torch.equal(wider.encoder.bias[:COARSE], codec.encoder.bias)
    assert torch.equal(wider.inverse.weight[:, :COARSE], codec.inverse.weight)
    assert torch.equal(wider.inverse.bias, codec.inverse.bias)


def test_latents_without_further_channels_decode_as_before(codecs):
    codec, wider = codecs
    latents = torch.randn(2, COARSE, 3, 4, 5)
    zeros = torch.zeros(2, CHANNELS - COARSE, 3, 4, 5)
    with torch.no_grad():
        wanted, found = (
            list(c.decode_stream(z)) for c, z in ((codec, latents), (wider, torch.cat([latents, zeros], 1)))
        )
    for a, b in zip(wanted, found):
        torch.testing.assert_close(b, a, atol=1e-5, rtol=0)


def test_nested_channels_span_the_principal_components(codecs, cells):
    """What the linear part loses equals what the best projection of as many dimensions loses, in fp64."""
    _, wider = codecs
    with torch.no_grad():
        lost = (wider.inverse(latents_of(wider, cells))[:, :, 0, 0] - cells).double().pow(2).sum(1).mean()
    off = cells.double() - cells.double().mean(0)
    least = torch.linalg.eigvalsh(off.T @ off / len(off)).flip(0)[CHANNELS:].sum()
    torch.testing.assert_close(lost, least, rtol=0.01, atol=0)


def test_further_channels_are_half_whitened_in_the_unit_of_the_first_ones(codecs, cells):
    """Deviations of latents fall as the roots of the components' deviations do: by sqrt(2) a channel here."""
    deviations = latents_of(codecs[1], cells).std(0).flatten()
    torch.testing.assert_close(deviations[:-1] / deviations[1:], torch.full((CHANNELS - 1,), 2**0.5), rtol=0.15, atol=0)


def test_fine_channels_replace_what_the_refiner_guessed(codecs):
    """Where they are there, the latents of what is decoded are the latents; where they are not, the refiner adds to
    them."""
    _, wider = codecs
    now = torch.randn(2, CHANNELS, 3, 4)
    now[1, COARSE:] = 0
    with torch.no_grad():
        again = wider.encoder(wider.decode_cells(torch.zeros_like(now), now))
    torch.testing.assert_close(again[0], now[0], atol=1e-4, rtol=1e-4)
    assert (again[1] - now[1]).abs().max() > 0.1


def test_fine_channels_of_a_rounding_count_as_none(codecs):
    _, wider = codecs
    now = torch.randn(1, CHANNELS, 3, 4)
    now[:, COARSE:] = 0
    with torch.no_grad():
        wanted = wider.decode_cells(torch.zeros_like(now), now)
        now[:, COARSE:] = 1e-5
        torch.testing.assert_close(wider.decode_cells(torch.zeros_like(now), now), wanted, atol=1e-3, rtol=0)


def test_the_refiner_sees_coarse_channels_only(codecs):
    _, wider = codecs
    before, now = torch.randn(2, 1, CHANNELS, 3, 3)
    with torch.no_grad():
        still = wider.decode_cells(before, now)
        before[:, COARSE:] += 1
        assert torch.equal(wider.decode_cells(before, now), still)
        before[:, 0] += 1
        assert not torch.equal(wider.decode_cells(before, now), still)


def test_a_saved_codec_is_read_with_its_own_channels(codecs, tmp_path):
    full = codecs[0].extended(CHANNELS, torch.eye(CELL, dtype=torch.float64))
    three_blocks = MiniCodec(CHANNELS, coarse=COARSE)
    save_codec(three_blocks, tmp_path / "codec.safetensors")
    read = read_codec(tmp_path / "codec.safetensors")
    assert (read.channels, read.coarse) == (full.channels, full.coarse) == (CHANNELS, COARSE)
    assert all(torch.equal(v, three_blocks.state_dict()[k]) for k, v in read.state_dict().items())


def test_fine_channels_are_composited_in_pixels():
    """The reference decodes the linear part to pixels, lays one over the other, and encodes the result."""
    torch.manual_seed(3)
    codec = MiniCodec(CHANNELS, width=8, blocks=1, coarse=COARSE)
    back = torch.linalg.qr(torch.randn(CELL, CHANNELS))[0]
    with torch.no_grad():
        codec.inverse.weight.copy_(back[:, :, None, None])
        codec.encoder.weight.copy_(back.T[:, :, None, None])
        codec.encoder.bias.copy_(-back.T @ codec.inverse.bias)
        blend = Blend(CHANNELS, COARSE)
        blend.copy_codec(codec)
        source, edit, alpha = torch.randn(3, 1, CHANNELS, 2, 3, 4)
        found = blend(source, edit, alpha)[:, COARSE:]
        below, over, cover = (
            unfold(codec.inverse(z.transpose(1, 2).flatten(0, 1)), 2).double() for z in (source, edit, alpha)
        )
        cover = cover.mean(1, keepdim=True)
        change = codec.encoder(fold(2 * (cover * (over - below))).float()) - codec.encoder.bias.view(1, -1, 1, 1)
        wanted = source + change.unflatten(0, (1, 2)).transpose(1, 2)
    torch.testing.assert_close(found, wanted[:, COARSE:], atol=1e-4, rtol=1e-4)


def test_camera_and_aim_read_the_coarse_channels_only():
    torch.manual_seed(4)
    camera, aim = Camera(COARSE), Aim(8, COARSE)
    torch.nn.init.normal_(camera.along.weight)
    torch.nn.init.normal_(aim.mask.weight)
    clip = torch.randn(2, 1, CHANNELS, 5, 6)
    mask = torch.randn(1, CHANNELS, 2, 5, 6)
    with torch.no_grad():
        assert torch.equal(camera(*clip), camera(*clip[:, :, :COARSE]))
        assert torch.equal(aim.centre_of(mask), aim.centre_of(mask[:, :COARSE]))


@pytest.mark.parametrize("coarse", [0, 5, -1, 2.5, "2", True])
def test_coarse_channels_out_of_bounds_are_refused(coarse):
    with pytest.raises(InputError, match="coarse_channels must be"):
        MiniConfig(dim=24, heads=2, layers=1, ffn_dim=24, latent_channels=4, coarse_channels=coarse)
