"""What strangers or damage put into the folder of a delivery: found, restored or refused, and never followed
outside."""

import json
import multiprocessing
import os
import random
import shutil
import time
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import OpenImageIO as oiio
import pytest

from tests import forked
from tests.layer.stand_in import BLENDINGS, StandInPlate, color_of, make_frame
from vera.core.errors import InputError, StoppedError
from vera.core.files import FileLock, write_sealed_json
from vera.core.layer import image_file, out_folder
from vera.core.layer.delivery import Delivery
from vera.core.layer.outputs.output import Formats, FramePixels, Shot

PLATE = StandInPlate(size=(16, 24))
REPORT = {"model": "stand-in", "color": {"exposure": 0}}
FORMATS = Formats(extra_outputs=("png", "prores"))
MUTATIONS = int(os.environ.get("VERA_FUZZ", 40))
STARTS = int(os.environ.get("VERA_STARTS", 6))


def delivery_in(folder, recipe_hash="abc"):
    shot = Shot(folder, PLATE, recipe_hash, BLENDINGS["linear"], FORMATS)
    return Delivery(shot, color_of(PLATE, "linear"), {"prompt": "a boat"})


def run(folder, recipe_hash="abc", **claim):
    """As a command does: refused, nothing to do, restored from the frames, or made; returns which, and how many
    frames."""
    delivery = delivery_in(folder, recipe_hash)
    delivery.preflight()
    if delivery.complete():
        return "whole", 0
    with delivery.claimed(**claim):
        if delivery.complete():
            return "whole", 0
        delivery.start()
        if (report := delivery.report_to_restore()) is not None:
            delivery.finish(report)
            return "restored", 0
        todo = [frame for frame in PLATE.frames if not delivery.done(frame)]
        for frame in todo:
            delivery.write(frame, FramePixels(*make_frame(PLATE, frame)), {"seen": frame}, filmed=PLATE.read(frame))
        delivery.finish(REPORT)
        return "made", len(todo)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole") / "out"
    assert run(folder) == ("made", 3)
    return folder


@pytest.fixture
def out(whole, tmp_path):
    shutil.copytree(whole, tmp_path / "out")
    return tmp_path / "out"


class Decoded:
    """A movie's pictures, equal to those of another one up to what H.264 loses.

    x264 has been seen to write other bytes for the same tiny pictures, later in the same process.
    """

    CODES = 32  # largest difference; the pictures differ from those of another frame or view by 200

    def __init__(self, path):
        with av.open(str(path)) as movie:
            self.pictures = np.stack([frame.to_ndarray(format="rgb24") for frame in movie.decode(video=0)])

    def __eq__(self, other):
        same = self.pictures.shape == other.pictures.shape
        return same and np.abs(self.pictures.astype(int) - other.pictures).max() <= self.CODES


def content(folder):
    """What each file holds, but of the ones that name the time at which they were written."""
    return {
        path.relative_to(folder).as_posix(): Decoded(path) if path.suffix == ".mp4" else path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.suffix not in (".exr", ".mov") and path.name != "manifest.json"
    }


def same_pixels(folder, whole):
    return all(
        np.array_equal(image_file.read_codes(folder / path.relative_to(whole)), image_file.read_codes(path))
        for path in whole.rglob("*.exr")
    )


# ---- Damage ---------------------------------------------------------------------------


def rewritten_header(path):
    """The same pixels under a data window 40 pixels off."""
    spec, pixels = oiio.ImageInput.open(str(path)).spec(), image_file.read_image(path)
    spec.x += 40
    image_file.write_image(path, pixels, spec)


@pytest.mark.parametrize("name", ["edit/edit.1002.exr", "composite/composite.1002.exr"])
def test_a_header_that_was_changed_is_found_and_the_frame_is_made_again(out, whole, name):
    rewritten_header(out / name)
    assert run(out) == ("made", 1)
    assert oiio.ImageInput.open(str(out / name)).spec().x == 0 and same_pixels(out, whole)


@pytest.mark.parametrize("name", ["preview.mp4", "contact_sheet.png", "edit.mov", "recipe.json"])
@pytest.mark.parametrize("damage", ["flip", "cut", "empty", "gone", "link"])
def test_a_damaged_file_that_is_made_of_the_frames_is_restored_without_them(out, whole, name, damage):
    damaged(out / name, damage, random.Random(0))
    assert run(out) == ("restored", 0)
    assert content(out) == content(whole) and run(out) == ("whole", 0)


def test_a_preview_that_is_made_again_has_the_shots_exposure(tmp_path):
    """The exposure was measured by the model, and only the manifest has it."""
    report = REPORT | {"color": {"exposure": 2.0}}
    delivery = delivery_in(tmp_path / "out")
    delivery.start()
    for frame in PLATE.frames:
        delivery.write(frame, FramePixels(*make_frame(PLATE, frame)), {})
    delivery.color = replace(delivery.color, exposure=2.0)
    delivery.finish(report)
    shown = (tmp_path / "out/contact_sheet.png").read_bytes()
    (tmp_path / "out/contact_sheet.png").unlink()
    assert run(tmp_path / "out") == ("restored", 0)
    assert (tmp_path / "out/contact_sheet.png").read_bytes() == shown


def test_a_file_of_the_jobs_own_is_not_restored_from_frames(tmp_path):
    """A lift's report picture is made from the edited video."""
    delivery = delivery_in(tmp_path / "out")
    for damage, expected in (("none", REPORT), ("empty", None)):
        delivery.start()
        for frame in PLATE.frames:
            delivery.write(frame, FramePixels(*make_frame(PLATE, frame)), {})
        (delivery.dir / "report.png").write_bytes(b"a picture")
        delivery.finish(REPORT, ("report.png",))
        assert delivery.complete()
        if damage == "empty":
            (delivery.dir / "report.png").write_bytes(b"")
            assert not delivery.complete()
        delivery.start()
        assert delivery.report_to_restore() == expected


def test_a_delivery_without_digests_is_known_by_its_pixels(out):
    """As earlier versions wrote it."""
    manifest = json.loads((out / "manifest.json").read_text())
    before = {name: value for name, value in manifest.items() if name not in ("files", "digest", "origin")}
    (out / "manifest.json").write_text(json.dumps(before, indent=2))
    assert run(out) == ("whole", 0)
    image_file.write_image(
        out / "edit/edit.1002.exr", np.zeros((16, 24, 4), np.float16), oiio.ImageSpec(24, 16, 4, "half")
    )
    assert run(out) == ("made", 1)


# ---- Links and paths --------------------------------------------------------------------


@pytest.mark.parametrize("frame", ["../../../pwned", "/tmp/pwned", 7, -1, True, 1e3, None, [], 10**30])
@pytest.mark.parametrize("sealed", [True, False])
def test_a_manifests_frame_is_a_number_of_this_plate(out, tmp_path, frame, sealed):
    manifest = json.loads((out / "manifest.json").read_text())
    manifest.pop("digest")
    manifest["frames"][1]["frame"] = frame
    if sealed:
        write_sealed_json(out / "manifest.json", manifest)
    else:
        manifest.pop("files")
        (out / "manifest.json").write_text(json.dumps(manifest))
    before = sorted(tmp_path.iterdir())
    assert run(out)[0] == "made"
    assert sorted(tmp_path.iterdir()) == before and not Path("/tmp/pwned.json").exists()
    assert run(out) == ("whole", 0)


@pytest.mark.parametrize("name", out_folder.FOLDERS)
@pytest.mark.parametrize("kind", ["link", "broken link", "file"])
def test_a_folder_that_leads_elsewhere_is_refused(tmp_path, name, kind):
    (tmp_path / "elsewhere").mkdir()
    place = tmp_path / "out" / name
    place.parent.mkdir(parents=True)
    if kind == "file":
        place.write_text("")
    else:
        place.symlink_to(tmp_path / ("elsewhere" if kind == "link" else "nowhere"))
    with pytest.raises(InputError, match=f"{name} is (a link|no folder).*remove it"):
        run(tmp_path / "out")
    assert not list((tmp_path / "elsewhere").iterdir()) and not (tmp_path / "nowhere").exists()


@pytest.mark.parametrize(
    "name",
    [
        "recipe.json",
        "recipe.part.json",
        "manifest.part.json",
        "preview.part.mp4",
        "edit.part.mov",
        "edit/edit.1001.part.exr",
        "png/edit.1001.part.png",
        ".job/frames/1001.part.json",
        ".job/preview/1001.part.rgb",
    ],
)
def test_nothing_is_written_through_a_link_at_a_files_name(tmp_path, name):
    precious = tmp_path / "precious.txt"
    precious.write_text("precious")
    (tmp_path / "out" / name).parent.mkdir(parents=True)
    (tmp_path / "out/recipe.json").write_text('{"recipe_hash": "abc"}')
    (tmp_path / "out" / name).unlink(missing_ok=True)
    (tmp_path / "out" / name).symlink_to(precious)
    try:
        run(tmp_path / "out")
    except InputError as error:
        assert "unknown job" in str(error)
    assert precious.read_text() == "precious"


# ---- Mutations of everything --------------------------------------------------------------

DAMAGES = ("flip", "cut", "empty", "gone", "link", "other link", "folder", "garbage", "other json", "swapped")


def damaged(path, damage, dice):
    """Damage one file. Some are none: a JSON for a JSON that is the same is left alone."""
    before = path.read_bytes()
    path.unlink()
    if damage == "flip":
        place = dice.randrange(min(len(before), 2000)) if dice.random() < 0.7 else dice.randrange(len(before))
        path.write_bytes(before[:place] + bytes([before[place] ^ 1 << dice.randrange(8)]) + before[place + 1 :])
    elif damage == "cut":
        path.write_bytes(before[: dice.randrange(len(before))])
    elif damage == "empty":
        path.write_bytes(b"")
    elif damage == "link":
        path.symlink_to("/etc/hostname")
    elif damage == "other link":
        path.symlink_to(path.parent)
    elif damage == "folder":
        path.mkdir()
    elif damage == "garbage":
        path.write_bytes(dice.randbytes(dice.randrange(1, 3000)))
    elif damage == "other json":
        path.write_text(
            dice.choice(["[]", "{}", "null", "7", '"x"', "[" * 5000, "9" * 5000, '{"frames": 5}', '{"frames": [5]}'])
        )
    elif damage == "swapped":
        others = [other for other in path.parent.iterdir() if other.is_file()]
        path.write_bytes(others[0].read_bytes() if others else b"")


def outside(folder):
    return sorted(path for path in folder.iterdir() if path.name != "out")


@pytest.mark.parametrize("seed", range(MUTATIONS))
def test_any_damage_is_restored_or_refused_in_one_line(out, whole, tmp_path, seed):
    dice = random.Random(seed)
    path = dice.choice([p for p in sorted(out.rglob("*")) if p.is_file()])
    before = path.read_bytes()
    damaged(path, DAMAGES[seed % len(DAMAGES)], dice)
    if path.is_file() and not path.is_symlink() and path.read_bytes() == before:
        pytest.skip("no damage")
    there = outside(tmp_path)
    try:
        done, _ = run(out)
    except InputError as refused:
        assert "\n" not in str(refused) and len(str(refused)) < 300 + len(str(tmp_path))
    else:
        assert done in ("restored", "made")
        assert content(out) == content(whole) and same_pixels(out, whole) and run(out) == ("whole", 0)
    assert outside(tmp_path) == there


@pytest.mark.parametrize("seed", range(max(6, MUTATIONS // 4)))
def test_damage_to_the_notes_of_a_job_that_was_stopped_changes_no_result(whole, tmp_path, seed):
    dice, out = random.Random(seed), tmp_path / "out"
    delivery = delivery_in(out)
    delivery.start()
    for frame in PLATE.frames[:2]:
        delivery.write(frame, FramePixels(*make_frame(PLATE, frame)), {"seen": frame}, filmed=PLATE.read(frame))
    path = dice.choice([p for p in sorted((out / ".job").rglob("*")) if p.is_file()])
    damaged(path, DAMAGES[seed % len(DAMAGES)], dice)
    try:
        run(out)
    except InputError as refused:
        assert "\n" not in str(refused)
    else:
        assert content(out) == content(whole) and same_pixels(out, whole) and run(out) == ("whole", 0)


# ---- One owner ------------------------------------------------------------------------------


def test_a_second_job_is_refused_and_names_the_first(tmp_path):
    with delivery_in(tmp_path / "out").claimed():
        with pytest.raises(InputError, match=f"process {os.getpid()} on .* works in it.*--wait"):
            run(tmp_path / "out")
        assert [p.name for p in (tmp_path / "out").iterdir()] == [".lock"]
    assert run(tmp_path / "out") == ("made", 3)
    assert not (tmp_path / "out/.lock").exists()


def test_a_job_before_which_another_one_has_delivered_is_refused_and_leaves_that_whole(tmp_path):
    """Both found the folder empty; the first has ended before the second claims it."""
    late = delivery_in(tmp_path / "out", "late")
    late.preflight()
    assert run(tmp_path / "out", "first") == ("made", 3)
    with pytest.raises(InputError, match="holds another job's delivery"), late.claimed():
        raise AssertionError("the folder is another job's")
    assert run(tmp_path / "out", "first") == ("whole", 0)


def test_waiting_says_for_whom_and_can_be_stopped(tmp_path):
    said = []
    with delivery_in(tmp_path / "out").claimed():
        with pytest.raises(StoppedError, match="while waiting for process"):
            run(tmp_path / "out", wait=True, stopping=lambda: True, say=said.append)
    assert len(said) == 1 and said[0].startswith("waiting for process")


def test_a_file_system_without_locks_is_said_and_used(tmp_path, monkeypatch):
    def no_lock(path, note):
        raise OSError(out_folder.errno.ENOLCK, "No locks available")

    monkeypatch.setattr(out_folder, "FileLock", no_lock)
    said = []
    assert run(tmp_path / "out", say=said.append) == ("made", 3) and "has no locks" in said[0]


def processes_of():
    """Copies of a process that has imported all and has no threads yet, which a fork would lose."""
    forked.server_ready()
    return multiprocessing.get_context(forked.METHOD)


def start_one(folder, recipe_hash, wait, answers):
    try:
        answers.put((recipe_hash, run(folder, recipe_hash, wait=wait)))
    except InputError as error:
        answers.put((recipe_hash, ("refused", str(error))))
    except BaseException as error:  # noqa: BLE001  the test says which
        answers.put((recipe_hash, ("fault", repr(error))))


@pytest.mark.parametrize("seed", range(STARTS))
def test_of_several_processes_in_one_folder_one_delivers_and_nothing_is_mixed(tmp_path, whole, seed):
    """Of the same job, or of two; refused or waiting."""
    dice, context = random.Random(seed), processes_of()
    jobs = ["abc"] if seed % 2 else ["abc", "def"]
    answers, wait = context.Queue(), seed % 3 == 0
    names = [jobs[i % len(jobs)] for i in range(dice.randrange(2, 9))]
    processes = [context.Process(target=start_one, args=(tmp_path / "out", name, wait, answers)) for name in names]
    for process in processes:
        process.start()
    found = [answers.get(timeout=120) for _ in processes]
    for process in processes:
        process.join()
    made = [name for name, (what, _) in found if what in ("made", "restored")]
    assert len(made) == 1, found
    assert all(what != "fault" for _, (what, _) in found), found
    refused = [text for _, (what, text) in found if what == "refused"]
    assert all("works in it" in text or "holds another job's delivery" in text for text in refused)
    recipe, manifest = (json.loads((tmp_path / "out" / f"{name}.json").read_text()) for name in ("recipe", "manifest"))
    assert recipe["recipe_hash"] == manifest["recipe_hash"] == made[0]
    assert run(tmp_path / "out", made[0]) == ("whole", 0) and same_pixels(tmp_path / "out", whole)
    assert not (tmp_path / "out/.lock").exists()


def hold(folder, ready):
    with delivery_in(folder).claimed():
        ready.set()
        time.sleep(60)


def test_a_lock_whose_holder_was_killed_is_free(tmp_path):
    context = processes_of()
    ready = context.Event()
    process = context.Process(target=hold, args=(tmp_path / "out", ready))
    process.start()
    assert ready.wait(60)
    process.kill()
    process.join()
    assert (tmp_path / "out/.lock").exists()
    assert run(tmp_path / "out") == ("made", 3)
    FileLock(tmp_path / "out/.lock").release(remove=True)
