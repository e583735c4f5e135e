"""Runs in a window of Blender, for tools/blender_picture.py: edits the demo's plate, cuts it, and moves the right half.

blender --python in_blender_window.py -- FOLDER: writes FOLDER/ready when the window shows what the picture is to show.
"""

import os
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import bpy

FOLDER = Path(sys.argv[-1])
PACKAGE = "bl_ext.user_default.vera"
PROMPT = "Add a large red balloon on the right"
LENGTH, CUT, AWAY = 40, 22, 14  # frames: of the strip, where it is cut, and how far the right half is moved
BESIDE = (700, 300)  # pixels: where the mouse rests, over an empty part of the timeline without a tooltip
TURN_SECONDS = 0.5


def sequencer() -> Any:
    """The context of the sequencer's strips."""
    window = bpy.context.window_manager.windows[0]
    area = next(a for a in window.screen.areas if a.type == "SEQUENCE_EDITOR" and a.spaces[0].view_type == "SEQUENCER")
    region = next(r for r in area.regions if r.type == "WINDOW")
    return bpy.context.temp_override(window=window, area=area, region=region)


def steps() -> Iterator[None]:
    """One a turn of the timer."""
    scene = bpy.context.window_manager.windows[0].scene
    host = sys.modules[f"{PACKAGE}.host"]
    session = sys.modules[f"{PACKAGE}.session"].session
    scene.render.resolution_x, scene.render.resolution_y, scene.view_settings.view_transform = 640, 360, "Standard"
    scene.sequence_editor_create()
    with sequencer() as _:
        area = bpy.context.area
        area.spaces[0].show_region_ui = True
        bpy.ops.sequencer.movie_strip_add(filepath=str(FOLDER / "plate.mp4"), frame_start=1, channel=1, sound=False)
    yield
    strip = scene.sequence_editor.active_strip
    host.set_right(strip, 1 + LENGTH)
    scene.frame_start, scene.frame_end = 1, LENGTH + AWAY
    for region in area.regions:
        if region.type == "UI":
            region.active_panel_category = "Vera"
    bpy.ops.wm.save_as_mainfile(filepath=str(FOLDER / "shot.blend"))
    scene.vera.prompt, scene.vera.quality = PROMPT, "DRAFT"
    with sequencer():
        bpy.ops.vera.edit(prompt=PROMPT)
    while session.open():
        yield
    (ticket,) = session.tickets.values()
    if ticket.state != "placed":
        raise RuntimeError(ticket.reason or ticket.state)
    strips = host.strips(scene.sequence_editor)
    with sequencer():
        bpy.ops.sequencer.select_all(action="SELECT")
        scene.frame_set(CUT)
        bpy.ops.sequencer.split(frame=CUT, type="SOFT", side="RIGHT")
    yield
    right = [s for s in strips if host.left(s) == CUT]
    for s in right:
        host.set_timing(s, host.content_start(s) + AWAY, *host.trims(s))
    for s in strips:
        s.select = s in right
    scene.sequence_editor.active_strip = next(s for s in right if "vera" in s)
    with sequencer():
        bpy.ops.vera.align()
        bpy.ops.sequencer.view_all()
    scene.frame_set(LENGTH + AWAY - 6)
    bpy.context.window_manager.windows[0].cursor_warp(*BESIDE)
    for _ in range(8):  # until the preview is drawn
        yield


def turn() -> float | None:
    try:
        next(_steps)
        return TURN_SECONDS
    except StopIteration:
        (FOLDER / "ready").touch()
        return None
    except Exception:
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(1)


bpy.context.preferences.view.show_splash = False
bpy.ops.extensions.package_install_files(filepath=str(FOLDER / "vera.zip"), repo="user_default", enable_on_install=True)
_steps = steps()
bpy.app.timers.register(turn, first_interval=2.0, persistent=True)
