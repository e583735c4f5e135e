"""The sampler on velocity fields whose result is known.

The scheduler rounds noise levels to thousandths, as Wan's does, which limits the tolerances.
"""

import pickle
from dataclasses import replace

import pytest
import torch
from torch import nn

from vera.core.errors import StoppedError
from vera.core.model.mini.camera import Camera, follow
from vera.core.model.mini.drawing import moments
from vera.core.model.mini.shot import MiniShot
from vera.core.sampling.denoise import (
    MAX_CACHES,
    ClipInputs,
    SamplingRun,
    SamplingSettings,
    denoise,
    seeded_noise,
)
from vera.core.sampling.denoise import sample as sample_frames
from vera.core.sampling.latent_store import InMemory, States, StatesInMemory
from vera.core.sampling.speed_options import SpeedOptions
from vera.core.sampling.time_windows import windows

CLEAN = torch.linspace(-1, 1, 3 * 2 * 3 * 4 * 4).reshape(1, 3, 2, 3, 4, 4)
SOURCE = torch.zeros(1, 2, 3, 4, 4)
SETTINGS = SamplingSettings(seed=5, steps=8, guidance=1, shift=2.0)
EMPTY = torch.zeros(1, 1, 1)


class ExactField(nn.Module):
    """The exact velocity field of one clean sample: (x - clean) / sigma. Text scales the sample."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))
        self.seen = []

    def read_shot(self, source, mask, window):
        return None

    def forward(self, latents, timestep, text, source, mask=None, shot=None, cache=None):
        self.seen.append(float(timestep[0]))
        return (latents - CLEAN * text.mean()) / (timestep / 1000).reshape(-1, 1, 1, 1, 1, 1)


def sample(model=None, run=None, **changes):
    clip = ClipInputs.of_tensors(torch.ones(1, 1, 1), EMPTY, SOURCE)
    return denoise(model or ExactField(), clip, replace(SETTINGS, **changes), run)


@pytest.mark.parametrize("steps", [1, 2, 8, 30])
def test_an_exact_field_gives_its_sample(steps):
    torch.testing.assert_close(sample(steps=steps), CLEAN, atol=5e-3, rtol=0)


def test_guidance_extrapolates_beyond_the_prompt():
    torch.testing.assert_close(sample(guidance=3.0), 3 * CLEAN, atol=1.5e-2, rtol=0)


def test_guidance_of_one_runs_one_pass_per_step():
    one, two = ExactField(), ExactField()
    sample(one)
    sample(two, guidance=2.0)
    assert len(one.seen) == 8 and len(two.seen) == 16


def test_noise_levels_decrease_from_the_highest():
    model = ExactField()
    sample(model)
    assert model.seen == sorted(model.seen, reverse=True) and model.seen[0] > 990


def test_noise_of_a_frame_depends_only_on_seed_and_frame_number():
    whole = seeded_noise(7, 0, 9, (2, 3))
    assert whole.shape == (9, 2, 3) and torch.equal(whole[4:6], seeded_noise(7, 4, 6, (2, 3)))
    assert not torch.equal(whole[0], whole[1]) and not torch.equal(whole, seeded_noise(8, 0, 9, (2, 3)))
    assert len({float(seeded_noise(seed, at, at + 1, (1, 1))) for seed in (0, 1, 2**63 - 1) for at in range(9)}) == 27
    noise = seeded_noise(1, 0, 10, (1, 10000))
    assert abs(noise.mean()) < 0.01 and abs(noise.std() - 1) < 0.01 and abs(noise[:-1].mul(noise[1:]).mean()) < 0.02


def test_noise_of_coarse_channels_does_not_depend_on_how_many_follow():
    alone = seeded_noise(3, 2, 4, (3, 4, 5, 6))
    for more in (1, 9):
        noise = seeded_noise(3, 2, 4, (3, 4 + more, 5, 6), coarse=4)
        assert noise.shape == (2, 3, 4 + more, 5, 6) and torch.equal(noise[:, :, :4], alone)
        assert abs(noise[:, :, 4:].mean()) < 0.2 and not torch.equal(noise[:, :, 4], noise[:, :, 0])


def test_sampling_stops_between_steps():
    model = ExactField()
    with pytest.raises(StoppedError, match="in step 4 of 8"):
        sample(model, SamplingRun(stopping=lambda: len(model.seen) == 3))
    assert len(model.seen) == 3


def test_sampling_stops_between_the_guidance_passes():
    model = ExactField()
    with pytest.raises(StoppedError, match="in step 2 of 8"):
        sample(model, SamplingRun(stopping=lambda: len(model.seen) == 3), guidance=2.0)
    assert len(model.seen) == 3


# Clips longer than a window

LONG = torch.linspace(-1, 1, 2 * 30 * 4 * 4).reshape(1, 2, 30, 4, 4).sin()


class Pointwise(ExactField):
    """The exact field whose sample is the source times 1, 2 and 3 in the three layers, for any window."""

    def forward(self, latents, timestep, text, source, mask=None, shot=None, cache=None):
        self.seen.append(latents.shape[3])
        clean = torch.stack([source, 2 * source, 3 * source], dim=1)
        return (latents - clean) / (timestep / 1000).reshape(-1, 1, 1, 1, 1, 1)


class WindowDependent(ExactField):
    """A field that differs between windows: its sample is the number of the window's first frame, from the source."""

    def forward(self, latents, timestep, text, source, mask=None, shot=None, cache=None):
        self.seen.append(float(source[0, 0, 0, 0, 0]))
        return (latents - self.seen[-1]) / (timestep / 1000).reshape(-1, 1, 1, 1, 1, 1)


def sample_long_clip(model, source=LONG, run=None, **changes):
    clip = ClipInputs.of_tensors(torch.ones(1, 1, 1), EMPTY, source)
    return denoise(model, clip, replace(SETTINGS, **changes), run)


def test_windows_of_one_field_give_the_result_of_one_window():
    model = Pointwise()
    windowed = sample_long_clip(model, window=7)
    assert set(model.seen) == {7} and len(model.seen) > 8 * 4
    torch.testing.assert_close(windowed, sample_long_clip(Pointwise()), rtol=0, atol=1e-5)
    torch.testing.assert_close(windowed[:, 2], 3 * LONG, rtol=0, atol=2e-2)


class Reader(Pointwise):
    """A model with shot conditioning that records each window's first frame and its part of the conditioning."""

    def __init__(self):
        super().__init__()
        self.camera = Camera(2)
        nn.init.normal_(self.camera.along.weight)
        self.windows = []

    def read_shot(self, source, mask, window):
        return MiniShot.read(self.camera, source, mask, window)

    def forward(self, latents, timestep, text, source, mask=None, shot=None, cache=None):
        self.windows.append((int(source[0, 0, 0, 0, 0] * 1000), shot))
        return super().forward(latents, timestep, text, source, mask, shot, cache)


MOVING_PLATE = LONG + torch.arange(30.0).view(30, 1, 1)


def test_each_window_gets_its_part_of_the_shot_conditioning():
    model = Reader()
    sample_long_clip(model, MOVING_PLATE, window=9)
    views = follow(model.camera, InMemory(MOVING_PLATE[0].movedim(1, 0)))
    starts = {int(MOVING_PLATE[0, 0, k, 0, 0] * 1000): k for k in range(30)}
    assert len({start for start, _ in model.windows}) > 3
    for start, shot in model.windows:
        at = slice(starts[start], starts[start] + 9)
        assert torch.equal(shot.views, views[at])
        assert torch.equal(shot.progress, moments(range(30), 30)[at])


@pytest.mark.parametrize("moves", [False, True])
def test_a_moving_mask_replaces_the_camera_motion(moves):
    model, masks = Reader(), torch.ones(1, 2, 30, 4, 4)
    masks[:, :, 20:] = 1 + moves
    denoise(model, ClipInputs.of_tensors(torch.ones(1, 1, 1), None, MOVING_PLATE, masks), replace(SETTINGS, window=9))
    assert all((shot.views is None) == moves for _, shot in model.windows)


def test_windows_with_different_fields_leave_no_seam():
    """Without blending, neighbouring windows of 9 frames would differ by 6 and more."""
    numbers = torch.arange(60.0).reshape(1, 1, 60, 1, 1)
    made = sample_long_clip(WindowDependent(), numbers, window=9, steps=8)[0, 0, 0, :, 0, 0]
    jumps = made.diff().abs()
    assert made[-1] - made[0] > 45  # the windows do disagree
    assert jumps.max() < 2.5


def test_noise_does_not_depend_on_the_length_of_the_shot():
    class Still(ExactField):
        def forward(self, latents, *given, **named):
            return torch.zeros_like(latents)

    whole, part = (
        sample_long_clip(Still(), steps=1, window=7),
        sample_long_clip(Still(), LONG[:, :, :11], steps=1, window=7),
    )
    assert torch.equal(whole[:, :, :, :11], part)


def test_the_sampler_reads_no_more_than_a_window_at_once():
    class RecordingLatents(InMemory):
        def read(self, start, stop):
            asked.append(stop - start)
            return super().read(start, stop)

    asked = []
    source = RecordingLatents(LONG[0].movedim(1, 0))
    text = torch.ones(1, 1, 1)
    settings = replace(SETTINGS, steps=2, window=7)
    sample_frames(Pointwise(), ClipInputs(text, text, source, source), settings, SamplingRun())
    assert set(asked) == {7}


@pytest.mark.parametrize("stop_at", [1, 3, 5, 6, 7, 23])
def test_sampling_stopped_anywhere_resumes_to_the_same_bits(tmp_path, stop_at):
    source, text = InMemory(LONG[0].movedim(1, 0)), torch.ones(1, 1, 1)

    def run(states, model, stopping=lambda: False):
        settings = replace(SETTINGS, steps=4, window=7)
        state = sample_frames(model, ClipInputs(text, text, source), settings, SamplingRun(states, stopping=stopping))
        return state.read(0, 30)

    whole, first, second = WindowDependent(), WindowDependent(), WindowDependent()
    expected = run(StatesInMemory(), whole)
    with pytest.raises(StoppedError):
        run(States(tmp_path, "state", {}), first, lambda: len(first.seen) == stop_at)
    assert torch.equal(run(States(tmp_path, "state", {}), second), expected)
    # At most the windows of one step are evaluated twice.
    assert (
        len(whole.seen)
        <= len(first.seen) + len(second.seen)
        < len(whole.seen) + max(len(windows(30, 7, i)) for i in range(4))
    )


@pytest.mark.parametrize("length", [12, 60])
def test_each_window_and_pass_has_its_own_cache_up_to_the_limit(length):
    class CacheRecorder(ExactField):
        def forward(self, latents, timestep, text, source, mask=None, shot=None, cache=None):
            if cache.cache:
                caches.setdefault(id(cache.cache), set()).add((float(source[0, 0, 0, 0, 0]), float(text.mean())))
            return latents

    caches = {}
    numbers = torch.arange(float(length)).reshape(1, 1, length, 1, 1)
    sample_long_clip(CacheRecorder(), numbers, window=9, guidance=3.0, steps=9, speed=SpeedOptions(cache=0.1))
    assert all(len(served) == 1 for served in caches.values())
    starts = {w.start for i in range(4) for w in windows(length, 9, i)}
    assert len(caches) == min(2 * len(starts), MAX_CACHES) and (length == 12) == (2 * len(starts) <= MAX_CACHES)


def test_sampling_stops_between_blocks():
    """A full-size pass can take minutes."""

    class Blocks(ExactField):
        def forward(self, latents, timestep, text, source, mask=None, shot=None, cache=None):
            cache.run([lambda x: seen.append("block") or x] * 40, latents)
            return latents

    seen = []
    with pytest.raises(StoppedError):
        run = SamplingRun(stopping=lambda: len(seen) >= 7)
        sample_long_clip(Blocks(), torch.zeros(1, 1, 3, 1, 1), run, window=3, steps=2)
    assert len(seen) == 7


def test_windows_of_a_step_may_be_computed_in_any_order():
    """A runner that goes backwards with a pickled copy of the inputs gives the same bits, as other machines must."""

    def run_backwards(guided, transformer, inputs, caches, check):
        inputs, copy = list(inputs), pickle.loads(pickle.dumps(guided))
        return reversed([copy(transformer, *window, caches, check) for window in reversed(inputs)])

    in_order = sample_long_clip(WindowDependent(), window=7, guidance=2.0)
    backwards = SamplingRun(window_runner=run_backwards)
    assert torch.equal(sample_long_clip(WindowDependent(), run=backwards, window=7, guidance=2.0), in_order)
