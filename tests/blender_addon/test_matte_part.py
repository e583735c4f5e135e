"""What Blender itself makes of a layer whose file has a second part with the matte; see docs/edges.md."""

import os
import subprocess

import numpy as np

from tests.blender_addon.test_addon import blender_python
from tests.layer.stand_in import BLENDINGS, StandInPlate, color_of, make_frame
from vera.core.layer.delivery import Delivery
from vera.core.layer.image_file import read_image, write_image
from vera.core.layer.outputs.edit import layer_headers
from vera.core.layer.outputs.output import Formats, Shot

SCRIPT = """
import bpy, sys
scene, folder = bpy.context.scene, sys.argv[1]
scene.render.resolution_x, scene.render.resolution_y, scene.render.resolution_percentage = 30, 20, 100
settings = scene.render.image_settings
settings.file_format, settings.color_mode, settings.color_depth = "OPEN_EXR", "RGBA", "32"

def render(name):
    scene.render.filepath = f"{folder}/{name}.exr"
    bpy.ops.render.render(write_still=True)

scene.use_nodes = True
nodes = scene.node_tree.nodes
nodes.clear()  # and with them the 3D scene, which nobody asked for
image, shown = nodes.new("CompositorNodeImage"), nodes.new("CompositorNodeComposite")
image.image = bpy.data.images.load(f"{folder}/two.1001.exr")
for out in ("rgba", "matte"):
    scene.node_tree.links.new(image.outputs[out], shown.inputs[0])
    render(out)
scene.sequence_editor_create()
strips = getattr(scene.sequence_editor, "strips", None) or scene.sequence_editor.sequences
for name in ("one", "two"):
    strip = strips.new_image(name, f"{folder}/{name}.1001.exr", 1, 1)
    strip.blend_type = "ALPHA_OVER"
    render(f"strip_{name}")
    strips.remove(strip)
"""


def test_blender_reads_the_layer_and_the_matte(tmp_path):
    python = blender_python("45")
    plate = StandInPlate(frames=(1001,))
    layer, _ = make_frame(plate, 1001)
    matte = np.float16(0.5) * layer[..., 3:]
    pixels = {"one": layer, "two": np.concatenate([layer, matte], -1)}
    color = color_of(plate, "linear")
    for name, extra in (("one", ()), ("two", ("matte",))):
        formats = Formats(extra_outputs=extra)
        delivery = Delivery(Shot(tmp_path, plate, "abc", BLENDINGS["linear"], formats), color, {})
        headers = layer_headers(delivery.shot, 1001)
        write_image(tmp_path / f"{name}.1001.exr", pixels[name], *headers)
    done = subprocess.run(
        [python, "-c", SCRIPT, tmp_path], env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert np.array_equal(read_image(tmp_path / "rgba.exr"), layer.astype(np.float32))
    assert np.array_equal(read_image(tmp_path / "matte.exr")[..., 0], matte[..., 0].astype(np.float32))
    one, two = (read_image(tmp_path / f"strip_{name}.exr") for name in pixels)
    assert np.array_equal(one, two) and one[..., 3].max() == 1
