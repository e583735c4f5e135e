"""The layer in the sequencer: a strip above its source, with its versions.

A layer gets the position and the look of its source. The values that were set are stored. A later value that differs
(a trim, an offset, a fade) was set by the artist, and is kept.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import bpy

from . import animation, color, host, marks, media, paths, plate_reading
from .host_rules import RefusedError, frames_in_words, layer_file

if TYPE_CHECKING:
    from .tickets import Ticket

DATA = marks.LAYER  # custom property of a layer strip: JSON, see `data_of`


def data_of(layer: bpy.types.Strip) -> dict[str, Any]:
    """{"source": mark, "current": index, "shown": index, "versions": [{"id", "prompt", "seed", "model", "first",
    "numbers", "visible", "source_start", "rendered", "colorspace", "recipe", "deliveries": {blending space: folder}}],
    "placed": {"left", "right", "look": {property: value}, "curves": {property: digest}}}.

    Paths are as `paths.stored` returns them. placed: what the add-on set when it last placed the layer.
    """
    return json.loads(layer[DATA])


def _store(layer: bpy.types.Strip, data: dict[str, Any]) -> None:
    layer[DATA] = json.dumps(data)


def layers(scene: bpy.types.Scene) -> list[bpy.types.Strip]:
    return [s for s in host.all_strips(scene) if DATA in s]


def settle(scene: bpy.types.Scene) -> None:
    """Give cut and copied strips marks of their own, and each layer the mark of the strip that it lies over."""

    def keeper(layer: bpy.types.Strip) -> Callable[[str], None]:
        def keep(mark: str) -> None:
            data = data_of(layer)
            data["source"] = mark
            _store(layer, data)

        return keep

    marks.settle(scene, [(data_of(s)["source"], _stretch(s), keeper(s)) for s in layers(scene)])


def _stretch(layer: bpy.types.Strip) -> marks.Stretch:
    """The frames that a layer covers, with the frame at which its source's media began when it was placed."""
    data = data_of(layer)
    version = data["versions"][data.get("shown", data["current"])]
    start = host.content_start(layer) + version["source_start"] - version["first"]
    return marks.Stretch(host.left(layer), host.right(layer), start)


def source_of_layer(scene: bpy.types.Scene, layer: bpy.types.Strip) -> bpy.types.Strip | None:
    """The strip that a layer was made for; None if it no longer exists."""
    return marks.best([s for s in marks.sources(scene) if marks.carries(s, data_of(layer)["source"])], _stretch(layer))


def source_of_ticket(scene: bpy.types.Scene, ticket: Ticket) -> bpy.types.Strip | None:
    """The strip that a ticket edits, found by its mark or else by its name; None if it no longer exists."""
    strips = marks.sources(scene)
    candidates = [s for s in strips if marks.carries(s, ticket.source["mark"])]
    candidates = candidates or [s for s in strips if s.name == ticket.source["name"]]
    first, end = ticket.visible
    return marks.best(candidates, marks.Stretch(first, end, ticket.source["start"]))


def place(scene: bpy.types.Scene, ticket: Ticket) -> bpy.types.Strip:
    """Put a finished ticket's layer into the scene; returns its strip. Raises RefusedError before any change."""
    delivery = ticket.recipe["out"]
    _check_files(delivery, ticket.shown["numbers"])
    settle(scene)
    redelivered = _with_version(scene, ticket.version) if ticket.version != ticket.id else []
    if redelivered:
        for layer, data, index in redelivered:  # cut and copied layers share a version
            data["versions"][index]["deliveries"][ticket.blend_space] = paths.stored(delivery)
            _store(layer, data)
            show(scene, layer)
        return redelivered[0][0]
    source = source_of_ticket(scene, ticket)
    if source and marks.MARK not in source:
        source[marks.MARK] = ticket.source["mark"]
    mark = source[marks.MARK] if source else ticket.source["mark"]
    layer = _strip_for(scene, source, ticket, mark)
    data = data_of(layer) if DATA in layer else {"source": mark, "current": 0, "versions": []}
    data["versions"].append(_version_of(ticket))
    data["current"] = len(data["versions"]) - 1
    _store(layer, data)
    show(scene, layer, follow=True)
    return layer


def _version_of(ticket: Ticket) -> dict[str, Any]:
    recipe = {
        **ticket.recipe,
        **{n: paths.stored(ticket.recipe[n]) for n in ("plate", "mask", "out") if ticket.recipe.get(n)},
    }
    return {
        "id": ticket.version,
        "prompt": ticket.recipe["prompt"],
        "seed": ticket.recipe.get("seed", 0),
        "model": ticket.recipe.get("model", "mini"),
        "first": ticket.shown["first"],
        "numbers": ticket.shown["numbers"],
        "visible": ticket.visible,
        "source_start": ticket.source["start"],
        "rendered": ticket.source["rendered"],
        "colorspace": ticket.source["colorspace"],
        "source_state": ticket.source.get("state"),
        "recipe": recipe,
        "deliveries": {ticket.blend_space: paths.stored(ticket.recipe["out"])},
    }


def show(scene: bpy.types.Scene, layer: bpy.types.Strip, follow: bool = False) -> None:
    """Show the current version's delivery for the space in which the scene blends. Raises RefusedError.

    follow: move the layer to its source's present position; otherwise it is not moved
    """
    data = data_of(layer)
    version = current(layer)
    space = color.blending_space(scene)
    if space not in version["deliveries"]:
        space = next(iter(version["deliveries"]))
    folder = version["deliveries"][space]
    _check_files(folder, version["numbers"])
    source = source_of_layer(scene, layer)
    timing, untrimmed = _timing(layer, data, source if follow else None)
    placed = data.get("placed", {})
    names = [layer_file(number) for number in version["numbers"]]
    with host.alone(layer):
        host.set_timing(layer, host.content_start(layer), 0, 0)
        while len(layer.elements) > 1:
            layer.elements.pop(index=-1)
        layer.directory = os.path.join(paths.stored(os.path.join(folder, "edit")), "")
        layer.elements[0].filename = names[0]
        for name in names[1:]:
            layer.elements.append(name)
        host.set_timing(layer, *timing)
    color.read_layer_as(layer, space, version["colorspace"])
    look = _copy_look(layer, source, version, placed)
    curves = _copy_keyframes(scene, layer, source, version, placed.get("curves", {}))
    data["placed"] = {"left": untrimmed[0], "right": untrimmed[1], "look": look, "curves": curves}
    data["shown"] = data["current"]
    _store(layer, data)


def outdated(scene: bpy.types.Scene, layer: bpy.types.Strip) -> str:
    """Why a layer no longer fits its source, in one line; "" if it fits.

    It does not if the source's picture has changed: against its files, or against the plate that was rendered.
    """
    source, version = source_of_layer(scene, layer), current(layer)
    if source is None:
        return ""
    if version["rendered"]:
        if version.get("source_state") not in (None, plate_reading.look_hash(scene, source)):
            return f"{layer.name}: {source.name} was rendered as the plate and has changed since; edit it again"
    else:
        try:
            why = plate_reading.decide(scene, source, range(host.left(source), host.right(source))).why
        except RefusedError as error:
            return str(error)
        if why:
            return f"{layer.name}: {source.name} no longer shows its files unchanged ({why}); edit it again"
    if plate_reading.is_faded(scene, plate_reading.top_of(scene, source)):
        words = "is half transparent, so that the plate shows through the edit"
        return f"{layer.name}: {source.name} {words}; put both into a meta strip and fade that"
    return ""


def choose(scene: bpy.types.Scene, layer: bpy.types.Strip, index: int) -> None:
    """Show another version. Raises RefusedError."""
    data = data_of(layer)
    before, data["current"] = data["current"], index % len(data["versions"])
    _store(layer, data)
    try:
        show(scene, layer)
    except RefusedError:
        data["current"] = before
        _store(layer, data)
        raise


def forget(scene: bpy.types.Scene, layer: bpy.types.Strip) -> list[str]:
    """Remove the current version from the layer and keep its files. Returns their folders. Raises RefusedError."""
    data = data_of(layer)
    if len(data["versions"]) == 1:
        raise RefusedError(f"{layer.name}: has one version; delete the strip instead")
    index = data["current"]
    folders = list(current(layer)["deliveries"].values())
    choose(scene, layer, index - 1 if index else 1)
    data = data_of(layer)
    del data["versions"][index]
    data["current"] = data["shown"] = max(0, index - 1)
    _store(layer, data)
    return folders


def wrong_space(scene: bpy.types.Scene) -> list[bpy.types.Strip]:
    """Layers whose current version has no delivery for the space in which the scene now blends."""
    try:
        space = color.blending_space(scene)
    except RefusedError:
        return []
    return [s for s in layers(scene) if space not in current(s)["deliveries"]]


def shows_other_space(scene: bpy.types.Scene) -> list[bpy.types.Strip]:
    """Layers that show another delivery than the one for the scene's blending space, which they have."""
    try:
        space = color.blending_space(scene)
    except RefusedError:
        return []
    encoded = [(s, s.colorspace_settings.name == "sRGB") for s in layers(scene)]
    return [
        s for s, is_encoded in encoded if space in current(s)["deliveries"] and is_encoded != (space == color.ENCODED)
    ]


def current(layer: bpy.types.Strip) -> dict[str, Any]:
    """The current version, with absolute paths on this machine."""
    data = data_of(layer)
    version = data["versions"][data["current"]]
    shown = bpy.path.abspath(layer.directory) if layer.directory else ""
    beside = os.path.dirname(os.path.dirname(os.path.normpath(shown) + os.sep)) if shown else ""
    recipe = {
        n: paths.found(v, beside) if n in ("plate", "mask", "out") and v else v for n, v in version["recipe"].items()
    }
    deliveries = {space: paths.found(folder, beside) for space, folder in version["deliveries"].items()}
    return {**version, "recipe": recipe, "deliveries": deliveries}


def _with_version(scene: bpy.types.Scene, version_id: str) -> list[tuple[bpy.types.Strip, dict[str, Any], int]]:
    """(layer, its data, index of the version) of each layer that has the version."""
    entries = []
    for layer in layers(scene):
        data = data_of(layer)
        versions = enumerate(data["versions"])
        entries += [(layer, data, index) for index, version in versions if version["id"] == version_id]
    return entries


def _strip_for(scene: bpy.types.Scene, source: bpy.types.Strip | None, ticket: Ticket, mark: str) -> bpy.types.Strip:
    """The layer strip with this source's versions over these frames, or a new one on a free channel above."""
    shift = host.content_start(source) - ticket.source["start"] if source else 0
    first, end = (frame + shift for frame in ticket.visible)
    if ticket.target is None:
        for layer in layers(scene):
            if data_of(layer)["source"] == mark and host.left(layer) < end and first < host.right(layer):
                return layer
    if scene.sequence_editor is None:
        scene.sequence_editor_create()
    if source:
        owner, lowest = _room_for_layer(scene, source, range(first, end))
    else:
        owner, lowest = scene.sequence_editor, 1
    channel = free_channel(owner, first, end, lowest)
    path = os.path.join(ticket.recipe["out"], "edit", layer_file(ticket.shown["numbers"][0]))
    name = f"Vera: {ticket.recipe['prompt']}"[:60]
    return host.strips(owner).new_image(
        name=name, filepath=path, channel=channel, frame_start=first, fit_method="ORIGINAL"
    )


def _room_for_layer(
    scene: bpy.types.Scene, source: bpy.types.Strip, frames: range
) -> tuple[bpy.types.SequenceEditor | bpy.types.Strip, int]:
    """(editor or meta strip that will contain the layer, lowest channel above the source and the effects on it).

    If effects mix the source with other strips (a cross dissolve), the source is put into a new meta strip, which
    becomes the effects' input. The layer lies in it, below the effects. The same happens if the source or its last
    effect is half transparent, and the meta strip takes over that opacity: otherwise the plate would show through the
    layer.
    """
    try:
        reading = plate_reading.decide(scene, source, frames)
    except RefusedError:  # the strip has changed since the request
        return host.home(scene, source), source.channel + 1
    if reading.mixed:
        return _put_into_meta(scene, source, reading.mixed, source.channel), source.channel + 1
    above = max(source.channel, reading.top.channel) + 1
    if plate_reading.is_faded(scene, reading.top):
        meta = _put_into_meta(scene, source, [], reading.top.channel)
        _hand_over_opacity(scene, reading.top, meta)
        return meta, above
    return host.home(scene, source), above


def _put_into_meta(
    scene: bpy.types.Scene, source: bpy.types.Strip, effects: list[bpy.types.Strip], channel: int
) -> bpy.types.Strip:
    """Put the source and the strips connected with it into a meta strip, which becomes the input of the other effects.

    The picture does not change.
    """
    collection = host.siblings(scene, source)
    first, end = host.left(source), host.right(source)
    meta = collection.new_meta(
        f"{source.name} + Vera"[:60], free_channel(host.home(scene, source), first, end, channel + 1), first
    )
    for effect in effects:  # Blender moves connected strips together, so they are disconnected meanwhile
        other = next(i for i in media.inputs(effect) if i != source)
        slots = [name for name in ("input_1", "input_2") if getattr(effect, name, None) == source]
        for slot in slots:
            setattr(effect, slot, other)
        effect["vera_slots"] = slots
    source.move_to_meta(meta)
    for effect in effects:
        for slot in effect["vera_slots"]:
            setattr(effect, slot, meta)
        del effect["vera_slots"]
    host.set_right(source, end)  # setting its contents gives the meta strip their length
    host.set_right(meta, end)
    meta.channel = channel
    return meta


def _hand_over_opacity(scene: bpy.types.Scene, top: bpy.types.Strip, meta: bpy.types.Strip) -> None:
    """Move blending and opacity of a meta strip's top strip to the meta strip. The picture does not change."""
    meta.blend_type, meta.blend_alpha = top.blend_type, top.blend_alpha
    curve = animation.curves(scene, top).get(animation.OPACITY)
    if curve is not None:
        animation.copy(scene, curve, meta, animation.OPACITY)
        animation.remove(scene, top, animation.OPACITY)
    top.blend_alpha = 1.0


def free_channel(owner: bpy.types.SequenceEditor | bpy.types.Strip, first: int, end: int, lowest: int) -> int:
    """The lowest channel from `lowest` that is neither locked nor muted and free from first up to end. Raises
    RefusedError."""
    for channel in range(lowest, host.LAST_CHANNEL + 1):
        if host.is_free(owner, channel, first, end) and host.usable_channel(owner, channel):
            return channel
    raise RefusedError("no channel above the strip is free, unlocked and unmuted; move strips away, or unlock channels")


def _timing(
    layer: bpy.types.Strip, data: dict[str, Any], source: bpy.types.Strip | None
) -> tuple[tuple[int, int, int], tuple[int, int]]:
    """((start, hidden left, hidden right) of the layer, numbers of hidden frames without the artist's trims).

    With a source, the layer moves to it and hides the same frames. Without one, the layer is not moved.
    """
    version, placed = data["versions"][data["current"]], data.get("placed")
    shown = data["versions"][data.get("shown", data["current"])]
    # Start of the source's media according to the layer's position. The source may have moved between versions.
    source_start = host.content_start(layer) - shown["first"] + shown["source_start"]
    start = host.content_start(source) if source else source_start if placed else version["source_start"]
    shift = start - version["source_start"]
    left, right = (frame + shift for frame in version["visible"])
    if source:
        left, right = max(left, host.left(source)), min(right, host.right(source))
    first, end = version["first"] + shift, version["first"] + shift + len(version["numbers"])
    if left >= right:  # the source no longer shows any of these frames: hide nothing of the layer
        left, right = first, end
    untrimmed = left - first, end - right
    if placed:
        hidden = host.trims(layer)
        if hidden[0] != placed["left"]:
            left = host.left(layer) - source_start + start
        if hidden[1] != placed["right"]:
            right = host.right(layer) - source_start + start
        left, right = max(left, first), min(right, end)
        if left >= right:
            left, right = first + untrimmed[0], end - untrimmed[1]
    return (first, left - first, end - right), untrimmed


def _set(strip: bpy.types.Strip, path: str, value: Any) -> None:
    *groups, name = path.split(".")
    for group in groups:
        strip = getattr(strip, group)
    setattr(strip, name, value)


def _copy_look(
    layer: bpy.types.Strip, source: bpy.types.Strip | None, version: dict[str, Any], placed: dict[str, Any]
) -> dict[str, Any]:
    """Copy the source's opacity to the layer and, if the plate is the media itself, the source's placement.

    Returns {property: value} of what was set.
    """
    wanted, look = {}, placed.get("look", {})
    if source is not None:
        wanted[animation.OPACITY] = plate_reading.top_of(layer.id_data, source).blend_alpha
        for path, neutral in plate_reading.LOOK.items():
            rendered = bool(version["rendered"])
            if not rendered and plate_reading.value(source, path) is not None:
                wanted[path] = plate_reading.value(source, path)
            elif rendered and neutral is not None and plate_reading.value(layer, path) is not None:
                wanted[path] = neutral
    for path, value in wanted.items():
        animated = path in placed.get("curves", ())  # the value comes from the curve's last frame, not from the artist
        if animated or path not in look or _same(plate_reading.value(layer, path), look[path]):
            _set(layer, path, value)
    return {**look, **wanted}


def _same(a: Any, b: Any) -> bool:
    if isinstance(a, list):
        return len(a) == len(b) and all(_same(x, y) for x, y in zip(a, b))
    return abs(a - b) < 1e-5 if isinstance(a, float) else a == b


def _copy_keyframes(
    scene: bpy.types.Scene,
    layer: bpy.types.Strip,
    source: bpy.types.Strip | None,
    version: dict[str, Any],
    placed: dict[str, str],
) -> dict[str, str]:
    """Copy the source's keyframes to the layer. Returns {property: digest} of the copied curves."""
    if source is None:
        return placed
    curves = {path: curve for path, curve in animation.curves(scene, source).items() if path in animation.COPIED}
    if version["rendered"]:
        curves = {path: curve for path, curve in curves.items() if path == "mute"}
    opacity = animation.curves(scene, plate_reading.top_of(scene, source)).get(animation.OPACITY)
    curves.pop(animation.OPACITY, None)
    if opacity is not None:
        curves[animation.OPACITY] = opacity
    layer_curves = animation.curves(scene, layer)
    copied = {}
    for path in animation.COPIED:
        if path in layer_curves and animation.digest(layer_curves[path], host.content_start(layer)) != placed.get(path):
            continue  # set by the artist
        if path in curves:
            animation.copy(scene, curves[path], layer, path)
            copied[path] = animation.digest(animation.curves(scene, layer)[path], host.content_start(layer))
        elif path in layer_curves:
            animation.remove(scene, layer, path)
    return copied


def _check_files(folder: str, numbers: list[int]) -> None:
    missing = [n for n in sorted(set(numbers)) if not os.path.isfile(os.path.join(folder, "edit", layer_file(n)))]
    if missing:
        words = f"{folder}: {layer_file(missing[0])} is not there ({frames_in_words(missing)} missing)"
        raise RefusedError(f"{words}; retry the job or bring the files back")
