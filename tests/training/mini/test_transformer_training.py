"""Training of mini's transformer: losses, choice of times, resume."""

import json
import random
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from vera.core.data.engine.clips import SPAN, make_clip
from vera.core.data.engine.instructions import vocabulary
from vera.core.data.engine.rendered import HELD_OUT, folders, read_clip
from vera.core.errors import InputError
from vera.core.model.limits import Limits
from vera.core.model.mini.drawing import moments
from vera.core.model.mini.edition import read_weights, save_mini
from vera.core.model.mini.mini_codec import CELL, MiniCodec
from vera.core.model.mini.mini_config import MINI
from vera.core.model.mini.mini_text import MiniText
from vera.core.model.mini.mini_transformer import MiniTransformer
from vera.core.model.mini.shot import MiniShot
from vera.core.model.names import EMBEDDED
from vera.core.training.mini.transformer_training import (
    LAST_LATENT,
    EncodedClips,
    crossed,
    drawing_losses,
    flow_loss,
    frames_of,
    generated_clips,
    load_codec,
    pick_times,
    pixel_scale,
    rendered_clips,
    start_from,
    train,
)
from vera.core.training.state import save_state


@pytest.fixture
def ranks_are_copies(spawned_as_copies):
    with spawned_as_copies():
        yield


class Exact(nn.Module):
    """A transformer that knows the clean latents, so its velocity is exact."""

    def __init__(self, clean):
        super().__init__()
        self.clean = clean

    def forward(self, noisy, timestep, text, source, mask, shot):
        self.masked = mask is not None
        sigma = (timestep / 1000)[:, None, None, None, None, None]
        return (noisy - self.clean) / sigma


def without_text(latents, seen):
    return EncodedClips(None, latents, seen, None)


@pytest.mark.parametrize("with_mask", [True, False])
def test_the_exact_velocity_has_no_loss(with_mask):
    latents = torch.randn(3, 5, 4, 2, 2, 2)
    seen = torch.rand(3, 2, 2, 2)
    exact = Exact(latents[:, 1:4])
    losses = flow_loss(exact, without_text(latents, seen), with_mask, 2.0, torch.ones(4))
    assert losses.shape == (3,) and losses.max() < 1e-6 and exact.masked == with_mask
    wrong = flow_loss(Exact(latents[:, [1, 3, 2]]), without_text(latents, seen), with_mask, 2.0, torch.ones(4))
    assert wrong[0] < 1e-6 and wrong[1:].min() > 0.5


def test_flow_loss_weighs_errors_by_channel_and_noise_level():
    torch.manual_seed(1)
    latents = torch.randn(4000, 5, 2, 1, 1, 1)
    spoiled = latents[:, 1:4].clone()
    spoiled[:, 0, 0] += 0.1  # the edit's first channel, the alpha's second
    spoiled[:, 1, 1] += 0.1
    seen, scale = torch.ones(4000, 1, 1, 1), torch.tensor([3.0, 1.0])
    losses = flow_loss(Exact(spoiled), without_text(latents, seen), False, 1.0, scale)
    # Noise levels u are uniform in [0, 1]: the mean of 1 / max(u, 0.4)^2 is 0.4 / 0.16 + (1 / 0.4 - 1).
    expected = torch.tensor([9.0, 1.0, 0.0]) * 0.01 / 2 * (0.4 / 0.16 + 1 / 0.4 - 1)
    torch.testing.assert_close(losses, expected, rtol=0.01, atol=1e-6)


def test_pixel_scale_makes_latent_errors_proportional_to_pixel_errors():
    """For a linear decoder, weighted latent errors and pixel errors differ by one common factor."""
    torch.manual_seed(0)
    codec = MiniCodec(width=8, blocks=1)
    basis = torch.linalg.qr(torch.randn(CELL, codec.channels))[0] * (1 + torch.arange(codec.channels))
    codec.inverse.weight.data.copy_(basis[:, :, None, None])
    error = torch.randn(5, codec.channels, 2, 2)
    pixels = (codec.inverse(error) - codec.inverse(0 * error)).pow(2).mean((1, 2, 3))
    latents = (error * pixel_scale(codec, 0.5)[:, None, None]).pow(2).mean((1, 2, 3))
    torch.testing.assert_close(latents / pixels, (latents / pixels).mean().expand(5))
    torch.testing.assert_close(pixel_scale(codec, 0.5).pow(2).mean(), torch.tensor(4.0))


def test_hidden_edit_colour_weighs_one_fifth_in_the_flow_loss():
    torch.manual_seed(1)
    latents = torch.randn(8, 5, 4, 1, 2, 2)
    spoiled = latents[:, 1:4].clone()
    spoiled[..., 0] += 1  # an error in the left column
    left, right = torch.zeros(8, 1, 2, 2), torch.zeros(8, 1, 2, 2)
    left[..., 0], right[..., 1] = 1, 1
    losses = []
    for seen in (left, right):
        torch.manual_seed(2)
        losses.append(flow_loss(Exact(spoiled), without_text(latents, seen), False, 1.0, torch.ones(4)))
    torch.testing.assert_close(losses[0] / losses[1], torch.tensor([5.0, 1.0, 1.0]))


def test_drawing_losses_weigh_channels_visibility_and_dropped_text():
    """Errors are weighted by channel; hidden edit colour counts 0.2; clips without text do not count."""
    latents, seen = torch.randn(4, 5, 2, 1, 6, 2), torch.ones(4, 1, 6, 2)
    seen[:, :, 3:] = 0  # only the upper half is visible
    spoiled = latents[:, 1:3].clone()
    spoiled[:, 0, 0, :, :3] += 0.1  # the edit's first channel, in the visible half
    spoiled[:, 1, 1] += 0.2  # the alpha's second channel, everywhere
    spoiled[1] += 100
    states = torch.ones(4, 3, 2)
    states[1] = 0  # its text was dropped
    path = torch.tensor([[0.5, 0.0, -1.0], [0.0] * 3, [0.0] * 3, [0.0, 0.1, -1.3]])[:, None, None].expand(4, 1, 2, 3)
    progress = moments([6], 13)

    class Told(nn.Module):
        def path(self, states, mask, at, aspect):
            assert at is progress and aspect == 2 / 6
            told = torch.tensor([[0.5, 0.0, -1.0], [9.0] * 3, [0.0] * 3, [0.0, 0.5, -1.0]])
            return told[:, None, None].expand(4, 1, 2, 3)

    def told(states, mask, at, grid, led, cells):
        assert at is progress and led is path and grid == (1, 6, 2) and cells.shape == (4, 4)
        drawn.append(cells)
        return spoiled.flatten(3).gather(3, cells[:, None, None].expand(-1, 2, 2, -1))

    told.aim, drawn = Told(), []
    clips, scale = EncodedClips(states, latents, seen, MiniShot(progress, path=path)), torch.tensor([3.0, 1.0])
    losses = drawing_losses(told, clips, True, scale)
    assert (drawn[0] < 8).all() and len(
        drawn[0][0].unique()
    ) == 4  # drawn near the visible half: in the upper four rows
    shown = (drawn[0] < 6).float()  # the upper three rows, which have the edit's errors
    visible = 0.2 + 0.8 * shown
    edit = (9 * 0.01 / 2 * shown * visible / visible.mean()).mean(1)
    each = ((edit + 0.04 / 2) / 2 + 1e-4).sqrt()
    torch.testing.assert_close(losses[0], (each[0] + each[2] + each[3] + 0.01) / 4)
    torch.testing.assert_close(losses[1], torch.tensor((0.2501**0.5 + 2 * 0.01) / 3))
    # Without a mask only lessons train the aim.
    assert drawing_losses(told, clips, False, scale)[1] == 0


def test_a_generated_clip_has_its_object_s_path():
    """The path holds the object's place at the first and the last frame of each latent frame."""
    for seed in range(12):
        pictures, paths, texts, times = generated_clips(seed, 1, 3)
        at = (moments(times, LAST_LATENT + 1) * SPAN).round().int().flatten().tolist()
        clip = make_clip(seed, *pictures.shape[-2:], at)
        assert texts == [clip.instruction]
        torch.testing.assert_close(paths[0], clip.path.unflatten(0, (-1, 2)))
        torch.testing.assert_close(pictures[0, 2, 0, [0, 3]], clip.alpha[[0, 1], 0])


def test_rendered_clips_have_the_form_of_generated_ones():
    pictures, paths, texts, times = rendered_clips(HELD_OUT, 3, 4, 2)
    assert (
        pictures.shape == (4, 5, 3, 8, 80, 144) and paths.shape == (4, 2, 2, 3) and len(times) == 2 and times[-1] <= 2
    )
    clips = {clip.instruction: clip for clip in map(read_clip, folders())}
    frames = [f for t in times for f in frames_of(t)]
    for made, path, text in zip(pictures, paths, texts):
        assert torch.equal(made[1].transpose(0, 1), clips[text].edit[frames])
        assert torch.equal(path[:, 1], clips[text].path[frames[3::4]])
    assert len(set(texts)) == 4 and rendered_clips(HELD_OUT, 3, 4, 2)[2] == texts


def test_missing_rendered_clips_are_refused_before_the_start(tmp_path):
    stage = {"until": 1, "batch": 1, "latents": 1, "keep": 1, "repeats": 1, "rendered": 0.1}
    config = {
        "codec": str(EMBEDDED),
        "seed": 9,
        "steps": 1,
        "stages": [stage],
        "rendered": str(tmp_path),
        "rate": 0.001,
        "ema": 0.9,
        "text_drop": 0.3,
        "mask_keep": 0.5,
        "shift": 2.0,
        "save_every": 2,
        "sample_every": 100,
    }
    with pytest.raises(InputError, match="with_cycles"):
        train(config, tmp_path / "run", lambda: False)


def test_words_that_an_edition_lacks_keep_their_embedding(tmp_path):
    torch.manual_seed(4)
    config = replace(MINI, layers=1)
    old = MiniText(["add", "blue", "red"], config.text_dim)
    save_mini(tmp_path, MiniTransformer(config), old, MiniCodec(width=8, blocks=1), Limits())
    new = MiniText(["add", "a", "red"], config.text_dim)
    fresh = new.embedding.weight.detach().clone()
    start_from(tmp_path, MiniTransformer(config), new)
    theirs, mine = read_weights(tmp_path / "text.safetensors")["embedding.weight"], new.embedding.weight
    assert torch.equal(mine[[0, 1, 2, 4]], theirs[[0, 1, 2, 4]]) and torch.equal(mine[3], fresh[3])
    assert torch.equal(new.norm.weight, read_weights(tmp_path / "text.safetensors")["norm.weight"].float())


def test_latents_cover_all_frames_once():
    frames = [f for t in range(1, LAST_LATENT + 1) for f in frames_of(t)]
    assert frames == list(range(1, SPAN + 1)) and frames_of(0) == [0] * 4


def test_picked_times_cover_every_distance_adjacent_and_scattered():
    rng = random.Random(0)
    picked = [pick_times(rng, 5) for _ in range(500)]
    assert all(len(set(p)) == 5 and p == sorted(p) and 0 <= p[0] and p[-1] <= LAST_LATENT for p in picked)
    assert {b - a for p in picked for a in p for b in p if b > a} == set(range(1, LAST_LATENT + 1))
    runs = sum(p[-1] - p[0] == 4 for p in picked)
    assert 150 < runs < 350 and sum(p[0] == 0 for p in picked) > 150


def test_crossed_detects_a_multiple_in_the_interval():
    assert crossed(95, 103, 100) and crossed(99, 100, 100) and not crossed(100, 108, 100)


def test_a_resumed_run_equals_an_uninterrupted_one(tmp_path, ranks_are_copies):
    torch.manual_seed(0)
    codec = MiniCodec(width=8, blocks=1)
    wide = MiniCodec()
    nn.init.normal_(wide.encoder.weight, std=0.05)
    optimizer = torch.optim.AdamW(codec.parameters())
    save_state(tmp_path / "codec", 0, {"codec": wide}, optimizer)
    config = {
        "codec": str(tmp_path / "codec"),
        "seed": 9,
        "processes": 1,
        "steps": 4,
        "stages": [
            {"until": 2, "batch": 2, "latents": 1, "keep": 1, "repeats": 2, "only": "drawing"},
            {"until": 4, "batch": 1, "latents": 3, "keep": 2, "repeats": 2},
        ],
        "geometry": {"layers": 1},
        "rate": 0.001,
        "ema": 0.9,
        "text_drop": 0.3,
        "mask_keep": 0.5,
        "shift": 2.0,
        "save_every": 2,
        "sample_every": 100,
        "camera_plates": 2,
        "blend_clips": 2,
        "last_aim_steps": 1,
    }
    train(config, tmp_path / "whole", lambda: False)
    train(config | {"last_aim_steps": 0}, tmp_path / "untaught", lambda: False)
    train(config | {"steps": 2, "last_aim_steps": 0}, tmp_path / "part", lambda: False)
    last = json.loads((tmp_path / "part/log.jsonl").read_text().splitlines()[-1])
    assert last["step"] == 2
    train(config | {"workers": 2}, tmp_path / "part", lambda: False)  # workers generate the same clips
    logs = [[json.loads(line)["losses"] for line in (tmp_path / x / "log.jsonl").open()] for x in ("whole", "part")]
    assert len(logs[0]) == 2 and logs[0][1] != logs[0][0]
    whole, part = (load_file(tmp_path / x / "state.safetensors") for x in ("whole", "part"))
    assert logs[0] == logs[1] and all(torch.equal(whole[k], part[k]) for k in whole)
    taught = "drawing.aim.outer.bias"
    assert not torch.equal(
        whole[f"ema_transformer/{taught}"],
        load_file(tmp_path / "untaught/state.safetensors")[f"ema_transformer/{taught}"],
    )
    train(config, tmp_path / "whole", lambda: False)  # a finished run is not taught again
    again = load_file(tmp_path / "whole/state.safetensors")
    assert all(torch.equal(whole[k], again[k]) for k in whole)


def test_a_run_may_start_from_an_edition(tmp_path):
    """Weights and average of transformer and text encoder, and the codec, equal the edition's; its rank starts anew."""
    torch.manual_seed(3)
    config = {
        "codec": str(tmp_path / "edition"),
        "start": str(tmp_path / "edition"),
        "steps": 0,
        "seed": 9,
        "geometry": {"layers": 1},
        "rate": 0.001,
        "ema": 0.9,
        "text_drop": 0.3,
        "mask_keep": 0.5,
        "shift": 2.0,
        "save_every": 2,
        "sample_every": 100,
        "stages": [{"until": 1, "batch": 1, "latents": 1, "keep": 1, "repeats": 1, "shapes": [[32, 32]]}],
    }
    edition = MiniTransformer(replace(MINI, layers=1)), MiniText(vocabulary(), MINI.text_dim), MiniCodec()
    save_mini(tmp_path / "edition", *edition, Limits())
    train(config, tmp_path / "run", lambda: False)
    state = load_file(tmp_path / "run/state.safetensors")
    for name, module in zip(("transformer", "text"), edition):
        shipped = read_weights(tmp_path / f"edition/{name}.safetensors")
        for key in module.state_dict():
            assert torch.equal(state[f"{name}/{key}"], shipped[key].float())
            assert torch.equal(state[f"ema_{name}/{key}"], shipped[key].float())
    codec = load_codec(tmp_path / "edition")
    assert all(torch.equal(codec.state_dict()[k], v) for k, v in edition[2].state_dict().items())
