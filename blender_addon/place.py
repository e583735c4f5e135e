"""The layer in the sequencer: a strip above its source, with its versions."""

import json
import os

import bpy

from . import color, host, tickets
from .host_rules import RefusedError, layer_file

DATA = "vera"  # custom property of a layer strip: JSON, see `data_of`


def data_of(layer):
    """{"source": mark, "current": index, "versions": [{"id", "prompt", "seed", "model", "first", "numbers",
    "visible", "source_start", "rendered", "colorspace", "recipe", "deliveries": {blending space: folder}}]}."""
    return json.loads(layer[DATA])


def _store(layer, data):
    layer[DATA] = json.dumps(data)


def layers(scene):
    return [s for s in host.all_strips(scene) if DATA in s]


def source_of(scene, source):
    """The strip that a ticket is about: by its mark, else by its name; None if it has gone."""
    found = [s for s in host.all_strips(scene) if s.get(tickets.STRIP) == source["mark"] and DATA not in s]
    found = found or [s for s in host.all_strips(scene) if s.name == source["name"] and DATA not in s]
    found.sort(key=lambda s: s.name != source["name"])
    return found[0] if found else None


def place(scene, ticket):
    """Put a done ticket's layer into the scene; returns its strip. Raises RefusedError; then nothing has changed."""
    delivery = ticket.recipe["out"]
    _check_files(delivery, ticket.shown["numbers"])
    source = source_of(scene, ticket.source)
    mark = source[tickets.STRIP] if source and tickets.STRIP in source else ticket.source["mark"]
    if source and tickets.STRIP not in source:
        source[tickets.STRIP] = mark
    redelivered = _version(scene, ticket.version)
    if redelivered and ticket.version != ticket.id:
        layer, data, index = redelivered
        data["versions"][index]["deliveries"][ticket.blend_space] = delivery
    else:
        version = {
            "id": ticket.version, "prompt": ticket.recipe["prompt"], "seed": ticket.recipe.get("seed", 0),
            "model": ticket.recipe.get("model", "mini"), "first": ticket.shown["first"], "numbers": ticket.shown["numbers"],
            "visible": ticket.visible, "source_start": ticket.source["start"], "rendered": ticket.source["rendered"],
            "colorspace": ticket.source["colorspace"], "recipe": ticket.recipe,
            "deliveries": {ticket.blend_space: delivery},
        }  # fmt: skip
        layer = _strip_for(scene, source, ticket, mark)
        data = data_of(layer) if DATA in layer else {"source": mark, "current": 0, "versions": []}
        data["versions"].append(version)
        data["current"] = len(data["versions"]) - 1
    _store(layer, data)
    show(scene, layer)
    return layer


def show(scene, layer):
    """Show the current version, in the delivery for the space in which the scene blends. Raises RefusedError."""
    data = data_of(layer)
    version = data["versions"][data["current"]]
    space = color.blending_space(scene)
    if space not in version["deliveries"]:
        space = next(iter(version["deliveries"]))
    folder = version["deliveries"][space]
    _check_files(folder, version["numbers"])
    source = source_of(scene, {"mark": data["source"], "name": ""})
    names = [layer_file(number) for number in version["numbers"]]
    directory = os.path.join(folder, "edit", "")
    if bpy.data.filepath:
        try:
            directory = os.path.join(bpy.path.relpath(directory), "")
        except ValueError:
            pass  # another drive of Windows
    host.set_timing(layer, host.content_start(layer), 0, 0)
    while len(layer.elements) > 1:
        layer.elements.pop(index=-1)
    layer.directory = directory
    layer.elements[0].filename = names[0]
    for name in names[1:]:
        layer.elements.append(name)
    _align(layer, source, version)
    color.read_layer_as(layer, space, version["colorspace"])
    _look_like(layer, source, version)


def choose(scene, layer, index):
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


def wrong_space(scene):
    """Layers whose current version has no delivery for the space in which the scene now blends."""
    try:
        space = color.blending_space(scene)
    except RefusedError:
        return []
    return [s for s in layers(scene) if space not in current(s)["deliveries"]]


def shows_other_space(scene):
    """Layers that have the right delivery, but show another."""
    try:
        space = color.blending_space(scene)
    except RefusedError:
        return []
    encoded = [(s, s.colorspace_settings.name == "sRGB") for s in layers(scene)]
    return [
        s for s, is_encoded in encoded if space in current(s)["deliveries"] and is_encoded != (space == color.ENCODED)
    ]


def current(layer):
    data = data_of(layer)
    return data["versions"][data["current"]]


def _version(scene, number):
    for layer in layers(scene):
        data = data_of(layer)
        for index, version in enumerate(data["versions"]):
            if version["id"] == number:
                return layer, data, index
    return None


def _strip_for(scene, source, ticket, mark):
    """The strip that keeps this source's versions over this stretch, or a new one on a free channel above."""
    if ticket.target is None:
        for layer in layers(scene):
            if data_of(layer)["source"] == mark and _overlap(layer, ticket):
                return layer
    first, end = ticket.visible
    if source:
        shift = host.content_start(source) - ticket.source["start"]
        first, end = first + shift, end + shift
    if scene.sequence_editor is None:
        scene.sequence_editor_create()
    collection = host.siblings(scene, source) if source else host.strips(scene.sequence_editor)
    path = os.path.join(ticket.recipe["out"], "edit", layer_file(ticket.shown["numbers"][0]))
    channel = free_channel(collection, first, end, source.channel + 1 if source else 1)
    name = f"Vera: {ticket.recipe['prompt']}"[:60]
    return collection.new_image(name=name, filepath=path, channel=channel, frame_start=first, fit_method="ORIGINAL")


def _overlap(layer, ticket):
    first, end = ticket.visible
    return host.left(layer) < end and first < host.right(layer)


def free_channel(collection, first, end, lowest):
    """The lowest channel from `lowest` on which nothing lies from first up to end. Raises RefusedError."""
    for channel in range(lowest, 129):
        if not any(s.channel == channel and host.left(s) < end and first < host.right(s) for s in collection):
            return channel
    raise RefusedError("no channel above the strip is free; move strips away")


def _align(layer, source, version):
    """Frame on frame with the source, where it is now; what its handles hide is hidden here too."""
    first, (left, right) = version["first"], version["visible"]
    if source:
        shift = host.content_start(source) - version["source_start"]
        first, left, right = first + shift, left + shift, right + shift
        left, right = max(left, host.left(source)), min(right, host.right(source))
    end = first + len(version["numbers"])
    if left >= right:  # the source shows none of it any more: leave the layer where it was
        left, right = first, end
    host.set_timing(layer, first, left - first, end - right)


def _look_like(layer, source, version):
    """The source's transform, crop and mirroring, for a layer of the media's own pixels."""
    if source is None or version["rendered"]:
        return
    for group, names in (
        ("transform", ("scale_x", "scale_y", "offset_x", "offset_y", "rotation", "origin", "filter")),
        ("crop", ("min_x", "max_x", "min_y", "max_y")),
    ):
        for name in names:
            if hasattr(getattr(source, group), name):
                setattr(getattr(layer, group), name, getattr(getattr(source, group), name))
    layer.use_flip_x, layer.use_flip_y = source.use_flip_x, source.use_flip_y


def _check_files(folder, numbers):
    missing = [n for n in sorted(set(numbers)) if not os.path.isfile(os.path.join(folder, "edit", layer_file(n)))]
    if missing:
        raise RefusedError(
            f"{folder}: {layer_file(missing[0])} is not there ({len(missing)} missing); retry the job or bring the files back"
        )
