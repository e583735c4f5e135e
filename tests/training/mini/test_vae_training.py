"""Training of a small Wan-type VAE: loss, statistics, resume, export."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from torch.distributions import Normal, kl_divergence
from torch.nn.functional import pixel_unshuffle

from vera.core.cli import model_export
from vera.core.errors import InputError
from vera.core.evaluation.sample_clip import run
from vera.core.model.codec import WanCodec
from vera.core.model.mini.edition import load_mini
from vera.core.model.mini.mini_codec import fold, unfold
from vera.core.training.mini import vae_training
from vera.core.training.mini.codec_training import groups, layers_of
from vera.core.training.mini.transformer_training import LAST_LATENT, latents_of, load_codec, pixel_scale
from vera.core.training.mini.transformer_training import train as train_transformer
from vera.core.training.mini.vae_training import (
    BLOCK_MEAN_WEIGHT,
    HIDDEN_COLOR_WEIGHT,
    HUE_WEIGHT,
    STATISTICS_CLIPS,
    Batches,
    cut_of,
    losses,
    new_codec,
    normalise,
    train,
    unclamped_error,
)

GEOMETRY = {
    "base_dim": 8,
    "dim_mult": [1, 1, 1],
    "num_res_blocks": 1,
    "patch_size": 2,
    "temperal_downsample": [True, True],
    "z_dim": 4,
}
CONFIG = {
    "train": "vae",
    "seed": 7,
    "geometry": GEOMETRY,
    "size": 24,
    "crop": 16,
    "frames": 5,
    "batch": 1,
    "workers": 0,
    "steps": 6,
    "rate": 0.003,
    "ema": 0.9,
    "noise": 0.2,
    "kl": 1e-4,
    "log_every": 1,
    "save_every": 6,
}


class Exact:
    """A codec whose latents hold every pixel; `planted` alters the decoded pictures."""

    vae = SimpleNamespace(encoder=nn.Identity(), decoder=nn.Identity())

    def __init__(self, planted=lambda frames: frames, deviation=1e-6):
        self.planted, self.log_variance = planted, 2 * torch.tensor(deviation).log()

    def posterior(self, video, past):
        mean = fold(video.expand(-1, -1, 4, -1, -1) if video.shape[2] == 1 else video)[:, :, None]
        return torch.cat([mean, torch.full_like(mean, self.log_variance)], dim=1)

    def pictures(self, latent, past, first):
        frames = 2 * unfold(latent[:, :, 0], 1) - 1
        return self.planted(frames[:, :, 3:] if first else frames)


def clips(alpha=0.5):
    torch.manual_seed(0)
    video = 0.2 + 0.6 * torch.rand(2, 5, 3, 5, 16, 16)
    video[:, 2] = alpha
    return video


def test_an_exact_reconstruction_has_no_loss():
    loss, psnr = losses(Exact(), clips(), noise=0, kl=0)
    assert loss < 1e-5 and psnr.shape == (5,) and psnr.min() > 100


def test_hidden_edit_colour_weighs_one_fifth_in_the_vae_loss():
    """A constant error of 0.1 in one layer counts twice: per pixel, and in the means of 8x8 pixels."""
    expected = {(1, 1.0): 1.0, (1, 0.0): HIDDEN_COLOR_WEIGHT, (1, 0.5): (1 + HIDDEN_COLOR_WEIGHT) / 2, (3, 0.0): 1.0}
    for (layer, alpha), share in expected.items():
        hit = (torch.arange(10) % 5 == layer).view(10, 1, 1, 1, 1)
        loss, psnr = losses(Exact(lambda frames: frames + 0.2 * hit), clips(alpha), noise=0, kl=0)
        torch.testing.assert_close(loss, torch.tensor(2 * 0.1 * share / 5), rtol=1e-3, atol=1e-5)
        assert abs(psnr[layer] - 20) < 0.01 and psnr.sum() - psnr[layer] > 400


def test_a_hue_error_weighs_more_than_a_grey_error():
    """0.1 too much red and too little blue: two of three values, per pixel, in block means and in hue."""
    wrong = torch.tensor([0.2, 0.0, -0.2]).view(3, 1, 1, 1)
    loss, _ = losses(Exact(lambda frames: frames + wrong), clips(), noise=0, kl=0)
    share = (4 + (1 + HIDDEN_COLOR_WEIGHT) / 2) / 5  # alpha hides half of the edit's
    torch.testing.assert_close(
        loss, torch.tensor((1 + BLOCK_MEAN_WEIGHT + HUE_WEIGHT) * 0.1 * 2 / 3 * share), rtol=1e-3, atol=1e-5
    )


def test_the_first_convolution_amplifies_colour_over_grey():
    torch.manual_seed(1)
    first = new_codec(GEOMETRY).vae.encoder.conv_in
    grey, red = torch.ones(1, 3, 1, 8, 8), torch.zeros(1, 3, 1, 8, 8)
    red[:, 0], red[:, 2] = 1, -1
    grey, red = (first(pixel_unshuffle(x[:, :, 0], 2)[:, :, None]).pow(2).mean().sqrt() for x in (grey, red))
    assert red > 3 * grey


def test_flicker_costs_more_than_a_constant_error():
    """Compares one error on every frame with the same error of alternating sign."""

    def planted(sign):
        return lambda frames: frames + 0.1 * (sign ** torch.arange(frames.shape[2])).view(1, 1, -1, 1, 1)

    still, flicker = (losses(Exact(planted(sign)), clips(), noise=0, kl=0)[0] for sign in (1.0, -1.0))
    share = (4 + (1 + HIDDEN_COLOR_WEIGHT) / 2) / 5  # alpha hides half of the edit's
    assert flicker - still == pytest.approx(0.5 * 0.1 * 3 / 4 * share, abs=1e-4)  # three of four steps, each of 0.1


def test_only_values_beyond_a_clamped_target_count_as_exact():
    decoded, wanted = torch.tensor([-0.3, 1.4, -0.3, 1.4, 0.2, 0.8]), torch.tensor([0.0, 1.0, 0.1, 0.9, 0.0, 1.0])
    torch.testing.assert_close(unclamped_error(decoded, wanted), torch.tensor([0.0, 0.0, -0.4, 0.5, 0.2, -0.2]))


def test_kl_is_the_divergence_of_normal_distributions():
    video = clips()
    plain, told = (losses(Exact(deviation=0.5), video, noise=0, kl=kl) for kl in (0.0, 2.0))
    torch.manual_seed(0)
    mean = fold(groups(video.flatten(0, 1)) * 2 - 1)
    wanted = kl_divergence(Normal(mean, torch.tensor(0.5)), Normal(0.0, 1.0)).mean()
    gradients = []
    for kl in (0.0, 2.0):
        torch.manual_seed(3)
        gradients.append(losses(Exact(deviation=0.5), video, noise=0, kl=kl)[0])
    torch.testing.assert_close(gradients[1] - gradients[0], 2 * wanted, rtol=1e-4, atol=1e-5)
    assert plain[1].min() < 20 and told[1].min() < 20  # latents are sampled from the posterior


def test_latent_noise_is_relative_to_the_latents_deviation():
    """The level is uniform from 0 to 0.1 of the deviation, so its mean square is a third of the largest."""
    video = torch.rand(64, 5, 3, 5, 16, 16)
    psnr = losses(Exact(), video, noise=0.1, kl=0)[1]
    wanted = (2 * video - 1).std() * 0.1 / 2 / 3**0.5
    assert (10 ** (-psnr.mean() / 20)) == pytest.approx(float(wanted), rel=0.1)


def test_latents_are_normalised_over_all_layers():
    torch.manual_seed(1)
    codec = new_codec(GEOMETRY)
    normalise(codec, 50, CONFIG)
    latents = torch.cat([codec.encode(cut_of(k, CONFIG)) for k in range(50, 50 + STATISTICS_CLIPS)])
    std, mean = torch.std_mean(latents.double(), dim=(0, 2, 3, 4))
    torch.testing.assert_close(mean, torch.zeros(4).double(), atol=1e-4, rtol=0)
    torch.testing.assert_close(std, torch.ones(4).double(), atol=1e-4, rtol=0)
    again = WanCodec(codec.vae)
    assert torch.equal(again.mean, codec.mean) and torch.equal(again.std, codec.std)


def test_a_crop_is_a_part_of_the_clip_at_a_random_place():
    places = set()
    for k in range(30):
        whole, cut = layers_of(k, 24), cut_of(k, CONFIG)
        found = [(y, x) for y in range(9) for x in range(9) if torch.equal(whole[..., y : y + 16, x : x + 16], cut)]
        places.update(found)
        assert found
    assert len(places) > 20


def test_workers_yield_the_same_clips_in_the_same_order():
    config = CONFIG | {"batch": 2}
    alone = iter(Batches(40, config))
    several = iter(torch.utils.data.DataLoader(Batches(40, config), batch_size=None, num_workers=2))
    assert all(torch.equal(next(alone), next(several)) for _ in range(3))


def test_a_resumed_run_equals_an_uninterrupted_one(tmp_path, monkeypatch):
    monkeypatch.setattr(vae_training, "STATISTICS_CLIPS", 2)
    train(CONFIG, tmp_path / "whole", lambda: False)
    asked = iter([False] * 4 + [True] * 9)
    train(CONFIG, tmp_path / "part", lambda: next(asked))
    assert json.loads((tmp_path / "part/log.jsonl").read_text().splitlines()[-1])["step"] == 4
    train(CONFIG | {"workers": 2}, tmp_path / "part", lambda: False)
    logs = [[json.loads(line)["loss"] for line in (tmp_path / x / "log.jsonl").open()] for x in ("whole", "part")]
    assert logs[0] == logs[1] and len(set(logs[0])) == 6
    for file in ("state.safetensors", "codec.safetensors"):
        whole, part = (load_file(tmp_path / x / file) for x in ("whole", "part"))
        assert all(torch.equal(whole[k], part[k]) for k in whole)
    average = load_file(tmp_path / "whole/state.safetensors")
    codec = load_codec(tmp_path / "whole")
    assert isinstance(codec, WanCodec) and not codec.training
    for name, value in codec.state_dict().items():
        assert torch.equal(value, average[f"ema_codec/{name}"].half().float())


@pytest.mark.parametrize("wrong", [{"crop": 20}, {"crop": 32}, {"frames": 4}, {"frames": 53}])
def test_sizes_that_do_not_fit_are_refused(tmp_path, wrong):
    with pytest.raises(InputError, match="multiple of 8 within size 24, frames 4k"):
        train(CONFIG | wrong, tmp_path / "run", lambda: False)
    with pytest.raises(InputError, match="'noise': missing from the configuration"):
        train({k: v for k, v in CONFIG.items() if k not in ("noise", "kl")}, tmp_path / "run", lambda: False)
    assert not (tmp_path / "run").exists()


def test_the_gradient_predicts_the_decrease_of_the_loss():
    """In fp64, the slope along the gradient is its square, and every weight has a gradient."""
    torch.manual_seed(1)
    codec = new_codec(GEOMETRY).double()
    video = layers_of(3, 16)[None].double()

    def loss():
        torch.manual_seed(5)
        return losses(codec, video, CONFIG["noise"], CONFIG["kl"])[0]

    before = loss()
    before.backward()
    slope, step = sum(p.grad.pow(2).sum() for p in codec.parameters()), 1e-7
    assert all(p.grad.abs().max() > 0 for p in codec.parameters())
    with torch.no_grad():
        for p in codec.parameters():
            p -= step * p.grad
    torch.testing.assert_close((before - loss()) / step, slope, rtol=1e-2, atol=0)


def test_mini_trains_and_renders_with_a_vae_as_codec(tmp_path, spawned_as_copies):
    train(CONFIG | {"steps": 1}, tmp_path / "vae", lambda: False)
    config = {
        "codec": str(tmp_path / "vae"),
        "seed": 9,
        "processes": 1,
        "steps": 2,
        "geometry": {"layers": 1},
        "stages": [{"until": 2, "batch": 1, "latents": 3, "keep": 2, "repeats": 2, "shapes": [[32, 32]]}],
        "rate": 0.001,
        "ema": 0.9,
        "text_drop": 0.3,
        "mask_keep": 0.5,
        "shift": 2.0,
        "save_every": 2,
        "sample_every": 100,
        "camera_plates": 2,
        "blend_clips": 2,
    }
    with spawned_as_copies():
        train_transformer(config, tmp_path / "mini", lambda: False)
    assert model_export.main([str(tmp_path / "mini"), "--to", str(tmp_path / "edition")]) == 0
    model = load_mini(tmp_path / "edition", "cpu")
    assert model.codec.channels == model.transformer.config.latent_channels == 4
    trained = load_codec(tmp_path / "vae")
    video = torch.rand(1, 3, 6, 16, 16)
    assert torch.equal(model.codec.encode(video), trained.encode(video))
    color, alpha, composite = run(model, torch.rand(6, 3, 32, 32), "Add a red ball", None, 1, 1.0)
    assert color.shape == composite.shape == (3, 6, 32, 32) and alpha.shape == (6, 32, 32)


def test_a_causal_codec_encodes_the_clip_without_repeated_frames():
    torch.manual_seed(1)
    codec = new_codec(GEOMETRY)
    video = torch.rand(2, 5, 3, 9, 16, 16)
    held = torch.cat([video[:, :, :, :1].expand(-1, -1, -1, 3, -1, -1), video], dim=3)
    latents, seen = latents_of(codec, held)
    assert latents.shape == (2, 5, 4, 3, 2, 2) and torch.equal(latents[1], codec.encode(video[1]))
    assert torch.equal(seen[1, 2, 1, 0], video[1, 2, 0, 5:, 8:, :8].max())


def test_pixel_scale_follows_a_channel_s_effect_on_pixels():
    """A channel without effect on pixels has weight 0; the ratios of the others stay."""
    torch.manual_seed(0)
    codec = new_codec(GEOMETRY)
    before = pixel_scale(codec, 0.5)
    with torch.no_grad():
        codec.std[:, 2] = 1e-9  # the channel has no effect on pixels
    after = pixel_scale(codec, 0.5)
    assert before[2] > 0.1 and after[2] < 1e-5
    torch.testing.assert_close(after[[0, 1, 3]] / after[0], before[[0, 1, 3]] / before[0], rtol=0.05, atol=0)
    assert after.pow(2).mean() == pytest.approx(4)


def test_shipped_vae_and_gpu_configurations_fit_together():
    """The VAE has 16 channels and is small enough for an edition; mini's stages reach its last step."""
    folder = Path(vae_training.__file__).parent
    vae, mini = (json.loads((folder / f"mini-{name}.json").read_text(encoding="utf-8")) for name in ("vae", "gpu"))
    codec = new_codec(vae["geometry"])
    assert codec.channels == 16 and 2 * sum(p.numel() for p in codec.parameters()) < 15 * 2**20
    assert mini["codec"] == "runs/mini-vae" and vae["frames"] >= 13 and vae["crop"] % 8 == 0
    ends = [stage["until"] for stage in mini["stages"]]
    assert ends == sorted(ends) and ends[-1] == mini["steps"]
    assert all(stage["keep"] <= stage["latents"] <= LAST_LATENT + 1 for stage in mini["stages"])
