import copy

import pytest
import torch
from diffusers import AutoencoderKLWan

from vera.core.errors import InputError
from vera.core.model.codec import WanCodec, latent_frames, pad_frames


@pytest.fixture(params=["pixels", "patches"])
def vae(vae, request):
    """Of Wan2.1's kind, and one that folds 2x2 pixels first as Wan2.2's does, 4x8x8 both."""
    if request.param == "pixels":
        return vae
    statistics = {name: vae.config[name] for name in ("latents_mean", "latents_std")}
    patches = dict(patch_size=2, in_channels=12, out_channels=12, dim_mult=[1, 1, 1], temperal_downsample=[True, True])
    torch.manual_seed(3)
    return AutoencoderKLWan(base_dim=8, num_res_blocks=1, z_dim=vae.config.z_dim, **patches, **statistics).eval()


def video(frames, seed=1):
    return torch.rand(2, 3, frames, 16, 24, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("frames, latents", [(1, 1), (2, 2), (5, 2), (6, 3), (16, 5), (17, 5), (18, 6), (81, 21)])
def test_latent_frames(frames, latents):
    assert latent_frames(frames) == latents


@pytest.mark.parametrize("frames", [1, 2, 16, 17, 18])
def test_padding_repeats_the_last_frame(frames):
    given = video(frames)
    padded = pad_frames(given)
    assert (padded.shape[2] - 1) % 4 == 0 and 0 <= padded.shape[2] - frames < 4
    assert torch.equal(padded[:, :, :frames], given)
    assert all(torch.equal(padded[:, :, i], given[:, :, -1]) for i in range(frames, padded.shape[2]))


@pytest.mark.parametrize("frames", [1, 2, 16, 17, 18])
def test_frames_in_are_frames_out(vae, frames):
    codec = WanCodec(vae)
    latents = codec.encode(video(frames))
    assert latents.shape == (2, 4, latent_frames(frames), 2, 3)
    assert [part.shape[2] for part in codec.decode_stream(latents)] == [1] + [4] * (latents.shape[2] - 1)
    decoded = codec.decode(latents, frames)
    assert decoded.shape == (2, 3, frames, 16, 24)
    assert torch.equal(decoded, torch.cat(list(codec.decode_stream(latents)), dim=2)[:, :, :frames])


def test_a_wrong_frame_count_is_not_decoded(vae):
    codec = WanCodec(vae)
    with pytest.raises(ValueError, match="5 latent frames are not 18 frames"):
        codec.decode(torch.zeros(1, 4, 5, 2, 2), 18)


def test_latents_are_the_normalised_mode(vae):
    given = video(9)
    with torch.no_grad():
        mode = vae.encode(given * 2 - 1).latent_dist.mode()
    latents = WanCodec(vae).encode(given)
    for channel, (mean, std) in enumerate(zip(vae.config.latents_mean, vae.config.latents_std)):
        torch.testing.assert_close(latents[:, channel], (mode[:, channel] - mean) / std, rtol=0, atol=1e-6)
    assert not torch.allclose(latents, mode, atol=1e-2)


def test_short_clips_encode_as_if_their_last_frame_stood_still(vae):
    given = video(16)
    held = torch.cat([given, given[:, :, -1:]], dim=2)
    assert torch.equal(WanCodec(vae).encode(given), WanCodec(vae).encode(held))


@pytest.mark.parametrize("gain", [0.5, 30.0])
def test_the_stream_is_the_whole_decode_before_its_clamp(vae, gain):
    """To rounding, for convolutions see one frame at a time; with a gain on the last layer, so that the clamp has
    work."""
    with torch.no_grad():
        vae.decoder.conv_out.weight.mul_(gain)
    codec = WanCodec(vae)
    latents = torch.randn(2, 4, 5, 2, 3, generator=torch.Generator().manual_seed(2)) * 3
    mean, std = (torch.tensor(v).view(1, -1, 1, 1, 1) for v in (vae.config.latents_mean, vae.config.latents_std))
    with torch.no_grad():
        whole = vae.decode(latents * std + mean).sample
    decoded = codec.decode(latents, 17)
    torch.testing.assert_close(decoded.clamp(0, 1), (whole + 1) / 2, rtol=0, atol=2e-6 * max(1, gain))
    assert (decoded.min() < 0 or decoded.max() > 1) == (gain > 1)


def test_two_streams_at_once_do_not_disturb_each_other(vae):
    codec = WanCodec(vae)
    one, two = (torch.randn(1, 4, 4, 2, 2, generator=torch.Generator().manual_seed(s)) for s in (3, 4))
    pairs = list(zip(codec.decode_stream(one), codec.decode_stream(two)))
    assert torch.equal(torch.cat([a for a, _ in pairs], dim=2), codec.decode(one, 13))
    assert torch.equal(torch.cat([b for _, b in pairs], dim=2), codec.decode(two, 13))


def test_the_decoder_is_causal(vae):
    """Streaming rests on it: later latents change no earlier frame."""
    codec = WanCodec(vae)
    latents = torch.randn(1, 4, 4, 2, 2, generator=torch.Generator().manual_seed(5))
    other = latents.clone()
    other[:, :, 2:] += 1
    a, b = codec.decode(latents, 13), codec.decode(other, 13)
    assert torch.equal(a[:, :, :5], b[:, :, :5]) and not torch.equal(a[:, :, 5:], b[:, :, 5:])


@pytest.mark.parametrize(
    "changed, words",
    [
        ({"temperal_downsample": [True, {}, False]}, "temperal_downsample"),
        ({"dim_mult": 5}, "dim_mult"),
        ({"patch_size": "2"}, "patch_size"),
        ({"z_dim": True}, "z_dim"),
        ({"latents_mean": [0.0, None, 0.0, 0.0]}, "latents_mean"),
        ({"latents_mean": [0.0]}, "mean is not of"),
        ({"latents_std": [1.0, 1.0, 0.0, 1.0]}, "holds a 0"),
    ],
)
def test_a_configuration_of_other_types_is_refused(vae, changed, words):
    vae = copy.deepcopy(vae)
    vae.register_to_config(**changed)
    with pytest.raises(InputError, match=words):
        WanCodec(vae)


def test_a_codec_of_other_strides_is_refused():
    vae = AutoencoderKLWan(
        base_dim=8, dim_mult=[1, 1, 1, 1], num_res_blocks=1, z_dim=4, patch_size=2, in_channels=12, out_channels=12
    )
    with pytest.raises(InputError, match="only Wan2.1's"):
        WanCodec(vae)


@pytest.mark.parametrize("frames", [1, 2, 5, 16, 18])
def test_frames_streamed_in_are_the_whole_encode(vae, frames):
    """To rounding; two streams at once, whatever the last group holds."""
    codec, given = WanCodec(vae), video(frames)
    encoders = codec.encode_stream(), codec.encode_stream()
    groups = [given[:, :, :1], *given[:, :, 1:].split(4, dim=2)] if frames > 1 else [given]
    one, other = ([encode(g) for g in groups] for encode in encoders)
    assert torch.equal(torch.cat(one, dim=2), torch.cat(other, dim=2))
    torch.testing.assert_close(torch.cat(one, dim=2), codec.encode(given), rtol=0, atol=1e-5)
