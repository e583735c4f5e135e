"""Every file of a delivery says what it is: Vera's version, the model, its weights, IPTC's digital source type."""

import json

import av
import numpy as np
import OpenImageIO as oiio
import pytest

from tests.layer.stand_in import BLENDINGS, StandInPlate, make_frame
from tests.plate.media import write_noise
from tests.tiny import prepare, tiny_model
from vera import __version__
from vera.core.layer.delivery import Delivery
from vera.core.layer.origin import GENERATED, NOT_KNOWN, Origin
from vera.core.layer.outputs.output import Formats, FramePixels, Shot
from vera.core.plate.color import PlateColor
from vera.core.plate.color_space import LINEAR
from vera.core.recipe import EditRecipe

WEIGHTS = "0123abcd" * 8
URI = "http://cv.iptc.org/newscodes/digitalsourcetype/compositeWithTrainedAlgorithmicMedia"
ORIGIN = Origin("mini", WEIGHTS, GENERATED)


@pytest.fixture(scope="module")
def delivered(tmp_path_factory):
    plate = StandInPlate(frames=(1, 2))
    formats = Formats(extra_outputs=("prores", "png", "matte"))
    folder = tmp_path_factory.mktemp("origin")
    color = PlateColor(LINEAR, plate.pixel_type)
    delivery = Delivery(Shot(folder, plate, "abc", BLENDINGS["linear"], formats, ORIGIN), color, {})
    delivery.start()
    for frame in plate.frames:
        layer, composite = make_frame(plate, frame)[:2]
        delivery.write(frame, FramePixels(layer, composite, layer[..., 3].astype(np.float32)), {})
    delivery.finish({})
    return folder


@pytest.mark.parametrize(
    "name, parts", [("edit/edit.0001.exr", 2), ("composite/composite.0002.exr", 1), ("png/edit.0001.png", 1)]
)
def test_pictures_say_it_in_their_headers(delivered, name, parts):
    file = oiio.ImageInput.open(str(delivered / name))
    assert file.seek_subimage(parts - 1, 0) and not file.seek_subimage(parts, 0)
    for part in range(parts):
        assert file.seek_subimage(part, 0)
        says_it(file)


def says_it(file):
    spec = file.spec()
    assert spec.getattribute("Software") == f"Vera {__version__}" == f"Vera {spec.getattribute('vera/version')}"
    assert (spec.getattribute("vera/model"), spec.getattribute("vera/weights")) == ("mini", WEIGHTS)
    assert spec.getattribute("Iptc4xmpExt:DigitalSourceType") == URI


def test_the_contact_sheet_says_it(delivered):
    spec = oiio.ImageInput.open(str(delivered / "contact_sheet.png")).spec()
    assert spec.getattribute("Iptc4xmpExt:DigitalSourceType") == URI and spec.getattribute("vera/weights") == WEIGHTS


@pytest.mark.parametrize("name", ["preview.mp4", "edit.mov"])
def test_movies_say_it_among_their_metadata(delivered, name):
    with av.open(str(delivered / name)) as movie:
        tags = movie.metadata
    assert tags["digital_source_type"] == URI and URI in tags["comment"]
    assert (tags["vera_version"], tags["vera_model"], tags["vera_weights"]) == (__version__, "mini", WEIGHTS)


def test_the_manifest_says_it(delivered):
    assert json.loads((delivered / "manifest.json").read_text())["origin"] == {
        "software": "Vera",
        "version": __version__,
        "model": "mini",
        "weights": WEIGHTS,
        "digital_source_type": URI,
    }


@pytest.mark.parametrize("extension", ["tif", "dpx"])
def test_formats_without_room_for_it_name_the_program(tmp_path, extension):
    plate = StandInPlate(frames=(1,), pixel_type="uint16", extension=extension)
    color = PlateColor(LINEAR, plate.pixel_type)
    delivery = Delivery(Shot(tmp_path, plate, "abc", BLENDINGS["linear"], origin=ORIGIN), color, {})
    delivery.start()
    delivery.write(1, FramePixels(*make_frame(plate, 1)[:2]), {})
    assert oiio.ImageInput.open(str(delivery.composite_path(1))).spec().getattribute("Software") == ORIGIN.software


def test_a_render_names_its_models_weights(tmp_path):
    plate = str(write_noise(tmp_path / "in", (1, 2)))
    model = tiny_model()
    recipe = EditRecipe(plate=plate, prompt="Add a red ball", out=str(tmp_path / "out"))
    origin = prepare(recipe, "cpu", lambda name, device, **asked: model).delivery.shot.origin
    assert (origin.weights, origin.source_type) == (model.fingerprint, GENERATED)


def test_a_lift_does_not_claim_that_a_model_made_the_edit(tmp_path):
    plate = str(write_noise(tmp_path / "in", (1, 2)))
    recipe = EditRecipe(plate=plate, prompt="x", out=str(tmp_path / "out"), model=f"lift:{plate}")
    origin = prepare(recipe, "cpu", lambda name, device, **asked: None).delivery.shot.origin
    assert (origin.model, origin.weights, origin.source_type) == ("lift", "", NOT_KNOWN)
