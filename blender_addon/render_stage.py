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


def show_alone(scene, names):
    """The picture of the first strip, unfaded, over black: soft edges have one meaning then."""
    by_name = {s.name: s for s in strips_of(scene)}
    by_name[names[0]].blend_type, by_name[names[0]].blend_alpha = "ALPHA_OVER", 1.0
    top = [s for s in top_level(scene)]
    above = 1 + max(s.channel for s in top)
    if 2 * above > 128:
        return
    for strip in top:
        if strip.name in names:
            strip.channel += above
    collection = top_level(scene)
    first = min(s.frame_final_start for s in top)
    last = max(s.frame_final_end for s in top)
    parameters = collection.bl_rna.functions["new_effect"].parameters.keys()
    span = {"length": last - first} if "length" in parameters else {"frame_end": last}
    black = collection.new_effect(name="vera black", type="COLOR", channel=above, frame_start=first, **span)
    black.color = (0, 0, 0)


def top_level(scene):
    editor = scene.sequence_editor
    return editor.strips if hasattr(editor, "strips") else editor.sequences


def add_mask(scene, name, frames):
    """A strip that shows a mask as it is at each frame of the scene."""
    mask = bpy.data.masks[name]
    mask.frame_start, mask.frame_end = frames[0], frames[-1]
    collection = top_level(scene)
    strip = collection.new_mask("vera mask", mask, 1 + max((s.channel for s in collection), default=0), frames[0])
    return strip.name


def set_format(settings, file_format, color_mode, color_depth):
    if hasattr(settings, "media_type"):
        settings.media_type = "IMAGE"
    settings.file_format, settings.color_mode, settings.color_depth = file_format, color_mode, color_depth


def render(scene, order):
    names = order["strips"]
    if order["kind"] == "mask":
        names = [add_mask(scene, order["mask"], order["frames"])] if order["mask"] else names
        # Values pass as they are.
        scene.sequencer_colorspace_settings.name = "sRGB"
        scene.view_settings.view_transform, scene.view_settings.look = "Standard", "None"
        scene.view_settings.exposure, scene.view_settings.gamma = 0, 1
        scene.view_settings.use_curve_mapping = False
        set_format(scene.render.image_settings, "PNG", "BW", "8")
    else:
        set_format(scene.render.image_settings, "OPEN_EXR", "RGB", "16")
        scene.render.image_settings.exr_codec = "ZIP"
    show_only(scene, names)
    show_alone(scene, names)
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
    for part in order["passes"]:  # each from a fresh copy: a pass moves and mutes strips
        bpy.ops.wm.open_mainfile(filepath=order["blend"], load_ui=False, use_scripts=order["scripts"])
        scene = bpy.data.scenes[order["scene"]]
        settings = scene.render
        settings.resolution_percentage, settings.dither_intensity = 100, 0
        settings.use_sequencer, settings.use_border, settings.use_stamp, settings.use_multiview = True, False, False, False
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
