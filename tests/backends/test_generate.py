"""The way of a shot on a tiny random model: any length, cuts, regions, windows of every kind, kept latents."""

import json
import os
import shutil
import threading
from dataclasses import replace
from functools import partial
from types import SimpleNamespace

import numpy as np
import OpenImageIO as oiio
import pytest
import torch

from tests.layer.test_drawn_object import Disc
from tests.plate.media import noise, write_image, write_movie, write_noise
from tests.tiny import WINDOW, composite_file, draw, keep_some, make, tiny_model
from vera.core.backends import generate as backend
from vera.core.backends import shot_shapes
from vera.core.backends.generate import GenerateJob
from vera.core.errors import InputError, StoppedError
from vera.core.layer.backdrop import backdrop
from vera.core.layer.backdrop.plate_motion import Motion
from vera.core.layer.image_file import read_image
from vera.core.model.interfaces import ShotBackground, Subject
from vera.core.plate.color import PlateColor
from vera.core.plate.color_space import LINEAR, SRGB, find_space
from vera.core.plate.movie import Movie
from vera.core.plate.region import Region
from vera.core.sampling import kept_people
from vera.core.sampling.solver import Solver
from vera.kernels.over import over

SIZE = (36, 64)


@pytest.fixture(scope="module")
def model():
    return tiny_model()


@pytest.fixture
def looked(model, monkeypatch):
    """The windows that the transformer has looked at."""
    seen, forward = [], type(model.transformer).forward

    def watched(self, latents, *given, **named):
        seen.append(latents.shape[3])
        return forward(self, latents, *given, **named)

    monkeypatch.setattr(type(model.transformer), "forward", watched)
    return seen


write_plate = partial(write_noise, size=SIZE)


def delivered(out):
    """Pixel hashes of the layer and the composite by frame, from the manifest."""
    manifest = json.loads((out / "manifest.json").read_text())
    return {e["frame"]: (e["edit"]["pixels"], e["composite"]["pixels"]) for e in manifest["frames"]}


def layer(out, frame):
    return read_image(out / f"edit/edit.{frame:04d}.exr")


def composite(out, frame):
    return read_image(composite_file(out, frame))


# Length


@pytest.mark.parametrize("count", [1, WINDOW, WINDOW + 1, 19])
def test_exactly_as_many_frames_as_there_are(tmp_path, model, looked, count):
    out = tmp_path / "out"
    make(model, write_plate(tmp_path / "in", range(1001, 1001 + count)), out)
    assert list(delivered(out)) == list(range(1001, 1001 + count))
    assert max(looked) <= 3 and (len(looked) > 4) == (count > WINDOW)
    assert not (out / ".job").exists() and not (out / "kept").exists()


def test_bits_stay_where_alpha_is_zero_after_windows(tmp_path, model, monkeypatch):
    draw(monkeypatch, keep_some)
    plate, out = write_plate(tmp_path / "in", range(1, 15)), tmp_path / "out"
    make(model, plate, out)
    for frame in range(1, 15):
        kept = layer(out, frame)[..., 3] == 0
        assert 0.2 < kept.mean() < 0.9
        filmed = read_image(tmp_path / f"in/plate.{frame:04d}.exr")
        assert composite(out, frame)[kept].tobytes() == filmed[kept].tobytes()


@pytest.mark.parametrize(
    "kind, extension, bits, tiles, count, region",
    [
        (np.float16, "exr", 16, 10, 1, "700,300,1500,900"),  # 4K
        (np.float16, "exr", 16, 2, 2, "140,60,300,180"),
        (np.float32, "exr", 32, 2, 1, "200,60,300,180"),
        (np.uint16, "dpx", 16, 2, 1, "0,0,355,201"),
        (np.uint16, "dpx", 10, 2, 1, "401,222,355,201"),
        (np.uint8, "dpx", 8, 2, 1, "401,0,355,201"),
    ],
)
def test_bits_stay_at_any_size(tmp_path, model, monkeypatch, kind, extension, bits, tiles, count, region):
    """NaN, infinities, -0.0 and denormals included, after windows: one in space, and of halves two in time."""
    draw(monkeypatch, keep_some)
    single_frames = replace(model, limits=replace(model.limits, max_frames=1))
    (tmp_path / "in").mkdir()
    for frame in range(1, 1 + count):
        pixels = np.tile(noise(frame, kind, (216, 384), planted=extension == "exr"), (tiles, tiles, 1))
        file = tmp_path / f"in/plate.{frame:04d}.{extension}"
        write_image(file, pixels, compression="none", oiio__BitsPerSample=bits)
    plate, out = tmp_path / f"in/plate.####.{extension}", tmp_path / "out"
    make(single_frames, plate, out, region=region, compression="none", steps=1, guidance=1.0, cuts="none")
    for frame in range(1, 1 + count):
        filmed, laid = read_image(tmp_path / f"in/plate.{frame:04d}.{extension}"), composite(out, frame)
        kept = layer(out, frame)[..., 3] == 0
        assert laid.shape == (216 * tiles, 384 * tiles, 3) and laid.dtype == kind and 0.8 < kept.mean() < 0.98
        same = (laid.view(f"u{laid.itemsize}") == filmed.view(f"u{laid.itemsize}")).all(-1)
        assert same[kept].all() and not same[~kept].all()
        if extension == "exr":
            assert np.isnan(filmed[kept]).any() and (filmed[kept].view(f"u{filmed.itemsize}") == 1).any()


def test_shots_between_cuts_are_what_they_would_be_alone(tmp_path, model):
    plate = write_plate(tmp_path / "in", range(1, 16))
    job, report = make(model, plate, tmp_path / "all", cuts="4,15")
    assert report["shots"] == [[1, 3], [4, 14], [15, 15]]
    alone = {}
    for i, frames in enumerate(("1-3", "4-14", "15")):
        make(model, plate, tmp_path / str(i), frames=frames)
        alone |= delivered(tmp_path / str(i))
    assert delivered(tmp_path / "all") == alone
    make(model, plate, tmp_path / "uncut", cuts="none")
    assert delivered(tmp_path / "uncut") != alone


def test_a_cut_is_found(tmp_path, model):
    (tmp_path / "in").mkdir()
    pictures = np.random.default_rng(0).random((2, 6, 8, 3)).repeat(6, axis=1).repeat(8, axis=2).astype(np.float16)
    for frame in range(1, 13):
        write_image(tmp_path / f"in/plate.{frame:04d}.exr", pictures[int(frame >= 6)])
    _, report = make(model, tmp_path / "in/plate.####.exr", tmp_path / "out")
    assert report["shots"] == [[1, 5], [6, 12]]


@pytest.fixture(scope="module")
def made_in_one_go(tmp_path_factory, model):
    """A plate of 22 frames, its delivery as two shots, and how many windows that took."""
    folder, seen, forward = tmp_path_factory.mktemp("whole"), [], type(model.transformer).forward
    plate = write_plate(folder / "in", range(1, 23))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(model.transformer), "forward", lambda *a, **named: seen.append(1) or forward(*a, **named))
        make(model, plate, folder / "out", cuts="6")
    return plate, delivered(folder / "out"), len(seen)


@pytest.mark.parametrize("stage, count", [("read", 5), ("window", 1), ("window", 7), ("window", 10), ("deliver", 9)])
def test_stopped_anywhere_it_goes_on_to_the_same_pixels(
    tmp_path, model, made_in_one_go, looked, monkeypatch, stage, count
):
    """22 frames in two shots, of one window and of more; also with what a kill leaves: files half written."""
    plate, whole, all_of_them = made_in_one_go
    part = tmp_path / "part"

    def stopping():
        if stage == "window":
            return len(looked) >= count
        if stage == "read":
            return read.count("read") >= count
        return len(list((part / "edit").glob("edit.*.exr"))) >= count

    read, at_model_size = [], GenerateJob.at_model_size
    monkeypatch.setattr(GenerateJob, "at_model_size", lambda *given: read.append("read") or at_model_size(*given))
    with pytest.raises(StoppedError):
        make(model, plate, part, stopping, cuts="6")
    assert not (part / "manifest.json").exists()
    (part / ".job/latents").mkdir(exist_ok=True)
    (part / ".job/latents/layers.1.part.safetensors").write_bytes(b"half a file")
    make(model, plate, part, cuts="6")
    assert delivered(part) == whole
    most_again = 2 * 3  # the windows of one step, both passes
    assert all_of_them <= len(looked) < all_of_them + most_again
    assert not list(part.rglob("*.part*"))


# Generated once, delivered in several ways


def test_kept_latents_are_delivered_again_in_another_way(tmp_path, model, looked):
    plate, out = write_plate(tmp_path / "in", range(1, 5)), tmp_path / "out"
    make(model, plate, out, keep=True, cuts="3")
    assert sorted(p.name for p in (out / "kept").iterdir()) == ["layers.1.safetensors", "layers.3.safetensors"]
    linear = delivered(out)
    make(model, plate, tmp_path / "fresh", cuts="3", blend_space="encoded")
    looked.clear()

    make(model, plate, out, keep=True, cuts="3", blend_space="encoded")
    assert delivered(out) == delivered(tmp_path / "fresh") != linear
    assert json.loads((out / "recipe.json").read_text())["blend_space"] == "encoded"

    # Beside another: the kept folder may be carried there. Nor must the second job ask to keep.
    shutil.copytree(out / "kept", tmp_path / "beside/kept")
    make(model, plate, tmp_path / "beside", cuts="3")
    assert delivered(tmp_path / "beside") == linear
    assert looked == []


def test_what_a_stopped_job_generated_is_kept_if_asked_for_later(tmp_path, model, looked):
    plate, out = write_plate(tmp_path / "in", [1, 2]), tmp_path / "out"
    with pytest.raises(StoppedError):
        make(model, plate, out, (out / ".job/latents/layers.1.safetensors").exists)
    make(model, plate, out, keep=True)
    assert len(looked) == 4 and [p.name for p in (out / "kept").iterdir()] == ["layers.1.safetensors"]


def test_a_mask_is_taken_up_again_with_the_plate(tmp_path, model, looked):
    """Stopped between reading and sampling: what was read is not read again, the mask included."""
    latents = tmp_path / "part/.job/latents"
    plate = write_plate(tmp_path / "in", [1, 2, 3])
    mask = str(write_image(tmp_path / "mask.png", np.tile(np.uint8([[[0], [255]]]), (SIZE[0], SIZE[1] // 2, 3))))
    make(model, plate, tmp_path / "whole", mask=mask)
    with pytest.raises(StoppedError):
        make(model, plate, tmp_path / "part", (latents / "plate.1.safetensors").exists, mask=mask)
    assert (latents / "mask.1.safetensors").exists()
    make(model, plate, tmp_path / "part", mask=mask)
    make(model, plate, tmp_path / "none")
    assert delivered(tmp_path / "part") == delivered(tmp_path / "whole") != delivered(tmp_path / "none")


def test_a_redelivery_that_was_stopped_is_never_of_two_kinds(tmp_path, model):
    plate, out = write_plate(tmp_path / "in", range(1, 7)), tmp_path / "out"
    make(model, plate, out, keep=True)
    make(model, plate, tmp_path / "fresh", blend_space="encoded")
    delivery_began = []

    def stopping():
        delivery_began.append(1)
        return len(delivery_began) > 3

    with pytest.raises(StoppedError):
        make(model, plate, out, stopping, blend_space="encoded")
    assert not (out / "manifest.json").exists()
    make(model, plate, out, blend_space="encoded")
    assert delivered(out) == delivered(tmp_path / "fresh")


def test_without_kept_latents_another_delivery_is_refused(tmp_path, model):
    plate, out = write_plate(tmp_path / "in", [1]), tmp_path / "out"
    make(model, plate, out)
    with pytest.raises(InputError, match="another job"):
        make(model, plate, out, blend_space="encoded")


@pytest.mark.parametrize("change", [{"seed": 5}, {"region": "0,0,32,32"}, {"steps": 1}, {"frames": "1-2"}])
def test_kept_latents_of_another_generation_are_refused(tmp_path, model, change):
    plate, out = write_plate(tmp_path / "in", [1, 2, 3]), tmp_path / "out"
    make(model, plate, out, keep=True)
    before = delivered(out)
    with pytest.raises(InputError, match="another job"):
        make(model, plate, out, **change)
    shutil.copytree(out / "kept", tmp_path / "beside/kept")
    with pytest.raises(InputError, match="generated from another plate, prompt, seed or setting"):
        make(model, plate, tmp_path / "beside", **change)
    assert delivered(out) == before and not (tmp_path / "beside/edit").exists()


# Size and shape


def windows(x, y, width, height):
    def hook(spec):
        spec.x, spec.y, spec.full_width, spec.full_height = x, y, width, height

    return hook


SHAPES = {
    "portrait": {"size": (64, 36)},
    "odd": {"size": (37, 53)},
    "wide": {"size": (16, 130)},
    "one line": {"size": (1, 40)},
    "anamorphic": {"PixelAspectRatio": 2.0},
    "overscan": {"spec_hook": windows(-6, -4, 52, 28)},
    "cropped": {"spec_hook": windows(10, 5, 100, 60)},
    "overscan TIFF": {"spec_hook": windows(3, 0, 60, 30), "kind": np.uint8, "extension": "tif"},
    "larger than the model": {"size": (200, 300)},
}


@pytest.mark.parametrize("shape", SHAPES)
def test_the_layer_is_of_the_plates_size_and_windows(tmp_path, model, shape):
    plate, out = write_plate(tmp_path / "in", [7], **SHAPES[shape]), tmp_path / "out"
    job, report = make(model, plate, out)
    filmed = oiio.ImageInput.open(str(next((tmp_path / "in").iterdir()))).spec()
    names = ("x", "y", "width", "height", "full_x", "full_y", "full_width", "full_height")
    for file in (next((out / "edit").iterdir()), next((out / "composite").iterdir())):
        spec = oiio.ImageInput.open(str(file)).spec()
        assert [getattr(spec, n) for n in names] == [getattr(filmed, n) for n in names]
        assert spec.get_float_attribute("PixelAspectRatio", 1.0) == job.plate.pixel_aspect
    width, height = report["model_size"]
    seen, is_ = width / height, filmed.width * job.plate.pixel_aspect / filmed.height
    assert abs(np.log(seen / is_)) < 0.35 or shape in ("wide", "one line")
    made = over(job.plate.read(7), layer(out, 7), job.color.space.curve, "linear")
    assert composite(out, 7).tobytes() == made.tobytes()


def test_a_region_leaves_the_rest_of_the_plate_alone(tmp_path, model):
    plate = write_plate(tmp_path / "in", [1, 2], size=(60, 90), spec_hook=windows(-5, -3, 80, 54))
    out = tmp_path / "out"
    job, report = make(model, plate, out, region="-5,7,40,30")  # at the overscan's left border
    assert report["model_size"] == [48, 32]  # of the region, not of the plate
    rows, columns = slice(10, 40), slice(0, 40)
    inside = np.zeros((60, 90), bool)
    inside[rows, columns] = True
    for frame in (1, 2):
        made, filmed = layer(out, frame), job.plate.read(frame)
        assert not made[~inside].any() and made[inside][:, 3].any()
        assert composite(out, frame)[~inside].tobytes() == filmed[~inside].tobytes()

    # In its middle it is the layer that the cut-out region alone would get.
    (tmp_path / "cut").mkdir()
    for frame in (1, 2):
        write_image(tmp_path / f"cut/plate.{frame:04d}.exr", np.ascontiguousarray(job.plate.read(frame)[rows, columns]))
    make(model, tmp_path / "cut/plate.####.exr", tmp_path / "alone")
    middle = np.s_[4:-4, :-4]
    for frame in (1, 2):
        assert layer(out, frame)[rows, columns][middle].tobytes() == layer(tmp_path / "alone", frame)[middle].tobytes()


def test_nothing_is_laid_outside_the_mask(tmp_path, model):
    """White where the edit may go: where the mask is black the plate stays, to the bit; grey lets half through."""
    plate = write_plate(tmp_path / "in", range(1, 3))
    mask = np.zeros((*SIZE, 3), np.uint8)
    mask[:, 20:], mask[:, 40:] = 128, 255
    file = str(write_image(tmp_path / "mask.png", mask))
    make(model, plate, tmp_path / "out", mask=file, also="matte", blend_space="encoded")
    for frame in (1, 2):
        alpha, filmed = layer(tmp_path / "out", frame)[..., 3], read_image(tmp_path / f"in/plate.{frame:04d}.exr")
        assert not alpha[:, :20].any() and alpha[:, 40:].max() > 0.5
        assert composite(tmp_path / "out", frame)[:, :20].tobytes() == filmed[:, :20].tobytes()
        assert alpha[:, 20:40].max() <= 0.51


class OnlySea:
    """A drawer that reads the sea into every prompt."""

    def kind_in(self, text):
        return "sea"

    def of_shot(self, text, source, mask, window, finish=None):
        return ShotBackground("sea")


def test_a_background_is_painted_inside_the_mask_alone(tmp_path, model, monkeypatch):
    """The backdrop's colour replaces what was decoded; where the mask is black the plate stays, to the bit."""
    monkeypatch.setattr(backdrop, "ROWS", 36)
    plate = write_plate(tmp_path / "in", range(1, 3))
    mask = np.zeros((*SIZE, 3), np.uint8)
    mask[:, 30:] = 255
    file = str(write_image(tmp_path / "mask.png", mask))
    draw(monkeypatch, lambda color, alpha, reconstruction: (color, torch.ones_like(alpha)))
    make(replace(model, objects=OnlySea()), plate, tmp_path / "out", mask=file, blend_space="encoded", seed=4)
    for frame in (1, 2):
        made, filmed = layer(tmp_path / "out", frame), read_image(tmp_path / f"in/plate.{frame:04d}.exr")
        assert not made[:, :30, 3].any() and made[:, 30:, 3].min() > 0.99
        assert composite(tmp_path / "out", frame)[:, :30].tobytes() == filmed[:, :30].tobytes()
        assert made[:5, 30:, 2].mean() > made[-5:, 30:, 2].mean() > 0  # a bright sky over water


def test_without_a_mask_the_subject_has_the_outline_that_the_plate_shows(tmp_path, model, monkeypatch):
    """The model's alpha is beside it by three columns; a camera whose motion is not told is named in one warning."""
    monkeypatch.setattr(backdrop, "ROWS", 36)
    picture = np.full((*SIZE, 3), 0.5, np.float32)
    picture[8:, 20:40] = (0.8, 0.1, 0.1)
    for number in (1, 2):
        write_image(tmp_path / f"in.{number}.exr", picture)
    guess = torch.ones(SIZE)
    guess[10:, 23:43] = 0
    monkeypatch.setattr(shot_shapes, "_some_alphas", lambda job, layers: iter([(0, guess)]))
    monkeypatch.setattr(shot_shapes, "background_motion", lambda pictures, background: Motion(None, is_known=False))
    draw(monkeypatch, lambda color, alpha, reconstruction: (color, _at_size(guess, alpha)))
    _, report = make(replace(model, objects=OnlySea()), str(tmp_path / "in.#.exr"), tmp_path / "out")
    alpha = layer(tmp_path / "out", 2)[..., 3]
    assert alpha[14:, 22:38].max() < 0.1 and alpha[:, :17].min() > 0.9 and alpha[:, 44:].min() > 0.9
    assert report["warnings"] == [shot_shapes.NOT_FOLLOWED.format(first=1, last=2)]


def _at_size(plane: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.interpolate(plane[None, None], like.shape, mode="area")[0, 0]


class OnlyDisc:
    """A drawer that reads a disc on the right into every prompt."""

    def kind_in(self, text):
        return "ball"

    def of_shot(self, text, source, mask, window, finish=None):
        return Disc()


class HighDisc(OnlyDisc):
    """One that stands in the upper half."""

    def of_shot(self, text, source, mask, window, finish=None):
        return Disc(stands=True, y=-0.3)


SPACES = {"srgb": SRGB, "linear": LINEAR, "log": find_space("ARRI LogC3 (EI800)")}


@pytest.mark.parametrize("space, clips", [("srgb", True), ("linear", False), ("log", False)])
def test_what_is_drawn_clips_at_white_where_the_plate_does(space, clips):
    color = PlateColor(SPACES[space], "half")
    job = SimpleNamespace(region=Region(0, 0, 8, 6, (6, 8)), aspect=4 / 3, color=color)
    filmed = SimpleNamespace(pixels=np.full((6, 8, 3), 0.4, np.float16))
    assert backend._scene(job, filmed).clips is clips


@pytest.mark.parametrize(
    "layer_mode, space, relative",
    [
        ("auto", "srgb", False),  # decoded colour has all of its depth
        ("auto", "linear", True),
        ("auto", "log", True),
        ("replace", "linear", False),
        ("relative", "srgb", True),
        ("relative", "log", True),
    ],
)
def test_colour_is_relative_in_light_or_as_asked_for(layer_mode, space, relative):
    job = SimpleNamespace(recipe=SimpleNamespace(layer_mode=layer_mode), color=PlateColor(SPACES[space], "half"))
    assert backend._may_be_relative(job) is relative


def test_what_stands_on_nothing_has_one_warning_also_in_the_manifest(tmp_path, model, monkeypatch):
    monkeypatch.setattr(shot_shapes, "_some_alphas", lambda job, layers: iter([(0, torch.full((32, 48), 0.6))]))
    monkeypatch.setattr(shot_shapes.Agreement, "holds", lambda *_: True)
    plate = write_plate(tmp_path / "in", range(1, 3))
    make(replace(model, objects=HighDisc()), plate, tmp_path / "out", cuts="2", blend_space="encoded")
    told = json.loads((tmp_path / "out/manifest.json").read_text())["extra"]["warnings"]
    assert told == [shot_shapes.NO_GROUND.format(where="at 55% of the picture's height")]


@pytest.mark.parametrize("found", [True, False], ids=["people", "nobody"])
def test_behind_somebody_a_thing_is_hidden_by_people_or_laid_whole_with_one_warning(
    tmp_path, model, monkeypatch, found
):
    """Never in pieces, whatever the model's alpha shows. One that people would hide is moved beside them."""
    people = torch.zeros(256, 256)
    people[:, 128:] = float(found)
    monkeypatch.setattr(kept_people, "_looks", lambda picture: torch.stack([people, people]))
    monkeypatch.setattr(kept_people, "looked_at_twice", lambda picture: people)
    monkeypatch.setattr(model.text, "in_front", lambda prompt: Subject("person", True), raising=False)
    monkeypatch.setattr(shot_shapes, "_some_alphas", lambda job, layers: iter([(0, torch.eye(32, 48).clamp(0.5, 1))]))
    plate = write_plate(tmp_path / "in", range(1, 3))
    job, report = make(replace(model, objects=OnlyDisc()), plate, tmp_path / "out", blend_space="encoded")
    alpha = layer(tmp_path / "out", 2)[..., 3]
    if found:
        assert alpha[:, 34:].max() == 0 and alpha[:, :30].max() > 0.99
        assert list(job.warnings) == [kept_people.PEOPLE_BEFORE]
    else:
        assert alpha[16:20, 35:42].min() == 1 and not alpha[:, :30].any()
        assert list(job.warnings) == [kept_people.NOTHING_BEFORE.format(subject="person")] == report["warnings"]


def test_a_movie_as_mask_is_read_by_one_thread(tmp_path, model, monkeypatch):
    """Several threads deliver, and a movie's decoder is for one; each frame is under its own mask."""
    plate = write_plate(tmp_path / "in", range(1, 10))
    masks = [np.zeros((*SIZE, 3), np.uint8) for _ in range(9)]
    for k, mask in enumerate(masks):
        mask[:, 5 * k + 10 :] = 255
    file = write_movie(tmp_path / "mask.mp4", masks, codec="libx264rgb", pix_fmt="rgb24", options={"qp": "0"})
    threads, decoded = set(), Movie._decoded
    monkeypatch.setattr(Movie, "_decoded", lambda *a: threads.add(threading.get_ident()) or decoded(*a))
    monkeypatch.setattr(os, "cpu_count", lambda: 4)
    make(model, plate, tmp_path / "out", mask=str(file))
    assert threads == {threading.get_ident()}
    for k in range(9):
        alpha = layer(tmp_path / "out", k + 1)[..., 3]
        assert not alpha[:, : 5 * k + 10].any() and alpha[:, 5 * k + 10 :].any()


def test_a_mask_is_seen_in_the_region(tmp_path, model):
    plate = write_plate(tmp_path / "in", [1])
    masks = np.zeros((2, *SIZE, 3), np.uint8)
    masks[0, :, 40:] = masks[1, :, 50:] = 255  # alike inside the region, and not
    outs = []
    for i, (mask, region) in enumerate([(0, "0,0,40,36"), (1, "0,0,40,36"), (0, "8,0,48,36"), (1, "8,0,48,36")]):
        file = write_image(tmp_path / f"mask{mask}.png", masks[mask])
        make(model, plate, tmp_path / str(i), mask=str(file), region=region)
        outs.append(layer(tmp_path / str(i), 1).tobytes())
    assert outs[0] == outs[1] and outs[2] != outs[3]


# Layers on layers


@pytest.mark.parametrize("kind, extension", [(np.float16, "exr"), (np.uint8, "png")])
def test_a_composite_is_the_next_edits_plate(tmp_path, model, kind, extension):
    plate = write_plate(tmp_path / "in", range(1001, 1004), kind=kind, extension=extension)
    make(model, plate, tmp_path / "one", region="0,0,30,36")
    below = tmp_path / f"one/composite/composite.####.{extension}"
    job, _ = make(model, below, tmp_path / "two", seed=3, region="34,0,30,36")
    for frame in (1001, 1002, 1003):
        filmed = read_image(tmp_path / f"in/plate.{frame}.{extension}")
        result = composite(tmp_path / "two", frame)
        layers = layer(tmp_path / "one", frame), layer(tmp_path / "two", frame)
        untouched = (layers[0][..., 3] == 0) & (layers[1][..., 3] == 0)
        assert untouched[:, 30:34].all() and result[untouched].tobytes() == filmed[untouched].tobytes()
        for made in layers:
            filmed = over(filmed, made, job.color.space.curve, "linear")
        assert result.tobytes() == filmed.tobytes()


def test_negative_prompt_and_shift_reach_the_sampler(tmp_path, model, monkeypatch):
    asked, shifts = [], []
    encode, start = type(model.text).encode, Solver.__init__

    def encoded(self, prompts):
        asked.extend(prompts)
        return encode(self, prompts)

    def started(self, steps, shift):
        shifts.append(shift)
        start(self, steps, shift)

    monkeypatch.setattr(type(model.text), "encode", encoded)
    monkeypatch.setattr(Solver, "__init__", started)
    plate = write_plate(tmp_path / "in", range(1, 3))
    make(model, plate, tmp_path / "out", negative_prompt="Add a blue ball", shift=2.5, guidance=2.0, anyway=True)
    assert asked[-1] == "Add a blue ball" and set(shifts) == {2.5}
    with pytest.raises(InputError, match="negative prompt: has no effect at a guidance of 1"):
        make(model, plate, tmp_path / "other", negative_prompt="Add a blue ball", guidance=1.0)
