"""Runs inside Blender's module, with a case's name: installs the built zip as a user would, and checks.

Each process ends by os._exit after the add-on was disabled: the module does not end cleanly by itself.
`told` is what the test says: {"zip", "work", "plate", ...}.
"""

import json
import os
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


def scene_of(plate_size=(96, 64), frames=(1, 3), blending="sRGB"):
    """A fresh scene whose render writes what the sequencer shows, as 8-bit codes."""
    bpy.ops.wm.read_factory_settings(use_empty=True) if False else None
    scene = bpy.context.scene
    settings = scene.render
    settings.resolution_x, settings.resolution_y, settings.resolution_percentage = *plate_size, 100
    settings.dither_intensity = 0
    if hasattr(settings.image_settings, "media_type"):
        settings.image_settings.media_type = "IMAGE"
    settings.image_settings.file_format, settings.image_settings.color_mode = "PNG", "RGB"
    settings.image_settings.color_depth = "8"
    scene.view_settings.view_transform = "Standard"
    scene.sequencer_colorspace_settings.name = blending
    scene.frame_start, scene.frame_end = frames
    scene.sequence_editor_create()
    return scene


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
    path = str(WORK / "seen.png")
    scene.frame_set(frame)
    scene.render.filepath = path
    bpy.ops.render.render(write_still=True, scene=scene.name)
    return codes(path)


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


def layer_of(scene):
    found = [s for s in part("host").all_strips(scene) if "vera" in s]
    assert found, "no layer strip"
    return found[-1]


def check_pixels(scene, out, timeline_to_number):
    """The sequence is the core's composite, within one code value; exactly itself where alpha is 0."""
    layer = layer_of(scene)
    clear_seen = touched = 0
    for frame, number in timeline_to_number.items():
        seen = rendered(scene, frame)
        layer.mute = True
        without = rendered(scene, frame)
        layer.mute = False
        composite = codes(out / "composite" / f"composite.{number:04d}.png")
        alpha = values(out / "edit" / f"edit.{number:04d}.exr")[..., 3]
        worst = abs(seen - composite).max()
        assert worst <= 1, f"frame {frame}: {worst} code values from the core's composite"
        clear = alpha == 0
        assert (seen[clear] == without[clear]).all(), f"frame {frame}: changed where alpha is 0"
        clear_seen, touched = clear_seen + clear.sum(), touched + (seen != without).sum()
    assert touched, "the layer changes nothing: the check would prove nothing"
    return clear_seen


def case_flow():
    session = install()
    scene = scene_of()
    strip = add_images(scene, told["plate"], (1001, 1002, 1003))
    bpy.ops.wm.save_as_mainfile(filepath=str(WORK / "flow.blend"))
    strip.select = True
    scene.vera.prompt = "Add a red balloon"
    t = time.time()
    bpy.ops.vera.edit("EXEC_DEFAULT", steps=1, quality="STEPS")
    print("edit", time.time() - t)
    layer = layer_of(scene)
    print(layer.name, layer.channel, layer.frame_final_start, layer.frame_final_end, layer.directory, [e.filename for e in layer.elements])
    out = Path(bpy.path.abspath(layer.directory)).parent
    if out.name == "edit":
        out = out.parent
    print(out, check_pixels(scene, out, {1: 1001, 2: 1002, 3: 1003}))


def disable():
    """As the user does; nothing of the add-on may stay."""
    if PACKAGE in bpy.context.preferences.addons:
        bpy.ops.preferences.addon_disable(module=PACKAGE)
    left = [t.name for t in threading.enumerate() if t.name.startswith("vera")]
    assert not left, f"threads left: {left}"
    assert not [n for n in dir(bpy.types) if n.startswith("VERA_")], "classes left"
    assert not hasattr(bpy.types.Scene, "vera"), "a property is left"
    handlers = [h for name in dir(bpy.app.handlers) if isinstance(getattr(bpy.app.handlers, name), list)
                for h in getattr(bpy.app.handlers, name) if getattr(h, "__module__", "").startswith(PACKAGE)]  # fmt: skip
    assert not handlers, f"handlers left: {handlers}"


if __name__ == "__main__":
    code = 1
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
