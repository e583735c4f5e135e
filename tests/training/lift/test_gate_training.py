"""Training of the lift's gate: the clips are edits, a stopped run resumes, and a separable task is learnt."""

import random
from dataclasses import fields, replace

import pytest
import torch
from safetensors.torch import load_file

from vera.core.errors import InputError
from vera.core.lifting.gate import COMPOSITES, FEATURES, MATTES, Estimate, Gate, GateInputs, frame_inputs
from vera.core.training.console import Console
from vera.core.training.lift import gate_training, spoils
from vera.core.training.lift.gate_training import NETWORK, GateSettings, mirrored, train
from vera.core.training.lift.kinds import KINDS, Draw, real_plate
from vera.core.training.lift.spoils import Worst, spoil, through_codec

SIZE = (48, 80)
CONFIG = {"train": "lift", "seed": 5, "clips": 3, "held_out": 1, "sizes": [[64, 64]], "steps": 600, "batch": 128}


@pytest.fixture(scope="module")
def plate():
    return real_plate(random.Random(1), torch.Generator().manual_seed(1), torch.arange(3), *SIZE)


@pytest.mark.parametrize("kind", KINDS, ids=lambda k: k.__name__)
def test_a_kind_is_an_edit_in_range_drawn_the_same_again(kind, plate):
    color, alpha = kind(Draw(random.Random(3), torch.Generator().manual_seed(3), plate))
    again, same = kind(Draw(random.Random(3), torch.Generator().manual_seed(3), plate))
    assert torch.equal(color, again) and torch.equal(alpha, same)
    assert color.shape == plate.shape and alpha.shape == (3, 1, *SIZE)
    assert 0 <= color.min() and color.max() <= 1 and 0 <= alpha.min() and alpha.max() <= 1
    changed = (torch.lerp(plate, color, alpha) - plate).abs().amax()
    assert (changed > 0.01) == (kind.__name__ != "nothing")


@pytest.mark.parametrize("name", ["libx264", "libx265"])
def test_a_codec_gives_the_picture_back_but_for_its_loss(name):
    grey = torch.rand(3, 1, 6, 10, generator=torch.Generator().manual_seed(1)).expand(-1, 3, -1, -1)
    video = torch.nn.functional.interpolate(grey, SIZE, mode="bicubic").clamp(0, 1)
    assert (through_codec(video, name, 16) - video).abs().mean() < 0.02


def test_spoils_are_drawn_the_same_again(plate):
    first, second = spoil(plate, 7), spoil(plate, 7)
    assert torch.equal(first, second)
    assert not torch.equal(first, torch.nn.functional.interpolate(plate, first.shape[2:], mode="area"))


def test_each_clip_has_a_noise_of_its_own(plate, monkeypatch):
    """With all but the noise switched off, what two seeds add is not alike."""
    monkeypatch.setattr(spoils, "CODECS", ("none",))
    noise_alone = Worst(0.3, 0, 0, 0, 0, 0, 0, 0, noise=0.1)
    added = []
    for seed in range(20):
        rest = spoil(plate, seed, noise_alone) - plate if spoil(plate, seed, noise_alone).shape == plate.shape else None
        if rest is not None and rest.std() > 0.02:
            added.append(rest[:, :, 4:-4, 4:-4].flatten())
    first, second = added[:2]
    assert abs(float(torch.corrcoef(torch.stack([first, second]))[0, 1])) < 0.1


def samples(count, seed):
    """Pixels of which one feature tells the truth: whether the edit changed them, all of alpha, and the colour."""
    gen = torch.Generator().manual_seed(seed)
    truth = (torch.rand(count, generator=gen) > 0.5).float()
    features = torch.randn(count, FEATURES, generator=gen)
    features[:, 7] = 4 * truth - 2 + 0.5 * features[:, 7]
    plate, edited = torch.full((count, 3), 0.2), torch.full((count, 3), 0.8)
    composites = torch.stack([plate, edited, *[torch.rand(count, 3, generator=gen) for _ in range(COMPOSITES - 2)]], 1)
    mattes = torch.stack([torch.zeros(count), torch.ones(count), *torch.rand(MATTES - 2, count, generator=gen)], 1)
    noise, one = torch.full((count, 1), 0.01), torch.ones(count)
    found = {"features": features, "composites": composites, "mattes": mattes, "plate": plate, "noise": noise}
    composite = torch.lerp(plate, edited, truth[:, None])
    return found | {"alpha": truth, "composite": composite, "weight": one, "share": 10 * one}


@pytest.fixture
def planted(monkeypatch):
    """Such samples, and no clip is lifted."""

    class NoClip:
        kind = "planted"

    monkeypatch.setattr(gate_training, "training_clip", lambda settings, number: NoClip())
    monkeypatch.setattr(
        gate_training,
        "samples_of",
        lambda clip, most, seed: {k: v.half().contiguous() for k, v in samples(400, seed).items()},
    )


def test_a_separable_task_is_learnt(tmp_path, planted):
    train(CONFIG, tmp_path, lambda: False, Console(silent=True))
    gate = Gate()
    gate.load_state_dict(load_file(tmp_path / NETWORK))
    asked = samples(200, 99)
    answer = gate(GateInputs(**{f.name: asked[f.name] for f in fields(GateInputs)}))
    changed = asked["alpha"] > 0
    assert answer.logit[changed].min() > 0 > answer.logit[~changed].max()
    assert (answer.alpha - asked["alpha"]).abs().mean() < 0.1
    assert (answer.color[changed] - 0.8).abs().mean() < 0.1


def test_the_shares_of_a_clips_pixels_add_up_to_its_error():
    """Weighted by their share, the estimate's squared errors are one clip's, near the change."""
    settings = GateSettings(sizes=((64, 96),), frames=2, clips=2, held_out=1, engine=1.0)
    clip = gate_training.training_clip(settings, 0)
    found = {k: v.float() for k, v in gate_training.samples_of(clip, 20_000, 0).items()}
    error = (found["composites"][:, 0] - found["composite"]).square().mean(1)
    assert 0.9 < float((error * found["share"]).sum()) / gate_training.SHARE_SCALE < 1.01


def test_a_run_that_was_stopped_ends_as_one_that_was_not(tmp_path, planted):
    """Stopped among the clips, and among the steps."""
    train(CONFIG, tmp_path / "whole", lambda: False, Console(silent=True))
    for calls in (2, 300, 10_000):
        left = iter(range(calls))
        train(CONFIG, tmp_path / "stopped", lambda: next(left, None) is None, Console(silent=True))
    whole, stopped = (load_file(tmp_path / run / NETWORK) for run in ("whole", "stopped"))
    assert all(torch.equal(whole[name], stopped[name]) for name in whole)


def test_a_damaged_sample_is_regenerated(tmp_path, planted):
    train(CONFIG | {"steps": 1}, tmp_path, lambda: False, Console(silent=True))
    sample = tmp_path / "samples" / "000001.safetensors"
    whole = sample.read_bytes()
    sample.write_bytes(whole[:100])
    train(CONFIG | {"steps": 2}, tmp_path, lambda: False, Console(silent=True))
    assert sample.read_bytes() == whole


@pytest.mark.parametrize("wrong", [{"clips": 1}, {"ratee": 1}, {"held_out": 3}, {"frames": 1}])
def test_wrong_settings_are_refused_before_work(tmp_path, wrong):
    with pytest.raises(InputError):
        train(CONFIG | wrong, tmp_path / "run", lambda: False, Console(silent=True))
    assert not (tmp_path / "run").exists()


def test_the_shipped_configuration_is_read():
    from vera.core.training.configuration import read_config, read_settings

    read_settings(GateSettings, read_config(gate_training.Path(gate_training.__file__).with_name("gate.json")))


@pytest.mark.parametrize("seed", range(4))
def test_mirrored_samples_are_those_of_the_mirrored_clip(seed):
    """Channels exchanged, a negative, time reversed: features are the same whether made before or after."""
    gen = torch.Generator().manual_seed(1)
    videos = [torch.rand(3, c, 24, 32, generator=gen) for c in (3, 3, 3, 1, 3, 1, 3, 1, 1)]
    estimate = Estimate(*videos)
    found = frame_inputs(estimate, 1)
    rows = {f.name: getattr(found, f.name).flatten(-2).movedim(-1, 0) for f in fields(GateInputs)}
    rows["composite"] = rows["plate"]
    chance = torch.Generator().manual_seed(seed)
    got = mirrored(rows, chance)
    chance.manual_seed(seed)
    channels = torch.randperm(3, generator=chance)
    negative, backward = (torch.rand(2, generator=chance) < 0.5).tolist()
    of_pictures = {}
    for name in ("plate", "seen", "clean", "color"):
        value = getattr(estimate, name)[:, channels]
        of_pictures[name] = 1 - value if negative else value
    other = replace(estimate, **of_pictures)
    if backward:
        other = Estimate(*(getattr(other, f.name).flip(0) for f in fields(Estimate)))
    want = frame_inputs(other, 1).features.flatten(1).T
    # luma weighs the channels, so that the features of movement change with them
    same = [i for i in range(FEATURES) if i not in (59, 61)]
    assert torch.allclose(got["features"][:, same], want[:, same], atol=2e-3)
