"""The operators. Each reads the context, calls another module, and reports."""

import csv
import subprocess
import threading
from collections.abc import Callable, Container
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import bpy

from . import color, host, nodes, place, plan, preferences, settings, tickets
from .client import Client, ServiceError, allow_command
from .host_rules import RefusedError, fitting, look_words
from .session import redraw, service, session


class Sequencer:
    """A base of operators that need a sequencer, and a scene with strips."""

    bl_options = {"REGISTER"}

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        scene = host.sequencer_scene(context)
        return scene is not None and scene.sequence_editor is not None and not session.paused()

    def execute(self: Any, context: bpy.types.Context) -> set[str]:
        try:
            return self.act(context, host.sequencer_scene(context)) or {"FINISHED"}
        except (RefusedError, ServiceError) as error:
            self.report({"ERROR"}, str(error))
            return {"CANCELLED"}


class VERA_OT_edit(Sequencer, bpy.types.Operator):
    bl_idname = "vera.edit"
    bl_label = "Vera Edit Layer"
    bl_description = "Generate an edit layer for the selected strips; it appears above each when it is done"

    prompt: bpy.props.StringProperty(name="Prompt", options={"SKIP_SAVE"})
    strips: bpy.props.StringProperty(
        name="Strips",
        description="Names separated by commas, a name with a comma in double quotes; empty: the selected strips",
        options={"SKIP_SAVE"},
    )
    mask_kind: bpy.props.EnumProperty(items=settings.MASKS, options={"SKIP_SAVE"})
    mask_file: bpy.props.StringProperty(options={"SKIP_SAVE"})
    mask_strip: bpy.props.StringProperty(options={"SKIP_SAVE"})
    mask: bpy.props.StringProperty(options={"SKIP_SAVE"})
    range: bpy.props.EnumProperty(items=settings.RANGES, options={"SKIP_SAVE"})
    handles: bpy.props.IntProperty(min=0, max=1000, options={"SKIP_SAVE"})
    model: bpy.props.StringProperty(options={"SKIP_SAVE"})
    quality: bpy.props.EnumProperty(items=settings.QUALITIES, options={"SKIP_SAVE"})
    steps: bpy.props.IntProperty(min=1, max=1000, default=16, options={"SKIP_SAVE"})
    seed: bpy.props.IntProperty(min=0, options={"SKIP_SAVE"})
    plate: bpy.props.EnumProperty(items=settings.PLATES, options={"SKIP_SAVE"})
    result: bpy.props.EnumProperty(items=settings.RESULTS, options={"SKIP_SAVE"})
    folder: bpy.props.StringProperty(options={"SKIP_SAVE"})
    door: bpy.props.EnumProperty(items=settings.DOORS, options={"SKIP_SAVE"})
    edited: bpy.props.StringProperty(options={"SKIP_SAVE"})
    vace: bpy.props.StringProperty(options={"SKIP_SAVE"})
    guidance: bpy.props.FloatProperty(min=0, max=30, options={"SKIP_SAVE"})
    region: bpy.props.StringProperty(options={"SKIP_SAVE"})
    cuts: bpy.props.StringProperty(options={"SKIP_SAVE"})
    exposure: bpy.props.StringProperty(options={"SKIP_SAVE"})
    lora: bpy.props.StringProperty(options={"SKIP_SAVE"})
    lora_strength: bpy.props.FloatProperty(default=1.0, options={"SKIP_SAVE"})
    prompts: bpy.props.EnumProperty(items=settings.PROMPTS, options={"SKIP_SAVE"})

    def act(self, context: bpy.types.Context, scene: bpy.types.Scene) -> None:
        names = [f.name for f in fields(plan.Ask) if f.name != "reading"]  # a setting of the panel, not of the operator
        values = {name: getattr(self, name) for name in names if self.properties.is_property_set(name)}
        ask = replace(settings.ask_of(scene), **values)
        new = plan.plan(scene, self._strips(scene), ask)
        session.look_result = ""
        session.add(new)
        for note in filter(None, (ticket.note for ticket in new)):
            self.report({"WARNING"}, note)
        if not bpy.app.background:
            count = "" if len(new) == 1 else f" for {len(new)} strips"
            self.report({"INFO"}, f"Queued{count}; the layer appears above when it is done")
            return
        session.run(new, print)
        failed = [t for t in new if t.state != "placed"]
        if failed:
            raise RefusedError("; ".join(f"{t.source['name']}: {t.reason or t.state}" for t in failed))

    def _strips(self, scene: bpy.types.Scene) -> "list[bpy.types.Strip]":
        """The named strips, or the selected ones. Raises RefusedError."""
        if not self.strips:
            return [s for s in host.open_strips(scene) if s.select]
        by_name = {s.name: s for s in host.all_strips(scene)}
        names = names_in(self.strips, by_name)
        for name in names:
            if name not in by_name:
                raise RefusedError(f"no strip is named '{name}'; there are {', '.join(sorted(by_name))}")
        return [by_name[name] for name in names]


class VERA_OT_look(Sequencer, bpy.types.Operator):
    bl_idname = "vera.look"
    bl_label = "What Is Read"
    bl_description = "Show how the selected strips, the mask and the prompt would be read, before a job"

    def act(self, context: bpy.types.Context, scene: bpy.types.Scene) -> None:
        strips = [strip for strip in host.open_strips(scene) if strip.select]
        new = plan.plan(scene, strips, settings.ask_of(scene))

        def look(connection: preferences.Connection) -> str:
            client = service(connection)
            return "\n".join(_look(client, ticket) for ticket in new)

        if bpy.app.background:
            session.look_result = look(preferences.connection())
            print(session.look_result)
        else:
            _call_in_thread(look, "looked")


def _look(client: Client, ticket: tickets.Ticket) -> str:
    """How one strip would be read, or why it is rendered first. Raises ServiceError, RefusedError."""
    name, why = ticket.source["name"], ticket.source["rendered"]
    if why:
        return look_words([], name, why)
    recipe = {**ticket.recipe, "mask": None if ticket.stage else ticket.recipe.get("mask")}
    read = client.look(fitting(recipe, client.recipe_fields()))
    return look_words(read + (["The mask is rendered first."] if ticket.stage else []), name)


def names_in(text: str, known: Container[str]) -> list[str]:
    """Names in a line, separated by commas. A name with a comma is in double quotes, or is the whole line."""
    if text in known:
        return [text]
    return [name.strip() for line in csv.reader([text], skipinitialspace=True) for name in line if name.strip()]


class OnTicket:
    """A base of operators on one entry of the queue."""

    bl_options = {"INTERNAL"}
    ticket: bpy.props.StringProperty(options={"SKIP_SAVE"})

    def execute(self: Any, context: bpy.types.Context) -> set[str]:
        ticket = session.tickets.get(self.ticket)
        if ticket is None:
            self.report({"WARNING"}, "This job is no longer in the list")
            return {"CANCELLED"}
        self.act(ticket)
        redraw()
        return {"FINISHED"}


class VERA_OT_cancel(OnTicket, bpy.types.Operator):
    bl_idname = "vera.cancel"
    bl_label = "Cancel"
    bl_description = "Stop this job; a retry continues where it stopped"
    ticket: bpy.props.StringProperty(options={"SKIP_SAVE"})

    def act(self, ticket: tickets.Ticket) -> None:
        session.cancel(ticket)


class VERA_OT_retry(OnTicket, bpy.types.Operator):
    bl_idname = "vera.retry"
    bl_label = "Retry"
    bl_description = "Continue this job where it stopped"
    ticket: bpy.props.StringProperty(options={"SKIP_SAVE"})

    def act(self, ticket: tickets.Ticket) -> None:
        session.retry(ticket)


class VERA_OT_place(OnTicket, bpy.types.Operator):
    bl_idname = "vera.place"
    bl_label = "Place Again"
    bl_description = "Put this job's layer into the sequencer again"
    ticket: bpy.props.StringProperty(options={"SKIP_SAVE"})

    def act(self, ticket: tickets.Ticket) -> None:
        session.retry(ticket)


class VERA_OT_remove(OnTicket, bpy.types.Operator):
    bl_idname = "vera.remove"
    bl_label = "Remove from List"
    bl_description = "Remove this job from the list; its files are kept"
    ticket: bpy.props.StringProperty(options={"SKIP_SAVE"})

    def act(self, ticket: tickets.Ticket) -> None:
        session.remove(ticket)


def active_layer(scene: bpy.types.Scene, name: str = "") -> "bpy.types.Strip":
    """The layer strip with the given name, else the active one, else the active strip's layer. Raises RefusedError."""
    layers = place.layers(scene)
    if name:
        found = [s for s in layers if s.name == name]
    else:
        active = scene.sequence_editor.active_strip if scene.sequence_editor else None
        mark = active.get(tickets.STRIP) if active else None
        found = [s for s in layers if s == active] or [s for s in layers if mark and place.data_of(s)["source"] == mark]
        found = found or (layers if len(layers) == 1 else [])
    if not found:
        raise RefusedError(
            f"no layer strip is named '{name}'" if name else "make one of Vera's layer strips the active strip"
        )
    return found[-1]


class VERA_OT_version(Sequencer, bpy.types.Operator):
    bl_idname = "vera.version"
    bl_label = "Show Version"
    bl_description = "Show the version before or after this one"
    bl_options = {"REGISTER", "UNDO"}

    step: bpy.props.IntProperty(default=1, options={"SKIP_SAVE"})
    layer: bpy.props.StringProperty(options={"SKIP_SAVE"})

    def act(self, context: bpy.types.Context, scene: bpy.types.Scene) -> None:
        place.settle(scene)
        layer = active_layer(scene, self.layer)
        place.choose(scene, layer, place.data_of(layer)["current"] + self.step)


class VERA_OT_forget_version(Sequencer, bpy.types.Operator):
    bl_idname = "vera.forget_version"
    bl_label = "Remove Version"
    bl_description = "Remove the visible version from this layer; its files are kept"
    bl_options = {"REGISTER", "UNDO"}

    layer: bpy.props.StringProperty(options={"SKIP_SAVE"})

    def act(self, context: bpy.types.Context, scene: bpy.types.Scene) -> None:
        place.settle(scene)
        folders = place.forget(scene, active_layer(scene, self.layer))
        self.report({"INFO"}, f"Removed; its files are still in {', '.join(folders)}")


class VERA_OT_use_version(Sequencer, bpy.types.Operator):
    bl_idname = "vera.use_version"
    bl_label = "Use Its Prompt and Seed"
    bl_description = "Copy this version's prompt, seed and settings to the panel"
    bl_options = {"REGISTER", "UNDO"}

    layer: bpy.props.StringProperty(options={"SKIP_SAVE"})

    def act(self, context: bpy.types.Context, scene: bpy.types.Scene) -> None:
        settings.take_over(scene.vera, place.current(active_layer(scene, self.layer))["recipe"])


class VERA_OT_align(Sequencer, bpy.types.Operator):
    bl_idname = "vera.align"
    bl_label = "Follow Strip"
    bl_description = (
        "Align the selected layers, or those of selected strips, to their strips again, after "
        "these were moved, trimmed or transformed"
    )
    bl_options = {"REGISTER", "UNDO"}

    def act(self, context: bpy.types.Context, scene: bpy.types.Scene) -> None:
        place.settle(scene)
        found = [
            s for s in place.layers(scene) if s.select or getattr(place.source_of_layer(scene, s), "select", False)
        ]
        if not found:
            raise RefusedError("no layer is selected; select layers of Vera, or the strips they were made for")
        for layer in found:
            place.show(scene, layer, follow=True)
            words = place.outdated(scene, layer)
            if words:
                self.report({"WARNING"}, words)


class VERA_OT_match(Sequencer, bpy.types.Operator):
    bl_idname = "vera.match_blending"
    bl_label = "Match Blending Space"
    bl_description = "Deliver layers for the space in which this sequencer blends now"

    def act(self, context: bpy.types.Context, scene: bpy.types.Scene) -> None:
        session.match(scene)
        if bpy.app.background:
            session.run(session.open(), print)


class VERA_OT_compositor(Sequencer, bpy.types.Operator):
    bl_idname = "vera.compositor"
    bl_label = "Layer in Compositor"
    bl_description = "Composite the active layer over the result of this scene's compositor"
    bl_options = {"REGISTER", "UNDO"}

    layer: bpy.props.StringProperty(options={"SKIP_SAVE"})
    scene: bpy.props.StringProperty(
        description="Scene whose compositor it is; empty: the window's", options={"SKIP_SAVE"}
    )

    def act(self, context: bpy.types.Context, scene: bpy.types.Scene) -> None:
        layer = with_linear_delivery(self, scene, active_layer(scene, self.layer))
        target = bpy.data.scenes.get(self.scene) or context.scene
        tree = None
        space = context.space_data
        if space is not None and space.type == "NODE_EDITOR" and space.tree_type == "CompositorNodeTree":
            tree = space.edit_tree
        nodes.build(target, layer, tree)


class VERA_OT_modifier(Sequencer, bpy.types.Operator):
    bl_idname = "vera.modifier"
    bl_label = "Layer as Strip Modifier"
    bl_description = (
        "Composite the active layer over its source in a compositor modifier of the source, and hide the layer strip"
    )
    bl_options = {"REGISTER", "UNDO"}

    layer: bpy.props.StringProperty(options={"SKIP_SAVE"})

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        return bpy.app.version >= (5, 0, 0) and super().poll(context)

    def act(self, context: bpy.types.Context, scene: bpy.types.Scene) -> None:
        layer = with_linear_delivery(self, scene, active_layer(scene, self.layer))
        nodes.add_modifier(scene, layer)
        layer.mute = True


def with_linear_delivery(
    operator: bpy.types.Operator, scene: bpy.types.Scene, layer: "bpy.types.Strip"
) -> "bpy.types.Strip":
    """The layer, if it has a delivery for linear light. Otherwise one is queued, and RefusedError is raised."""
    if color.LINEAR in place.current(layer)["deliveries"]:
        return layer
    version = place.current(layer)["id"]
    if any((t.version, t.blend_space) == (version, color.LINEAR) for t in session.open()):
        raise RefusedError("the layer for linear light is being made; try again when it is done")
    ticket = plan.redelivery(scene, layer, color.LINEAR)
    session.add([ticket])
    if not bpy.app.background:
        raise RefusedError("a layer for linear light is being made for the compositor; try again when it is done")
    session.run([ticket], print)
    if ticket.state != "placed":
        raise RefusedError(ticket.reason or ticket.state)
    return layer


class VERA_OT_test_service(bpy.types.Operator):
    bl_idname = "vera.test_service"
    bl_label = "Test"
    bl_description = "Find or start the service, and report problems"

    def execute(self, context: bpy.types.Context) -> set[str]:
        if bpy.app.background:
            preferences.last_test.words = _test(preferences.connection())
            print(preferences.last_test.words)
        else:
            _call_in_thread(_test)
        return {"FINISHED"}


def _test(connection: preferences.Connection) -> str:
    """The state of the service, or its problem, in lines for the user."""
    problem = preferences.what_is_wrong(connection) if connection.python else ""
    if problem:
        return problem
    try:
        client = service(connection)
        health = client.health()
    except ServiceError as error:
        return f"{error}" + ("" if connection.python else "\n" + preferences.what_is_wrong(connection))
    lines = [
        f"Works: service {health['version']} on {health['device']}; model {health['model'] or 'not loaded yet'}.",
        "It may use: " + ", ".join(health["roots"]),
    ]
    return "\n".join(lines + ([f"Problem: {health['trouble']}"] if health["trouble"] else []))


class VERA_OT_allow_folder(bpy.types.Operator):
    bl_idname = "vera.allow_folder"
    bl_label = "Allow Folder"
    bl_description = "Allow the service to read and write a folder"

    directory: bpy.props.StringProperty(subtype="DIR_PATH")

    def invoke(self, context: bpy.types.Context, event: bpy.types.Event) -> set[str]:
        context.window_manager.fileselect_add(self)
        return {"RUNNING_MODAL"}

    def execute(self, context: bpy.types.Context) -> set[str]:
        folder = bpy.path.abspath(self.directory)
        if not Path(folder).is_dir():
            self.report({"ERROR"}, f"{folder}: no such folder")
            return {"CANCELLED"}

        def allow(connection: preferences.Connection) -> str:
            if not connection.python:
                return f"Name a Python first, or run: {allow_command(folder)}"
            try:
                answer = preferences.ask(connection, "-m", "vera", "serve", "--allow", folder)
            except (OSError, subprocess.TimeoutExpired) as error:
                return f"{connection.python}: {error}"
            return (answer.stdout or answer.stderr).strip()

        if bpy.app.background:
            preferences.last_test.words = allow(preferences.connection())
            print(preferences.last_test.words)
        else:
            _call_in_thread(allow)
        return {"FINISHED"}


class VERA_OT_stop_service(bpy.types.Operator):
    bl_idname = "vera.stop_service"
    bl_label = "Stop Service"
    bl_description = "End the service now; its queue is kept"

    def execute(self, context: bpy.types.Context) -> set[str]:
        def stop(connection: preferences.Connection | None) -> str:
            try:
                Client().shutdown()
                return "The service is ending; its queue is kept."
            except ServiceError as error:
                return str(error)

        if bpy.app.background:
            preferences.last_test.words = stop(None)
        else:
            _call_in_thread(stop)
        return {"FINISHED"}


def _call_in_thread(work: Callable[[preferences.Connection], str], shown: str = "words") -> None:
    """Call a slow function in a thread. Its result is shown in the preferences, or for "looked" in the panel.

    shown: "words" or "looked", see `Session._take_answers`
    """
    connection = preferences.connection()
    session.answers.put({shown: "Asking ..."})
    session.tick()

    def run() -> None:
        try:
            words = work(connection)
        except (RefusedError, ServiceError) as error:
            words = str(error)
        except Exception as error:
            words = f"{type(error).__name__}: {error}"
        session.answers.put({shown: words})

    thread = threading.Thread(target=run, name="vera-call", daemon=True)
    thread.start()

    def wait() -> float | None:
        if thread.is_alive():
            return 0.3
        session.tick()
        redraw()
        return None

    bpy.app.timers.register(wait, first_interval=0.3)


CLASSES = (
    VERA_OT_edit,
    VERA_OT_look,
    VERA_OT_cancel,
    VERA_OT_retry,
    VERA_OT_place,
    VERA_OT_remove,
    VERA_OT_version,
    VERA_OT_forget_version,
    VERA_OT_use_version,
    VERA_OT_align,
    VERA_OT_match,
    VERA_OT_compositor,
    VERA_OT_modifier,
    VERA_OT_test_service,
    VERA_OT_allow_folder,
    VERA_OT_stop_service,
)


def register() -> None:
    for cls in CLASSES:
        bpy.utils.register_class(cls)


def unregister() -> None:
    for cls in reversed(CLASSES):
        bpy.utils.unregister_class(cls)
