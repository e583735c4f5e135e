"""Where Blender 4.2 to 5.2 differ, in one place. Every other module calls these."""

import contextlib

import bpy

LAST_CHANNEL = 128  # Blender's own limit


def sequencer_scene(context):
    """The scene whose strips are edited: from 5.0 a workspace may show another one than the window."""
    return getattr(context, "sequencer_scene", None) or context.scene


def strips(owner):
    """The collection of strips of a sequence editor or of a meta strip."""
    return owner.strips if hasattr(owner, "strips") else owner.sequences


def all_strips(scene):
    """Every strip of a scene, those within metas too; empty without a sequence editor."""
    editor = scene.sequence_editor
    if editor is None:
        return []
    return editor.strips_all if hasattr(editor, "strips_all") else editor.sequences_all


def siblings(scene, strip):
    """The collection that a strip lies in."""
    return strips(home(scene, strip))


def home(scene, strip):
    """The sequence editor or the meta strip that a strip lies in."""
    return strip.parent_meta() or scene.sequence_editor


def channels(owner):
    """The channels of a sequence editor or of a meta strip; the first is number 1 (before it is the one for metas)."""
    return owner.channels


def usable_channel(owner, number):
    """Whether something that is put on a channel can be seen and moved there."""
    found = channels(owner)
    return number >= len(found) or not (found[number].lock or found[number].mute)


def open_strips(scene):
    """The strips that the editor shows: of the meta that is open, else of the top level."""
    editor = scene.sequence_editor
    if editor is None:
        return []
    return list(strips(editor.meta_stack[-1] if len(editor.meta_stack) else editor))


def _value(strip, new, old):
    return getattr(strip, new) if hasattr(strip, new) else getattr(strip, old)


def left(strip):
    """The first frame that is seen."""
    return int(_value(strip, "left_handle", "frame_final_start"))


def right(strip):
    """The first frame after those that are seen."""
    return int(_value(strip, "right_handle", "frame_final_end"))


def content_start(strip):
    """Where the first frame of the media would be seen at normal speed."""
    return int(round(_value(strip, "content_start", "frame_start")))


def content_length(strip):
    """Frames of the media, without those that an animation offset cuts away."""
    return int(_value(strip, "content_duration", "frame_duration"))


def trims(strip):
    """Frames hidden left and right; below 0 where a still frame is held."""
    old = strip.frame_offset_start if not hasattr(strip, "left_handle_offset") else strip.left_handle_offset
    return int(round(old)), int(round(_value(strip, "right_handle_offset", "frame_offset_end")))


def animation_offset(strip):
    return int(_value(strip, "content_trim_start", "animation_offset_start"))


@contextlib.contextmanager
def alone(strip):
    """The strip on a channel of its own for the while, then on the lowest free one from where it was.

    Without its handles a strip may reach over others: Blender moves it away from them, or never comes back from
    trying (4.5, in `channel`).
    """
    owner, channel = home(strip.id_data, strip), strip.channel
    taken = {s.channel for s in strips(owner) if s != strip}
    if channel in taken:
        strip.channel = next(number for number in range(LAST_CHANNEL, 0, -1) if number not in taken)
    yield
    first, end = left(strip), right(strip)
    strip.channel = next(n for n in range(channel, LAST_CHANNEL + 1) if is_free(owner, n, first, end, strip))


def is_free(owner, channel, first, end, but=None):
    """Whether nothing lies on a channel from `first` up to `end`."""
    return not any(s.channel == channel and left(s) < end and first < right(s) for s in strips(owner) if s != but)


def set_timing(strip, start, hidden_left, hidden_right):
    """The media's first frame at `start`, with frames hidden at both ends."""
    new = hasattr(strip, "left_handle_offset")
    names = ("left_handle_offset", "right_handle_offset") if new else ("frame_offset_start", "frame_offset_end")
    with alone(strip):
        for name in names:
            setattr(strip, name, 0)
        setattr(strip, "content_start" if new else "frame_start", start)
        for name, frames in zip(names, (hidden_left, hidden_right)):
            setattr(strip, name, frames)


def set_right(strip, end):
    """Let a strip be seen up to the frame before `end`."""
    setattr(strip, "right_handle" if hasattr(strip, "right_handle") else "frame_final_end", end)


def compositor_tree(scene):
    """The scene's compositor nodes, made if there are none."""
    if hasattr(scene, "compositing_node_group"):  # from 5.0
        if scene.compositing_node_group is None:
            tree = bpy.data.node_groups.new("Compositor", "CompositorNodeTree")
            tree.interface.new_socket("Image", in_out="OUTPUT", socket_type="NodeSocketColor")
            tree.nodes.new("NodeGroupOutput")
            scene.compositing_node_group = tree
        return scene.compositing_node_group
    scene.use_nodes = True
    return scene.node_tree


def compositor_outputs(tree):
    """The nodes whose first input is the picture that leaves the tree."""
    kinds = ("NodeGroupOutput", "CompositorNodeComposite", "CompositorNodeViewer")
    nodes = [n for n in tree.nodes if n.bl_idname in kinds]
    return sorted(nodes, key=lambda n: (kinds.index(n.bl_idname), not getattr(n, "is_active_output", True)))


def alpha_over(tree):
    """An alpha-over node and its sockets (background, foreground), for premultiplied layers."""
    node = tree.nodes.new("CompositorNodeAlphaOver")
    if "Background" in node.inputs:  # from 5.0
        return node, node.inputs["Background"], node.inputs["Foreground"]
    return node, node.inputs[1], node.inputs[2]


def set_image_format(settings, file_format, color_mode, color_depth):
    """Of a render's image settings: from 5.0 the kind of media goes first."""
    if hasattr(settings, "media_type"):
        settings.media_type = "IMAGE"
    settings.file_format = file_format
    settings.color_mode = color_mode
    settings.color_depth = color_depth
