"""Where Blender 4.2 to 5.2 differ, in one place. Every other module calls these."""

import bpy


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
    return strips(strip.parent_meta() or scene.sequence_editor)


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


def set_timing(strip, start, hidden_left, hidden_right):
    """The media's first frame at `start`, with frames hidden at both ends."""
    new = hasattr(strip, "left_handle_offset")
    names = ("left_handle_offset", "right_handle_offset") if new else ("frame_offset_start", "frame_offset_end")
    for name in names:
        setattr(strip, name, 0)
    setattr(strip, "content_start" if new else "frame_start", start)
    for name, frames in zip(names, (hidden_left, hidden_right)):
        setattr(strip, name, frames)


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
