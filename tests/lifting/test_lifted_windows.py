"""Windows in time: what is kept is one video again, and a stop costs no window that was whole."""

import json

import numpy as np
import pytest
import torch

from benchmarks.spoil import spoil
from tests.plate.media import write_image
from vera.core.backends import lift as lift_backend
from vera.core.cli import lift, render
from vera.core.data.engine.clips import make_clip
from vera.core.lifting.lift_window import STEPS, lift_clip
from vera.core.lifting.lifted_windows import OVERLAP, KeptWindows, LiftedVideo, neighbours, windows_of

SIZE = (64, 96)


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    torch.set_num_threads(1)


@pytest.mark.parametrize("count, longest", [(5, 20), (20, 20), (21, 20), (100, 20), (57, 3), (300, 51)])
def test_windows_cover_all_and_share_their_ends(count, longest):
    found = windows_of(count, longest)
    assert found[0][0] == 0 and found[-1][1] == count
    assert all(0 < end - start <= max(longest, 2 * OVERLAP) for start, end in found)
    assert all(a[1] - b[0] == OVERLAP for a, b in zip(found, found[1:]))


def test_a_frame_between_two_edited_ones_lies_between_them_and_one_beyond_goes_on_for_a_step():
    assert [neighbours([1, 3, 5], i) for i in range(10)] == [
        (0, 1, -0.5),
        (0, 0, 0.0),
        (0, 1, 0.5),
        (1, 1, 0.0),
        (1, 2, 0.5),
        (2, 2, 0.0),
        (1, 2, 1.5),
        (1, 2, 2.0),
        (1, 2, 2.0),
        (1, 2, 2.0),
    ]
    assert neighbours([0], 3) == (0, 0, 0.0)


def layers_of(values):
    """Windows of one pixel: colour 0.5 and the given alphas, premultiplied."""
    alpha = torch.tensor(values, dtype=torch.float32)[:, None, None, None]
    return torch.cat([0.5 * alpha.expand(-1, 3, 1, 1), alpha, torch.full((len(values), 9, 1, 1), 0.25)], 1)


def test_two_windows_are_mixed_where_they_overlap_and_nowhere_else(tmp_path):
    count = 24
    kept = KeptWindows(tmp_path, list(range(count)), 16)
    (a, b), (c, d) = kept.windows
    kept.keep(0, layers_of([0.25] * (b - a)), {"x": 1.0})
    assert kept.missing() == [1]
    kept.keep(1, layers_of([0.75] * (d - c)), {"x": 2.0})
    video = LiftedVideo(kept)
    alphas = [float(video[i][3]) for i in range(count)]
    assert all(torch.allclose(video[i][:3], torch.tensor(0.5)) for i in range(count)) and video.found == {"x": 1.5}
    mixed = [0.25 + 0.5 * (k + 1) / (OVERLAP + 1) for k in range(OVERLAP)]
    assert alphas == pytest.approx([0.25] * c + mixed + [0.75] * (count - b), abs=1e-6)


def test_layers_between_are_mixed_by_distance(tmp_path):
    kept = KeptWindows(tmp_path, [0, 2, 4], 16)
    kept.keep(0, layers_of([0.0, 0.5, 1.0]), {"x": 0.0})
    video = LiftedVideo(kept)
    assert [float(video[i][3]) for i in range(6)] == [0, 0.25, 0.5, 0.75, 1, 1]


@pytest.mark.parametrize("indices", [list(range(24)), [2 * k for k in range(24)]])  # each frame edited, and every other
def test_alpha_alone_is_that_of_the_layer(tmp_path, indices):
    kept = KeptWindows(tmp_path, indices, 16)
    for number, (start, end) in enumerate(kept.windows):
        kept.keep(number, layers_of([(k % 5 + number) / 8 for k in range(start, end)]), {"x": 0.0})
    video = LiftedVideo(kept)
    for frame in range(indices[-1] + 2):
        assert torch.equal(video.alpha(frame), video[frame][3:4])


def test_a_gain_between_lies_on_its_own_plate(tmp_path):
    """The plate's level is other on each frame, as where something moves through it."""
    plate = torch.tensor([0.2, 0.9, 0.4])[:, None, None, None].expand(-1, 3, 4, 4)
    whole = torch.ones(3, 3, 4, 4)
    lit = torch.cat([0.5 * plate, whole[:, :1], 0.5 * plate, 0.5 * whole, whole], 1)
    kept = KeptWindows(tmp_path, [0, 2], 16)
    kept.keep(0, lit[[0, 2]], {"x": 0.0})
    assert torch.allclose(LiftedVideo(kept, lambda i: plate[i])[1][:3], 0.5 * plate[1], atol=1e-3)


def test_every_step_is_reported():
    clip, told = make_clip(7_000_001, *SIZE, torch.arange(3)), []
    lift_clip(clip.source, clip.composite, step_done=lambda: told.append(1))
    assert len(told) == STEPS


def test_a_stop_keeps_whole_windows_and_the_next_command_goes_on(tmp_path, monkeypatch):
    """Stopped in the second of three windows, it goes on there, and ends as an undisturbed command does."""
    clip = make_clip(7_000_001, *SIZE, torch.arange(30))
    for name, video in (("in", clip.source), ("ed", spoil(clip.composite, 3, "h264"))):
        (tmp_path / name).mkdir()
        for k, frame in enumerate(video):
            pixels = (frame.movedim(0, -1).numpy() * 255).round().astype(np.uint8)
            write_image(tmp_path / name / f"v.{1001 + k}.png", np.ascontiguousarray(pixels))
    monkeypatch.setattr(lift_backend, "WINDOW_PIXELS", 16 * SIZE[0] * SIZE[1])
    lifted, asked = [], []
    monkeypatch.setattr(lift_backend, "lift_clip", lambda *a: lifted.append(len(a[0])) or lift_clip(*a))

    def run(out, stop_at=None):
        monkeypatch.setattr(render, "stop_request", lambda: lambda: asked.append(1) or len(asked) == stop_at)
        given = [
            "--plate",
            str(tmp_path / "in/v.####.png"),
            "--edited",
            str(tmp_path / "ed/v.####.png"),
            "--out",
            str(tmp_path / out),
        ]
        return lift.main([*given, "--progress", "none"])

    assert run("undisturbed") == 0
    number = len(lifted)
    assert number == len(windows_of(30, 16)) >= 3
    lifted.clear(), asked.clear()
    assert run("out", STEPS + 2) == 3
    assert len(lifted) == 2 and len(list((tmp_path / "out/.job").glob("lifted-*.safetensors"))) == 1
    lifted.clear()
    assert run("out") == 0 and len(lifted) == number - 1
    frames = [json.loads((tmp_path / out / "manifest.json").read_text())["frames"] for out in ("undisturbed", "out")]
    assert frames[0] == frames[1]


@pytest.mark.parametrize("damage", ["flip", "cut", "link", "other job"])
def test_a_damaged_window_is_missing(tmp_path, damage):
    kept = KeptWindows(tmp_path, list(range(24)), 16, "job")
    for k, (start, end) in enumerate(kept.windows):
        kept.keep(k, layers_of([0.5] * (end - start)), {"x": 1.0})
    assert kept.missing() == []
    content = bytearray(kept.files[1].read_bytes())
    if damage == "flip":
        content[-3] ^= 4
        kept.files[1].write_bytes(content)
    elif damage == "cut":
        kept.files[1].write_bytes(content[:-1])
    elif damage == "link":
        kept.files[1].unlink()
        kept.files[1].symlink_to(kept.files[0])
    else:
        kept.job = "another"
    assert kept.missing() == ([0, 1] if damage == "other job" else [1])
