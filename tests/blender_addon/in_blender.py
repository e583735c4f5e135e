"""Runs inside Blender's module, with a case's name: installs the built zip as a user would, and checks.

Each process ends by os._exit, after the add-on was disabled: the module does not end cleanly by itself.
`told` is what test_addon.py says: {"zip", "work", "plate", "movie", "python", "root", ...}; `seed` is each Blender's
own, so that the service cannot answer from what another one had made.
"""

import json
import os
import queue
import signal
import sys
import threading
import time
import traceback
from pathlib import Path

import bpy
import numpy as np

PACKAGE = "bl_ext.user_default.vera"
told = json.loads(sys.argv[2])
WORK = Path(told["work"])


def install():
    bpy.ops.extensions.package_install_files(filepath=told["zip"], repo="user_default", enable_on_install=True)
    assert PACKAGE in bpy.context.preferences.addons, "the add-on was not enabled"
    preferences = bpy.context.preferences.addons[PACKAGE].preferences
    preferences.python, preferences.root, preferences.device = told["python"], told["root"], "cpu"
    return part("session").session


def part(name):
    return sys.modules[f"{PACKAGE}.{name}"]


def scene_of(name="edit", size=(96, 64), frames=(1, 3), blending="sRGB"):
    """A scene whose render writes what the sequencer shows, as 8-bit codes."""
    scene = bpy.data.scenes.new(name)
    show(scene)
    settings = scene.render
    settings.resolution_x, settings.resolution_y, settings.resolution_percentage = *size, 100
    settings.dither_intensity = 0
    if hasattr(settings.image_settings, "media_type"):
        settings.image_settings.media_type = "IMAGE"
    settings.image_settings.file_format, settings.image_settings.color_mode = "TARGA_RAW", "RGB"
    scene.view_settings.view_transform = "Standard"
    scene.sequencer_colorspace_settings.name = blending
    scene.frame_start, scene.frame_end = frames
    scene.sequence_editor_create()
    return scene


def show(scene):
    """In the window, and in its sequencer, which from 5.0 has a scene of its own."""
    window = bpy.context.window_manager.windows[0]
    window.scene = scene
    if hasattr(window.workspace, "sequencer_scene"):
        window.workspace.sequencer_scene = scene


def strips(scene):
    return part("host").strips(scene.sequence_editor)


def add_images(scene, pattern, numbers, channel=1, start=1, name="plate"):
    files = [pattern.replace("####", f"{n:04d}") for n in numbers]
    strip = strips(scene).new_image(name, files[0], channel, start)
    for file in files[1:]:
        strip.elements.append(os.path.basename(file))
    return strip


def rendered(scene, frame):
    """Codes (H, W, 3), bottom row first, of the sequence at a frame."""
    path = str(WORK / "seen.tga")
    scene.frame_set(frame)
    scene.render.filepath = path
    bpy.ops.render.render(write_still=True, scene=scene.name)
    return raw_targa(path)


def raw_targa(path):
    """Its codes, as `codes` would read them, in a tenth of the time: Blender loads an image in 10 ms."""
    content = np.fromfile(path, np.uint8)
    kind, depth, top_first = content[2], content[16], content[17] & 0x20
    assert (kind, depth, top_first) == (2, 24, 0), f"{path}: no raw Targa of 8-bit RGB, bottom row first"
    width, height = content[12:16].view("<u2")
    first = 18 + content[0]
    return content[first : first + 3 * int(width) * int(height)].reshape(height, width, 3)[..., ::-1].astype(int)


def codes(path):
    return np.rint(values(path)[..., :3] * 255).astype(int)


def values(path):
    image = bpy.data.images.load(str(path), check_existing=False)
    image.colorspace_settings.name = "Non-Color"
    image.alpha_mode = "CHANNEL_PACKED"
    pixels = np.empty(image.size[0] * image.size[1] * 4, np.float32)
    image.pixels.foreach_get(pixels)
    pixels = pixels.reshape(image.size[1], image.size[0], 4)
    bpy.data.images.remove(image)
    return pixels


def layers(scene):
    return [s for s in part("host").all_strips(scene) if "vera" in s]


def composite(out, number):
    """Codes of the core's composite, for a display: a plate that was rendered first is scene-linear EXR."""
    path = next((out / "composite").glob(f"composite.{number:04d}.*"))
    if path.suffix == ".png":
        return codes(path)
    linear = np.maximum(values(path)[..., :3], 0)
    encoded = np.where(linear <= 0.0031308, linear * 12.92, 1.055 * np.maximum(linear, 0.0031308) ** (1 / 2.4) - 0.055)
    return np.rint(np.clip(encoded, 0, 1) * 255).astype(int)


counted = {"clear": 0, "partly": 0, "changed": 0}


def check_pixels(scene, layer, turned=lambda picture: picture):
    """The sequence is the core's composite, within one code value; exactly itself where alpha is 0.

    Counts the pixels that are clear, partly covered, and changed: a check of none proves nothing.
    """
    place, host = part("place"), part("host")
    version = place.current(layer)
    out = Path(version["deliveries"][part("color").blending_space(scene)])
    assert Path(bpy.path.abspath(layer.directory)).resolve() == (out / "edit").resolve(), "another delivery is shown"
    for frame in range(host.left(layer), host.right(layer)):
        number = version["numbers"][frame - host.content_start(layer)]
        seen = rendered(scene, frame)
        layer.mute = True
        without = rendered(scene, frame)
        layer.mute = False
        worst = abs(seen - turned(composite(out, number))).max()
        assert worst <= 1, f"frame {frame} shows plate {number}: {worst} code values from the core's composite"
        alpha = turned(values(out / "edit" / f"edit.{number:04d}.exr")[..., 3])
        clear = alpha == 0
        # Blender 5.2 rounds an over on a rendered scene's floats: by one code value, in a pixel here and there.
        allowed = int(bool(version["rendered"]) and bpy.app.version >= (5, 1, 0))
        assert abs(seen - without)[clear].max(initial=0) <= allowed, f"frame {frame}: changed where alpha is 0"
        counted["clear"] += clear.sum()
        counted["partly"] += ((alpha > 0.02) & (alpha < 0.98)).sum()
        counted["changed"] += (seen != without).any(-1).sum()


def select(scene, *strips):
    for strip in part("host").all_strips(scene):
        strip.select = strip in strips
    scene.sequence_editor.active_strip = strips[0]


def edit(scene, *strips, prompt="Add heavy falling snow", **values):
    """Generate, wait, and return the layer strips that this made or changed."""
    select(scene, *strips)
    for name, value in {"steps": 1, "quality": "STEPS", "seed": told["seed"], **values}.items():
        setattr(scene.vera, name, value)
    before = {s.name: s["vera"] for s in layers(scene)}
    assert bpy.ops.vera.edit(prompt=prompt) == {"FINISHED"}
    return [s for s in layers(scene) if before.get(s.name) != s["vera"]]


def refused(words, **values):
    """The operator says these words, and nothing was queued."""
    session = part("session").session
    count = len(session.tickets)
    try:
        bpy.ops.vera.edit(**{"prompt": "Add thick fog", "steps": 1, "quality": "STEPS", **values})
    except RuntimeError as error:
        assert words in str(error), f"said {error}, not {words!r}"
        assert "\n" not in str(error).replace("Error: ", "").strip(), f"more than one line: {error}"
    else:
        raise AssertionError(f"not refused: {words!r} was to be said")
    assert len(session.tickets) == count, "a refused job was queued"


def case_flow():
    """Sequences, movies, scenes; both blending spaces; versions; compositor; reload."""
    install()
    scene = scene_of(frames=(1, 40))
    host, place = part("host"), part("place")
    plate = add_images(scene, told["plate"], range(1001, 1006), start=11)
    host.set_timing(plate, 11, 1, 1)
    strips(scene).new_effect("title", "COLOR", 2, 12, **end_or_length(14, 2)).mute = True
    bpy.ops.wm.save_as_mainfile(filepath=str(WORK / "flow.blend"))

    # A trimmed sequence, with a handle; the channel above is taken.
    (layer,) = edit(scene, plate, handles=1)
    assert (layer.channel, host.left(layer), host.right(layer), host.content_start(layer)) == (3, 12, 15, 11), place_of(
        layer
    )
    assert [e.filename for e in layer.elements] == [f"edit.{n}.exr" for n in range(1001, 1006)]
    assert layer.directory.startswith("//"), "an absolute path in a saved file"
    check_pixels(scene, layer)

    # The sequencer changes to linear light: the layer is delivered again. Back to sRGB: the old delivery at once.
    scene.sequencer_colorspace_settings.name = "Linear Rec.709"
    assert place.wrong_space(scene) == [layer]
    before = kept(layer, "encoded")
    bpy.ops.vera.match_blending()
    again = kept(layer, "linear")
    assert before and [f.stat().st_ino for f in before] == [f.stat().st_ino for f in again], "generated anew"
    assert not place.wrong_space(scene) and len(layers(scene)) == 1
    assert set(place.current(layer)["deliveries"]) == {"encoded", "linear"}
    check_pixels(scene, layer)
    in_compositor(scene, layer)
    if bpy.app.version >= (5, 0, 0):
        as_modifier(scene, layer, plate)
    scene.sequencer_colorspace_settings.name = "sRGB"
    assert place.shows_other_space(scene) == [layer]
    bpy.ops.vera.match_blending()
    check_pixels(scene, layer)

    # Another prompt on the same strip is a version.
    assert edit(scene, plate, prompt="Add a large red balloon", handles=0) == [layer]
    data = place.data_of(layer)
    assert (len(data["versions"]), data["current"]) == (2, 1) and host.content_start(layer) == 12
    check_pixels(scene, layer)
    bpy.ops.vera.version(step=-1, layer=layer.name)
    assert place.data_of(layer)["current"] == 0 and host.content_start(layer) == 11
    check_pixels(scene, layer)

    # The strip is moved and trimmed, the layer follows.
    host.set_timing(plate, 21, 2, 0)
    select(scene, layer)
    bpy.ops.vera.align()
    assert (host.left(layer), host.right(layer)) == (23, 25), place_of(layer)
    check_pixels(scene, layer)

    # A movie, backwards, mirrored, trimmed, and a sequence at once; range Scene In/Out.
    for strip in list(strips(scene)):
        strips(scene).remove(strip)
    movie = strips(scene).new_movie("movie", told["movie"], 1, 1)
    movie.use_reverse_frames = movie.use_flip_x = True
    other = add_images(scene, told["plate"], range(1001, 1006), channel=3, start=31, name="other")
    other.strobe = 2.0
    scene.frame_start, scene.frame_end = 4, 33
    first, second = sorted(edit(scene, movie, other, range="SCENE"), key=host.left)
    assert (first.channel, host.left(first), host.right(first)) == (2, 4, 7), place_of(first)
    assert place.current(first)["numbers"] == [3, 2, 1], (
        place.current(first),
        place_of(movie),
        host.trims(movie),
        host.content_length(movie),
    )
    check_pixels(scene, first, turned=lambda p: p[:, ::-1])
    assert (second.channel, host.left(second), host.right(second)) == (4, 31, 34), place_of(second)
    assert len(set(place.current(second)["numbers"])) == 2, "the strobe is not in it"
    check_pixels(scene, second)

    # A scene, turned, is rendered first.
    inner = scene_of("inner", frames=(1, 2))
    add_images(inner, told["plate"], range(1001, 1004))
    show(scene)
    scene.frame_start, scene.frame_end = 1, 60
    # Over black: soft edges over nothing are another picture in Blender's 8-bit and float ways.
    black = strips(scene).new_effect("black", "COLOR", 1, 51, **end_or_length(53, 2))
    black.color = (0, 0, 0)
    strip = strips(scene).new_scene("inner", inner, 2, 51)
    strip.scene_input = "SEQUENCER"
    strip.transform.rotation = 0.3
    (layer,) = edit(scene, strip, range="STRIP")
    assert place.current(layer)["rendered"] and place.current(layer)["numbers"] == [51, 52]
    check_pixels(scene, layer)

    # The strip keeps its layers and the list its jobs in the saved file.
    bpy.ops.wm.save_mainfile()
    count = len(part("session").session.tickets)
    bpy.ops.wm.open_mainfile(filepath=str(WORK / "flow.blend"))
    assert len(part("session").session.tickets) == count > 5
    assert len(layers(bpy.data.scenes["edit"])) == 3
    assert all(counted.values()), f"some of it was not seen, so nothing is proven: {counted}"


def kept(layer, space):
    """The files of what was generated, in the delivery for a blending space."""
    folder = Path(part("place").current(layer)["deliveries"][space]) / "kept"
    return sorted(folder.glob("*.safetensors"))


def end_or_length(end, length):
    """new_effect asks for the end up to 4.5, and for the length from 5.0."""
    names = (
        strips(bpy.context.scene).bl_rna.functions["new_effect"].parameters.keys()
        if bpy.context.scene.sequence_editor
        else ()
    )
    return {"length": length} if "length" in names else {"frame_end": end}


def place_of(strip):
    host = part("host")
    return strip.channel, host.left(strip), host.right(strip), host.content_start(strip)


def in_compositor(scene, layer):
    """The scene's compositor gives the core's composite too, and its plate outside the layer's range."""
    place = part("place")
    tree = part("host").compositor_tree(scene)
    for node in [n for n in tree.nodes if n not in part("host").compositor_outputs(tree)]:
        tree.nodes.remove(node)  # there is no camera; with nothing to lie on, the layer brings its plate
    bpy.ops.vera.compositor(layer=layer.name, scene=scene.name)
    scene.render.use_sequencer = False
    out = Path(place.current(layer)["deliveries"]["linear"])
    for frame, number in ((12, 1002), (14, 1004)):
        worst = abs(rendered(scene, frame) - composite(out, number)).max()
        assert worst <= 1, f"compositor, frame {frame}: {worst} code values from the core's composite"
    outside = rendered(scene, 30)
    assert abs(outside - codes(told["plate"].replace("####", "1005"))).max() <= 1, "a layer outside its range"
    scene.render.use_sequencer = True


def as_modifier(scene, layer, plate):
    place = part("place")
    bpy.ops.vera.modifier(layer=layer.name)
    assert layer.mute
    out = Path(place.current(layer)["deliveries"]["linear"])
    for frame, number in ((12, 1002), (14, 1004)):
        worst = abs(rendered(scene, frame) - composite(out, number)).max()
        assert worst <= 1, f"modifier, frame {frame}: {worst} code values from the core's composite"
    plate.modifiers.clear()
    layer.mute = False


def case_masks():
    """Masks of the scene, a scene that a camera sees, and a video that was edited elsewhere."""
    session = install()
    inner = scene_of("inner", frames=(1, 2))
    camera = bpy.data.objects.new("camera", bpy.data.cameras.new("camera"))
    camera.location = (0, 0, 5)
    mesh = bpy.data.meshes.new("square")
    mesh.from_pydata([(-1, -1, 0), (1, -1, 0), (1, 1, 0), (-1, 1, 0)], [], [(0, 1, 2, 3)])
    inner.collection.objects.link(camera)
    inner.collection.objects.link(bpy.data.objects.new("square", mesh))
    inner.camera = camera
    inner.world = bpy.data.worlds.new("grey")
    inner.render.engine, inner.cycles.samples, inner.cycles.device = "CYCLES", 2, "CPU"
    scene = scene_of(frames=(1, 2))
    strip = strips(scene).new_scene("inner", inner, 1, 1)
    host = part("host")
    host.set_timing(strip, 1, 0, 0)
    plate = add_images(scene, told["plate"], (1001, 1002), channel=5, start=11)

    mask = bpy.data.masks.new("left half")
    spline = mask.layers.new().splines.new()
    corners = [(0.0, 0.0), (0.5, 0.0), (0.5, 1.0), (0.0, 1.0)]
    spline.points.add(len(corners) - len(spline.points))
    for point, corner in zip(spline.points, corners):
        point.co, point.handle_left_type, point.handle_right_type = corner, "VECTOR", "VECTOR"
    spline.use_cyclic = True

    # Through a Blender mask, on a plate that the camera sees.
    scene.vera.mask = mask
    (layer,) = edit(scene, strip, mask_kind="MASK")
    version = part("place").current(layer)
    assert version["rendered"] == "a scene strip" and version["numbers"] == [1, 2]
    look_at_mask(version["recipe"]["mask"], 1)
    check_pixels(scene, layer)

    # Through a mask strip, on media that are read as they are: the mask has the media's numbers.
    strips(scene).new_mask("matte", mask, 7, 11).mute = True
    (layer,) = edit(scene, plate, mask_kind="STRIP", mask_strip="matte")
    version = part("place").current(layer)
    assert not version["rendered"] and version["recipe"]["plate"] == told["plate"]
    look_at_mask(version["recipe"]["mask"], 1002)
    check_pixels(scene, layer)

    # A block that was added elsewhere, through the same mask; no prompt.
    (layer,) = edit(scene, plate, prompt="", door="LIFT", edited=told["edited"])
    version = part("place").current(layer)
    assert version["recipe"]["model"] == f"lift:{told['edited']}" and version["prompt"] == "Lift the edit"
    alpha = values(Path(version["deliveries"]["encoded"]) / "edit" / "edit.1002.exr")[::-1, :, 3]
    assert (alpha[24:40, 34:46] > 0.9).all() and not alpha[:, 50:].any() and not alpha[:16].any(), alpha[
        ::4, ::6
    ].tolist()
    check_pixels(scene, layer)
    assert all(t.state == "placed" for t in session.tickets.values())
    assert all(counted.values()), f"some of it was not seen, so nothing is proven: {counted}"


def look_at_mask(pattern, number):
    seen = values(pattern.replace("####", f"{number:04d}"))[..., 0]
    wrong = (seen[:, :46] != 1).sum(), (seen[:, 50:] != 0).sum()
    # Blender's rasteriser leaves a stray pixel now and then; a mask of another place has hundreds.
    assert sum(wrong) <= 2, (
        f"the mask is not the left half: {wrong} pixels wrong left and right, first row {seen[0].tolist()}"
    )


def look_first(scene, plate, session):
    """`What Is Read` reports a strip's own files, and a strip that must be rendered first. Nothing is queued."""
    asked = []

    class Service:
        def look(self, recipe):
            asked.append(recipe)
            return ["frames 1001-1003 (3)"]

        def recipe_fields(self):
            return {"plate", "prompt", "out", "frames", "model", "seed", "steps", "color_space", "blend_space"}

    ops, before = part("ops"), len(session.tickets)
    real, ops.service = ops.service, lambda settings: Service()
    scene.vera.prompt = "Add fog"
    assert bpy.ops.vera.look() == {"FINISHED"}
    assert session.look_result.splitlines() == ["plate:", "frames 1001-1003 (3)"] and asked[0]["prompt"] == "Add fog"
    plate.transform.offset_x = 10
    assert bpy.ops.vera.look() == {"FINISHED"}
    assert "The plate is rendered first" in session.look_result or "frames" in session.look_result
    plate.transform.offset_x = 0
    plate.color_multiply = 0.5
    assert bpy.ops.vera.look() == {"FINISHED"}
    assert "The plate is rendered first" in session.look_result and len(session.tickets) == before
    plate.color_multiply, scene.vera.prompt, ops.service = 1.0, "", real


def case_refusals():
    """A job that cannot succeed is refused with one line, before anything is written or queued."""
    session = install()
    tickets = part("tickets")
    scene = scene_of(frames=(1, 10))
    plate = add_images(scene, told["plate"], range(1001, 1004))
    select(scene, plate)
    refused("the prompt is empty", prompt=" ")
    refused("the edited video is not named; choose it", door="LIFT", prompt="")
    refused("/nowhere.mp4 is not there; choose another", door="LIFT", edited="/nowhere.mp4")
    refused("the folder of VACE's weights is not named", door="VACE")
    refused("no strip is named 'nothing'", strips="nothing")
    look_first(scene, plate, session)
    refused("choose one, or Mask: None", mask_kind="FILE")
    refused("nowhere.png is not there", mask_kind="FILE", mask_file="/nowhere.png")
    refused("no strip is named 'matte'", mask_kind="STRIP", mask_strip="matte")
    refused("make the strip to edit active", range="SELECTION")
    scene.frame_start, scene.frame_end = 90, 99
    refused("none of its frames lies in the range", range="SCENE")
    scene.frame_start = 1
    scene.sequencer_colorspace_settings.name = "Filmic sRGB"
    refused("blends in Filmic sRGB")
    scene.sequencer_colorspace_settings.name = "sRGB"
    plate.select = False
    refused("no strip to edit is selected")

    # Media that are not there: Blender makes such strips without a word.
    movie = strips(scene).new_movie("gone", "/nowhere/gone.mov", 3, 1)
    select(scene, movie)
    refused("/nowhere/gone.mov is not there; relink")
    with_gap = add_images(scene, told["plate"], (1003, 1999), channel=4, name="gap")
    select(scene, with_gap)
    refused("p.1999.png is not there")

    # Folders that cannot be written.
    select(scene, plate)
    blocked = WORK / "a file"
    blocked.write_text("")
    refused("cannot be made (Not a directory)", folder=str(blocked / "vera"))
    if told.get("read_only"):
        refused("cannot be made (Read-only file system)", folder=told["read_only"] + "/vera")
    assert not list(tickets.store().iterdir()), "a refused job left a ticket"

    # A range by selection; which strips are rendered first, and why.
    marker = strips(scene).new_effect("marker", "COLOR", 6, 2, **end_or_length(4, 2))
    select(scene, plate, marker)
    vace = part("plan").Ask(prompt="Add snow", door="VACE", vace=str(WORK))
    assert part("plan").asked_model(vace) == f"vace:{WORK}"
    ask = part("plan").Ask(prompt="Add snow", range="SELECTION")
    (ticket,) = part("plan").plan(scene, [plate, marker], ask)
    assert ticket.visible == [2, 4] and ticket.recipe["frames"] == "1002-1003" and ticket.state == "submit"
    # A range of the scene: Start to End with both, or the preview range.
    scene.frame_start, scene.frame_end = 2, 3
    for preview, visible in ((False, [2, 4]), (True, [1, 3])):
        scene.use_preview_range = preview
        if preview:
            scene.frame_preview_start, scene.frame_preview_end = 1, 2
        (ticket,) = part("plan").plan(scene, [plate], part("plan").Ask(prompt="Add snow", range="SCENE"))
        assert ticket.visible == visible, (preview, ticket.visible)
    scene.use_preview_range, scene.frame_start, scene.frame_end = False, 1, 10
    why = lambda strip, frames=range(1, 4): part("plate_reading").decide(scene, strip, frames).why  # noqa: E731
    assert why(plate) == ""
    plate.color_multiply = 2
    assert why(plate) == "colour settings"
    plate.color_multiply = 1
    if bpy.app.version < (5, 0, 0):
        plate.modifiers.new("bright", "BRIGHT_CONTRAST")
        assert why(plate) == "modifiers"
        plate.modifiers.clear()
    odd = strips(scene).new_image("odd", told["plate"].replace("####", "1001"), 7, 1)
    odd.elements.append("p.1003.png")
    assert why(odd, range(1, 3)) == "", "the file between is there"
    still = strips(scene).new_image("still", told["plate"].replace("####", "1001"), 8, 1)
    assert why(still, range(1, 5)) == "a still that is held for several frames"
    strips(scene).new_effect("faster", "SPEED", 9, 1, **end_or_length(4, 3), **input_of(plate))
    assert why(plate) == "a speed effect"
    assert part("stage").strips_of_picture(plate, scene)[0] == "plate" and "faster" in part("stage").strips_of_picture(
        plate, scene
    )

    # Prompts of text strips: one job for each, over the frames that it spans. What was asked for comes back to the
    # panel.
    next(s for s in part("host").all_strips(scene) if s.name == "faster").mute = True
    text = strips(scene).new_effect("words", "TEXT", 20, 2, **end_or_length(4, 2))
    text.text = "Add thick fog"
    ask = part("plan").Ask(
        prompt="", prompts="TEXT", guidance=2.5, region="0, 0, 40,24", cuts="none", exposure="-1", seed=4
    )
    select(scene, plate)
    try:
        part("plan").plan(scene, [plate], ask)
        raise AssertionError("no text strip was selected")
    except part("host_rules").RefusedError as error:
        assert "no selected text strip lies over it" in str(error), error
    select(scene, plate, text)
    (ticket,) = part("plan").plan(scene, [plate], ask)
    assert ticket.visible == [2, 4]
    told_of = {name: ticket.recipe.get(name) for name in ("prompt", "guidance", "region", "cuts", "exposure", "lora")}
    assert told_of == {
        "prompt": "Add thick fog",
        "guidance": 2.5,
        "region": "0,0,40,24",
        "cuts": "none",
        "exposure": -1.0,
        "lora": None,
    }, told_of
    part("settings").take_over(scene.vera, ticket.recipe)
    again = part("settings").ask_of(scene)
    assert (again.prompt, again.seed, again.guidance, again.region, again.cuts) == (
        "Add thick fog",
        4,
        2.5,
        "0,0,40,24",
        "none",
    )
    assert (again.exposure, again.quality, again.door, again.prompts) == ("-1.0", "STANDARD", "VERA", "PANEL")
    refused("exposure 'bright' is no number of stops", strips="plate", exposure="bright")
    refused("none.safetensors is not there; choose another file", strips="plate", lora="/none.safetensors")
    strips(scene).remove(text)

    # While Blender renders or saves, the session keeps its hands off.
    seen = []
    for name in ("render_pre", "save_pre"):
        getattr(bpy.app.handlers, name).append(lambda *_: seen.append(session.paused()))
    rendered(scene, 1)
    bpy.ops.wm.save_as_mainfile(filepath=str(WORK / "refusals.blend"))
    for name in ("render_pre", "save_pre"):
        getattr(bpy.app.handlers, name).clear()
    assert seen == [True, True] and not session.paused(), seen
    bpy.ops.vera.test_service()
    assert part("preferences").last_test.words.startswith("Works: "), part("preferences").last_test.words
    preferences = bpy.context.preferences.addons[PACKAGE].preferences
    for python, root, words in (
        (told["python"], str(WORK), "holds no folder 'core'"),
        ("/nowhere/python", "", "no such file"),
        (told["bare_python"], "", "has no Vera"),
    ):
        preferences.python, preferences.root = python, root
        bpy.ops.vera.test_service()
        assert words in part("preferences").last_test.words, part("preferences").last_test.words
    # The queue says the same, where the service has to be started and cannot be.
    state, os.environ["VERA_SERVICE_DIR"] = os.environ["VERA_SERVICE_DIR"], str(WORK / "no service")
    for python, root, words in (
        (told["bare_python"], str(WORK), "holds no folder 'core'"),
        ("/nowhere/python", "", "no such file"),
        (told["bare_python"], "", "has no Vera"),
    ):
        preferences.python, preferences.root = python, root
        answers = queue.SimpleQueue()
        part("session")._exchange(part("preferences").connection(), [], answers)
        trouble = answers.get()["trouble"]
        assert words in trouble, trouble
    os.environ["VERA_SERVICE_DIR"] = state


def input_of(strip):
    names = strips(bpy.context.scene).bl_rna.functions["new_effect"].parameters.keys()
    return {"input1" if "input1" in names else "seq1": strip}


def case_faults():
    """Never saved, cancelled, retried, the service killed, the file opened anew, source and files gone."""
    session = install()
    place, host = part("place"), part("host")
    scene = scene_of(frames=(1, 3))
    plate = add_images(scene, told["plate"], range(1001, 1003))

    # Cancelled in the midst of a job; nothing appears. The file was never saved: results go to the user's folder.
    (long,) = start(scene, plate, steps=1000)
    assert str(part("tickets").user_folder("edits")) in long.folder
    turn(lambda: long.job.get("stage") == "denoise")
    session.cancel(long)
    turn(lambda: long.ended)
    assert long.state == "cancelled" and not layers(scene)
    session.retry(long)
    turn(lambda: long.state == "open")
    assert not long.ended
    session.cancel(long)
    turn(lambda: long.ended)
    session.remove(long)
    assert long.id not in session.tickets

    # The service is killed during a job. The file is opened again, without the strip's mark and with renamed scenes.
    file = WORK / "faults.blend"
    bpy.ops.wm.save_as_mainfile(filepath=str(file))
    (ticket,) = start(scene, plate, steps=8, handles=0)
    turn(lambda: ticket.job.get("done") or ticket.job.get("stage") == "deliver")
    part("client").discover()
    os.kill(part("client").discover()["pid"], signal.SIGKILL)
    bpy.ops.wm.open_mainfile(filepath=str(file))
    number = ticket.id
    ticket = session.tickets[number]
    assert not ticket.ended and not layers(bpy.data.scenes["edit"])
    finish(ticket)
    scene = bpy.data.scenes["edit"]
    (layer,) = layers(scene)
    assert (layer.channel, host.left(layer), host.right(layer)) == (2, 1, 3), place_of(layer)

    # Its source has gone: the layer stays; a job whose source went meanwhile is placed where it was.
    show(scene)
    (plate,) = (s for s in strips(scene) if "vera" not in s)
    (ticket,) = start(scene, plate, steps=1, seed=7)
    strips(scene).remove(plate)
    finish(ticket)
    assert place.data_of(layer)["current"] == 1
    select(scene, layer)
    bpy.ops.vera.align()
    assert (host.left(layer), host.right(layer)) == (1, 3)

    # A layer's file is gone: said in one line, and nothing changes.
    out = Path(part("paths").found(place.data_of(layer)["versions"][0]["deliveries"]["encoded"]))
    (out / "edit" / "edit.1002.exr").unlink()
    before = layer["vera"], layer.directory
    try:
        bpy.ops.vera.version(step=-1, layer=layer.name)
        raise AssertionError("a version with a missing file was shown")
    except RuntimeError as error:
        assert "edit.1002.exr is not there" in str(error), error
    assert (layer["vera"], layer.directory) == before


def start(scene, strip, prompt="Add heavy falling snow", **values):
    """As the interface does: tickets are taken on, and nobody waits."""
    ask = part("plan").Ask(prompt=prompt, **{"quality": "STEPS", **values})
    new = part("plan").plan(scene, [strip], ask)
    part("session").session.add(new)
    return new


def finish(ticket):
    """Until it is placed. On a machine that is busy otherwise the service may take its worker for dead: retry."""
    turn(lambda: ticket.ended)
    for _ in range(3):
        if "no sign of life" in ticket.reason:
            part("session").session.retry(ticket)
            turn(lambda: ticket.ended)
    assert ticket.state == "placed", ticket.reason


def turn(condition, seconds=200):
    """Timers do not run in the module: turn by turn until the condition holds."""
    session, end = part("session").session, time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, (
            f"waited {seconds} s; {session.trouble} {[vars(t) for t in session.tickets.values()]}"
        )
        session.tick()
        time.sleep(0.05)


def disable():
    """As the user does; nothing of the add-on may stay."""
    if PACKAGE in bpy.context.preferences.addons:
        bpy.ops.preferences.addon_disable(module=PACKAGE)
    left = [t.name for t in threading.enumerate() if t.name.startswith("vera")]
    assert not left, f"threads left: {left}"
    assert not [n for n in dir(bpy.types) if n.startswith("VERA_")], "classes left"
    assert not hasattr(bpy.types.Scene, "vera"), "a property is left"
    handlers = [
        h
        for name in dir(bpy.app.handlers)
        if isinstance(getattr(bpy.app.handlers, name), list)
        for h in getattr(bpy.app.handlers, name)
        if getattr(h, "__module__", "").startswith(PACKAGE)
    ]
    assert not handlers, f"handlers left: {handlers}"


if __name__ == "__main__":
    code = 1
    os.chdir(WORK)
    try:
        globals()[f"case_{sys.argv[1]}"]()
        disable()
        print("case passed")
        code = 0
    except BaseException:
        traceback.print_exc()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
