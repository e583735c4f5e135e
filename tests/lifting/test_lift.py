"""Lifting: edits of known alpha, degraded as video editors degrade them, through `vera lift` to the delivered files."""

import json
from pathlib import Path

import av
import numpy as np
import pytest
import torch

from benchmarks import lift as benchmark
from benchmarks.spoil import spoil
from tests.plate.media import write_image, write_movie
from vera.core.cli import lift, render
from vera.core.data.engine.clips import make_clip
from vera.core.errors import InputError, OutOfMemoryError
from vera.core.job.memory import within_memory
from vera.core.layer.image_file import read_image as pixels
from vera.core.lifting.drift import contrast_kept, without_drift
from vera.core.lifting.layers import least_alpha
from vera.core.lifting.lift_window import lift_clip
from vera.core.lifting.matching import match_frames, refuse_other_picture, same_size
from vera.core.lifting.smooth import blur
from vera.core.plate.color_curve import decode_srgb, encode_srgb
from vera.core.plate.color_space import find_space
from vera.core.recipe import EditRecipe

SIZE = (80, 144)
FRAMES = 5
ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    torch.set_num_threads(1)


def bytes_of(video):
    return [np.ascontiguousarray((f.movedim(0, -1).numpy() * 255).round().astype(np.uint8)) for f in video]


def write_sequence(folder, video, first=1001):
    folder.mkdir(exist_ok=True)
    for k, picture in enumerate(bytes_of(video)):
        write_image(folder / f"v.{first + k}.png", picture)
    return str(folder / "v.####.png")


@pytest.fixture(scope="module")
def clip():
    """A clip of the data engine with these labels, such as a red ball that stands on the ground with its shadow."""
    labels = {"edit": "object", "object": "ball", "color": "red", "size": "large", "place": "left", "motion": "still"}
    return make_clip(7_000_001, *SIZE, torch.arange(FRAMES), labels)


def run(plate, edited, out, *more):
    return lift.main(["--plate", plate, "--edited", edited, "--out", str(out), "--progress", "none", *more])


def read(out, count, first=1001):
    layers = [pixels(out / f"edit/edit.{first + k}.exr") for k in range(count)]
    composites = [pixels(out / f"composite/composite.{first + k}.png") for k in range(count)]
    return np.stack(layers).astype(np.float32), np.stack(composites)


# What is lifted, on small clips; benchmarks/lift.py has the whole table


@pytest.mark.parametrize(
    "way, most_wrong, least_exact, least_gain",
    [("vae", 0.045, 0.93, 2.5), ("h264", 0.02, 0.95, 3), ("quarter", 0.055, 0.85, 0.3)],
)
def test_a_spoiled_edit_comes_back_as_a_clean_layer(clip, way, most_wrong, least_exact, least_gain):
    """Bounds for these small pictures (a quarter of one is 36x20). Full figures: docs/notes/lift-figures.md."""
    edited = spoil(clip.composite, 3, way)
    color, alpha = benchmark.lifted(clip.source, edited)
    composite = alpha * color + (1 - alpha) * clip.source
    shown = torch.nn.functional.interpolate(edited, SIZE, mode="bicubic").clamp(0, 1)
    assert (alpha - clip.alpha).abs().mean() < most_wrong
    assert (alpha[clip.alpha == 0] == 0).float().mean() > least_exact
    assert benchmark.psnr(composite, clip.composite) > benchmark.psnr(shown, clip.composite) + least_gain


@pytest.mark.parametrize("way", ["vae", "h264", "quarter"])
def test_drift_and_noise_alone_are_no_edit(clip, way):
    _, alpha = benchmark.lifted(clip.source, spoil(clip.source, 3, way))
    assert (alpha > 0).float().mean() < 0.001


def test_the_shift_and_the_drift_are_found(clip):
    """A shift of half a pixel and a gain that varies over the frame, without noise: both are found within a tenth."""
    ramp = 0.04 * torch.linspace(-1, 1, SIZE[1]).expand(FRAMES, 3, *SIZE)
    moved = torch.nn.functional.grid_sample(
        clip.source,
        torch.nn.functional.affine_grid(
            torch.tensor([[[1, 0, 1 / SIZE[1]], [0, 1, 0]]]).float().expand(FRAMES, 2, 3), clip.source.shape, False
        ),
        mode="bicubic",
        padding_mode="border",
        align_corners=False,
    )
    found = lift_clip(clip.source, (moved * (1 + ramp)).clamp(0, 1))
    assert (found.moves[:, :, 0] - torch.tensor([-0.5, 0.0])).abs().max() < 0.06
    left = (found.drift.gain * clip.source + found.drift.offset - ramp * clip.source)[..., 8:-8, 8:-8]
    assert left.abs().mean() < 0.1 * (ramp * clip.source).abs().mean()


def test_without_its_drift_a_video_has_the_plates_colours():
    plate = torch.rand(2, 3, *SIZE, generator=torch.Generator().manual_seed(0))
    gain, offset = torch.full_like(plate, 0.25), torch.linspace(-0.1, 0.1, SIZE[1]).expand_as(plate)
    assert (without_drift((1 + gain) * plate + offset, gain, offset) - plate).abs().max() < 1e-6


def test_a_veil_is_not_mistaken_for_drift(clip):
    """Fog over the right half takes a quarter of the contrast. Drift of 5 % and a codec's blur take less."""
    plate = torch.rand(2, 3, *SIZE, generator=torch.Generator().manual_seed(0))
    plate = blur(plate, 3.0) * 2 - 0.5
    edited = blur(1.05 * plate + 0.01, 1.0)
    edited[..., 72:] = torch.lerp(edited[..., 72:], torch.tensor(0.8), 0.25)
    kept = contrast_kept(plate, edited, torch.ones(2, 1, *SIZE))
    assert kept[..., 8:60].mean() > 0.95 and kept[..., 84:-8].mean() < 0.05


@pytest.mark.parametrize("way", ["vae", "h264", "quarter"])
def test_fog_over_everything_is_a_veil_over_everything(clip, way):
    """The layer covers the frame and is half transparent. Its composite is much closer to the true fog than the
    degraded video is."""
    fog = torch.lerp(clip.source, torch.tensor([0.9, 0.88, 0.85])[:, None, None], 0.5)
    edited = spoil(fog, 3, way)
    color, alpha = benchmark.lifted(clip.source, edited)
    assert (alpha > 0).float().mean() > 0.99 and (alpha - 0.5).abs().mean() < 0.1
    composite = alpha * color + (1 - alpha) * clip.source
    assert benchmark.psnr(composite, fog) > benchmark.psnr(same_size(edited, SIZE), fog) + 5


def test_a_faint_veil_with_thick_flakes_in_it_is_not_opaque():
    """Opaque flakes do not raise alpha of the faint veil between them, which stays near one tenth."""
    clip = make_clip(7_000_091, *SIZE, torch.arange(FRAMES), {"edit": "effect", "effect": "snow", "amount": "heavy"})
    _, alpha = benchmark.lifted(clip.source, spoil(clip.composite, 7_000_091, "vae"))
    assert (alpha - clip.alpha).abs().mean() < 0.15 and (alpha[clip.alpha < 0.1] < 0.2).float().mean() > 0.9


def test_enlarging_then_reducing_restores_the_video():
    small = torch.rand(1, 3, 20, 36, generator=torch.Generator().manual_seed(0)).mul(0.5).add(0.25)
    plain = torch.nn.functional.interpolate(small, SIZE, mode="bicubic")
    left = [(same_size(v, (20, 36)) - small).square().mean().sqrt() for v in (same_size(small, SIZE), plain)]
    assert left[0] < 0.5 * left[1]  # of white noise, the hardest


def test_the_least_alpha_puts_a_colour_on_the_edge_of_its_range():
    """At the least alpha that can produce the picture, the straight colour is exactly 0 or 1 in some channel."""
    seen, color = torch.rand(2, 1, 3, 16, 16, generator=torch.Generator().manual_seed(0)).mul(0.9).add(0.05)
    alpha = torch.linspace(0.1, 1, 256).reshape(1, 1, 16, 16)
    clean = alpha * color + (1 - alpha) * seen
    least = least_alpha(seen, clean, torch.zeros(1, 1, 16, 16))
    straight = (clean - (1 - least) * seen) / least
    assert (least <= alpha + 1e-5).all() and straight.min() > -1e-4 and straight.max() < 1 + 1e-4
    assert torch.minimum(straight, 1 - straight).amin(1).abs().max() < 1e-4


def test_a_mask_bounds_the_layer(clip):
    mask = torch.zeros(FRAMES, 1, *SIZE)
    mask[..., : SIZE[0] // 2, :] = 1
    found = lift_clip(clip.source, clip.composite, mask)
    assert not found.alpha[mask == 0].any()


# The door


def test_a_lift_delivers_the_same_files_as_a_render(tmp_path, clip, capsys):
    plate, edited = (
        write_sequence(tmp_path / "in", clip.source),
        write_sequence(tmp_path / "ed", spoil(clip.composite, 3, "h264")),
    )
    out = tmp_path / "out"
    assert run(plate, edited, out) == 0
    layers, composites = read(out, FRAMES)
    filmed = np.stack(bytes_of(clip.source))
    kept = layers[..., 3] == 0
    assert kept.mean() > 0.7 and not layers[kept].any()
    assert composites[kept].tobytes() == filmed[kept].tobytes()
    assert 0.01 < (layers[..., 3] > 0.9).mean() < 0.3
    manifest = json.loads((out / "manifest.json").read_text())
    assert [f["frame"] for f in manifest["frames"]] == list(range(1001, 1001 + FRAMES))
    assert 0.3 < manifest["extra"]["removed"]["shift_pixels"] < 0.7
    assert (out / "report.png").is_file() and not (out / ".job").exists()
    # The recipe is a job of core.render, and the same command has nothing left to do.
    stamps = {p: p.stat().st_mtime_ns for p in out.rglob("*.*")}
    assert render.main([str(out / "recipe.json"), "--progress", "none"]) == 0
    assert run(plate, edited, out) == 0
    assert stamps == {p: p.stat().st_mtime_ns for p in out.rglob("*.*")}


def test_wrong_levels_are_reported(tmp_path, clip, capsys):
    """Full range read as video range washes the picture out, as fog does. The message names both causes."""
    plate = write_sequence(tmp_path / "in", clip.source)
    edited = write_sequence(tmp_path / "ed", 16 / 255 + 219 / 255 * clip.source)
    assert run(plate, edited, tmp_path / "out") == 0
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("warning: ")]
    assert "haze of 1" in line and "levels are wrong" in line
    extra = json.loads((tmp_path / "out" / "manifest.json").read_text())["extra"]
    assert extra["warnings"] == [line.removeprefix("warning: ")] and 0.1 < extra["haze"] < 0.2


def test_a_crop_is_found_reported_and_left_out(tmp_path, clip, capsys):
    """Outside the crop of the edited video the plate keeps its bits."""
    plate = write_sequence(tmp_path / "in", clip.source)
    edited = write_sequence(tmp_path / "ed", clip.composite[..., 16:-16])
    assert run(plate, edited, tmp_path / "out") == 0
    err = capsys.readouterr().err
    assert "% of the plate (x 1" in err and "stays as filmed" in err
    layers, _ = read(tmp_path / "out", FRAMES)
    assert not layers[..., :14, 3].any() and not layers[..., -14:, 3].any() and (layers[..., 3] > 0.9).mean() > 0.01
    told = json.loads((tmp_path / "out" / "manifest.json").read_text())["extra"]["framing"]
    assert told["covered"] == pytest.approx(1 - 32 / SIZE[1], abs=0.02)


def test_every_second_frame_gives_a_layer_for_each(tmp_path, clip, capsys):
    plate = write_sequence(tmp_path / "in", clip.source)
    movie = write_movie(tmp_path / "half.mp4", bytes_of(clip.composite[::2]), options={"crf": "10"})
    assert run(plate, str(movie), tmp_path / "out") == 0
    assert "2 of 5 frames of the plate have no edited one (1002, 1004)" in capsys.readouterr().err
    layers, _ = read(tmp_path / "out", FRAMES)
    assert all((layer[..., 3] > 0.9).mean() > 0.01 for layer in layers)


def test_a_quarter_of_the_size_is_no_other_shot(tmp_path, filmed, capsys):
    plate = write_sequence(tmp_path / "in", filmed[0])
    small = write_sequence(tmp_path / "ed", spoil(with_block(filmed[0]), 3, "quarter"))
    assert run(plate, small, tmp_path / "out") == 0
    layers, _ = read(tmp_path / "out", 5)
    inside = layers[:, 44:76, 54:86, 3]
    assert (inside > 0.9).mean() > 0.98 and (layers[..., 3] == 0).mean() > 0.8


@pytest.mark.parametrize("wrong", ["mirrored", "another shot", "frames", "missing"])
def test_a_wrong_pair_is_refused_in_one_line(tmp_path, clip, capsys, wrong):
    plate = write_sequence(tmp_path / "in", clip.source)
    other = make_clip(7_000_101, *SIZE, torch.arange(FRAMES)).composite
    videos = {
        "mirrored": clip.composite.flip(3),
        "another shot": other,
        "frames": clip.composite[:1],
    }
    edited = write_sequence(tmp_path / "ed", videos[wrong]) if wrong in videos else str(tmp_path / "no.####.png")
    before = sorted(tmp_path.rglob("*"))
    assert run(plate, edited, tmp_path / "out") == 2
    printed = capsys.readouterr()
    (line,) = printed.err.splitlines()
    told = {"frames": "1 frames for a plate of 5", "missing": "no.####.png"}
    assert line.startswith("error: ") and told.get(wrong, wrong) in line and printed.out == ""
    assert sorted(tmp_path.rglob("*")) == before


@pytest.fixture(scope="module")
def filmed():
    """Five frames of the demo's footage, its left and its right part, (T, 3, 144, 144) each."""
    with av.open(str(ROOT / "demo" / "plate.mp4")) as movie:
        pictures = [f.to_ndarray(format="rgb24") for k, f in enumerate(movie.decode(video=0)) if k % 10 == 0]
    video = torch.from_numpy(np.stack(pictures[:5])).movedim(-1, 1).float() / 255
    video = torch.nn.functional.interpolate(video, (144, 256), mode="area")
    return video[..., :144], video[..., 112:]


def with_block(video):
    video = video.clone()
    video[..., 40:80, 50:90] = torch.tensor([0.8, 0.1, 0.1])[:, None, None]
    return video


@pytest.mark.parametrize("way", ["vae", "h264", "quarter"])
def test_real_footage_is_recognised_as_the_plates(filmed, way):
    edited = spoil(with_block(filmed[0]), 3, way)
    refuse_other_picture(same_size(filmed[0], edited.shape[2:]), edited, "v.mp4")


@pytest.mark.parametrize(
    "words, wrong",
    [
        ("mirrored; flip", lambda left, right: with_block(left).flip(3)),
        ("upside down; flip", lambda left, right: left.flip(2)),
        ("another shot", lambda left, right: right),
        ("another shot", lambda left, right: right.flip(3)),
        ("another shot", lambda left, right: same_size(left[..., 24:-24, 24:-24], (144, 144))),
        ("another shot", lambda left, right: make_clip(3, 144, 144, torch.arange(5)).composite),
    ],
)
def test_another_picture_than_the_filmed_one_is_refused(filmed, words, wrong):
    edited = spoil(wrong(*filmed), 3, "h264")
    with pytest.raises(InputError, match=f"^v.mp4: shows [^\\n]*{words}[^\\n]*$"):
        refuse_other_picture(filmed[0], edited, "v.mp4")


def test_a_plate_that_is_its_own_mirror_image_is_believed():
    noise = torch.rand(3, 1, 96, 64, generator=torch.Generator().manual_seed(1)).expand(-1, 3, -1, -1)
    plate = torch.cat([noise, noise.flip(3)], 3)
    refuse_other_picture(plate, spoil(with_block(plate), 3, "h264"), "v.mp4")


def test_with_a_mask_only_what_must_be_kept_is_compared(filmed):
    """A new background: pixels inside the mask do not count for or against a match."""
    mask = torch.ones(5, 1, 144, 144)
    mask[..., 50:100, 60:100] = 0
    edited = spoil(torch.lerp(filmed[0], make_clip(3, 144, 144, torch.arange(5)).composite, mask), 3, "h264")
    refuse_other_picture(filmed[0], edited, "v.mp4", mask)
    with pytest.raises(InputError, match="mirrored"):
        refuse_other_picture(filmed[0], edited.flip(3), "v.mp4", mask)


REFUSED = {
    "region": ["--region", "0,0,9,9"],
    "cuts": ["--cuts", "1003"],
    "keep": ["--keep"],
    "layer mode": ["--layer-mode", "relative"],
    "exposure": ["--exposure", "1"],
    "attention": ["--attention", "int8"],
    "cache": ["--cache", "0.1"],
    "compile": ["--compile"],
    "one batch": ["--one-batch"],
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_a_lift_cannot_do_is_refused(tmp_path, clip, capsys, name):
    plate = write_sequence(tmp_path / "in", clip.source[:1])
    given = ["--plate", plate, "--prompt", "x", "--out", str(tmp_path / "out"), "--model", f"lift:{plate}"]
    assert render.main([*given, *REFUSED[name]]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: {name}: ") and not (tmp_path / "out").exists()


def test_a_lift_takes_colour_spaces_and_formats_as_a_render_does(tmp_path, clip, capsys):
    """Plate in ACEScg, edited video in display values, layer in linear Rec.709: the composite shows the edit."""
    acescg, (height, width) = find_space("ACEScg"), SIZE
    (tmp_path / "in").mkdir()
    light = acescg.from_rec709(decode_srgb(clip.source[:2].movedim(1, -1).contiguous().numpy())).astype(np.float16)
    for k, picture in enumerate(light):
        write_image(tmp_path / f"in/v.{1001 + k}.exr", picture)
    edited, out = write_sequence(tmp_path / "ed", clip.composite[:2]), tmp_path / "out"
    given = [
        "--plate",
        str(tmp_path / "in/v.####.exr"),
        "--model",
        f"lift:{edited}",
        "--prompt",
        "x",
        "--out",
        str(out),
    ]
    given += [
        "--color-space",
        "ACEScg",
        "--layer-space",
        "linear",
        "--also",
        "matte",
        "--verbose",
        "--progress",
        "none",
    ]
    assert render.main(given) == 0
    assert f"lift: {width}x{height}, 2 edited frames" in capsys.readouterr().err
    for k, filmed in enumerate(light):
        layer, composite = (pixels(out / f"{n}/{n}.{1001 + k}.exr") for n in ("edit", "composite"))
        kept = layer[..., 3] == 0
        assert 0.7 < kept.mean() < 0.99 and composite[kept].tobytes() == filmed[kept].tobytes()
        assert layer.shape[2] == 5 and ((layer[..., 4] > 0) == ~kept).mean() > 0.999
        shown = encode_srgb(acescg.to_rec709(composite.astype(np.float32)).clip(0, 1))
        wanted = clip.composite[k].movedim(0, -1).numpy()
        inside = layer[..., 3] > 0.9
        assert inside.mean() > 0.01 and np.abs(shown - wanted)[inside].mean() < 0.02
        over = layer[..., :3] + (1 - layer[..., 3:4]) * acescg.to_rec709(filmed.astype(np.float32))
        assert np.abs(encode_srgb(over.clip(0, 1).astype(np.float32)) - shown)[inside].mean() < 0.004
    assert json.loads((out / "manifest.json").read_text())["plate"]["space"] == "ACEScg"


def test_out_of_memory_is_reported_without_a_retry(tmp_path, clip):
    """A lift has no cheaper settings, unlike a model, so it is not tried again."""
    plate = write_sequence(tmp_path / "in", clip.source[:1])
    tried = []

    def work(job):
        tried.append(job)
        raise MemoryError

    with pytest.raises(OutOfMemoryError):
        within_memory(work, EditRecipe(plate, "x", str(tmp_path / "out"), model=f"lift:{plate}"), "cpu")
    assert len(tried) == 1


def test_wrong_arguments_are_reported_by_vera_lift(capsys):
    assert lift.main(["--plate", "x"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "--edited" in line and "vera lift --help" in line


# Frame rates


@pytest.mark.parametrize(
    "plate, edited, indices, step",
    [
        (5, 5, [0, 1, 2, 3, 4], 1),
        (5, 3, [0, 2, 4], 2),
        (6, 3, [0, 2, 4], 2),
        (9, 3, [0, 3, 6], 3),
        (3, 6, [0, 1, 2], -2),
        (3, 5, [0, 1, 2], -2),
        (3, 7, [0, 1, 2], -3),
    ],
)
def test_frames_are_matched_by_a_whole_step(plate, edited, indices, step):
    assert match_frames(plate, edited, "v.mp4") == (indices, step)
