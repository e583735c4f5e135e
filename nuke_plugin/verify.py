"""Check the plug-in in a real Nuke: nuke -t verify.py [WORK_FOLDER]

It needs neither the core nor the service. It prints one line per point of VERIFY.md and ends with 0 if all hold. It
writes only into WORK_FOLDER (default: a new temporary folder).
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import traceback
from collections.abc import Callable
from typing import Any

import nuke

LOADED = set(sys.modules)

FIRST, LAST = 1001, 1003
Check = Callable[["Scene"], None]
CHECKS: list[tuple[int, str, Check]] = []


def check(number: int, words: str) -> Callable[[Check], Check]:
    def keep(call: Check) -> Check:
        CHECKS.append((number, words, call))
        return call

    return keep


class Scene:
    """A small plate on the disk, a VeraEdit on it, and a layer as the core would deliver it."""

    def __init__(self, work: str) -> None:
        self.work = work.replace("\\", "/")
        self.out = self.work + "/results/v001"
        nuke.scriptClear()
        nuke.root()["first_frame"].setValue(FIRST)
        nuke.root()["last_frame"].setValue(LAST)
        self.small = nuke.addFormat("64 48 0 0 64 48 1 vera_verify")
        nuke.root()["format"].setValue("vera_verify")
        self.plate = self._files(nuke.nodes.CheckerBoard2(), self.work + "/plate/plate.####.exr", "rgb")
        self.read: Any = self._read(self.work + "/plate/plate.####.exr")
        self.edit: Any = nuke.createNode("VeraEdit", inpanel=False)
        self.edit.setInput(0, self.read)
        self.edit["prompt"].setValue("Add a red balloon")
        self.edit["folder"].setValue(self.work + "/results")

    def deliver(self) -> None:
        """v001: a layer that covers the left half with red at half alpha."""
        constant = nuke.nodes.Constant(color=[0.5, 0, 0, 0.5], channels="rgba")
        crop = nuke.nodes.Crop(inputs=[constant], box=[0, 0, 32, 48])
        full = nuke.nodes.Crop(inputs=[crop], box=[0, 0, 64, 48])
        self._files(full, self.out + "/edit/edit.####.exr", "rgba", "16 bit half")
        entries = [{"frame": f, "edit": {"file": f"edit/edit.{f}.exr"}} for f in range(FIRST, LAST + 1)]
        _write(self.out + "/manifest.json", {"frames": entries, "extra": {"warnings": []}})
        _write(
            self.out + "/request.json",
            {"recipe": {"prompt": "Add a red balloon", "layer_space": "linear"}, "state": ""},
        )

    def _files(self, node: nuke.Node, pattern: str, channels: str, datatype: str = "32 bit float") -> str:
        write = nuke.nodes.Write(
            inputs=[node], file=pattern, file_type="exr", channels=channels, raw=True, create_directories=True
        )
        write["datatype"].setValue(datatype)
        nuke.execute(write, FIRST, LAST, 1)
        nuke.delete(write)
        return pattern

    def _read(self, pattern: str) -> nuke.Node:
        read = nuke.nodes.Read(file=pattern, first=FIRST, last=LAST, origfirst=FIRST, origlast=LAST)
        read["raw"].setValue(False)
        return read


def _write(file: str, value: Any) -> None:
    with open(file, "w", encoding="utf-8") as stream:
        json.dump(value, stream)


def sample(node: nuke.Node, channel: str, x: float, y: float) -> float:
    return nuke.sample(node, channel, x + 0.5, y + 0.5)  # type: ignore[arg-type] # the stubs take whole numbers only


@check(1, "the gizmo loads, its buttons, menus and texts are there, and nothing is complained of")
def gizmo(scene: Scene) -> None:
    assert scene.edit.Class() == "VeraEdit"
    assert scene.edit["output"].values() == ["edit layer", "matte", "composite", "difference"]
    assert scene.edit["prompt"].value() == "Add a red balloon"
    for name in ("PlateWrite", "MaskWrite", "Layer", "Result", "Chosen"):
        assert scene.edit.node(name) is not None, name
    for name in ("range", "quality", "door", "model", "model_path", "region", "status", "spaces", "result_shown"):
        assert scene.edit.knob(name) is not None, name


@check(2, "a Read's facts: the plate is seen as untouched, in the core's words for its colour")
def untouched(scene: Scene) -> None:
    from vera_nuke import gather

    asked = gather.request(scene.edit)
    for key in ("input/width", "input/height", "input/bitsperchannel"):
        print("   ", key, "=", scene.read.metadata(key))
    box = scene.read.bbox()
    print("    colorspace =", scene.read["colorspace"].value(), " bbox =", (box.x(), box.y(), box.w(), box.h()))
    assert asked.plate_write is None, asked
    assert asked.recipe["color_space"] == "linear" and asked.recipe["frames"] == f"{FIRST}-{LAST}"


@check(3, "before the first render: no layer, the composite is the plate, the Read without a file is not asked")
def empty(scene: Scene) -> None:
    scene.edit["output"].setValue("edit layer")
    assert sample(scene.edit, "rgba.red", 5, 5) == 0 and sample(scene.edit, "rgba.alpha", 5, 5) == 0
    scene.edit["output"].setValue("composite")
    assert sample(scene.edit, "rgba.red", 5, 5) == sample(scene.read, "rgba.red", 5, 5)
    assert not scene.edit.hasError()


@check(4, "a delivered version is read through the linked knobs: layer, matte, composite, difference")
def linked(scene: Scene) -> None:
    from vera_nuke import show

    scene.deliver()
    show.show(scene.edit, scene.work + "/results", 1)
    nuke.frame(FIRST)
    layer = scene.edit.node("Layer")
    named = str(layer["file"].evaluate())
    assert named.replace("####", str(FIRST)) == f"{scene.out}/edit/edit.{FIRST}.exr", named
    assert (layer["first"].value(), layer["last"].value()) == (FIRST, LAST)
    scene.edit["output"].setValue("edit layer")
    assert abs(sample(scene.edit, "rgba.red", 5, 5) - 0.5) < 1e-6 and sample(scene.edit, "rgba.alpha", 50, 5) == 0
    scene.edit["output"].setValue("matte")
    assert abs(sample(scene.edit, "rgba.green", 5, 5) - 0.5) < 1e-6
    scene.edit["output"].setValue("composite")
    plate = sample(scene.read, "rgba.red", 5, 5)
    assert abs(sample(scene.edit, "rgba.red", 5, 5) - (0.5 + plate * 0.5)) < 1e-6
    assert sample(scene.edit, "rgba.red", 50, 5) == sample(scene.read, "rgba.red", 50, 5)
    scene.edit["output"].setValue("difference")
    assert sample(scene.edit, "rgba.red", 50, 5) == 0 and sample(scene.edit, "rgba.red", 5, 5) > 0
    form = scene.edit.format()
    assert (form.width(), form.height()) == (64, 48)


@check(5, "outside the rendered frames the layer is empty")
def outside(scene: Scene) -> None:
    scene.edit["output"].setValue("edit layer")
    for frame in (FIRST - 1, LAST + 1):
        nuke.frame(frame)
        assert sample(scene.edit, "rgba.alpha", 5, 5) == 0, frame
    nuke.frame(FIRST)


@check(6, "a touched plate and a mask are written whole, at full size in proxy mode, data window = display window")
def written(scene: Scene) -> None:
    from vera_nuke import gather, plate

    grade = nuke.nodes.Grade(inputs=[scene.read], white=1.25)
    roto = nuke.nodes.Constant(color=[1, 1, 1, 1], channels="rgba")
    scene.edit.setInput(0, grade)
    scene.edit.setInput(1, nuke.nodes.Crop(inputs=[roto], box=[8, 8, 40, 40]))
    nuke.root()["proxy"].setValue(True)
    try:
        asked = gather.request(scene.edit)
        assert asked.plate_write and asked.mask_write
        plate.write(scene.edit, asked)
        assert nuke.root()["proxy"].value()
    finally:
        nuke.root()["proxy"].setValue(False)
    assert not scene.edit["writing"].value() and scene.edit.node("PlateWrite")["disable"].value()
    for pattern in (asked.plate_write, asked.mask_write):
        read = scene._read(pattern)
        box, form = read.bbox(), read.format()
        print("   ", os.path.basename(pattern), (box.x(), box.y(), box.w(), box.h()), (form.width(), form.height()))
        assert (box.x(), box.y(), box.w(), box.h()) == (0, 0, 64, 48), "the data window is not the format"
        if pattern == asked.plate_write:
            assert sample(read, "rgba.red", 3, 3) == sample(grade, "rgba.red", 3, 3)
            assert read.metadata("input/bitsperchannel").startswith("32"), read.metadata("input/bitsperchannel")
    before = asked.state
    grade["white"].setValue(1.5)
    assert gather.request(scene.edit).state != before, "a change upstream is not seen"
    scene.edit.setInput(0, scene.read)
    scene.edit.setInput(1, None)


@check(7, "a saved script holds the result and opens as it was; a missing frame is told")
def saved(scene: Scene) -> None:
    from vera_nuke import show

    file = scene.work + "/comp.nk"
    prompt = 'a "red" [ball] {in} $HOME\n100%'
    scene.edit["prompt"].setValue(prompt)
    name = scene.edit.fullName()
    nuke.scriptSaveAs(file, overwrite=1)
    nuke.scriptClear()
    nuke.scriptOpen(file)
    scene.edit = nuke.toNode(name)
    scene.read = scene.edit.input(0)
    assert scene.edit["prompt"].value() == prompt, scene.edit["prompt"].value()
    assert show.missing(scene.edit) is None, show.missing(scene.edit)
    gone = f"{scene.out}/edit/edit.{LAST}.exr"
    os.rename(gone, gone + ".away")
    try:
        assert f"frame {LAST}" in (show.missing(scene.edit) or "")
        write = nuke.nodes.Write(
            inputs=[scene.edit], file=scene.work + "/comp/comp.####.exr", file_type="exr", create_directories=True
        )
        try:
            nuke.execute(write, FIRST, FIRST, 1)
            raise AssertionError("a render with a missing frame was not aborted by beforeRender")
        except RuntimeError:
            pass
    finally:
        os.rename(gone + ".away", gone)
    nuke.execute(write, FIRST, LAST, 1)


@check(8, "a render of all Writes leaves the node's own, which are switched off, alone")
def all_writes(scene: Scene) -> None:
    inner = [n for n in nuke.allNodes("Write", recurseGroups=True) if n.parent() == scene.edit]
    assert len(inner) == 2 and all(n["disable"].value() for n in inner)


@check(9, "Bake to Group makes a Group that needs nothing of Vera")
def baked(scene: Scene) -> None:
    from vera_nuke import bake

    group = bake.bake(scene.edit)
    assert group.Class() == "Group" and group.input(0) == scene.read
    group["output"].setValue("composite")
    scene.edit["output"].setValue("composite")
    for x in (5, 50):
        assert sample(group, "rgba.red", x, 5) == sample(scene.edit, "rgba.red", x, 5)
    assert group["prompt"].value() == "Add a red balloon", group["prompt"].value()


@check(10, "Nuke's Python is 3.9 or newer, and the package imports no more than its standard library")
def python(scene: Scene) -> None:
    import vera_nuke.buttons  # noqa: F401
    import vera_nuke.client  # noqa: F401

    print("   ", nuke.NUKE_VERSION_STRING, sys.version.split()[0])
    assert sys.version_info >= (3, 9) and "torch" not in set(sys.modules) - LOADED


@check(11, "files are looked for through filters of file names, as a farm sets them")
def filtered(scene: Scene) -> None:
    from vera_nuke import show

    node = scene.edit
    there = str(node["result_file"].value())
    node["result_file"].setValue(there.replace(scene.work, "/vera_verify_elsewhere"))
    assert show.missing(node) is not None
    nuke.addFilenameFilter(lambda name: name.replace("/vera_verify_elsewhere", scene.work))
    try:
        assert show.missing(node) is None, show.missing(node)
    finally:
        node["result_file"].setValue(there)


@check(12, "a gizmo that is copied to a Group is known by its knobs; what is only looked at marks no script as changed")
def copied(scene: Scene) -> None:
    from vera_nuke import host, plate

    group = scene.edit.makeGroup()
    try:
        assert group.Class() == "Group" and plate.is_edit(group) and group in plate.edits()
    finally:
        nuke.delete(group)
    nuke.root().setModified(False)
    with host.unsaved():
        scene.edit["look"].setValue("a picture")
        scene.edit["look"].setValue("")
    with host.full_size():
        pass
    assert not nuke.root().modified()


def main(arguments: list[str]) -> int:
    here = os.path.dirname(os.path.abspath(__file__))
    nuke.pluginAddPath(here)  # runs init.py where NUKE_PATH does not name it already
    work = arguments[0] if arguments else tempfile.mkdtemp(prefix="vera_verify_")
    scene, failed = None, 0
    for number, words, call in CHECKS:
        try:
            scene = scene or Scene(work)
            call(scene)
            print(f"ok      {number:2}  {words}")
        except Exception as error:
            failed += 1
            traceback.print_exc()
            print(f"FAILED  {number:2}  {words}: {error}")
    print(f"{len(CHECKS) - failed} of {len(CHECKS)} hold in Nuke {nuke.NUKE_VERSION_STRING}; files in {work}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
