"""Render plates and masks as seen, frame by frame, from a copy of the file, in a separate Blender.

Its input is a JSON file: {"blend", "scene", "scripts", "passes": [{"kind": "plate" | "mask", "strips": [names],
"mask": name or null, "frames": [...], "files": [...], "unfaded": [names of strips that are rendered opaque]}]}. Plates
are scene-linear half EXR, masks 8-bit PNG.
A frame is written under a temporary name and then renamed. Frames that exist are not rendered again.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Sequence
from typing import Any

import bpy

LAST_CHANNEL = 128  # Blender's own limit; host.py, which has it too, is not importable from this script


def show_in_window(scene: bpy.types.Scene) -> None:
    """Show the scene in the window: strips of a scene that no window shows may be rendered black."""
    for window in bpy.context.window_manager.windows:
        window.scene = scene
        if hasattr(window.workspace, "sequencer_scene"):  # from 5.0
            window.workspace.sequencer_scene = scene
    bpy.context.view_layer.update()


def strips_of(scene: bpy.types.Scene) -> Sequence[bpy.types.Strip]:
    editor = scene.sequence_editor
    return editor.strips_all if hasattr(editor, "strips_all") else editor.sequences_all


def mute_others(scene: bpy.types.Scene, names: list[str]) -> None:
    """Mute every strip except these and sounds."""
    for strip in strips_of(scene):
        if strip.type == "SOUND":
            continue
        strip.mute = strip.name not in names


def show_opaque(scene: bpy.types.Scene, names: list[str], unfaded: Iterable[str]) -> None:
    """Show the first of the named strips, and the `unfaded` ones, at full opacity over black.

    Its soft edges are then unambiguous; the layer copies the strip's opacity instead. Without a free channel below
    there is no black strip.
    """
    by_name = {s.name: s for s in strips_of(scene)}
    by_name[names[0]].blend_type = "ALPHA_OVER"
    for name in {names[0], *unfaded}:
        delete_curves(scene, f'"{escaped(name)}"].blend_alpha')
        by_name[name].blend_alpha = 1.0
    parent = by_name[names[0]].parent_meta()
    while parent:  # the settings of surrounding meta strips also apply to the layer, which is put into them
        make_plain(scene, parent)
        parent = parent.parent_meta()
    for owner in [scene.sequence_editor, *(s for s in strips_of(scene) if s.type == "META")]:
        for channel in owner.channels:
            channel.mute = False
    strips = list(top_level(scene))
    free_channel = 1 + max(s.channel for s in strips)
    if 2 * free_channel > LAST_CHANNEL:
        return
    for strip in strips:
        if strip.name in names:
            strip.channel += free_channel
    collection = top_level(scene)
    first = min(s.frame_final_start for s in strips)
    last = max(s.frame_final_end for s in strips)
    parameters = collection.bl_rna.functions["new_effect"].parameters.keys()
    span = {"length": last - first} if "length" in parameters else {"frame_end": last}
    black = collection.new_effect(name="vera black", type="COLOR", channel=free_channel, frame_start=first, **span)
    black.color = (0, 0, 0)


def make_plain(scene: bpy.types.Scene, strip: bpy.types.Strip) -> None:
    """Reset a meta strip so that it shows its contents unchanged."""
    delete_curves(scene, f'"{escaped(strip.name)}"]', anywhere=True)
    strip.blend_type, strip.blend_alpha, strip.color_multiply, strip.color_saturation = "ALPHA_OVER", 1.0, 1.0, 1.0
    strip.use_flip_x = strip.use_flip_y = False
    t, c = strip.transform, strip.crop
    t.scale_x, t.scale_y, t.offset_x, t.offset_y, t.rotation = 1, 1, 0, 0, 0
    c.min_x, c.max_x, c.min_y, c.max_y = 0, 0, 0, 0
    for modifier in strip.modifiers:
        modifier.mute = True


def escaped(name: str) -> str:
    return name.replace("\\", "\\\\").replace('"', '\\"')


def delete_curves(scene: bpy.types.Scene, ending: str, anywhere: bool = False) -> None:
    """Delete the scene's keyframes of all properties whose data path ends with `ending`, or contains it anywhere."""
    action = scene.animation_data.action if scene.animation_data else None
    if action is None:
        return
    bags = [action]
    if hasattr(action, "layers"):  # from 4.4
        bags = [bag for layer in action.layers for strip in layer.strips for bag in strip.channelbags]
    for bag in bags:
        for curve in [c for c in bag.fcurves if c.data_path.endswith(ending) or (anywhere and ending in c.data_path)]:
            bag.fcurves.remove(curve)


def top_level(scene: bpy.types.Scene) -> Any:
    editor = scene.sequence_editor
    return editor.strips if hasattr(editor, "strips") else editor.sequences


def add_mask(scene: bpy.types.Scene, name: str, frames: list[int]) -> str:
    """A strip that shows a mask, animated with the scene."""
    mask = bpy.data.masks[name]
    mask.frame_start, mask.frame_end = frames[0], frames[-1]
    collection = top_level(scene)
    strip = collection.new_mask("vera mask", mask, 1 + max((s.channel for s in collection), default=0), frames[0])
    return strip.name


def set_format(settings: bpy.types.ImageFormatSettings, file_format: str, color_mode: str, color_depth: str) -> None:
    if hasattr(settings, "media_type"):
        settings.media_type = "IMAGE"
    settings.file_format, settings.color_mode, settings.color_depth = file_format, color_mode, color_depth


def render(scene: bpy.types.Scene, order: dict[str, Any]) -> None:
    """Render one of the input's passes."""
    names = order["strips"]
    if order["kind"] == "mask":
        names = [add_mask(scene, order["mask"], order["frames"])] if order["mask"] else names
        # Pixel values are written without a colour conversion.
        scene.sequencer_colorspace_settings.name = "sRGB"
        scene.view_settings.view_transform, scene.view_settings.look = "Standard", "None"
        scene.view_settings.exposure, scene.view_settings.gamma = 0, 1
        scene.view_settings.use_curve_mapping = False
        set_format(scene.render.image_settings, "PNG", "BW", "8")
    else:
        set_format(scene.render.image_settings, "OPEN_EXR", "RGB", "16")
        scene.render.image_settings.exr_codec = "ZIP"
    mute_others(scene, names)
    show_opaque(scene, names, order.get("unfaded", ()))
    scene.frame_set(order["frames"][0] - 1)  # the first frame that is set after opening may not be animated yet
    for frame, path in zip(order["frames"], order["files"]):
        if os.path.isfile(path):
            continue
        stem, extension = os.path.splitext(path)
        part = f"{stem}.part{extension}"
        scene.frame_set(frame)
        scene.render.filepath = part
        bpy.ops.render.render(write_still=True, scene=scene.name)
        os.replace(part, path)


def main(path: str) -> None:
    with open(path, encoding="utf-8") as file:
        order = json.load(file)
    for part in order["passes"]:  # each from a fresh copy: a pass moves and mutes strips
        bpy.ops.wm.open_mainfile(filepath=order["blend"], load_ui=False, use_scripts=order["scripts"])
        scene = bpy.data.scenes[order["scene"]]
        show_in_window(scene)
        settings = scene.render
        settings.resolution_percentage, settings.dither_intensity = 100, 0
        settings.use_sequencer, settings.use_border, settings.use_stamp, settings.use_multiview = (
            True,
            False,
            False,
            False,
        )
        render(scene, part)


if __name__ == "__main__":
    code = 1
    try:
        for order_file in sys.argv[sys.argv.index("--") + 1 :]:
            main(order_file)
        code = 0
    except Exception as error:
        print(f"Error: {error}")
    sys.stdout.flush()
    os._exit(code)  # Blender as a module does not always end by itself
