"""Twenty kinds of plate, and a movie, end to end: files in, delivery out, on a model of random weights."""

import json
from dataclasses import replace

import numpy as np
import OpenImageIO as oiio
import pytest
import torch

from tests.plate.kinds import KINDS, Kind
from tests.plate.media import grey_levels, write_image, write_movie
from tests.plate.test_color_space import AP1, REC2020, mark
from tests.tiny import composite_file, draw, make, tiny_model
from vera.core.layer.blend_space import composite as lay_over
from vera.core.layer.image_file import read_image as read
from vera.core.plate.color_space import find_space

PRIMARIES = {"AP1": AP1, "REC2020": REC2020}


@pytest.fixture(autouse=True)
def surroundings(monkeypatch):
    monkeypatch.delenv("OCIO", raising=False)


@pytest.fixture(scope="module")
def plain_model():
    """Trained on pictures made for a display, as far as it says."""
    return tiny_model()


@pytest.fixture(scope="module")
def model(plain_model):
    """The same, trained through the range curve."""
    return replace(plain_model, limits=replace(plain_model.limits, light_curve="range"))


def a_band(color, alpha, reconstruction):
    """Translucent on the left, a soft edge, nothing on the right."""
    width = alpha.shape[1]
    alpha[:] = torch.linspace(1.6, -0.8, width).clamp(0, 0.8)
    return color, alpha


def light_of(size, seed=0):
    """A ramp with texture, a highlight of 20 and a black corner; Rec.709, exposed."""
    rng = np.random.default_rng(seed)
    x = np.linspace(-6, 0, size[1])[None, :, None] + 0.3 * rng.standard_normal((*size, 3))
    light = np.minimum(2**x, 1)
    light[2:6, 4:8], light[-5:, :5] = 20, 0
    return light


def write(kind: Kind, folder):
    attributes, hook = {}, None
    for name, value in kind.metadata.items():
        value = (oiio.TypeDesc("float[8]"), PRIMARIES[value]) if name == "chromaticities" else value
        attributes[name.replace(":", "__")] = value
    if kind.metadata.get("acesImageContainerFlag"):
        attributes["compression"] = "none"
    if kind.pixel_type in ("uint10", "uint12"):
        attributes["oiio__BitsPerSample"] = int(kind.pixel_type[4:])
    attributes["PixelAspectRatio"] = kind.pixel_aspect
    if kind.overscan:

        def hook(spec):
            spec.x = spec.y = -kind.overscan
            spec.full_width, spec.full_height = (n - 2 * kind.overscan for n in (spec.width, spec.height))

    folder.mkdir()
    for frame in range(kind.frames):
        pixels = kind.numbers(light_of(kind.size, seed=frame))
        if kind.channels == 4:
            alpha = np.full_like(pixels[..., :1], 1 if pixels.dtype.kind == "f" else np.iinfo(pixels.dtype).max)
            pixels = np.concatenate([pixels, alpha], axis=-1)
        write_image(folder / f"plate.{1001 + frame}.{kind.extension}", pixels, spec_hook=hook, **attributes)
    return folder / f"plate.####.{kind.extension}"


@pytest.mark.parametrize("kind", KINDS, ids=lambda k: k.name)
def test_twenty_kinds_of_plate(kind, tmp_path, monkeypatch, model):
    draw(monkeypatch, a_band)
    plate = write(kind, tmp_path / "in")
    named = kind.space if kind.named else None
    job, report = make(model, plate, tmp_path / "out", color_space=named, region=kind.region, cuts="none")
    assert job.color.space.name == find_space(kind.space).name
    assert job.delivery.complete()
    assert report["color"]["curve"] == ("range" if job.color.space.is_scene else "srgb")
    if job.color.space.is_scene and kind.stops:
        assert np.sign(report["color"]["exposure"]) == -np.sign(kind.stops)
    region = np.zeros(kind.size, bool)
    job.region.crop(region)[:] = True
    assert region.all() == (kind.region is None)
    assert len(list((tmp_path / "out/composite").iterdir())) == kind.frames
    for frame in reversed(range(1001, 1001 + kind.frames)):
        filmed = read(tmp_path / f"in/plate.{frame}.{kind.extension}")
        layer = read(tmp_path / f"out/edit/edit.{frame}.exr")
        composite = read(composite_file(tmp_path / "out", frame))
        assert composite.dtype == filmed.dtype and composite.shape == filmed.shape
        kept = layer[..., 3] == 0
        assert 0.1 < kept.mean() < 0.9 and layer.min() >= 0 and kept[~region].all()
        assert composite[kept].tobytes() == filmed[kept].tobytes() and not layer[kept].any()
        # Laid over again out of the files: within the plate's own steps.
        again = lay_over(filmed, layer, job.color, job.blending)
        assert np.array_equal(again, composite)
    # The highlight under the translucent part is dimmed as light is, not cut to white.
    if job.color.space.is_scene and kind.pixel_type in ("half", "float"):
        seen = find_space(kind.space).to_rec709(composite[2:6, 4:8, :3].astype(np.float32)) * 2.0**-kind.stops
        passing = 1 - layer[2:6, 4:8, 3:].astype(np.float32)
        assert (seen > 0.98 * passing * 20).all()


@pytest.mark.parametrize("kind", [KINDS[6], KINDS[11], KINDS[17]], ids=lambda k: k.name)
def test_a_model_of_display_pictures_draws_nothing_brighter_than_white(kind, tmp_path, monkeypatch, plain_model):
    """White fog over a plate of light, at the shot's exposure; the highlight shows through it as light does."""
    draw(monkeypatch, lambda color, alpha, plate: (torch.ones_like(color), a_band(color, alpha, plate)[1]))
    job, report = make(
        plain_model, write(kind, tmp_path / "in"), tmp_path / "out", color_space=kind.space, layer_mode="replace"
    )
    assert report["color"]["curve"] == "srgb" and report["color"]["clipped"]["above"] > 0
    layer = read(tmp_path / "out/edit/edit.1001.exr").astype(np.float32)
    fog = job.blending.space.to_rec709(layer[..., :3]) * np.float32(2 ** report["color"]["exposure"])
    assert 0.6 < fog.max() < 1.01
    composite = read(tmp_path / "out/composite/composite.1001.exr")
    seen = find_space(kind.space).to_rec709(composite[2:6, 4:8, :3].astype(np.float32)) * 2.0**-kind.stops
    assert (seen > 0.98 * (1 - layer[2:6, 4:8, 3:]) * 20).all()


def test_a_pq_movie(tmp_path, monkeypatch, model):
    draw(monkeypatch, a_band)
    movie = write_movie(tmp_path / "in.mp4", grey_levels(3), tune=mark(9, 16))
    job, report = make(model, movie, tmp_path / "out")
    assert job.color.space.name == "Rec.2100-PQ - Display" and job.blending.space.name == "Linear Rec.2020"
    for frame in (1, 2, 3):
        filmed, layer = job.plate.read(frame), read(tmp_path / f"out/edit/edit.{frame:04d}.exr")
        composite = read(tmp_path / f"out/composite/composite.{frame:04d}.png")
        kept = layer[..., 3] == 0
        assert 0.1 < kept.mean() < 0.9 and np.array_equal(composite[kept], filmed[kept])


UNCHANGED = [
    Kind("ACEScg", "ACEScg", "half", "exr", size=(48, 64)),
    Kind("LogC3", "ARRI LogC3 (EI800)", "float", "exr", size=(48, 64)),
]


@pytest.mark.parametrize("kind", UNCHANGED, ids=lambda k: k.name)
def test_a_model_that_returns_the_plate_unchanged_leaves_it_unchanged(kind, tmp_path, monkeypatch, model):
    """An alpha of a decoder's usual noise: no coverage at all, and every bit of the plate."""

    def noise(color, alpha, plate):
        return plate, 0.015 * torch.rand(alpha.shape, generator=torch.Generator().manual_seed(1))

    draw(monkeypatch, noise)
    _, report = make(model, write(kind, tmp_path / "in"), tmp_path / "out", color_space=kind.space)
    assert report["coverage"] == 0
    composite = read(tmp_path / "out/composite/composite.1001.exr")
    assert composite.tobytes() == read(tmp_path / "in/plate.1001.exr").tobytes()
    assert not read(tmp_path / "out/edit/edit.1001.exr").any()


@pytest.mark.parametrize("kind", UNCHANGED, ids=lambda k: k.name)
@pytest.mark.parametrize("mode, layer_type", [("auto", "half"), ("relative", "half"), ("relative", "float")])
def test_even_if_its_layer_is_opaque(kind, mode, layer_type, tmp_path, monkeypatch, model):
    """The plate drawn again through a codec of random weights, opaque: relative colour, which auto finds by
    itself, gives the plate back to half a stop of a thousandth: a half's rounding on average, a float's at worst."""
    draw(monkeypatch, lambda color, alpha, plate: (plate, torch.ones_like(alpha)))
    how = {"color_space": kind.space, "layer_mode": mode, "layer_type": layer_type}
    _, report = make(model, write(kind, tmp_path / "in"), tmp_path / "out", **how)
    assert report["color"]["relative"] > (0.5 if mode == "auto" else 0.999) and report["coverage"] == 1
    space = find_space(kind.space)
    filmed, composite = (
        space.to_rec709(read(p).astype(np.float32))
        for p in (tmp_path / "in/plate.1001.exr", tmp_path / "out/composite/composite.1001.exr")
    )
    stops = np.abs(np.log2(np.maximum(composite, 1e-6) / np.maximum(filmed, 1e-6)))[filmed > 2.0**-10]
    print(f"{kind.name}, {mode}, {layer_type}: {stops.mean():.1e} stops on average, {stops.max():.1e} at worst")
    assert stops.mean() < 0.5e-3
    if mode == "relative":
        assert stops.max() < (0.5e-3 if layer_type == "float" else 2e-3)


def test_kept_latents_are_delivered_relative_without_generating_again(tmp_path, monkeypatch, model):
    from vera.core.sampling import shots as generate

    plate = write(KINDS[6], tmp_path / "in")
    make(model, plate, tmp_path / "out", layer_mode="replace", keep=True)
    first = json.loads((tmp_path / "out/manifest.json").read_text())
    monkeypatch.setattr(generate, "sample", None)  # would be called
    _, report = make(model, plate, tmp_path / "out", layer_mode="relative", keep=True)
    second = json.loads((tmp_path / "out/manifest.json").read_text())
    assert report["color"]["relative"] > 0.99
    assert first["frames"][0]["edit"]["pixels"] != second["frames"][0]["edit"]["pixels"]
