"""Hide the differences between Blender 4.2 and 5.2 from all other modules."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import bpy

LAST_CHANNEL = 128  # Blender's own limit
# Before 5.0, a render evaluates the keyframes of a scene strip, and of the meta strip that contains it, at the inner
# scene's frame.
RENDERS_KEYS_OF_SCENES = bpy.app.version >= (5, 0, 0)


def sequencer_scene(context: bpy.types.Context) -> bpy.types.Scene | None:
    """The scene whose strips are edited. From 5.0 a workspace may show another scene than its window."""
    return getattr(context, "sequencer_scene", None) or context.scene


def strips(owner: bpy.types.SequenceEditor | bpy.types.Strip) -> Any:
    """The collection of strips of a sequence editor or of a meta strip."""
    return owner.strips if hasattr(owner, "strips") else owner.sequences


def all_strips(scene: bpy.types.Scene) -> Sequence[bpy.types.Strip]:
    """All strips of a scene, also those in meta strips; empty without a sequence editor."""
    editor = scene.sequence_editor
    if editor is None:
        return []
    return editor.strips_all if hasattr(editor, "strips_all") else editor.sequences_all


def siblings(scene: bpy.types.Scene, strip: bpy.types.Strip) -> Any:
    """The collection that contains a strip."""
    return strips(home(scene, strip))


def home(scene: bpy.types.Scene, strip: bpy.types.Strip) -> bpy.types.SequenceEditor | bpy.types.Strip:
    """The sequence editor or the meta strip that contains a strip."""
    return strip.parent_meta() or scene.sequence_editor


def channels(owner: bpy.types.SequenceEditor | bpy.types.Strip) -> Sequence[bpy.types.SequenceTimelineChannel]:
    """The channels of a sequence editor or of a meta strip, from channel 1 on; channel 0 is for meta strips."""
    return owner.channels


def usable_channel(owner: bpy.types.SequenceEditor | bpy.types.Strip, number: int) -> bool:
    """Whether a channel is neither muted nor locked."""
    every = channels(owner)
    return number >= len(every) or not (every[number].lock or every[number].mute)


def open_strips(scene: bpy.types.Scene) -> list[bpy.types.Strip]:
    """The strips that the editor shows: those of the open meta strip, or those of the top level."""
    editor = scene.sequence_editor
    if editor is None:
        return []
    return list(strips(editor.meta_stack[-1] if len(editor.meta_stack) else editor))


def _value(strip: bpy.types.Strip, new: str, old: str) -> Any:
    return getattr(strip, new) if hasattr(strip, new) else getattr(strip, old)


def left(strip: bpy.types.Strip) -> int:
    """The first visible frame of a strip."""
    return int(_value(strip, "left_handle", "frame_final_start"))


def right(strip: bpy.types.Strip) -> int:
    """The frame after the last visible one."""
    return int(_value(strip, "right_handle", "frame_final_end"))


def content_start(strip: bpy.types.Strip) -> int:
    """The timeline frame at which the media's first frame would lie at normal speed."""
    return int(round(_value(strip, "content_start", "frame_start")))


def content_length(strip: bpy.types.Strip) -> int:
    """Number of the media's frames without those that an animation offset removes."""
    return int(_value(strip, "content_duration", "frame_duration"))


def trims(strip: bpy.types.Strip) -> tuple[int, int]:
    """Numbers of frames hidden left and right; negative where a frame is held."""
    hidden_left = _value(strip, "left_handle_offset", "frame_offset_start")
    return int(round(hidden_left)), int(round(_value(strip, "right_handle_offset", "frame_offset_end")))


def animation_offset(strip: bpy.types.Strip) -> int:
    return int(_value(strip, "content_trim_start", "animation_offset_start"))


@contextlib.contextmanager
def alone(strip: bpy.types.Strip) -> Iterator[None]:
    """Move the strip to an empty channel for the duration of a `with` block, then to the lowest free channel from its
    own on.

    With its handles reset, a strip may overlap others. Blender then moves it away from them; Blender 4.5 hangs when
    its channel is set.
    """
    owner, channel = home(strip.id_data, strip), strip.channel
    taken = {s.channel for s in strips(owner) if s != strip}
    if channel in taken:
        strip.channel = next(number for number in range(LAST_CHANNEL, 0, -1) if number not in taken)
    yield
    first, end = left(strip), right(strip)
    strip.channel = next(n for n in range(channel, LAST_CHANNEL + 1) if is_free(owner, n, first, end, strip))


def is_free(
    owner: bpy.types.SequenceEditor | bpy.types.Strip,
    channel: int,
    first: int,
    end: int,
    but: bpy.types.Strip | None = None,
) -> bool:
    """Whether a channel is empty from frame `first` to `end` - 1."""
    return not any(s.channel == channel and left(s) < end and first < right(s) for s in strips(owner) if s != but)


def set_timing(strip: bpy.types.Strip, start: int, hidden_left: int, hidden_right: int) -> None:
    """Put the media's first frame at `start`, with frames hidden at both ends."""
    new = hasattr(strip, "left_handle_offset")
    names = ("left_handle_offset", "right_handle_offset") if new else ("frame_offset_start", "frame_offset_end")
    with alone(strip):
        for name in names:
            setattr(strip, name, 0)
        setattr(strip, "content_start" if new else "frame_start", start)
        for name, frames in zip(names, (hidden_left, hidden_right)):
            setattr(strip, name, frames)


def set_right(strip: bpy.types.Strip, end: int) -> None:
    """Make the frame before `end` the last visible one."""
    setattr(strip, "right_handle" if hasattr(strip, "right_handle") else "frame_final_end", end)


def compositor_tree(scene: bpy.types.Scene) -> bpy.types.NodeTree:
    """The scene's compositor node tree; a scene without one gets one."""
    if hasattr(scene, "compositing_node_group"):  # from 5.0
        if scene.compositing_node_group is None:
            tree = bpy.data.node_groups.new("Compositor", "CompositorNodeTree")
            tree.interface.new_socket("Image", in_out="OUTPUT", socket_type="NodeSocketColor")
            tree.nodes.new("NodeGroupOutput")
            scene.compositing_node_group = tree
        return scene.compositing_node_group
    scene.use_nodes = True
    return scene.node_tree


def compositor_outputs(tree: bpy.types.NodeTree) -> list[bpy.types.Node]:
    """The output nodes: those whose first input is the tree's result."""
    kinds = ("NodeGroupOutput", "CompositorNodeComposite", "CompositorNodeViewer")
    nodes = [n for n in tree.nodes if n.bl_idname in kinds]
    return sorted(nodes, key=lambda n: (kinds.index(n.bl_idname), not getattr(n, "is_active_output", True)))


def alpha_over(tree: bpy.types.NodeTree) -> tuple[bpy.types.Node, bpy.types.NodeSocket, bpy.types.NodeSocket]:
    """An alpha-over node and its sockets (background, foreground), for premultiplied layers."""
    node = tree.nodes.new("CompositorNodeAlphaOver")
    if "Background" in node.inputs:  # from 5.0
        return node, node.inputs["Background"], node.inputs["Foreground"]
    return node, node.inputs[1], node.inputs[2]


def set_image_format(
    settings: bpy.types.ImageFormatSettings, file_format: str, color_mode: str, color_depth: str
) -> None:
    """Set the file format of a render's image settings. From 5.0 the media type must be set first."""
    if hasattr(settings, "media_type"):
        settings.media_type = "IMAGE"
    settings.file_format = file_format
    settings.color_mode = color_mode
    settings.color_depth = color_depth
