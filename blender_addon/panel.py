"""The sidebar of the sequencer, and the entries in menus."""

from __future__ import annotations

import time

import bpy
import bpy.utils.previews

from . import host, place, tickets
from .host_fields import READING
from .session import progress_of, session, words_of
from .settings import VeraSettings

LISTED_JOBS = 12  # entries of the queue that are drawn, the latest first

CHECK_SECONDS = 1.0  # interval between checks of whether a layer is outdated; lowering it slows down drawing
_checks: dict[str, tuple[float, str]] = {}  # layer's name -> (time of the check, reason)
_pictures = None  # Blender's collection of loaded thumbnails, by ticket id
_picture_dates: dict[str, int] = {}  # ticket id -> modification time of its loaded thumbnail


class Sidebar:
    bl_space_type = "SEQUENCE_EDITOR"
    bl_region_type = "UI"
    bl_category = "Vera"


def _as_form(layout: bpy.types.UILayout) -> bpy.types.UILayout:
    """The layout, with labels left of the values and without keyframe buttons."""
    layout.use_property_split = True
    layout.use_property_decorate = False
    return layout


class VERA_PT_edit(Sidebar, bpy.types.Panel):
    bl_label = "Vera"

    def draw(self, context: bpy.types.Context) -> None:
        scene = host.sequencer_scene(context)
        layout = self.layout
        if scene is None or scene.sequence_editor is None:
            layout.label(text="Add a strip to edit")
            return
        s = scene.vera
        layout.prop(s, "prompt", text="", placeholder="What should change")
        column = _as_form(layout).column()
        column.prop(s, "range")
        column.prop(s, "mask_kind")
        if s.mask_kind == "FILE":
            column.prop(s, "mask_file")
        elif s.mask_kind == "MASK":
            column.prop(s, "mask")
        elif s.mask_kind == "STRIP":
            editor = scene.sequence_editor
            column.prop_search(
                s, "mask_strip", editor, "strips_all" if hasattr(editor, "strips_all") else "sequences_all"
            )
        column.prop(s, "quality")
        if s.quality == "STEPS":
            column.prop(s, "steps")
        column.prop(s, "seed")
        row = layout.row()
        row.scale_y = 1.4
        row.operator("vera.edit", text="Generate Edit Layer", icon="SHADERFX")
        layout.operator("vera.look", icon="VIEWZOOM")
        if session.look_result:
            box = layout.box()
            for line in session.look_result.splitlines():
                _draw_text(box, line, context.region.width)


class SettingsPart(Sidebar):
    """A part of the Vera panel, initially collapsed, that shows settings of the scene."""

    bl_parent_id = "VERA_PT_edit"
    bl_options = {"DEFAULT_CLOSED"}

    def draw(self, context: bpy.types.Context) -> None:
        scene = host.sequencer_scene(context)
        if scene is not None:
            self.draw_settings(_as_form(self.layout), scene.vera)  # type: ignore[attr-defined]


class VERA_PT_more(SettingsPart, bpy.types.Panel):
    bl_label = "More"

    def draw_settings(self, layout: bpy.types.UILayout, s: VeraSettings) -> None:
        layout.prop(s, "door")
        layout.prop(s, {"VERA": "model", "VACE": "vace", "LIFT": "edited"}[s.door])
        for name in ("guidance", "region", "cuts", "exposure", "lora"):
            layout.prop(s, name)
        if s.lora:
            layout.prop(s, "lora_strength")
        for name in ("prompts", "plate", "handles", "result", "folder"):
            layout.prop(s, name)


class VERA_PT_reading(SettingsPart, bpy.types.Panel):
    bl_label = "Reading the Plate"

    def draw_settings(self, layout: bpy.types.UILayout, s: VeraSettings) -> None:
        for field in READING:
            layout.prop(s, f"read_{field.name}")


class VERA_PT_layer(Sidebar, bpy.types.Panel):
    bl_label = "Layer"

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        scene = host.sequencer_scene(context)
        return scene is not None and bool(place.layers(scene))

    def draw(self, context: bpy.types.Context) -> None:
        scene = host.sequencer_scene(context)
        if scene is None:
            return
        layout = self.layout
        wrong = place.wrong_space(scene) + place.shows_other_space(scene)
        if wrong:
            box = layout.box()
            box.alert = True
            box.label(text=f"{len(wrong)} made for another blending space", icon="ERROR")
            box.operator("vera.match_blending")
        active = scene.sequence_editor.active_strip
        if active is not None and place.DATA in active:
            data = place.data_of(active)
            version = data["versions"][data["current"]]
            row = layout.row(align=True)
            row.operator("vera.version", text="", icon="TRIA_LEFT").step = -1
            row.label(text=f"Version {data['current'] + 1} of {len(data['versions'])}, seed {version['seed']}")
            row.operator("vera.version", text="", icon="TRIA_RIGHT").step = 1
            layout.label(text=version["prompt"])
            words = _outdated(scene, active)
            if words:
                box = layout.box()
                box.alert = True
                _draw_text(box, words, context.region.width)
            row = layout.row(align=True)
            row.operator("vera.use_version")
            row.operator("vera.forget_version", text="", icon="TRASH")
        row = layout.row(align=True)
        row.operator("vera.align")
        row.operator("vera.compositor")
        if bpy.app.version >= (5, 0, 0):
            layout.operator("vera.modifier")


def _outdated(scene: bpy.types.Scene, layer: bpy.types.Strip) -> str:
    """The reason why a layer is outdated. It is cached for CHECK_SECONDS, because a panel is drawn very often."""
    when, words = _checks.get(layer.name, (0.0, ""))
    if time.monotonic() - when > CHECK_SECONDS:
        words = place.outdated(scene, layer)
        _checks[layer.name] = time.monotonic(), words
    return words


class VERA_PT_queue(Sidebar, bpy.types.Panel):
    bl_label = "Queue"

    def draw(self, context: bpy.types.Context) -> None:
        layout = self.layout
        if session.trouble:
            box = layout.box()
            box.alert = True
            _draw_text(box, session.trouble, context.region.width)
        entries = list(session.tickets.values())[::-1]
        if not entries:
            layout.label(text="Empty")
        for ticket in entries[:LISTED_JOBS]:
            _draw_entry(layout, ticket, context.region.width)
        if len(entries) > LISTED_JOBS:
            layout.label(text=f"and {len(entries) - LISTED_JOBS} earlier")


def _draw_entry(layout: bpy.types.UILayout, ticket: tickets.Ticket, width: int) -> None:
    box = layout.box()
    row = box.row()
    icon = _icon_of(ticket)
    if icon:
        row.template_icon(icon_value=icon, scale=3.0)
    column = row.column(align=True)
    column.label(text=ticket.recipe["prompt"])
    words = words_of(ticket)
    if ticket.state in ("stage", "open") and ticket.job.get("total"):
        column.progress(factor=progress_of(ticket), text=words)
    elif ticket.state == "failed":
        column.label(text="Failed", icon="ERROR")
    else:
        column.label(text=words)
    buttons = row.row(align=True)
    if not ticket.ended:
        buttons.operator("vera.cancel", text="", icon="X").ticket = ticket.id
    else:
        again = "vera.place" if ticket.state == "placed" else "vera.retry"
        buttons.operator(again, text="", icon="FILE_REFRESH").ticket = ticket.id
        buttons.operator("vera.remove", text="", icon="TRASH").ticket = ticket.id
    notes = [words] if ticket.state == "failed" else [*filter(None, [ticket.note]), *(ticket.job.get("warnings") or ())]
    for note in notes:
        _draw_text(box, note, width)


def _draw_text(layout: bpy.types.UILayout, text: str, width: int) -> None:
    column = layout.column(align=True)
    column.scale_y = 0.8
    for line in _wrapped(text, width):
        column.label(text=line)


def _wrapped(text: str, width: int) -> list[str]:
    """The text wrapped to lines that fit the width in pixels."""
    scale = bpy.context.preferences.system.ui_scale
    room = max(20, int((width / scale - 60) / 6.4))
    lines, line = [], ""
    for word in text.split():
        while len(word) > room:  # a path
            head, word = word[:room], word[room:]
            if line:
                lines.append(line)
            lines.append(head)
            line = ""
        if line and len(line) + 1 + len(word) > room:
            lines.append(line)
            line = word
        else:
            line = f"{line} {word}".strip()
    return lines + [line] if line else lines


def _icon_of(ticket: tickets.Ticket) -> int:
    """Blender's number of the icon with the latest frame's thumbnail; 0 if there is none."""
    if _pictures is None:
        return 0
    try:
        path = tickets.store() / f"{ticket.id}.png"
        date = path.stat().st_mtime_ns
    except (OSError, tickets.RefusedError):
        return 0
    if _picture_dates.get(ticket.id) != date:
        _pictures.pop(ticket.id, None)
        _pictures.load(ticket.id, str(path), "IMAGE")
        _picture_dates[ticket.id] = date
    return _pictures[ticket.id].icon_id


class VERA_PT_compositor(bpy.types.Panel):
    bl_space_type = "NODE_EDITOR"
    bl_region_type = "UI"
    bl_category = "Vera"
    bl_label = "Vera"

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        return context.space_data.tree_type == "CompositorNodeTree"

    def draw(self, context: bpy.types.Context) -> None:
        self.layout.operator("vera.compositor")


def _in_header(self: bpy.types.Header, context: bpy.types.Context) -> None:
    """Show the jobs' state in the sequencer's header."""
    words = session.notice or session.summary()
    if words:
        self.layout.label(text=words, icon="ERROR" if session.failed else "SHADERFX")


def _in_add_menu(self: bpy.types.Menu, context: bpy.types.Context) -> None:
    self.layout.separator()
    self.layout.operator("vera.edit", icon="SHADERFX")


def _in_node_menu(self: bpy.types.Menu, context: bpy.types.Context) -> None:
    if context.space_data.tree_type == "CompositorNodeTree":
        self.layout.separator()
        self.layout.operator("vera.compositor")


CLASSES = (VERA_PT_edit, VERA_PT_more, VERA_PT_reading, VERA_PT_layer, VERA_PT_queue, VERA_PT_compositor)
MENUS = (("SEQUENCER_MT_add", _in_add_menu), ("NODE_MT_add", _in_node_menu), ("SEQUENCER_HT_header", _in_header))


def register() -> None:
    global _pictures
    if not bpy.app.background:
        _pictures = bpy.utils.previews.new()
    for cls in CLASSES:
        bpy.utils.register_class(cls)
    for name, draw in MENUS:
        getattr(bpy.types, name).append(draw)


def unregister() -> None:
    global _pictures
    for name, draw in MENUS:
        getattr(bpy.types, name).remove(draw)
    for cls in reversed(CLASSES):
        bpy.utils.unregister_class(cls)
    if _pictures is not None:
        bpy.utils.previews.remove(_pictures)
        _pictures = None
    _picture_dates.clear()
