"""Nuke as studios use it: mapped paths, thousands of nodes, proxies, views, limited editions, copies as Groups."""

import json
import os
import re
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from tests.nuke_plugin.conftest import PLUGIN, delivery, read_node
from tests.nuke_plugin.pixels import write_exr
from tests.nuke_plugin.test_request import refused, request
from vera.core.recipe import table


def shown(edit, folder):
    """A version of what the node asks for, which it shows."""
    from vera_nuke import gather, show

    edit["folder"].setValue(str(folder))
    number = delivery(str(folder), gather.request(edit))
    show.show(edit, str(folder), number)
    return number


def writer_of(nuke, node):
    writer = nuke.createNode("Write")
    writer.setInput(0, node)
    rendered = []
    nuke.painter = lambda node, frame, file: rendered.append(frame)
    writer.rendered = rendered
    return writer


def grades(nuke, source, count):
    for _ in range(count):
        grade = nuke.createNode("Grade")
        grade.setInput(0, source)
        source = grade
    return source


# Paths that are mapped.


def test_files_are_found_through_the_filters_that_a_farm_sets(nuke, edit, tmp_path):
    shown(edit, tmp_path / "r")
    edit["result_file"].setValue("/studio/r/v001/edit/edit.####.exr")
    writer = writer_of(nuke, edit)
    with pytest.raises(RuntimeError, match="missing here"):
        nuke.execute(writer, 1001, 1005)
    nuke.addFilenameFilter(lambda name: name.replace("/studio", str(tmp_path)) if name.startswith("/studio") else None)
    nuke.execute(writer, 1001, 1005)
    assert writer.rendered == [1001, 1002, 1003, 1004, 1005]
    (tmp_path / "r" / "v001" / "edit" / "edit.1003.exr").unlink()
    with pytest.raises(RuntimeError, match="frame 1003 missing here"):
        nuke.execute(writer, 1001, 1005)


def test_a_plate_goes_to_the_core_by_its_mapped_name(nuke, plate, edit, tmp_path):
    nuke.file_facts["/studio/shot/plate.####.exr"] = nuke.file_facts[plate["file"].value()]
    plate["file"].setValue("/studio/shot/plate.####.exr")
    assert "frames 1001, 1002, 1003, ... (5 in all) not on the disk" in refused(nuke, edit)
    nuke.addFilenameFilter(lambda name: name.replace("/studio", str(tmp_path)))
    edit["folder"].setValue("/studio/results")
    asked = request(edit)
    assert asked.recipe["plate"] == str(tmp_path / "shot" / "plate.####.exr") and not asked.plate_write
    grade = nuke.createNode("Grade")
    grade.setInput(0, plate)
    edit.setInput(0, grade)
    assert request(edit).plate_write.startswith(str(tmp_path / "results" / "plates"))


def test_a_filter_that_fails_stops_nothing(nuke, edit, tmp_path):
    shown(edit, tmp_path / "r")

    def broken(name):
        raise ValueError("no database")

    nuke.addFilenameFilter(broken)
    writer = writer_of(nuke, edit)
    nuke.execute(writer, 1001, 1001)
    assert writer.rendered == [1001] and any("a filename filter failed" in text for text in nuke.printed)


# Large scripts.


MANY_NODES = 2000  # twice as many as Python calls functions within one another


def test_thousands_of_nodes_above_the_plate(nuke, plate, edit):
    last = grades(nuke, plate, MANY_NODES)
    edit.setInput(0, last)
    first_state = request(edit).state
    assert request(edit).plate_write and request(edit).state == first_state
    plate["first"].setValue(1002)  # at the very top
    edit["range"].setValue("own")
    edit["first"].setValue(1002)
    edit["last"].setValue(1005)
    assert request(edit).state != first_state


def test_thousands_of_nodes_below_an_edit_are_looked_through(nuke, edit, tmp_path):
    writer = writer_of(nuke, grades(nuke, edit, MANY_NODES))
    with pytest.raises(RuntimeError, match="VeraEdit1: not rendered yet"):
        nuke.execute(writer, 1001, 1001)
    shown(edit, tmp_path / "r")
    nuke.execute(writer, 1001, 1001)


# The guard before renders.


def test_a_script_without_an_edit_is_not_looked_at(nuke, plate, monkeypatch):
    """Whatever the graph does: broken, or beyond what Python may reach."""
    writer = writer_of(nuke, grades(nuke, plate, 100))

    def forbidden(*arguments, **options):
        raise AssertionError("the graph was walked")

    for name in ("dependencies", "allNodes", "thisNode", "root"):
        monkeypatch.setattr(nuke, name, forbidden)
    nuke.execute(writer, 1001, 1003)
    assert writer.rendered == [1001, 1002, 1003] and not nuke.printed


@pytest.mark.parametrize(
    "fault", [RuntimeError("no licence"), ValueError("x"), RecursionError(), KeyError("knob"), MemoryError()]
)
def test_a_fault_of_the_guard_itself_is_said_and_stops_nothing(nuke, edit, monkeypatch, fault):
    writer = writer_of(nuke, edit)

    def broken(*arguments):
        raise fault

    monkeypatch.setattr(nuke, "dependencies", broken)
    nuke.execute(writer, 1001, 1001)
    assert writer.rendered == [1001] and "it goes on" in nuke.printed[-1]


def test_nuke_indie_renders_and_refuses_in_words(nuke, plate, edit, tmp_path):
    """Its Python reaches few nodes."""
    grade = grades(nuke, plate, 30)
    writer = writer_of(nuke, grades(nuke, edit, 30))
    nuke.indie_limit = 10
    nuke.execute(writer, 1001, 1001)
    assert writer.rendered == [1001] and "Python cannot access more than 10 nodes" in nuke.printed[-1]
    nuke.printed.clear()
    edit.setInput(0, grade)
    assert "Nuke does not say what it is made of" in refused(nuke, edit)
    nuke._reached.clear()
    edit.setInput(0, plate)
    assert request(edit).plate_write is None  # an untouched Read


def test_the_page_names_the_editions():
    page = (PLUGIN.parent / "docs" / "nuke.md").read_text(encoding="utf-8")
    assert "Indie" in page and "Non-commercial" in page


# A gizmo that was copied to a Group.


def test_a_gizmo_copied_to_a_group_is_still_an_edit(nuke, edit, tmp_path):
    from vera_nuke import guard, plate

    guard._seen = False
    group = edit.makeGroup()
    assert group.Class() == "Group" and plate.is_edit(group) and set(plate.edits()) == {edit, group}
    writer = writer_of(nuke, group)
    with pytest.raises(RuntimeError, match=f"{group.name()}: not rendered yet"):
        nuke.execute(writer, 1001, 1001)
    nuke.delete(edit)
    assert plate.edits() == [group]
    shown(group, tmp_path / "r")
    nuke.execute(writer, 1001, 1001)
    assert writer.rendered == [1001] and not nuke.pictures.written
    assert nuke.label_of(group) == f"{group.name()}\nv001"
    other = nuke.nodes.Group()
    assert nuke.label_of(other) == other.name()


def test_a_baked_group_and_any_other_are_none(nuke, edit, tmp_path):
    from vera_nuke import bake, plate

    shown(edit, tmp_path / "r")
    group = bake.bake(edit)
    assert not plate.is_edit(group) and not plate.is_edit(nuke.createNode("Grade")) and plate.edits() == [edit]


# Stale layers.


def test_another_plate_makes_the_layer_stale_wherever_it_is_looked_at(nuke, plate, edit, tmp_path):
    shown(edit, tmp_path / "r")
    assert nuke.label_of(edit) == "VeraEdit1\nv001"
    (tmp_path / "v002").mkdir()
    for frame in range(1001, 1006):
        write_exr(tmp_path / "v002" / f"plate.{frame}.exr", np.full((48, 64, 3), 0.2))
    edit.setInput(0, read_node(nuke, tmp_path / "v002" / "plate.####.exr"))
    nuke.idle()
    assert nuke.label_of(edit) == "VeraEdit1\nv001 stale"
    writer = writer_of(nuke, edit)
    nuke.execute(writer, 1001, 1001)
    assert writer.rendered == [1001] and "made for another plate or mask" in nuke.printed[-1]
    nuke.scriptSave(str(tmp_path / "comp.nk"))
    nuke.scriptOpen(str(tmp_path / "comp.nk"))
    edit = nuke.toNode("VeraEdit1")
    assert "made for another plate" in nuke.warnings[-1] and "press Render" in edit["status"].value()
    assert nuke.label_of(edit).endswith("stale")


@pytest.mark.parametrize("change", ["frames", "mask", "grade", "files", "seed"])
def test_what_makes_a_layer_stale(nuke, plate, edit, tmp_path, change):
    """The plate and the mask; not what the node asks for next, nor other frames of the same plate."""
    from vera_nuke import show

    shown(edit, tmp_path / "r")
    assert show.stale(edit) == ""
    if change == "frames":
        edit["range"].setValue("own")
        edit["first"].setValue(1002)
        edit["last"].setValue(1003)
    elif change == "mask":
        edit.setInput(1, nuke.createNode("Roto"))
    elif change == "grade":
        edit.setInput(0, grades(nuke, plate, 1))
    elif change == "files":
        os.utime(tmp_path / "shot" / "plate.1004.exr", ns=(1, 1))
    else:
        edit["seed"].setValue(9)
    assert bool(show.stale(edit)) == (change in ("mask", "grade", "files"))


def test_the_tile_and_the_label_say_how_a_node_is(nuke, edit, tmp_path):
    from vera_nuke import badge

    assert nuke.label_of(edit) == "VeraEdit1\nnot rendered"
    badge.running(edit, "v001: generating, 3 of 8")
    assert nuke.label_of(edit) == "VeraEdit1\nv001: generating, 3 of 8" and edit["tile_color"].value() == badge.RUNNING
    badge.ended(edit, "failed")
    assert nuke.label_of(edit) == "VeraEdit1\nnot rendered failed" and edit["tile_color"].value() == badge.FAILED
    edit["label"].setValue("left balloon")
    shown(edit, tmp_path / "r")
    assert nuke.label_of(edit) == "VeraEdit1\nv001\nleft balloon" and edit["tile_color"].value() == badge.PLAIN


def test_progress_is_nothing_to_save(nuke, edit, tmp_path):
    """Neither in the script nor in its asterisk."""
    from vera_nuke import badge, run

    watched = run.Run(edit, str(tmp_path / "r"), 1, {"model": "mini"})
    badge.running(edit, "v001: looking for the service")
    nuke.scriptSave(str(tmp_path / "before.nk"))
    nuke.root().setModified(False)
    for step in range(5):
        watched._show_progress(f"v001: generating, {step} of 8", str(tmp_path / f"{step}.png"))
    assert not nuke.root().modified() and "4.png" in edit["look"].value() and "4 of 8" in nuke.label_of(edit)
    assert len(nuke.redrawn) == 5
    edit["look"].setValue("")
    nuke.scriptSave(str(tmp_path / "after.nk"))
    assert (tmp_path / "after.nk").read_text().replace("after", "before") == (tmp_path / "before.nk").read_text()


# What a Read names.


def test_a_proxy_is_never_the_plate(nuke, plate, edit, tmp_path):
    shutil.copytree(tmp_path / "shot", tmp_path / "proxy")
    plate["proxy"].setValue(str(tmp_path / "proxy" / "plate.####.exr"))
    nuke.file_facts[plate["proxy"].value()] = nuke.file_facts[plate["file"].value()]
    full = request(edit)
    assert full.recipe["plate"] == str(tmp_path / "shot" / "plate.####.exr")
    nuke.root()["proxy"].setValue(True)
    nuke.root().setModified(False)
    assert request(edit) == full
    edit.setInput(0, grades(nuke, plate, 1))
    in_proxy = request(edit)
    assert nuke.root()["proxy"].value() and not nuke.root().modified()
    nuke.root()["proxy"].setValue(False)
    assert request(edit) == in_proxy


@pytest.mark.parametrize(
    "name", ["%V/plate.####.exr", "plate_%v.####.exr", "%{shot}/plate.####.exr", "plate.%V.####.exr"]
)
def test_names_that_only_nuke_fills_in_are_written_by_nuke(nuke, edit, tmp_path, name):
    pattern = str(tmp_path / name)
    edit.setInput(0, read_node(nuke, pattern))
    asked = request(edit)
    assert asked.plate_write and asked.recipe["plate"] == asked.plate_write


def test_asset_collectors_find_no_written_plate(nuke, plate, edit, tmp_path):
    """They take every file knob of every node."""
    edit.setInput(0, grades(nuke, plate, 1))
    edit.setInput(1, nuke.createNode("Roto"))
    from vera_nuke import plate as plates

    asked = request(edit)
    plates.write(edit, asked)
    assert "/plates/" in edit["plate_file"].value() and "/plates/" in edit["mask_file"].value()
    files = re.findall(r"^ addUserKnob \{2 (\w+)", (PLUGIN / "VeraEdit.gizmo").read_text(), re.M)
    assert "result_file" in files  # the layer itself belongs to the script
    assert not [name for name in files if "/plates/" in str(edit[name].value())]


# What expressions pull from outside.


def test_the_state_sees_what_expressions_read_elsewhere(nuke, plate, edit, monkeypatch):
    root = nuke.root()
    root._knobs["gain"] = nuke.Knob(root, "gain", 1.0)
    grade = grades(nuke, plate, 1)
    edit.setInput(0, grade)
    grade["white"].setExpression("root.gain")
    states = [request(edit).state]
    root["gain"].setValue(2.0)
    states.append(request(edit).state)
    grade["channels"].setValue("[getenv VERA_TEST_CHANNELS]")
    for value in ("rgb", "red"):
        monkeypatch.setenv("VERA_TEST_CHANNELS", value)
        states.append(request(edit).state)
    assert len(set(states)) == 4
    assert request(edit).state == states[-1]


# Kept latents, further fields, drafts.


def test_another_working_space_is_delivered_from_what_is_kept(nuke, edit, tmp_path):
    from vera_nuke import versions

    base = str(tmp_path / "r")
    edit["folder"].setValue(base)
    delivery(base, request(edit))
    kept = Path(base, "v001", "kept")
    kept.mkdir()
    (kept / "layers.safetensors").write_text("latents")
    edit["working_space"].setValue("ACEScg")
    assert versions.kept_for(base, request(edit)) == str(kept)
    for knob, value in (("seed", 5), ("prompt", "Add snow")):
        before = edit[knob].value()
        edit[knob].setValue(value)
        assert versions.kept_for(base, request(edit)) == ""
        edit[knob].setValue(before)
    os.utime(tmp_path / "shot" / "plate.1001.exr", ns=(1, 1))
    assert versions.kept_for(base, request(edit)) == ""


def test_further_fields_of_a_recipe(nuke, edit, tmp_path):
    plain = request(edit).recipe
    assert not {"exposure", "cuts", "layer_mode", "lora", "also"} & set(plain)
    for knob, value in (
        ("exposure", "-1.5"),
        ("cuts", "1003, 1004"),
        ("layer_mode", "relative"),
        ("lora", "/l/snow.safetensors"),
        ("lora_strength", 0.5),
        ("also_png", True),
        ("also_matte", True),
    ):
        edit[knob].setValue(value)
    more = request(edit).recipe
    assert {name: more[name] for name in set(more) - set(plain)} == {
        "exposure": -1.5,
        "cuts": "1003,1004",
        "layer_mode": "relative",
        "lora": ["/l/snow.safetensors:0.5"],
        "also": ["png", "matte"],
    }
    edit["exposure"].setValue("bright")
    assert "exposure 'bright' is no number of stops" in refused(nuke, edit)


def test_a_draft_is_one_frame_in_few_steps(nuke, edit, monkeypatch):
    from vera_nuke import run

    begun = []
    monkeypatch.setattr(run, "_start", lambda run, wait: begun.append(run.recipe))
    nuke.frame(1003)
    edit["draft"].execute()
    assert begun[0]["frames"] == "1003-1003" and begun[0]["steps"] == 4 and not nuke.printed


@pytest.fixture
def looks(monkeypatch):
    """What a service was asked to look at, which answers with one line."""
    from vera_nuke import settings

    asked = []

    def look(recipe):
        asked.append(recipe)
        return ["frames 1001-1005 (5)"]

    service = SimpleNamespace(look=look, recipe_fields=lambda: {field.name for field in table.FIELDS})
    monkeypatch.setattr(settings, "connect", lambda: service)
    return asked


def test_what_is_read_is_said_before_a_job_and_nothing_is_made(nuke, edit, tmp_path, looks):
    edit["folder"].setValue(str(tmp_path / "r"))
    edit["look_first"].execute()
    assert nuke.pump(lambda: nuke.messages, 30)
    assert nuke.messages.pop().splitlines()[1:] == ["frames 1001-1005 (5)"]
    assert looks[0]["plate"].endswith("plate.####.exr") and looks[0]["out"] == str(tmp_path / "r")
    assert not (tmp_path / "r").exists()


def test_a_plate_that_nuke_writes_first_is_said_so(nuke, edit, tmp_path, looks):
    edit["folder"].setValue(str(tmp_path / "r"))
    grade = nuke.createNode("Grade")
    grade.setInput(0, edit.input(0))
    edit.setInput(0, grade)
    edit["look_first"].execute()
    assert "The plate is rendered first" in nuke.messages.pop() and looks == []


# Versions.


def test_versions_side_by_side_with_notes_and_one_deleted(nuke, edit, tmp_path):
    from vera_nuke import versions

    base = tmp_path / "r"
    shown(edit, base)
    edit["seed"].setValue(2)
    shown(edit, base)
    nuke.answers.append("  the client's\nfavourite ")
    edit["edit_note"].execute()
    assert versions.note(f"{base}/v002") == "the client's favourite" and "favourite" in edit["status"].value()
    edit["compare"].execute()
    sheet = next(n for n in nuke.allNodes("ContactSheet"))
    reads = [sheet.input(i) for i in range(sheet.inputs())]
    assert [read["file"].value() for read in reads] == [f"{base}/v00{n}/edit/edit.####.exr" for n in (1, 2)]
    assert "favourite" in reads[1]["label"].value() and sheet["columns"].value() == 2
    edit["delete_version"].execute()  # not confirmed
    assert (base / "v002").is_dir() and edit["version"].value() == 2
    nuke.answers.append(True)
    edit["delete_version"].execute()
    assert not (base / "v002").exists() and edit["version"].value() == 1 and edit["result_shown"].value()
    nuke.answers.append(True)
    edit["delete_version"].execute()
    assert not edit["result_shown"].value() and edit["status"].value() == "not rendered yet" and not nuke.printed


def test_after_a_version_is_deleted_the_one_before_it_is_shown(nuke, edit, tmp_path):
    from vera_nuke import show

    base = tmp_path / "r"
    for seed in (1, 2, 3, 4):
        edit["seed"].setValue(seed)
        shown(edit, base)
    show.show(edit, str(base), 3)
    for left in (2, 1, 4):  # before v003; where there is none before it, another
        nuke.answers.append(True)
        edit["delete_version"].execute()
        assert edit["version"].value() == left


@pytest.mark.parametrize("now, found", [(0, 4), (1, 1), (2, 2), (3, 4), (4, 4)])
def test_of_versions_with_the_same_request_the_shown_one_is_taken_else_the_newest(nuke, tmp_path, now, found):
    from vera_nuke import versions

    asked, other = (versions.Request({"seed": seed}, "state", None, None, 1, 2) for seed in (1, 2))
    assert [versions.begin(str(tmp_path), each) for each in (asked, asked, other, asked)] == [1, 2, 3, 4]
    assert versions.find(str(tmp_path), asked, now) == found


@pytest.mark.parametrize("kind", ["link", "no request", "another name"])
def test_only_versions_are_deleted(nuke, tmp_path, kind):
    from vera_nuke import versions
    from vera_nuke.host_rules import RefusedError

    real = tmp_path / ("v001" if kind == "no request" else "precious")
    real.mkdir()
    (real / "film.exr").write_text("")
    if kind != "no request":
        (real / "request.json").write_text("{}")
    out = tmp_path / "v002" if kind == "link" else real
    if kind == "link":
        out.symlink_to(real)
    with pytest.raises(RefusedError, match="is no version of Vera's"):
        versions.delete(str(out))
    assert (real / "film.exr").exists()


@pytest.mark.parametrize(
    "frames", [[{"frame": 10**15}, {"frame": 0}], [{"frame": "1"}], [{"frame": None}], "x", [1], []]
)
def test_a_damaged_manifest_is_no_delivery(nuke, tmp_path, frames):
    from vera_nuke import versions

    (tmp_path / "manifest.json").write_text(json.dumps({"frames": frames, "extra": {}}))
    assert versions.delivered(str(tmp_path)) is None


def test_mix_is_how_much_of_the_layer_leaves(nuke, edit, tmp_path):
    shown(edit, tmp_path / "r")
    layer = np.zeros((48, 64, 4), "float32")
    layer[:, :20] = (0.5, 0.1, 0.1, 0.5)
    for frame in range(1001, 1006):
        write_exr(tmp_path / "r" / "v001" / "edit" / f"edit.{frame}.exr", layer, channels="RGBA")
    for mix in (1.0, 0.25, 0.0):
        edit["mix"].setValue(mix)
        edit["output"].setValue("edit layer")
        assert np.allclose(nuke.pictures.picture(edit, 1002), layer * mix, atol=1e-3)
        edit["output"].setValue("composite")
        plate = nuke.pictures.picture(edit.input(0), 1002)
        seen = nuke.pictures.picture(edit, 1002)
        assert np.array_equal(seen[:, 20:], plate[:, 20:])
        assert np.array_equal(seen, plate) == (mix == 0)
