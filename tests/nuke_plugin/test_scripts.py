"""What is written for Nuke to read: the gizmo, the toolset, baked Groups, saved scripts."""

import os
import re
from pathlib import Path

import nkparser
import pytest

from tests.nuke_plugin.conftest import PLUGIN, delivery
from tests.nuke_plugin.tcl import every, record, tkinter

GIZMO = PLUGIN / "VeraEdit.gizmo"
TOOLSET = PLUGIN / "ToolSets" / "Vera" / "VeraEdit.nk"
GOLDEN = Path(__file__).with_name("golden")
# The inner graph, as the documentation draws it: node -> its inputs, 0 (of a merge: B) first.
GRAPH = {
    "mask": [],
    "MaskFormat": ["mask"],
    "MaskWrite": ["MaskFormat"],
    "plate": [],
    "PlateFormat": ["plate"],
    "PlateWrite": ["PlateFormat"],
    "Layer": [],
    "Nothing": ["plate"],
    "LayerInFormat": ["Nothing", "Layer"],
    "Result": ["Nothing", "LayerInFormat"],
    "Mix": ["Result"],
    "Composite": ["plate", "Mix"],
    "Difference": ["plate", "Composite"],
    "Matte": ["Mix"],
    "Chosen": ["Mix", "Matte", "Composite", "Difference"],
    "Output1": ["Chosen"],
}
HOSTILE = 'a "red" [exit] {ball} $HOME \\n 100% # é\n; snow}'


def golden(name, text):
    """The text is the file's. VERA_WRITE_GOLDEN=1 writes the files again; review them before committing."""
    if os.environ.get("VERA_WRITE_GOLDEN"):
        (GOLDEN / name).write_text(text, encoding="utf-8")
    assert text == (GOLDEN / name).read_text(encoding="utf-8")


def graph_of(nodes):
    return {n.name: [i.name if i else None for i in n.inputs] for n in nodes}


def test_the_gizmo_is_the_graph_that_is_drawn():
    (gizmo,) = record(GIZMO.read_text())
    assert gizmo.kind == "Gizmo" and graph_of(gizmo.nodes) == GRAPH


def test_the_stand_in_reads_the_gizmo_as_tcl_does(nuke):
    (gizmo,) = record(GIZMO.read_text())
    made = nuke.createNode("VeraEdit")
    assert {n.name(): [i and i.name() for i in n._inputs] for n in made.nodes()} == graph_of(gizmo.nodes)
    assert not nuke.printed


def test_nkparser_reads_it_likewise():
    """Its inputs are in the order of the stack, the deepest first; it takes what is inside a group one by one."""
    script = nkparser.Script.from_string(GIZMO.read_text().replace("\nend_group\n", "\n"))
    assert not [d for d in script.diagnostics if d.severity.value == "error"]
    found = {n.name: [i.name for i in reversed(n.inputs)] for n in script.all_nodes() if n.name in GRAPH}
    assert found == GRAPH
    toolset = nkparser.Script.from_string(TOOLSET.read_text())
    assert not [d for d in toolset.diagnostics if d.severity.value == "error"]
    assert [i.name for i in toolset.find("LayerOverPlate").inputs] == ["LayerGrade", "Plate"]


def known_knobs(nuke, kind, user=()):
    return {*nuke._COMMON, *nuke.KNOBS.get(kind, {}), *user, "inputs", "addUserKnob"}


def check_knobs(nuke, nodes, gizmo_knobs):
    for node in every(nodes):
        user = {w[0].split()[1] for w in node.values("addUserKnob")} | (
            gizmo_knobs if node.kind == "VeraEdit" else set()
        )
        unknown = {name for name, _ in node.knobs} - known_knobs(nuke, node.kind, user)
        assert not unknown, f"{node.kind} {node.name}: {unknown}"
        assert node.kind in nuke.KNOBS or node.kind in ("Gizmo", "VeraEdit"), node.kind


@pytest.fixture
def gizmo_knobs(nuke):
    return set(nuke.createNode("VeraEdit").knobs())


@pytest.mark.parametrize("file", [GIZMO, TOOLSET])
def test_every_knob_that_is_set_exists(nuke, gizmo_knobs, file):
    check_knobs(nuke, record(file.read_text()), gizmo_knobs)


def test_every_expression_evaluates(nuke, edit):
    """With a result shown and without one."""
    count = 0
    for shown in (0, 1):
        edit["result_shown"].setValue(shown)
        for node in edit.nodes():
            for knob in node.knobs().values():
                if knob.expression is not None:
                    assert isinstance(knob.getValue(), float)
                    count += 1
                if isinstance(knob.raw, str) and "[" in knob.raw:
                    assert "[" not in knob.evaluate()
                    count += 1
                for part in knob.raw if isinstance(knob.raw, list) else []:
                    if isinstance(part, str):
                        assert nuke._evaluate(node, part.strip("{}")) in (64, 48)
                        count += 1
    assert count == 2 * 16  # 2 disable, 4 box, 3 file, 4 range, 2 which, 1 mix


@pytest.mark.parametrize(
    "found, planted",
    [
        (" name Composite\n", " name Composite {\n"),
        ('file "\\[value parent.result_file]"', 'file "[value parent.result_file]"'),
        ("end_group\n", ""),
        ("push $N0\n", ""),
        ("  which {{parent.output}}\n", "  whihc {{parent.output}}\n"),
        (' addUserKnob {26 space_line l ""}\n', ' addUserKnob {26 space_line l "}\n'),
    ],
)
def test_planted_faults_are_caught(nuke, gizmo_knobs, found, planted):
    text = GIZMO.read_text()
    assert found in text
    with pytest.raises((tkinter.TclError, AssertionError)):
        nodes = record(text.replace(found, planted, 1))
        check_knobs(nuke, nodes, gizmo_knobs)
        assert graph_of(nodes[0].nodes) == GRAPH
        for knob in nodes[0].values("addUserKnob"):
            record(f"X {{addUserKnob {{{knob[0]}}}}}")
            assert len(tkinter.Tcl().splitlist(knob[0])) >= 2


def test_the_toolset_loads_as_it_says(nuke):
    nuke.scriptReadText(TOOLSET.read_text())
    merge = nuke.toNode("LayerOverPlate")
    assert [merge.input(i).name() for i in (0, 1)] == ["Plate", "LayerGrade"]
    edit = nuke.toNode("Balloon")
    assert edit.Class() == "VeraEdit" and edit.input(0).name() == "Plate" and edit["output"].value() == "edit layer"
    assert not nuke.printed


def delivered(edit, folder, prompt="Add snow"):
    """A version that the node shows."""
    from vera_nuke import gather, show, versions

    state = gather.request(edit, write=False).state
    recipe = {"prompt": prompt, "model": "mini", "seed": 7, "layer_space": "linear", "plate": "p"}
    number = delivery(str(folder), versions.Request(recipe, state, None, None, 1001, 1005))
    edit["folder"].setValue(str(folder))
    show.show(edit, str(folder), number)


def test_a_baked_group_is_golden_and_needs_nothing_of_vera(nuke, gizmo_knobs, edit, tmp_path):
    delivered(edit, tmp_path / "r")
    edit["output"].setValue("composite")
    from vera_nuke import bake

    text = bake.group_text(edit, "VeraEdit1_v001").replace(str(tmp_path), "/results")
    golden("baked.nk", text)
    (group,) = record(text)
    kept = {name: inputs for name, inputs in GRAPH.items() if not re.match("Mask|mask|Plate", name)}
    assert graph_of(group.nodes) == kept
    check_knobs(nuke, [group], gizmo_knobs)
    assert "vera_nuke" not in text and "parent.result" not in text


def test_baking_takes_the_nodes_place(nuke, edit, tmp_path):
    merge = nuke.createNode("Merge2")
    merge.setInput(0, edit.input(0))
    merge.setInput(1, edit)
    delivered(edit, tmp_path / "r", HOSTILE)
    for name in ("VeraEdit1_v001", "VeraEdit1_v001_2"):
        edit["bake"].execute()
        group = nuke.toNode(name)
        assert group.input(0).name() == "Read1" and group.node("Layer")["last"].value() == 1005
        assert group["prompt"].value() == HOSTILE
        assert group.node("Result")["which"].value() == 1
    assert merge.input(1).name() == "VeraEdit1_v001" and not nuke.messages and not nuke.printed


def test_no_text_that_is_typed_can_break_a_script(nuke, edit, tmp_path):
    from vera_nuke import bake

    node = record(f"Text {{\n message {bake.quoted(HOSTILE)}\n}}\n")[0]
    assert node.values("message") == [[HOSTILE]]
    assert nkparser.Script.from_string(f"Text {{\n message {bake.quoted(HOSTILE)}\n}}\n").diagnostics is not None


def test_a_saved_script_holds_the_result_and_opens_as_it_was(nuke, edit, tmp_path):
    delivered(edit, tmp_path / "r", HOSTILE)
    edit["prompt"].setValue(HOSTILE)
    file = tmp_path / "comp.nk"
    nuke.scriptSave(str(file))
    text = file.read_text().replace(str(tmp_path), "/results")
    text = re.sub(r'result_state "\w+"', 'result_state "hash"', text)
    golden("saved.nk", text)
    saved = next(n for n in record(text) if n.kind == "VeraEdit")
    assert saved.values("prompt") == [[HOSTILE]] and not saved.nodes
    nuke.scriptOpen(str(file))
    again = nuke.toNode("VeraEdit1")
    assert again["prompt"].value() == HOSTILE and again["result_shown"].value() == 1
    assert again.node("Layer")["file"].evaluate() == str(tmp_path / "r" / "v001" / "edit" / "edit.####.exr")
    assert not nuke.warnings

    (tmp_path / "r" / "v001" / "edit" / "edit.1002.exr").unlink()
    nuke.scriptOpen(str(file))
    assert "edit.####.exr: frame 1002 missing here" in nuke.warnings[0]


def test_another_working_space_is_reported_and_renders(nuke, edit, tmp_path):
    """The layer is wrong in it, but it is there: the artist decides. A node that has nothing stops the render."""
    writer = nuke.createNode("Write")
    writer.setInput(0, edit)
    nuke.painter = lambda node, frame, file: None
    with nuke.headless():
        try:
            nuke.execute(writer, 1001, 1001)
            raise AssertionError("a render without its edit")
        except RuntimeError as error:
            assert "VeraEdit1: not rendered yet, or disable the node" in str(error)
        edit["disable"].setValue(True)
        nuke.execute(writer, 1001, 1001)
        edit["disable"].setValue(False)
        delivered(edit, tmp_path / "r")
        nuke.root()["colorManagement"].setValue("OCIO")
        nuke.root()["workingSpaceLUT"].setValue("ACEScg")
        nuke.printed.clear()
        nuke.execute(writer, 1001, 1001)
        said = " ".join(nuke.printed)
        assert "made for the working space linear, but the script now works in ACEScg" in said
        nuke.scriptSave(str(tmp_path / "comp.nk"))
        nuke.scriptOpen(str(tmp_path / "comp.nk"))
    assert "now works in ACEScg: press Render" in nuke.toNode("VeraEdit1")["status"].value()


def test_frames_outside_the_result_are_empty_not_held():
    (gizmo,) = record(GIZMO.read_text())
    layer = next(n for n in gizmo.nodes if n.name == "Layer")
    assert layer.values("before") == layer.values("after") == [["black"]]
    assert layer.values("raw") == [["true"]] and not layer.values("on_error")
