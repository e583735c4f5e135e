"""From node and script to what is asked of the core, and what is refused."""

import os

import numpy as np
import pytest

from tests.nuke_plugin.conftest import delivery, edit_node, read_node
from tests.nuke_plugin.pixels import write_exr

ALL_DEFAULTS = ("int8Lut", "int16Lut", "logLut", "floatLut")


def request(node):
    from vera_nuke import gather

    return gather.request(node)


def refused(nuke, node):
    """What pressing Render says; nothing may have been printed as an error."""
    node["render"].execute()
    assert len(nuke.messages) == 1 and not nuke.printed, (nuke.messages, nuke.printed)
    text = nuke.messages.pop()
    assert "\n" not in text and node["status"].value() in text
    return text


def test_an_untouched_read_is_taken_as_it_is(nuke, edit, tmp_path):
    edit["seed"].setValue(12)
    edit["range"].setValue("own")
    edit["first"].setValue(1002)
    edit["last"].setValue(1004)
    asked = request(edit)
    assert asked.recipe == {
        "plate": str(tmp_path / "shot" / "plate.####.exr"),
        "prompt": "Add a large red balloon rising on the right",
        "frames": "1002-1004",
        "model": "mini",
        "seed": 12,
        "color_space": "linear",
        "layer_space": "linear",
    }
    assert asked.plate_write is None and asked.mask_write is None


def test_what_says_how_files_are_read_goes_with_them_and_is_refused_for_a_written_plate(nuke, plate, edit):
    edit["read_view"].setValue("left")
    edit["read_match"].setValue("grain,sharpness")
    assert request(edit).recipe["view"] == "left" and request(edit).recipe["match"] == ["grain", "sharpness"]
    plate["disable"].setValue(True)
    assert "View left says how the plate's own files are read" in refused(nuke, edit)


def test_dots_between_change_nothing(nuke, plate, edit):
    dot = nuke.createNode("Dot")
    dot.setInput(0, plate)
    edit.setInput(0, dot)
    assert request(edit).plate_write is None


@pytest.mark.parametrize(
    "knob, value",
    [
        ("frame_mode", "offset"),
        ("frame", "frame*2"),
        ("colorspace", "ACES - ACEScct"),
        ("disable", True),
        ("format", "128 96 0 0 128 96 1 twice"),
        ("file_facts", {"bbox": (-8, -8, 80, 64)}),
        ("file_facts", {"bbox": (4, 4, 20, 20)}),
        ("file_facts", {"input/width": None}),
        ("colorspace", "default"),
    ],
)
def test_whatever_changes_its_pixels_or_frames_has_it_written(nuke, plate, edit, knob, value):
    """Retime, overscan, another format, a colour space that the core does not share: all seen, none guessed."""
    if knob == "file_facts":
        nuke.file_facts[plate["file"].value()].update(value)
    else:
        if knob == "frame_mode":
            plate["frame"].setValue("12")
        if value == "default":
            nuke.root()["floatLut"].setValue("AlexaV3LogC")
        plate[knob].setValue(value)
    asked = request(edit)
    assert asked.plate_write == asked.recipe["plate"] and "/plates/" in asked.plate_write
    assert asked.recipe["color_space"] == "linear"  # the working space, in which it is written


def test_a_retimed_or_shifted_plate_is_asked_for_at_the_frames_of_the_script(nuke, plate, edit):
    shift = nuke.createNode("TimeOffset")
    shift.setInput(0, plate)
    shift["time_offset"].setValue(10)
    edit.setInput(0, shift)
    asked = request(edit)
    assert asked.recipe["frames"] == "1011-1015" and asked.plate_write


def test_a_read_that_starts_elsewhere_is_asked_for_at_the_frames_of_the_script(nuke, plate, edit):
    plate["frame_mode"].setValue("start at")
    plate["frame"].setValue("1")
    own(edit, 1, 5)
    assert request(edit).plate_write and request(edit).recipe["frames"] == "1-5"
    plate["frame"].setValue("1001")  # where it starts anyway
    own(edit, 1001, 1005)
    assert request(edit).plate_write is None


def test_default_colour_spaces_are_those_of_the_script(nuke, plate, edit):
    plate["colorspace"].setValue("default")
    assert request(edit).recipe["color_space"] == "linear" and request(edit).plate_write is None
    plate["colorspace"].setValue("default (sRGB)")
    assert request(edit).recipe["color_space"] == "srgb" and request(edit).plate_write is None


@pytest.mark.parametrize(
    "bits, setting", [("8-bit fixed", "int8Lut"), ("16-bit fixed", "int16Lut"), ("16-bit half float", "floatLut")]
)
def test_a_default_colour_space_is_that_of_the_files_type(nuke, bits, setting):
    from vera_nuke import color

    assert color.of_read("default", {name: f"of {name}" for name in ALL_DEFAULTS}.get, bits) == f"of {setting}"


def test_the_layer_is_made_for_the_working_space(nuke, plate, edit):
    root = nuke.root()
    root["colorManagement"].setValue("OCIO")
    root["workingSpaceLUT"].setValue("scene_linear (ACES - ACEScg)")
    asked = request(edit)
    assert asked.recipe["layer_space"] == "ACES - ACEScg" and asked.recipe["color_space"] == "linear"
    plate["colorspace"].setValue("ACES - ACEScct")
    assert request(edit).recipe["color_space"] == "ACES - ACEScg" and request(edit).plate_write
    for knob, value in (("colorspace", "ACES - ACEScg"), ("raw", True)):  # nothing is converted: its own files
        plate[knob].setValue(value)
        asked = request(edit)
        assert asked.recipe["color_space"] == "ACES - ACEScg" and not asked.plate_write
    edit["working_space"].setValue("ACEScg")
    assert request(edit).recipe["layer_space"] == "ACEScg"
    root["colorManagement"].setValue("Nuke")
    edit["working_space"].setValue("")
    assert request(edit).recipe["layer_space"] == "linear"


@pytest.mark.parametrize(
    "name, known",
    [
        ("Linear Rec.709 (sRGB)", "linear"),
        ("scene_linear (Linear Rec.709 (sRGB))", "linear"),
        ("linear", "linear"),
        ("Utility - Linear - sRGB", "linear"),
        ("lin_rec709", "linear"),
        ("sRGB", "srgb"),
        ("sRGB - Texture", "srgb"),
        ("default (sRGB)", "srgb"),
        ("matte_paint (Utility - sRGB - Texture)", "srgb"),
        ("ACES - ACEScg", "ACES - ACEScg"),
        ("rec709", "rec709"),
        ("color_picking (Output - Rec.709)", "Output - Rec.709"),
        ("Cineon", "Cineon"),
    ],
)
def test_names_of_colour_spaces(nuke, name, known):
    from vera_nuke import color

    assert color.known(name) == known


def test_a_region_is_counted_from_the_top(nuke, edit):
    """It begins as the middle of the plate; one that was drawn is left alone."""
    edit["use_region"].setValue(True)
    assert request(edit).recipe["region"] == "16,12,32,24"
    edit["use_region"].setValue(False)
    edit["region"].setValue([0, 0, 8, 8])
    edit["use_region"].setValue(True)
    assert request(edit).recipe["region"] == "0,40,8,8"
    edit["region"].setValue([-3, 8.5, 31.5, 40])
    assert request(edit).recipe["region"] == "0,8,32,32"
    edit["region"].setValue([64, 0, 80, 48])
    assert "the region is empty or outside" in refused(nuke, edit)


def test_masks(nuke, plate, edit, tmp_path):
    """Its files where Nuke converts nothing, a still among them; else it is written."""
    for frame in range(1001, 1006):
        write_exr(tmp_path / f"sky.{frame}.exr", np.ones((48, 64, 3)))
    write_exr(tmp_path / "still.exr", np.ones((48, 64, 3)))
    edit.setInput(1, read_node(nuke, tmp_path / "sky.####.exr"))
    assert request(edit).recipe["mask"] == str(tmp_path / "sky.####.exr") and request(edit).mask_write is None
    edit.setInput(1, read_node(nuke, tmp_path / "still.exr", 1, 1))
    assert request(edit).recipe["mask"] == str(tmp_path / "still.exr")
    edit.input(1)["colorspace"].setValue("sRGB")
    assert request(edit).mask_write == request(edit).recipe["mask"]
    edit.input(1)["raw"].setValue(True)
    assert request(edit).mask_write is None
    (tmp_path / "sky.1003.exr").unlink()
    edit.setInput(1, read_node(nuke, tmp_path / "sky.####.exr"))
    assert request(edit).mask_write  # Nuke says what is seen at 1003, or that there is nothing
    nuke.file_facts[str(tmp_path / "sky.####.exr")]["input/width"] = 32
    assert "the mask is 32x48, but the plate is 64x48" in refused(nuke, edit)


def test_whatever_changes_upstream_changes_the_state(nuke, plate, edit, tmp_path):
    grade = nuke.createNode("Grade")
    grade.setInput(0, plate)
    edit.setInput(0, grade)
    states = [request(edit).state]

    def is_new():
        states.append(request(edit).state)
        return states.count(states[-1]) == 1

    assert not is_new()
    grade.setXYpos(100, 300)
    grade["label"].setValue("moved")
    assert not is_new()
    grade["white"].setValue(1.1)
    assert is_new()
    os.utime(tmp_path / "shot" / "plate.1004.exr", ns=(1, 1))
    assert is_new()
    edit.setInput(1, nuke.createNode("Roto"))
    assert is_new()
    nuke.root()["workingSpaceLUT"].setValue("ACEScg")
    assert is_new()


def test_groups_hide_nothing(nuke, plate, edit):
    """An edit inside a group, and a plate through one."""
    nuke.scriptReadText(
        "Group {\n inputs 0\n name Inner\n}\n Input {\n inputs 0\n name In\n }\n Grade {\n name Inside\n }\n"
        " VeraEdit {\n prompt snow\n name Deep\n }\n Output {\n name Output1\n }\nend_group\n"
    )
    group = nuke.toNode("Inner")
    group.setInput(0, plate)
    edit.setInput(0, group)
    assert "Inner.Deep before it is not rendered yet" in refused(nuke, edit)
    deep = group.node("Deep")
    deep.setInput(0, group.node("In"))
    before = request(deep).state
    plate["label"].setValue("a label")
    deep["status"].setValue("in words")
    assert request(deep).state == before
    plate["first"].setValue(1002)
    assert request(deep).state != before
    deep["disable"].setValue(True)
    state = request(edit).state
    group.node("Inside")["white"].setValue(2.0)
    assert request(edit).state != state


def test_an_edited_video_is_lifted_and_a_new_one_is_another_version(nuke, edit, tmp_path):
    """Its path goes as it is written, frame signs and all; no prompt is needed."""
    for frame in (1001, 1002):
        write_exr(tmp_path / f"edited.{frame}.exr", np.ones((48, 64, 3)))
    edit["door"].setValue("lift from file")
    edit["model_path"].setValue(f" {tmp_path}/edited.####.exr")
    edit["prompt"].setValue("")
    asked = request(edit)
    assert asked.recipe["model"] == f"lift:{tmp_path}/edited.####.exr" and asked.recipe["prompt"]
    assert request(edit) == asked
    os.utime(tmp_path / "edited.1002.exr", ns=(1, 1))
    assert request(edit).state != asked.state
    nuke.root()["project_directory"].setValue(str(tmp_path / "show"))
    edit["model_path"].setValue("edited.mov")
    assert request(edit).recipe["model"] == f"lift:{tmp_path}/show/edited.mov"


def test_vace_is_a_folder_and_the_prompt_says_what(nuke, edit):
    edit["door"].setValue("VACE")
    edit["model_path"].setValue("/models/vace")
    asked = request(edit).recipe
    assert asked["model"] == "vace:/models/vace" and asked["prompt"].startswith("Add a large red")
    edit["door"].setValue("Vera")
    assert request(edit).recipe["model"] == "mini"


@pytest.mark.parametrize(
    "change, words",
    [
        (lambda nuke, edit: edit["door"].setValue("lift from file"), "the edited video is not named; choose it"),
        (lambda nuke, edit: edit["door"].setValue("VACE"), "the folder of VACE's weights is not named; choose it"),
        (lambda nuke, edit: edit.setInput(0, None), "there is no plate; connect one"),
        (lambda nuke, edit: edit["prompt"].setValue(" \n "), "the prompt is empty; write what should change"),
        (lambda nuke, edit: nuke._view_names.append("right"), "several views is not supported yet"),
        (lambda nuke, edit: edit["folder"].setValue("relative/place"), "not an absolute path; choose a folder"),
        (lambda nuke, edit: edit["folder"].setValue("/shots/{a}"), "{ in a folder's name would be misread"),
        (lambda nuke, edit: edit["folder"].setValue("/shots/a#1"), "# in a folder's name would be misread"),
        (lambda nuke, edit: own(edit, 1000, 1003), "frames 1000-1003 are not all within Read1's 1001-1005"),
        (lambda nuke, edit: own(edit, 1004, 1003), "frames 1004-1003 run backwards"),
        (lambda nuke, edit: own(edit, "1001.5", 1003), "first 1001.5 is not a whole number"),
        (lambda nuke, edit: own(edit, -3, 3), "first -3 is not a whole number from 0"),
        (lambda nuke, edit: edit["seed"].setValue(-1), "seed -1 is not a whole number from 0"),
        (
            lambda nuke, edit: edit["quality"].setValue("own") and edit["steps"].setValue(0),
            "steps 0 is not a whole number from 1",
        ),
        (
            lambda nuke, edit: edit.setInput(0, edit_node(nuke, edit.input(0))),
            "VeraEdit2 before it is not rendered yet",
        ),
        (  # in the mask's branch, and behind another node there
            lambda nuke, edit: edit.setInput(1, edit_node(nuke, edit.input(0))),
            "VeraEdit2 before it is not rendered yet",
        ),
        (
            lambda nuke, edit: edit.setInput(1, graded(nuke, edit_node(nuke, edit.input(0)))),
            "VeraEdit2 before it is not rendered yet",
        ),
        (
            lambda nuke, edit: os.unlink(edit.input(0)["file"].value().replace("####", "1002")),
            "frame 1002 not on the disk",
        ),
    ],
)
def test_what_cannot_be_edited_is_refused_in_words(nuke, edit, change, words):
    change(nuke, edit)
    assert words in refused(nuke, edit)
    assert not nuke.pictures.written and not os.path.exists(edit["folder"].value() or "/nowhere")


def graded(nuke, source):
    grade = nuke.createNode("Grade")
    grade.setInput(0, source)
    return grade


def own(edit, first, last):
    edit["range"].setValue("own")
    for name, value in (("first", first), ("last", last)):
        edit[name].setExpression(value) if isinstance(value, str) else edit[name].setValue(value)


def test_a_folder_that_cannot_be_written(nuke, plate, edit, tmp_path):
    """Read-only, as a farm's cache: said before any work. (A file stands in the way, as the superuser may write
    anywhere.)"""
    (tmp_path / "taken").write_text("")
    edit["folder"].setValue(str(tmp_path / "taken" / "here"))
    assert "cannot be written" in refused(nuke, edit)
    plate["frame"].setValue("frame/2")
    assert "cannot be written" in refused(nuke, edit)
    assert not edit["writing"].value()


def test_a_read_only_folder_still_shows_what_is_in_it(nuke, edit, tmp_path, monkeypatch):
    from vera_nuke import gather

    edit["folder"].setValue(str(tmp_path / "r"))
    delivery(str(tmp_path / "r"), gather.request(edit))

    def refuse(*arguments, **options):
        raise OSError(30, "Read-only file system")

    for name in ("mkdir", "makedirs", "replace", "unlink"):
        monkeypatch.setattr(os, name, refuse)
    edit["render"].execute()
    assert edit["status"].value() == "v001: frames 1001-1005; no word 'zebra'" and edit["result_shown"].value() == 1
    edit["prompt"].setValue("Add snow")
    assert "cannot be written (Read-only file system); choose another folder" in refused(nuke, edit)
    assert edit["result_shown"].value() == 1


@pytest.mark.parametrize(
    "error, words", [(RuntimeError("Cancelled"), "could not be written (Cancelled)"), (None, "was not written whole")]
)
def test_a_plate_that_nuke_does_not_write_whole(nuke, plate, edit, error, words):
    plate["frame"].setValue("frame/2")

    def paint(write, frame, file):
        if frame == 1003:
            if error:
                raise error
            return
        open(file, "w").close()

    nuke.painter = paint
    nuke.root()["proxy"].setValue(True)
    assert words in refused(nuke, edit)
    assert nuke.root()["proxy"].value() and not edit["writing"].value()
    assert os.listdir(edit["folder"].value()) == ["plates"]


def test_without_a_service_it_says_how_to_have_one(nuke, edit, tmp_path, monkeypatch):
    monkeypatch.setenv("VERA_SERVICE_DIR", str(tmp_path / "none"))
    edit["render"].execute()
    assert nuke.pump(lambda: "press Settings and name the core's Python" in edit["status"].value(), 20), edit[
        "status"
    ].value()
    assert os.listdir(edit["folder"].value()) == [] and edit["pending"].value() == 0


def test_a_python_that_is_none_is_named(nuke, edit, tmp_path, monkeypatch):
    monkeypatch.setenv("VERA_SERVICE_DIR", str(tmp_path / "none"))
    monkeypatch.setenv("VERA_PYTHON", str(tmp_path / "no-python"))
    edit["render"].execute()
    assert nuke.pump(lambda: "cannot be started" in edit["status"].value(), 20), edit["status"].value()


def test_the_default_folder_is_beside_the_script(nuke, edit, tmp_path):
    from vera_nuke import gather

    assert gather.folder(edit).startswith(str(tmp_path / "cache" / "unsaved" / "VeraEdit1-"))
    assert edit["folder"].value() == ""
    nuke.scriptSave(str(tmp_path / "sh 010_comp.v003.nk"))
    assert gather.folder(edit) == str(tmp_path / "vera" / "sh_010_comp.v003" / "VeraEdit1")
    gather.request(edit)
    assert edit["folder"].value() == gather.folder(edit)


@pytest.mark.parametrize(
    ("knob", "value"),
    [
        ("colorManagement", "OCIO"),
        ("OCIO_config", "aces_1.2"),
        ("customOCIOConfigPath", "/show/config.ocio"),
        ("workingSpaceLUT", "ACEScg"),
    ],
)
def test_a_colour_setting_of_the_script_changes_the_state_of_a_plate(nuke, plate, knob, value):
    """A written plate has other pixels then, and is written again."""
    from vera_nuke.plate import state_of_stream

    before = state_of_stream(plate, 1001, 1005)
    assert state_of_stream(plate, 1001, 1005) == before
    nuke.root()[knob].setValue(value)
    assert state_of_stream(plate, 1001, 1005) != before


@pytest.mark.parametrize("frames", [(1002, 1005), (1001, 1004)])
def test_another_range_changes_the_state_of_a_plate(nuke, plate, frames):
    from vera_nuke.plate import state_of_stream

    assert state_of_stream(plate, *frames) != state_of_stream(plate, 1001, 1005)
