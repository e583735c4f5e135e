"""Runs in a Blender of its own: renders plates and masks as seen, frame by frame, from a copy of the file.

Told by a JSON file: {"blend", "scene", "scripts", "passes": [{"kind": "plate" | "mask", "strips": [names],
"mask": name or null, "frames": [...], "files": [...]}]}. Plates are scene-linear half EXR, masks 8-bit PNG.
A frame is written beside its name and then renamed; frames that are there are not rendered again.
"""

import json
import os
import sys

import bpy


def strips_of(scene):
    editor = scene.sequence_editor
    return editor.strips_all if hasattr(editor, "strips_all") else editor.sequences_all


def show_only(scene, names):
    for strip in strips_of(scene):
        if strip.type == "SOUND":
            continue
        strip.mute = strip.name not in names


def show_alone(scene, name):
    """Nothing lies under the strip: it must not be mixed with it, nor faded."""
    for strip in strips_of(scene):
        if strip.name == name:
            strip.blend_type, strip.blend_alpha = "REPLACE", 1.0


def add_mask(scene, name, frames):
    """A strip that shows a mask as it is at each frame of the scene."""
    mask = bpy.data.masks[name]
    mask.frame_start, mask.frame_end = frames[0], frames[-1]
    editor = scene.sequence_editor
    collection = editor.strips if hasattr(editor, "strips") else editor.sequences
    strip = collection.new_mask("vera mask", mask, 1 + max((s.channel for s in collection), default=0), frames[0])
    return strip.name


def set_format(settings, file_format, color_mode, color_depth):
    if hasattr(settings, "media_type"):
        settings.media_type = "IMAGE"
    settings.file_format, settings.color_mode, settings.color_depth = file_format, color_mode, color_depth


def render(scene, order):
    show_only(scene, order["strips"])
    if order["kind"] == "mask":
        name = add_mask(scene, order["mask"], order["frames"]) if order["mask"] else order["strips"][0]
        show_only(scene, [*order["strips"], name])
        show_alone(scene, name)
        # Values pass as they are.
        scene.sequencer_colorspace_settings.name = "sRGB"
        scene.view_settings.view_transform, scene.view_settings.look = "Standard", "None"
        scene.view_settings.exposure, scene.view_settings.gamma = 0, 1
        scene.view_settings.use_curve_mapping = False
        set_format(scene.render.image_settings, "PNG", "BW", "8")
    else:
        show_alone(scene, order["strips"][0])
        set_format(scene.render.image_settings, "OPEN_EXR", "RGB", "16")
        scene.render.image_settings.exr_codec = "ZIP"
    for frame, path in zip(order["frames"], order["files"]):
        if os.path.isfile(path):
            continue
        stem, extension = os.path.splitext(path)
        part = f"{stem}.part{extension}"
        scene.frame_set(frame)
        scene.render.filepath = part
        bpy.ops.render.render(write_still=True, scene=scene.name)
        os.replace(part, path)


def main(path):
    with open(path, encoding="utf-8") as file:
        order = json.load(file)
    bpy.ops.wm.open_mainfile(filepath=order["blend"], load_ui=False, use_scripts=order["scripts"])
    scene = bpy.data.scenes[order["scene"]]
    settings = scene.render
    settings.resolution_percentage, settings.dither_intensity = 100, 0
    settings.use_sequencer, settings.use_border, settings.use_stamp, settings.use_multiview = True, False, False, False
    for part in order["passes"]:
        render(scene, part)


if __name__ == "__main__":
    code = 1
    try:
        main(sys.argv[sys.argv.index("--") + 1])
        code = 0
    except Exception as error:
        print(f"Error: {error}")
    sys.stdout.flush()
    os._exit(code)  # Blender as a module does not always end by itself
