"""Compressions of EXR files: lossless ones keep every bit, DWA is of the composite of a DWA plate alone."""

import numpy as np
import OpenImageIO as oiio
import pytest

from tests.plate.media import noise, write_image
from tests.tiny import prepare, tiny_model
from vera.core.errors import InputError
from vera.core.layer import compressions
from vera.core.layer.compressions import NOTE, is_written
from vera.core.layer.image_file import read_image
from vera.core.layer.image_file import write_image as write_exactly
from vera.core.layer.outputs.output import Formats, FramePixels
from vera.core.recipe import EditRecipe
from vera.core.recipe.table import COMPRESSIONS

LOSSLESS = [name for name in COMPRESSIONS if name != "dwaa"]


def job(tmp_path, compression, stored="dwaa", extension="exr", kind=np.float16):
    attributes = {"compression": stored} if extension == "exr" else {}
    plate = write_image(tmp_path / f"p.{extension}", noise(1, kind), **attributes)
    recipe = EditRecipe(str(plate), "Add a red ball", str(tmp_path / "out"), compression=compression)
    model = tiny_model()
    return prepare(recipe, "cpu", lambda name, device, **asked: model)


@pytest.mark.parametrize("kind", [np.float16, np.float32])
@pytest.mark.parametrize("compression", LOSSLESS)
def test_lossless_ones_keep_every_bit(tmp_path, compression, kind):
    if not is_written(compression):
        pytest.skip("not written by the installed OpenEXR")
    pixels = noise(1, kind, (37, 53), planted=True)
    spec = oiio.ImageSpec(53, 37, 3, "half" if kind is np.float16 else "float")
    spec.attribute("compression", compression)
    write_exactly(tmp_path / "a.exr", pixels, spec)
    unsigned = f"u{pixels.itemsize}"
    np.testing.assert_array_equal(read_image(tmp_path / "a.exr").view(unsigned), pixels.view(unsigned))


def test_a_compression_that_is_not_written_here_is_refused_before_work(tmp_path, monkeypatch):
    monkeypatch.setattr(compressions, "is_written", lambda name: False)
    with pytest.raises(InputError, match="--compression htj2k32: the installed OpenEXR cannot write it; choose zip"):
        job(tmp_path, "htj2k32")
    assert not is_written("no such name")


@pytest.mark.parametrize("stored", ["dwaa", "dwab"])
def test_the_composite_of_a_dwa_plate_may_be_dwa_and_its_layer_is_not(tmp_path, stored):
    made = job(tmp_path, "dwaa", stored)
    assert NOTE in made.warnings
    delivery, (frame,) = made.delivery, made.plate.frames
    delivery.start()
    plate = made.plate.read(frame)
    layer = np.zeros((*plate.shape[:2], 4), np.float16)
    layer[5:9, 5:9] = 0.5
    delivery.write(frame, FramePixels(layer, plate), {})
    files = [oiio.ImageInput.open(str(p)).spec() for p in (delivery.composite_path(frame), delivery.edit_path(frame))]
    assert [spec.get_string_attribute("compression") for spec in files] == ["dwaa", "zip"]
    np.testing.assert_array_equal(delivery.read_layer(frame), layer)
    assert np.abs(delivery.read_composite(frame).astype(float) - plate).max() < 0.2
    assert delivery.done(frame)


@pytest.mark.parametrize(
    "stored, extension, kind, words",
    [
        ("zip", "exr", np.float16, "an EXR of zip"),
        ("piz", "exr", np.float32, "an EXR of piz"),
        ("", "png", np.uint8, "no EXR"),
    ],
)
def test_loss_is_refused_for_plates_that_have_none(tmp_path, stored, extension, kind, words):
    with pytest.raises(
        InputError, match=f"composite of a DWA plate, and this plate is {words}.*a layer is never lossy"
    ):
        job(tmp_path, "dwaa", stored, extension, kind)


def test_formats_know_what_is_lossy():
    assert [name for name in COMPRESSIONS if Formats(compression=name).is_lossy] == ["dwaa"]
    assert all(not Formats(compression=Formats(compression=n).layer_compression).is_lossy for n in COMPRESSIONS)
