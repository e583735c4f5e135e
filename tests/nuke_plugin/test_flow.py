"""Whole flows, from the button to the layer in the node, against the real service and `mini`."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from tests.nuke_plugin.conftest import FAKE, ROOT, edit_node, old_python
from tests.nuke_plugin.pixels import read_exr, write_exr
from vera.core.service import client

PATIENCE = 600  # seconds for a job, on a busy machine


@pytest.fixture(scope="module")
def service_folder(tmp_path_factory):
    """The state of one service for this module, which the plug-in starts by itself."""
    folder = tmp_path_factory.mktemp("state")
    yield folder
    try:
        entry = client.discover(folder)
        client.Client(folder).shutdown()
    except client.ServiceError:
        return
    end = time.monotonic() + 60
    while (folder / "service.json").exists() and time.monotonic() < end:
        time.sleep(0.05)
    if (folder / "service.json").exists():
        os.kill(entry["pid"], signal.SIGKILL)


@pytest.fixture
def service(nuke, service_folder, tmp_path, monkeypatch):
    """Settings that start it; it may use this test's folder. Returns a client, for looking from outside."""
    monkeypatch.setenv("VERA_SERVICE_DIR", str(service_folder))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    values = {"python": sys.executable, "root": str(ROOT), "cache": str(tmp_path / "cache"), "folders": [str(tmp_path)]}
    (tmp_path / "settings.json").write_text(json.dumps(values))
    folders = service_folder / "roots.json"
    folders.parent.mkdir(exist_ok=True)
    folders.write_text(json.dumps({"folders": [str(tmp_path)]}))
    return client.Client(service_folder)


def quick(node, steps=2):
    node["quality"].setValue("own")
    node["steps"].setValue(steps)
    node["guidance"].setValue(1.0)
    return node


def status(node):
    return node["status"].value()


def doing(node):
    """What the node's label says of its job."""
    from vera_nuke import badge

    return badge.words_of(node)


def shown(node, number):
    return lambda: status(node).startswith(f"v{number:03d}: frames") and node["version"].value() == number


def press_and_wait(nuke, node, number):
    node["render"].execute()
    assert nuke.pump(shown(node, number), PATIENCE), (status(node), nuke.messages, nuke.printed)


def layer_files(node):
    return sorted(Path(node["result_file"].value()).parent.iterdir())


def test_render_then_another_prompt_then_back(nuke, edit, service, tmp_path):
    """Each version beside the others; what was rendered before is shown at once, without a job."""
    quick(edit, steps=8)  # of which at least one is seen
    press_and_wait(nuke, edit, 1)
    assert [f.name for f in layer_files(edit)] == [f"edit.{f}.exr" for f in range(1001, 1006)]
    assert (edit["result_first"].value(), edit["result_last"].value()) == (1001, 1005)
    inner = edit.node("Layer")
    assert inner["file"].evaluate() == edit["result_file"].value() and inner["first"].value() == 1001
    job = service.jobs()[0]
    assert job["recipe"]["plate"] == str(tmp_path / "shot" / "plate.####.exr")  # the plate's own files
    assert not nuke.pictures.written
    assert any(re.search("generating, [1-8] of 8", words) for words in nuke.tasks[0].messages), nuke.tasks[0].messages
    assert nuke.tasks[0].progress == sorted(nuke.tasks[0].progress)

    first = edit["result_file"].value()
    edit["prompt"].setValue("Add falling snow")
    press_and_wait(nuke, edit, 2)
    assert Path(first).parent.is_dir() and edit["result_file"].value() != first
    count = len(service.jobs())
    edit["prompt"].setValue("Add a large red balloon\n rising on the right ")
    edit["render"].execute()
    assert shown(edit, 1)() and edit["result_file"].value() == first and len(service.jobs()) == count

    edit["version"].setValue(2)
    assert "v002" in edit["result_file"].value()
    edit["version"].setValue(9)
    assert "v002" in edit["result_file"].value() and "is not rendered" in status(edit)
    assert not nuke.messages and not nuke.printed


def test_a_changed_plate_is_seen_and_makes_a_new_version(nuke, edit, service, tmp_path):
    quick(edit)
    press_and_wait(nuke, edit, 1)
    edit["render_changed"].execute()
    assert "nothing has changed" in status(edit)
    file = tmp_path / "shot" / "plate.1003.exr"
    write_exr(file, read_exr(file) * 0.5)
    edit["render_changed"].execute()
    assert nuke.pump(shown(edit, 2), PATIENCE), status(edit)
    assert json.loads((tmp_path / "cache").glob("unsaved/*/v002/manifest.json").__next__().read_text())["frames"]


def test_a_touched_plate_and_a_mask_are_written_once_and_without_loss(nuke, plate, service, tmp_path):
    """Graded, so that its files are no longer what is seen; the mask is drawn in Nuke."""
    grade = nuke.createNode("Grade")
    grade.setInput(0, plate)
    grade["white"].setValue(1.25)
    edit = quick(edit_node(nuke, grade, "Add fog"))
    edit.setInput(1, nuke.createNode("Roto"))
    nuke.root()["proxy"].setValue(True)
    press_and_wait(nuke, edit, 1)
    assert nuke.root()["proxy"].value() and not edit["writing"].value()
    recipe = service.jobs()[0]["recipe"]
    assert recipe["color_space"] == "linear" and recipe["frames"] == "1001-1005"
    written = read_exr(recipe["plate"].replace("####", "1002"))
    assert np.array_equal(written, read_exr(tmp_path / "shot" / "plate.1002.exr") * np.float32(1.25))
    assert read_exr(recipe["mask"].replace("####", "1002")).shape[-1] == 4
    assert len(nuke.pictures.written) == 10

    edit["seed"].setValue(5)
    press_and_wait(nuke, edit, 2)
    assert len(nuke.pictures.written) == 10
    grade["white"].setValue(1.5)
    press_and_wait(nuke, edit, 3)
    assert nuke.pictures.written[10:] == [
        ("VeraEdit1.PlateWrite", f) for f in range(1001, 1006)
    ]  # the mask is as it was


def test_two_nodes_at_once(nuke, plate, service):
    """Both in one folder, as a copied node is: neither takes the other's version."""
    a, b = (quick(edit_node(nuke, plate, prompt)) for prompt in ("Add rain", "Add smoke"))
    a["render"].execute()
    b["folder"].setValue(a["folder"].value())
    b["render"].execute()
    a["render"].execute()
    assert "is being rendered" in nuke.messages.pop()
    assert nuke.pump(lambda: shown(a, 1)() and shown(b, 2)(), PATIENCE), (status(a), status(b))
    assert json.loads(Path(b["folder"].value(), "v002", "recipe.json").read_text())["prompt"] == "Add smoke"
    assert not nuke.messages


def test_cancel_then_the_service_is_killed_then_the_script_is_opened_again(nuke, edit, service, tmp_path):
    """One long job: its button, its crash, its script. It stays one version."""
    quick(edit, steps=1000)
    script = str(tmp_path / "comp.nk")
    nuke.scriptSave(script)
    edit["render"].execute()
    assert edit["folder"].value() == str(tmp_path / "vera" / "comp" / "VeraEdit1")
    assert nuke.pump(lambda: "generating" in doing(edit), PATIENCE), status(edit)
    edit.setName("Balloon")
    edit["cancel"].execute()
    assert nuke.pump(lambda: "cancelled; press Render to continue" in status(edit), PATIENCE), status(edit)
    assert not edit["result_shown"].value() and service.jobs()[0]["state"] == "cancelled"
    edit.setName("VeraEdit1")

    edit["render"].execute()
    assert nuke.pump(lambda: "generating" in doing(edit), PATIENCE), status(edit)
    killed = client.discover(service.folder)["pid"]
    os.kill(killed, signal.SIGKILL)
    seen = len(nuke.tasks[-1].messages)
    goes_on = lambda: any("generating" in words for words in nuke.tasks[-1].messages[seen + 2 :])  # noqa: E731
    assert nuke.pump(goes_on, PATIENCE), status(edit)
    assert client.discover(service.folder)["pid"] != killed and edit["pending"].value() == 1

    nuke.scriptSave(script)
    nuke.scriptOpen(script)  # the old node has gone; the job goes on
    edit = nuke.toNode("VeraEdit1")
    assert edit["prompt"].value().startswith("Add a large red balloon")
    assert nuke.pump(lambda: "v001: generating" in doing(edit), PATIENCE), status(edit)
    nuke.tasks[-1].cancelled = True  # the progress window's own button
    assert nuke.pump(lambda: "cancelled" in status(edit), PATIENCE), status(edit)
    assert [p.name for p in Path(edit["folder"].value()).iterdir()] == ["v001"]
    assert not [text for text in nuke.printed if "PythonObject" not in text]


def test_without_an_interface(nuke, plate, service, tmp_path):
    """nuke -t: render waits; the script that it saves needs no service and no core (nuke -x)."""
    import vera_nuke

    edit = quick(edit_node(nuke, plate, "Add fog"))
    edit["use_region"].setValue(True)
    edit["region"].setValue([0, 24, 40, 48])  # from the bottom left: the upper left of the picture
    with nuke.headless():
        vera_nuke.render(edit)
        assert shown(edit, 1)() and not nuke.tasks
        alpha = read_exr(layer_files(edit)[0])[..., 3]
        assert service.jobs()[0]["recipe"]["region"] == "0,0,40,24"
        assert not alpha[24:].any() and not alpha[:, 40:].any()
        assert vera_nuke.render_all() == []
        writer = nuke.createNode("Write")
        writer.setInput(0, edit)
        writer["file"].setValue(str(tmp_path / "comp.####.exr"))
        nuke.scriptSave(str(tmp_path / "farm.nk"))
        os.environ["VERA_SERVICE_DIR"] = str(tmp_path / "nowhere")
        nuke.scriptOpen(str(tmp_path / "farm.nk"))
        rendered = []
        nuke.painter = lambda node, frame, file: rendered.append(frame)
        nuke.execute(nuke.toNode("Write1"), 1001, 1005)
        assert rendered == [1001, 1002, 1003, 1004, 1005]
        layer_files(nuke.toNode("VeraEdit1"))[2].unlink()
        with pytest.raises(RuntimeError, match="frame 1003 missing here"):
            nuke.execute(nuke.toNode("Write1"), 1001, 1005)
        nuke.scriptOpen(str(tmp_path / "farm.nk"))
        assert any("1003" in text and "bring the files" in text for text in nuke.printed)


def test_a_video_edited_elsewhere_is_lifted(nuke, edit, service, tmp_path):
    """Drifted in colour, with a block added: the layer is the block."""
    for frame in range(1001, 1006):
        picture = read_exr(tmp_path / "shot" / f"plate.{frame}.exr") * 1.03
        picture[12:28, 30:50] = (0.8, 0.1, 0.1)
        write_exr(tmp_path / f"edited.{frame}.exr", picture)
    edit["door"].setValue("lift from file")
    edit["model_path"].setValue(str(tmp_path / "edited.####.exr"))
    press_and_wait(nuke, edit, 1)
    alpha = read_exr(layer_files(edit)[2])[..., 3]
    assert (alpha[14:26, 32:48] > 0.9).all() and (alpha > 0).mean() < 0.15

    edit["model_path"].setValue(str(ROOT / "demo" / "plate.mp4"))  # not within the folders that the service may use
    edit["render"].execute()
    assert nuke.pump(lambda: "outside the folders that the service may use" in status(edit), PATIENCE), status(edit)


def test_a_refused_job_leaves_no_version_behind(nuke, edit, service, tmp_path):
    edit["model"].setValue(str(tmp_path / "no-such-model"))
    edit["render"].execute()
    assert nuke.pump(lambda: "no-such-model" in status(edit), PATIENCE), status(edit)
    assert os.listdir(edit["folder"].value()) == [] and not edit["result_shown"].value()


NO_NUMPY = """
import sys
sys.path[:0] = {paths!r}
import nuke
nuke.gizmo_paths.append({plugin!r})
import vera_nuke
nuke.GUI = False
read = nuke.createNode("Read")
nuke.file_facts[{plate!r}] = {{"input/width": 64, "input/height": 48, "input/bitsperchannel": "16-bit half float"}}
for name, value in {{"file": {plate!r}, "first": 1001, "last": 1005}}.items():
    read[name].setValue(value)
edit = nuke.createNode("VeraEdit")
edit.setInput(0, read)
for name, value in {{"prompt": "Add rain", "quality": "own", "steps": 1, "guidance": 1.0}}.items():
    edit[name].setValue(value)
vera_nuke.render(edit)
print(sys.version_info[:2], "numpy" in sys.modules, edit["status"].value())
"""


def test_nukes_python_without_numpy(nuke, plate, service, built):
    """The whole flow in the oldest supported Python, if installed, without any packages."""
    python = old_python("3.9") or old_python("3.10") or sys.executable
    code = NO_NUMPY.format(paths=[str(built), str(FAKE)], plugin=str(built), plate=plate["file"].value())
    done = subprocess.run([python, "-I", "-S", "-c", code], capture_output=True, text=True, timeout=PATIENCE)
    assert "False v001: frames 1001-1005" in done.stdout, (done.stdout, done.stderr)


def test_another_working_space_delivers_again_without_generating(nuke, edit, service, tmp_path):
    """What was generated for the first one is delivered again."""
    quick(edit)
    press_and_wait(nuke, edit, 1)
    kept = sorted(Path(edit["folder"].value(), "v001", "kept").iterdir())
    assert kept and service.jobs()[0]["recipe"]["keep"] is True
    nuke.root()["colorManagement"].setValue("OCIO")
    nuke.root()["workingSpaceLUT"].setValue("ACEScg")
    press_and_wait(nuke, edit, 2)
    again = sorted(Path(edit["folder"].value(), "v002", "kept").iterdir())
    assert [f.stat().st_ino for f in kept] == [f.stat().st_ino for f in again], "generated anew"
    assert not any("generating" in words for words in nuke.tasks[-1].messages)
    first, second = (
        read_exr(Path(edit["folder"].value(), version, "edit", "edit.1003.exr")) for version in ("v001", "v002")
    )
    assert np.array_equal(first[..., 3], second[..., 3]) and not np.array_equal(first[..., :3], second[..., :3])
