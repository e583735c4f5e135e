"""Put the layer into the compositor as an image and an alpha-over node, or (from 5.0) into a modifier of the strip."""

from __future__ import annotations

import os
import re
from typing import Any

import bpy

from . import color, host, place
from .host_rules import RefusedError


def build(scene: bpy.types.Scene, layer: bpy.types.Strip, tree: bpy.types.NodeTree | None = None) -> bpy.types.Node:
    """Composite a layer over the tree's output, or over its plate if there is none. Returns the alpha-over node.

    The compositor works in linear light: the version needs a delivery for it (see ops.VERA_OT_compositor).
    Raises RefusedError.
    """
    version = place.current(layer)
    folder = linear_delivery(version)
    first, count, number = _run(layer, version)
    tree = tree or host.compositor_tree(scene)
    outputs = host.compositor_outputs(tree)
    if not outputs:
        raise RefusedError(f"{tree.name}: has no output node; add one")
    links = [link for node in outputs for link in tree.links if link.to_socket == node.inputs[0]]
    x, y = outputs[0].location
    if links:
        under = links[0].from_socket
    else:
        under = _picture(tree, version["recipe"]["plate"], version["numbers"][0], first, count, (x, y + 60)).outputs[0]
    over, background, foreground = host.alpha_over(tree)
    over.label = layer.name
    picture = _picture(tree, os.path.join(folder, "edit", "edit.####.exr"), number, first, count, (x, y - 320))
    picture.image.alpha_mode = "PREMUL"
    picture.image.colorspace_settings.name = (
        version["colorspace"] if color.is_linear(version["colorspace"]) else "Linear Rec.709"
    )
    over.location = (x + 260, y)
    for node in outputs:
        node.location.x += 520
    tree.links.new(under, background)
    tree.links.new(picture.outputs[0], foreground)
    for node in outputs:
        tree.links.new(over.outputs[0], node.inputs[0])
    _only_within(over, first, count)
    return over


def add_modifier(scene: bpy.types.Scene, layer: bpy.types.Strip) -> bpy.types.StripModifier:
    """Add the layer as a compositor modifier of its source (from 5.0). Returns the modifier. Raises RefusedError."""
    if bpy.app.version < (5, 0, 0):
        raise RefusedError("strip compositor modifiers need Blender 5.0; use the layer strip")
    source = place.source_of_layer(scene, layer)
    if source is None:
        raise RefusedError(f"{layer.name}: the strip that it was made for no longer exists; use the layer strip")
    if getattr(bpy.context, "sequencer_scene", None) is None and bpy.app.version < (5, 1, 0):
        # new() would read it without looking and crash.
        window = bpy.context.window or next(iter(bpy.context.window_manager.windows), None)
        if window is None or not hasattr(window.workspace, "sequencer_scene"):
            raise RefusedError("no workspace shows a sequencer; open the Video Editing workspace")
        window.workspace.sequencer_scene = scene
    tree = bpy.data.node_groups.new(f"Vera: {layer.name}", "CompositorNodeTree")
    tree.interface.new_socket("Image", in_out="INPUT", socket_type="NodeSocketColor")
    tree.interface.new_socket("Image", in_out="OUTPUT", socket_type="NodeSocketColor")
    enter, leave = tree.nodes.new("NodeGroupInput"), tree.nodes.new("NodeGroupOutput")
    enter.location, leave.location = (-300, 0), (300, 0)
    tree.links.new(enter.outputs[0], leave.inputs[0])
    build(scene, layer, tree)
    modifier = source.modifiers.new(name="Vera", type="COMPOSITOR")
    modifier.node_group = tree
    return modifier


def linear_delivery(version: dict[str, Any]) -> str:
    folder = version["deliveries"].get(color.LINEAR)
    if folder is None:
        raise RefusedError("the compositor works in linear light, for which this version has no delivery yet")
    return folder


def _run(layer: bpy.types.Strip, version: dict[str, Any]) -> tuple[int, int, int]:
    """(first timeline frame, number of frames, first file number) of a version whose file numbers count up by one.

    Raises RefusedError for another version.
    """
    numbers = version["numbers"]
    if numbers != list(range(numbers[0], numbers[0] + len(numbers))):
        raise RefusedError(
            f"{layer.name}: its source is retimed, reversed or held, which an image node "
            "cannot follow; use the layer strip"
        )
    return host.content_start(layer), len(numbers), numbers[0]


def _picture(
    tree: bpy.types.NodeTree, pattern: str, number: int, first: int, count: int, location: tuple[float, float]
) -> bpy.types.Node:
    """An image node that shows frame `number` of a sequence or movie at timeline frame `first`."""
    file = re.sub(r"#+", lambda m: f"{number:0{len(m[0])}d}", pattern)
    try:
        image = bpy.data.images.load(file, check_existing=True)
    except RuntimeError:
        raise RefusedError(f"{file}: cannot be read; bring the file back") from None
    if image.source != "MOVIE" and count > 1:
        image.source = "SEQUENCE"
    node = tree.nodes.new("CompositorNodeImage")
    node.image = image
    node.location = location
    if image.source in ("SEQUENCE", "MOVIE"):
        node.frame_duration, node.frame_start, node.frame_offset = count, first, number - 1
        node.use_auto_refresh = True
    return node


def _only_within(over: bpy.types.Node, first: int, count: int) -> None:
    """Set the alpha-over node to 0 where the layer has no frame: an image node holds its first and last frame."""
    factor = next(s for s in over.inputs if s.name in ("Fac", "Factor"))
    driver = factor.driver_add("default_value").driver
    driver.type = "SCRIPTED"
    driver.expression = f"1.0 if frame >= {first} and frame < {first + count} else 0.0"
