import hashlib
import json
import shutil
from fractions import Fraction

import av
import numpy as np
import OpenImageIO as oiio
import pytest

from tests.layer.stand_in import BLENDINGS, StandInPlate, color_of, make_frame, soft_disc
from vera.core import files as file_rules
from vera.core.errors import InputError
from vera.core.layer import image_file, out_folder, shot_pictures
from vera.core.layer.delivery import Delivery
from vera.core.layer.outputs import EXTRA_OUTPUTS, prores
from vera.core.layer.outputs.edit import layer_headers
from vera.core.layer.outputs.output import LOSSY, Formats, FramePixels, Shot
from vera.core.layer.outputs.split import SPLIT_LAYERS as SPLIT
from vera.core.recipe import COMPRESSIONS, EXTRA_OUTPUT_NAMES, LAYER_TYPES
from vera.kernels import over_reference
from vera.kernels.pixel_hash import pixel_hash


def make(path, plate=None, recipe_hash="abc", space="linear", generation=None, formats=Formats()):
    plate = plate or StandInPlate()
    shot = Shot(path, plate, recipe_hash, BLENDINGS["linear"], formats)
    return Delivery(shot, color_of(plate, space), {"prompt": "a boat"}, generation)


def run(delivery, make_frame, extra=None):
    """A whole job; which frames it had to write."""
    delivery.preflight()
    delivery.start()
    todo = [frame for frame in delivery.plate.frames if not delivery.done(frame)]
    for frame in todo:
        delivery.write(frame, FramePixels(*make_frame(delivery.plate, frame)), {"seen": frame})
    delivery.finish(extra or {})
    return todo


@pytest.fixture
def no_pictures(monkeypatch):
    """Preview and contact sheet as empty files, for the tests that finish many jobs."""

    def write(path, shown_frames, plate, origin):
        with file_rules.replacing(path) as part:
            part.write_bytes(b"")

    monkeypatch.setattr(shot_pictures.preview, "write_movie", write)
    monkeypatch.setattr(shot_pictures.preview, "write_contact_sheet", write)


def files(path):
    return sorted(p.relative_to(path).as_posix() for p in path.rglob("*") if p.is_file())


def pixels(path):
    """Hashes of all pixels in a delivery."""
    images = [p for f in ("edit", "composite") for p in sorted((path / f).iterdir())]
    return {p.name: pixel_hash(image_file.read_image(p)) for p in images}


def manifest(path):
    return json.loads((path / "manifest.json").read_text(encoding="utf-8"))


def of_frames(path):
    """The manifest without what depends on the pictures, which many tests leave out."""
    return {name: value for name, value in manifest(path).items() if name not in ("files", "digest")}


# ---- What is delivered ----------------------------------------------------------


def test_exactly_the_files_that_were_promised(tmp_path):
    plate = StandInPlate(frames=(-5, 7, 1001, 12345))
    run(make(tmp_path / "out", plate), make_frame)
    names = ["-005", "0007", "1001", "12345"]
    assert files(tmp_path / "out") == sorted(
        [f"edit/edit.{n}.exr" for n in names]
        + [f"composite/composite.{n}.exr" for n in names]
        + ["manifest.json", "recipe.json", "preview.mp4", "contact_sheet.png"]
    )
    assert not (tmp_path / "out/.job").exists()


def test_the_manifest_names_every_pixel(tmp_path):
    plate = StandInPlate()
    run(make(tmp_path / "out", plate), make_frame, {"model": "mini"})
    found = manifest(tmp_path / "out")
    assert found["schema"] == "vera.manifest/1" and found["recipe_hash"] == "abc"
    assert found["size"] == [30, 20] and found["blend_space"] == "linear"
    assert found["extra"] == {"model": "mini"}
    assert [entry["frame"] for entry in found["frames"]] == [1001, 1002, 1003]
    for entry in found["frames"]:
        layer, composite = make_frame(plate, entry["frame"])
        assert entry["edit"]["pixels"] == pixel_hash(layer)
        assert entry["composite"]["pixels"] == pixel_hash(composite)
        assert entry["plate"] == plate.fingerprint(entry["frame"])
        assert (tmp_path / "out" / entry["edit"]["file"]).is_file()
    recipe = json.loads((tmp_path / "out/recipe.json").read_text())
    assert recipe == {"prompt": "a boat", "recipe_hash": "abc"}


@pytest.mark.parametrize(
    "pixel_type, extension, channels, expected",
    [
        ("half", "exr", 3, "exr"),
        ("float", ".exr", 4, "exr"),
        ("half", "tif", 3, "exr"),
        ("uint8", "png", 4, "png"),
        ("uint8", "dpx", 3, "dpx"),
        ("uint8", "tif", 4, "tif"),
        ("uint8", "jpg", 3, "png"),
        ("uint8", "tga", 3, "png"),
        ("uint8", "mov", 3, "png"),
        ("uint16", "png", 3, "png"),
        ("uint16", "dpx", 3, "dpx"),
        ("uint16", "mov", 3, "png"),
        ("uint10", "dpx", 3, "dpx"),
        ("uint12", "dpx", 4, "dpx"),
        ("uint12", "tiff", 3, "tiff"),
        ("uint32", "tif", 3, "tif"),
    ],
)
def test_composites_hold_every_plate_type_exactly(tmp_path, no_pictures, pixel_type, extension, channels, expected):
    movie = extension == "mov"
    plate = StandInPlate(pixel_type, extension, (1,), channels, is_movie=movie)
    delivery = make(tmp_path / "out", plate, space="srgb")
    run(delivery, make_frame)
    path = delivery.composite_path(1)
    assert path.suffix == f".{expected}"
    found, (layer, composite) = image_file.read_codes(path), make_frame(plate, 1)
    spare = {"uint10": 6, "uint12": 4}.get(pixel_type, 0)
    meant, filmed = (a >> spare if spare else a for a in (composite, plate.read(1)))
    assert found.dtype == plate.dtype and np.array_equal(found, meant)
    clear = layer[..., 3] == 0
    assert 0.1 < clear.mean() < 0.9
    assert np.array_equal(found[clear].view(np.uint8), filmed[clear].view(np.uint8))


def test_a_whole_delivery_is_known_and_a_damaged_one_too(tmp_path):
    run(make(tmp_path / "out"), make_frame)
    delivery = make(tmp_path / "out")
    assert delivery.complete()
    assert not make(tmp_path / "out", recipe_hash="other").complete()
    seen = {e["frame"]: e["facts"]["seen"] for e in json.loads((tmp_path / "out/manifest.json").read_text())["frames"]}
    assert seen == {f: f for f in delivery.plate.frames}
    image_file.write_image(delivery.edit_path(1002), *_another_layer(delivery))
    assert not make(tmp_path / "out").complete()


def _another_layer(delivery):
    layer, _ = make_frame(delivery.plate, 1002)
    return layer * layer.dtype.type(0.5), *layer_headers(delivery.shot, 1002)


def test_frames_of_the_wrong_shape_or_type_are_refused(tmp_path):
    delivery = make(tmp_path / "out")
    delivery.start()
    layer, composite = make_frame(delivery.plate, 1001)
    for bad in [
        (layer[:5], composite),
        (layer.astype(np.float32), composite),
        (layer, composite[..., :2]),
        (layer, composite.astype(np.float32)),
    ]:
        with pytest.raises(ValueError):
            delivery.write(1001, FramePixels(*bad), {})
    assert files(tmp_path / "out") == ["recipe.json"]


# ---- Other types, compressions and files ------------------------------------------


def deliver(path, formats, plate=None):
    """A whole delivery in these formats, with a matte of its own."""
    plate = plate or StandInPlate(frames=(1, 2))
    delivery = make(path, plate, formats=formats)
    delivery.preflight()
    delivery.start()
    todo = [frame for frame in plate.frames if not delivery.done(frame)]
    for frame in todo:
        layer, composite = make_frame(plate, frame)
        delivery.write(frame, FramePixels(layer.astype(formats.dtype), composite, matte_of(plate)), {})
    delivery.finish({})
    return delivery, todo


def matte_of(plate):
    return np.clip(soft_disc(plate.height, plate.width)[..., 3].astype(np.float32) * 1.5, 0, 1)


@pytest.mark.parametrize("layer_type", LAYER_TYPES)
@pytest.mark.parametrize("compression", [name for name in COMPRESSIONS if name not in LOSSY])
def test_every_type_and_compression_is_what_the_files_say(tmp_path, no_pictures, layer_type, compression):
    delivery, _ = deliver(tmp_path / "out", Formats(layer_type, compression))
    layer, composite = make_frame(delivery.plate, 1)
    for path in (delivery.edit_path(1), delivery.composite_path(1)):
        assert oiio.ImageInput.open(str(path)).spec().getattribute("compression") == compression
    found = image_file.read_image(delivery.edit_path(1))
    assert found.dtype == (np.float32 if layer_type == "float" else np.float16)
    assert np.array_equal(found, layer.astype(found.dtype))
    assert np.array_equal(image_file.read_image(delivery.composite_path(1)), composite)
    assert np.array_equal(delivery.read_layer(1), layer) and delivery.read_frame(1).matte is None
    edit = manifest(tmp_path / "out")["edit"]
    assert (edit["pixel_type"], edit["compression"]) == (layer_type, compression)


def test_a_compression_that_became_another_is_noticed(tmp_path, monkeypatch):
    plate = StandInPlate()
    delivery = make(tmp_path / "out", plate, formats=Formats(compression="zipp"))
    delivery.start()
    with pytest.raises(OSError, match="compression is zip, not zipp"):
        delivery.write(1001, FramePixels(*make_frame(delivery.plate, 1001)), {})
    assert files(tmp_path / "out") == ["recipe.json"]


@pytest.mark.parametrize("layer_type", LAYER_TYPES)
@pytest.mark.parametrize("compression", ["zip", "none"])
def test_the_matte_comes_as_a_part_of_its_own(tmp_path, no_pictures, layer_type, compression):
    """The first part is what hosts that know of one read: RGBA alone."""
    formats = Formats(layer_type, compression, extra_outputs=("matte",))
    delivery, _ = deliver(tmp_path / "out", formats)
    file = oiio.ImageInput.open(str(delivery.edit_path(1)))
    assert tuple(file.spec(0).channelnames) == ("R", "G", "B", "A") and tuple(file.spec(1).channelnames) == ("matte.A",)
    assert [file.spec(i).getattribute("oiio:subimagename") for i in (0, 1)] == ["rgba", "matte"]
    assert not file.seek_subimage(2, 0)
    layer, matte = delivery.read_frame(1).layer, delivery.read_frame(1).matte
    assert layer.dtype == matte.dtype == formats.dtype
    wanted = np.where(layer[..., 3] == 0, 0, matte_of(delivery.plate)).astype(formats.dtype)
    assert np.array_equal(layer, make_frame(delivery.plate, 1)[0]) and np.array_equal(matte, wanted)
    assert (matte == 1).any() and (matte == 0).any()
    with pytest.raises(ValueError, match="matte is missing"):
        delivery.write(1, FramePixels(layer, make_frame(delivery.plate, 1)[1]), {})


def test_a_delivered_frame_is_read_back_with_all_its_parts(tmp_path, no_pictures):
    plate = StandInPlate(frames=(1,))
    delivery = make(tmp_path / "out", plate, formats=Formats(extra_outputs=("matte",), split="parts"))
    delivery.start()
    layer, composite = make_frame(plate, 1)
    split = {name: np.full((*layer.shape[:2], len(c)), k / 8, np.float16) for k, (name, c) in enumerate(SPLIT.items())}
    delivery.write(1, FramePixels(layer, composite, layer[..., 3], split), {})
    found = delivery.read_frame(1)
    assert np.array_equal(found.layer, layer) and np.array_equal(found.composite, composite)
    assert np.array_equal(found.matte, layer[..., 3]) and list(found.split) == list(split)
    assert all(np.array_equal(found.split[name], split[name]) for name in split)


def test_png_is_straight_with_exact_ends(tmp_path, no_pictures):
    delivery, _ = deliver(tmp_path / "out", Formats(extra_outputs=("png",)))
    layer = make_frame(delivery.plate, 2)[0].astype(np.float64)
    found = image_file.read_image(tmp_path / "out/png/edit.0002.png")
    color, alpha = layer[..., :3], layer[..., 3:]
    assert found.dtype == np.uint16
    assert np.array_equal(found[..., 3:], np.rint(alpha * 65535))
    straight = over_reference.encode_srgb(np.divide(color, alpha, out=np.zeros_like(color), where=alpha > 0))
    assert np.abs(found[..., :3] - 65535 * straight.clip(0, 1)).max() < 0.51
    assert not found[..., :3][alpha[..., 0] == 0].any()
    assert manifest(tmp_path / "out")["frames"][1]["png"]["pixels"] == pixel_hash(found)


def decoded_movie(path):
    """Straight display colour (H, W, 3) and alpha (H, W) of each frame, by the equations of H.273."""
    with av.open(str(path)) as movie:
        for frame in movie.decode(video=0):
            y, u, v, a = (np.frombuffer(p, "<u2").reshape(p.height, -1)[:, : frame.width] / 1.0 for p in frame.planes)
            y, u, v = (y - 256) / 3504, (u - 2048) / 3584, (v - 2048) / 3584
            r, b = y + 2 * (1 - 0.2126) * v, y + 2 * (1 - 0.0722) * u
            yield np.stack([r, (y - 0.2126 * r - 0.0722 * b) / 0.7152, b], -1), a / 4095


def test_prores_holds_straight_colour_and_exact_alpha(tmp_path, no_pictures):
    plate = StandInPlate(frames=(1, 2), size=(48, 64))
    delivery, _ = deliver(tmp_path / "out", Formats(extra_outputs=("prores",)), plate)
    with av.open(str(tmp_path / "out/edit.mov")) as movie:
        assert movie.streams.video[0].average_rate == plate.fps and movie.streams.video[0].frames == 2
    for color, alpha in decoded_movie(tmp_path / "out/edit.mov"):
        layer = make_frame(plate, 1)[0].astype(np.float64)
        assert np.abs(alpha - layer[..., 3]).max() < 0.0007
        assert ((alpha == 0) == (layer[..., 3] < 0.5 / 1023)).all()
        assert ((alpha == 1) == (layer[..., 3] > 1 - 0.5 / 1023)).all()
        straight = over_reference.encode_srgb(np.float64([0.8, 0.3, 0.05]))  # the disc's, and past its edge too
        assert np.abs(color - straight).max() < 0.02
    sha256 = hashlib.sha256((tmp_path / "out/edit.mov").read_bytes()).hexdigest()
    assert manifest(tmp_path / "out")["prores"]["sha256"] == sha256


@pytest.mark.parametrize("aspect", [2.0, 1.0, 0.5])
def test_every_output_states_the_plates_pixel_aspect(tmp_path, no_pictures, aspect):
    plate = StandInPlate(frames=(1,), size=(48, 64), pixel_aspect=aspect)
    deliver(tmp_path / "out", Formats(extra_outputs=("prores", "png")), plate)
    for name in ("edit/edit.0001.exr", "composite/composite.0001.exr", "png/edit.0001.png"):
        spec = oiio.ImageInput.open(str(tmp_path / "out" / name)).spec()
        assert spec.get_float_attribute("PixelAspectRatio", 1.0) == pytest.approx(aspect), name
    with av.open(str(tmp_path / "out/edit.mov")) as movie:
        assert (movie.streams.video[0].sample_aspect_ratio or 1) == aspect


def test_prores_with_another_alpha_is_refused(tmp_path, monkeypatch):
    right = prores._prores_codes

    def wrong(layer, blending):
        *color, alpha = right(layer, blending)
        return [*color, np.maximum(alpha, 1)]

    monkeypatch.setattr(prores, "_prores_codes", wrong)
    monkeypatch.setattr(prores, "_ends", lambda a, top, ends=prores._ends: ends(np.where(a == 1, 0, a), top))
    plate = StandInPlate(frames=(1,), size=(48, 64))
    with pytest.raises(OSError, match="alpha does not read back"):
        prores.write_prores(tmp_path / "edit.mov", [make_frame(plate, 1)[0]], plate, BLENDINGS["linear"])
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("damaged", ["png/edit.0002.png", "edit.mov", None])
def test_other_files_are_resumed_and_made_again(tmp_path, no_pictures, monkeypatch, damaged):
    formats, out = Formats(extra_outputs=("prores", "png", "matte")), tmp_path / "out"
    delivery, todo = deliver(out, formats)
    assert todo == [1, 2] and delivery.complete()
    before, made = manifest(out), []
    monkeypatch.setattr(prores, "write_prores", lambda *a, write=prores.write_prores: (made.append(1), write(*a)))
    if damaged:
        (out / damaged).write_bytes((out / damaged).read_bytes()[:-100])
        assert not delivery.complete()
    _, todo = deliver(out, formats)
    assert todo == ([2] if damaged == "png/edit.0002.png" else []) and len(made) == (damaged == "edit.mov")
    after = manifest(out)
    assert after["frames"] == before["frames"] and delivery.complete()


def test_delivered_again_in_other_formats_nothing_old_stays(tmp_path, no_pictures):
    plate, out = StandInPlate(frames=(1, 2)), tmp_path / "out"
    for recipe_hash, more in (("abc", ("prores", "png")), ("def", ())):
        (out / "kept").mkdir(parents=True, exist_ok=True)
        delivery = make(out, plate, recipe_hash, generation="one generation", formats=Formats(extra_outputs=more))
        run(delivery, make_frame)
        assert delivery.complete()
    assert files(out) == sorted(
        ["manifest.json", "recipe.json", "preview.mp4", "contact_sheet.png"]
        + [f"{kind}/{kind}.000{n}.exr" for kind in ("edit", "composite") for n in (1, 2)]
    )


@pytest.mark.parametrize("part", [0, 1])
def test_a_part_that_does_not_read_back_is_noticed(tmp_path, monkeypatch, part):
    plate, read = StandInPlate(frames=(1,)), image_file._read

    def flipped(path):
        pixels, spec = read(path)
        pixels[3, 4, 4 * part] = 0.125
        return pixels, spec

    delivery = make(tmp_path / "out", plate, formats=Formats(extra_outputs=("matte",)))
    delivery.start()
    monkeypatch.setattr(image_file, "_read", flipped)
    with pytest.raises(OSError, match="does not read back"):
        delivery.write(1, FramePixels(*make_frame(plate, 1), matte_of(plate)), {})
    assert files(tmp_path / "out") == ["recipe.json"]


def test_pictures_written_with_the_frames_are_those_made_from_the_files(tmp_path, monkeypatch):
    plate = StandInPlate(frames=(1, 2), size=(60, 80))
    shown, read_image = [], image_file.read_image
    show = lambda path, pictures, plate, origin: (shown.append(list(pictures)), path.write_bytes(b""))  # noqa: E731
    monkeypatch.setattr(shot_pictures.preview, "write_movie", show)
    for filmed in (True, False):
        delivery = make(tmp_path / str(filmed), plate)
        delivery.start()
        for frame in plate.frames:
            delivery.write(frame, FramePixels(*make_frame(plate, frame)), {}, plate.read(frame) if filmed else None)
        read = []
        with monkeypatch.context() as patch:
            patch.setattr(image_file, "read_image", lambda path: read.append(path) or read_image(path))
            list(delivery._pictures().pictures(delivery._picture_digests()))
        assert bool(read) != filmed
        delivery.finish({})
    assert len(shown[0]) == 2 and all(np.array_equal(a, b) for a, b in zip(*shown))
    kept, read = ((tmp_path / f"{filmed}/contact_sheet.png").read_bytes() for filmed in (True, False))
    assert kept == read
    assert not (tmp_path / "True/.job").exists()


# ---- Before the work --------------------------------------------------------------


def test_preflight_creates_nothing(tmp_path):
    make(tmp_path / "a/b/c").preflight()
    assert not list(tmp_path.iterdir())


def test_an_output_that_is_a_file_is_refused(tmp_path):
    (tmp_path / "out").write_text("")
    for path in (tmp_path / "out", tmp_path / "out/deeper"):
        with pytest.raises(InputError, match="not a directory; choose another --out"):
            make(path).preflight()


def test_an_output_without_permission_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(out_folder.os, "access", lambda path, mode: False)
    with pytest.raises(InputError, match="not writable"):
        make(tmp_path / "out").preflight()


def test_too_small_a_disk_is_refused(tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(out_folder.shutil, "disk_usage", lambda path: usage._replace(free=2 << 20))
    with pytest.raises(InputError, match=r"about \d+ MiB will be written and 2 MiB are free"):
        make(tmp_path / "out", StandInPlate(size=(2160, 3840))).preflight()
    make(tmp_path / "out", StandInPlate(size=(20, 30))).preflight()


@pytest.mark.parametrize("finished", [False, True])
def test_another_jobs_delivery_is_refused(tmp_path, no_pictures, finished):
    other = make(tmp_path / "out", recipe_hash="other")
    other.start()
    if finished:
        run(other, make_frame)
    with pytest.raises(InputError, match="recipe other.*choose another --out"):
        make(tmp_path / "out").preflight()


def test_files_of_an_unknown_job_are_refused(tmp_path):
    (tmp_path / "out/edit").mkdir(parents=True)
    (tmp_path / "out/edit/edit.0001.exr").write_bytes(b"by hand")
    with pytest.raises(InputError, match="unknown job"):
        make(tmp_path / "out").preflight()


# ---- Faults and resuming ------------------------------------------------------------


def test_resuming_writes_only_what_is_missing_and_ends_the_same(tmp_path, whole, no_pictures):
    half_way = make(tmp_path / "resumed")
    half_way.start()
    half_way.write(1002, FramePixels(*make_frame(half_way.plate, 1002)), {"seen": 1002})
    with pytest.raises(RuntimeError, match="1001, 1003"):
        half_way.finish({})
    assert not (tmp_path / "resumed/manifest.json").exists()

    assert run(make(tmp_path / "resumed"), make_frame) == [1001, 1003]
    assert pixels(tmp_path / "resumed") == pixels(whole)
    assert files(tmp_path / "resumed") == files(whole)
    assert of_frames(tmp_path / "resumed") == of_frames(whole)


def test_a_finished_job_has_nothing_left_to_do(tmp_path, no_pictures):
    run(make(tmp_path / "out"), make_frame)
    before = manifest(tmp_path / "out")
    assert run(make(tmp_path / "out"), make_frame) == []
    assert manifest(tmp_path / "out") == before


class Killed(BaseException):
    """Stops a job where it stands."""


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A delivery that nothing disturbed."""
    path = tmp_path_factory.mktemp("whole") / "out"
    run(make(path), make_frame)
    return path


STEPS = ["edit.1002.exr", "composite.1002.exr", "1002.json", "preview.mp4", "contact_sheet.png", "manifest.json"]


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("done", [False, True], ids=["writing", "written"])
def test_killed_at_any_step_it_resumes_to_the_same(tmp_path, whole, no_pictures, monkeypatch, step, done):
    out = tmp_path / "out"
    replace = file_rules.os.replace

    def killed_at_step(part, path):
        if path.name != step or done:
            replace(part, path)
        if path.name == step:
            raise Killed

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(file_rules.os, "replace", killed_at_step)
        run(make(out), make_frame)
    found = list(out.rglob(step))
    assert len(found) == done
    assert (out / "manifest.json").exists() == (done and step == "manifest.json")
    if not done:  # a real kill leaves the half-written part
        folder = next(whole.rglob(step), whole / ".job/frames/1002.json").parent
        stale = out / folder.relative_to(whole) / step
        stale.with_name(f"{stale.stem}.part{stale.suffix}").write_bytes(b"half")

    run(make(out), make_frame)
    assert files(out) == files(whole)
    assert pixels(out) == pixels(whole)
    assert of_frames(out) == of_frames(whole)


def test_a_write_that_fails_leaves_no_note_and_no_part(tmp_path, monkeypatch):
    delivery = make(tmp_path / "out")
    delivery.start()

    def full(path, pixels, spec):
        path.write_bytes(b"half a file")
        raise OSError(28, "No space left on device")

    good = image_file._write
    monkeypatch.setattr(image_file, "_write", lambda p, *a: full(p, *a) if "composite" in p.name else good(p, *a))
    with pytest.raises(OSError, match="No space left"):
        delivery.write(1001, FramePixels(*make_frame(delivery.plate, 1001)), {"seen": 1001})
    assert not delivery.done(1001)
    assert files(tmp_path / "out") == ["edit/edit.1001.exr", "recipe.json"]


@pytest.mark.parametrize("kind", ["edit", "composite"])
@pytest.mark.parametrize("damage", ["missing", "cut", "other pixels", "garbage"])
def test_a_damaged_frame_is_noticed_and_made_again(tmp_path, no_pictures, kind, damage):
    out = tmp_path / "out"
    run(make(out), make_frame)
    whole = pixels(out)
    path = out / kind / f"{kind}.1002.exr"
    if damage == "missing":
        path.unlink()
    elif damage == "cut":
        path.write_bytes(path.read_bytes()[:-200])
    elif damage == "garbage":
        path.write_bytes(b"not an image")
    else:
        changed = image_file.read_image(path)
        changed.view(np.uint16)[3, 4, 1] ^= 1
        spec = oiio.ImageInput.open(str(path)).spec()
        image_file.write_image(path, changed, spec)
    assert run(make(out), make_frame) == [1002]
    assert pixels(out) == whole


def test_a_plate_that_has_changed_is_noticed(tmp_path, no_pictures):
    plate = StandInPlate()
    run(make(tmp_path / "out", plate), make_frame)
    plate.changed.add(1003)
    assert run(make(tmp_path / "out", plate), make_frame) == [1003]


@pytest.mark.parametrize("text", ["", "{", "[]", '{"edit": "x"}'])
def test_a_broken_note_is_no_note(tmp_path, text):
    delivery = make(tmp_path / "out")
    delivery.start()
    delivery.write(1001, FramePixels(*make_frame(delivery.plate, 1001)), {"seen": 1001})
    assert delivery.done(1001)
    (tmp_path / "out/.job/frames/1001.json").write_text(text)
    assert not delivery.done(1001)


def test_starting_removes_only_stale_parts(tmp_path):
    delivery = make(tmp_path / "out")
    delivery.start()
    delivery.write(1001, FramePixels(*make_frame(delivery.plate, 1001)), {"seen": 1001})
    before = files(tmp_path / "out")
    for name in (
        "edit/edit.1002.part.exr",
        "composite/composite.1002.part.exr",
        ".job/frames/1002.part.json",
        "preview.part.mp4",
        "manifest.part.json",
    ):
        (tmp_path / "out" / name).write_bytes(b"half")
    make(tmp_path / "out").start()
    assert files(tmp_path / "out") == before


def test_without_a_frame_rate_the_preview_still_comes(tmp_path):
    run(make(tmp_path / "out", StandInPlate(fps=None, frames=(1,))), make_frame)
    run(make(tmp_path / "odd", StandInPlate(fps=Fraction(0), frames=(1,), size=(31, 17))), make_frame)


def test_the_recipes_choices_are_the_outputs_of_the_table():
    assert tuple(output.name for output in EXTRA_OUTPUTS) == EXTRA_OUTPUT_NAMES
