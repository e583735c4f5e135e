"""Render layered clips with Blender's Cycles, with real light, shadows and bounces. Run it in Blender's own Python:

    path/to/python-with-bpy core/data/engine/with_cycles.py OUT --clips 4 --seed 1

Each clip is a folder with plate.png, layer.####.png (straight RGBA) and clip.json (instruction and labels). The
camera does not move, so the plate is one picture.

Three pictures are rendered: the scene without the object, the scene with the object, and the object over a
transparent film with everything else as shadow catchers. The third one gives alpha in linear light. The layer
stores 1 - (1 - alpha)^(1/2.4), the equivalent for display-encoded colour. The layer's colour is solved from the two
pictures of the scene.
"""

import argparse
import json
import math
import random
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import bpy
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))
from vera.core.data.engine import instructions
from vera.core.model.mini import words  # noqa: E402

KINDS = ("ball", "cube", "ring", "mushroom", "apple", "balloon", "star", "heart")
VIEW = 4.0  # metres of height that the camera sees at the object's distance
CAMERA_DISTANCE = 9.0  # metres from the camera to the object
SPAN = 48  # frames over which a motion is laid out, as in clips.py
NOISE_ALPHA = 0.03  # alpha below this is render noise and set to 0; raising it removes faint shadows too


def draw_labels(rng: random.Random) -> dict[str, Any]:
    kind = rng.choice(KINDS)
    rows = ("left", "right", "centre", "bottom") if kind in words.STANDING else tuple(words.PLACES)
    motions = ("still", "drifting left", "drifting right") if kind in words.STANDING else ("still", "rising", "falling")
    return {
        "edit": "object",
        "object": kind,
        "color": rng.choice(list(words.COLORS)),
        "material": rng.choice((None, None, "matte", "glossy", "metallic")),
        "size": rng.choice(list(words.HALF_HEIGHTS)),
        "place": rng.choice(rows),
        "motion": rng.choice(motions),
        "pace": "usual",
        "depth": None,
        "reflection": False,
    }


def render_clip(folder: Path, seed: int, frames: int, width: int, height: int, samples: int) -> None:
    rng = random.Random(seed)
    labels = draw_labels(rng)
    bpy.ops.wm.read_factory_settings(use_empty=True)
    scene = set_up(bpy.context.scene, width, height, samples)
    half, aspect = words.HALF_HEIGHTS[labels["size"]], width / height
    x, y = words.PLACES[labels["place"]]
    x, y = x * aspect / 2, min(y / 2, 0.48 - half)
    body = build(labels, half * VIEW)
    scenery = surroundings(rng, -y * VIEW - half * VIEW if labels["object"] in words.STANDING else -0.45 * VIEW)
    dx, dy = words.STEPS.get(labels["motion"], (0, 0))

    folder.mkdir(parents=True, exist_ok=True)
    body.hide_render = True
    show_children(body)
    plate = picture(scene)[..., :3]
    save(folder / "plate.png", plate)
    body.hide_render = False
    show_children(body)
    for k in range(frames):
        t = k / SPAN - 0.5
        body.location = ((x + dx * t) * VIEW, 0, -(y + dy * t) * VIEW)
        lit = picture(scene)[..., :3]
        for thing in scenery:
            thing.is_shadow_catcher = True
        scene.render.film_transparent = True
        alpha = 1 - (1 - picture(scene)[..., 3:]) ** (1 / 2.4)
        scene.render.film_transparent = False
        for thing in scenery:
            thing.is_shadow_catcher = False
        alpha = np.where(alpha < NOISE_ALPHA, 0, alpha)
        color = np.where(alpha > 0, (lit - (1 - alpha) * plate) / np.maximum(alpha, 1e-4), 0).clip(0, 1)
        save(folder / f"layer.{k:04d}.png", np.concatenate([color, alpha], -1))
    meta = {"instruction": instructions.instruction(labels, rng), "labels": labels, "seed": seed}
    (folder / "clip.json").write_text(json.dumps(meta, indent=1) + "\n", encoding="utf-8")


def set_up(scene: Any, width: int, height: int, samples: int) -> Any:
    scene.render.engine = "CYCLES"
    scene.cycles.device, scene.cycles.samples, scene.cycles.use_denoising = "CPU", samples, True
    scene.cycles.seed = 1  # identical noise in every picture, so that it cancels in their difference
    scene.render.resolution_x, scene.render.resolution_y, scene.render.resolution_percentage = width, height, 100
    scene.view_settings.view_transform = "Standard"
    scene.render.image_settings.file_format = "PNG"
    scene.render.image_settings.color_mode, scene.render.image_settings.color_depth = "RGBA", "16"
    camera = bpy.data.objects.new("camera", bpy.data.cameras.new("camera"))
    camera.data.sensor_fit = "VERTICAL"
    camera.data.angle = 2 * math.atan(VIEW / 2 / CAMERA_DISTANCE)
    camera.location, camera.rotation_euler = (0, -CAMERA_DISTANCE, 0), (math.pi / 2, 0, 0)
    scene.collection.objects.link(camera)
    scene.camera = camera
    return scene


def surroundings(rng: random.Random, ground: float) -> list:
    """Build a sky, a sun from the upper left, the ground and some blocks; return the objects that catch shadows."""
    world = bpy.data.worlds.new("sky")
    bpy.context.scene.world = world
    world.use_nodes = True
    world.node_tree.nodes["Background"].inputs[0].default_value = (*(rng.uniform(0.3, 0.8) for _ in range(3)), 1)
    sun = bpy.data.objects.new("sun", bpy.data.lights.new("sun", "SUN"))
    sun.data.energy, sun.data.angle = rng.uniform(1.5, 3), rng.uniform(0.05, 0.3)
    sun.rotation_euler = (math.radians(rng.uniform(25, 45)), math.radians(-30), 0)
    bpy.context.scene.collection.objects.link(sun)
    bpy.ops.mesh.primitive_plane_add(size=60, location=(0, 15, ground))
    things = [bpy.context.object]
    for _ in range(rng.randint(2, 6)):
        high = rng.uniform(0.5, 3)
        bpy.ops.mesh.primitive_cube_add(size=1, location=(rng.uniform(-7, 7), rng.uniform(3, 14), ground + high / 2))
        bpy.context.object.scale = (rng.uniform(0.5, 2), rng.uniform(0.5, 2), high)
        bpy.context.object.rotation_euler[2] = rng.uniform(0, 3)
        things.append(bpy.context.object)
    for thing in things:
        paint(thing, [rng.uniform(0.05, 0.7) for _ in range(3)], rough=rng.uniform(0.3, 1), speckled=rng.uniform(2, 12))
    return things


def build(labels: dict[str, Any], half: float) -> Any:
    """The object: an empty with the parts as children. It reaches `half` metres above and below its origin."""
    root = bpy.data.objects.new("object", None)
    bpy.context.scene.collection.objects.link(root)
    color = [linear(c) for c in words.COLORS[labels["color"]]]
    kind, ops = labels["object"], bpy.ops.mesh
    parts = []

    def part(made_of: Sequence[float], **looks: Any) -> Any:
        parts.append((bpy.context.object, made_of, looks))
        return bpy.context.object

    if kind == "ball":
        ops.primitive_uv_sphere_add(radius=1, segments=48, ring_count=24)
        part(color)
    elif kind == "cube":
        ops.primitive_cube_add(size=1.15)
        part(color).rotation_euler = (math.radians(35.3), 0, math.radians(45))
    elif kind == "ring":
        ops.primitive_torus_add(major_radius=0.72, minor_radius=0.28, major_segments=64, minor_segments=24)
        part(color).rotation_euler[0] = math.pi / 2
    elif kind == "mushroom":
        ops.primitive_uv_sphere_add(radius=1, segments=48, ring_count=24, location=(0, 0, -0.1))
        part(color).scale[2] = 0.9
        cut_below(bpy.context.object)
        ops.primitive_cylinder_add(radius=0.26, depth=1, location=(0, 0, -0.5))
        part([0.8, 0.75, 0.6])
    elif kind == "apple":
        ops.primitive_uv_sphere_add(radius=0.9, segments=48, ring_count=24, location=(0, 0, -0.15))
        part(color).scale[2] = 0.92
        ops.primitive_cylinder_add(radius=0.05, depth=0.45, location=(0.05, 0, 0.75))
        part([0.07, 0.03, 0.01]).rotation_euler[1] = 0.2
    elif kind == "balloon":
        ops.primitive_uv_sphere_add(radius=0.6, segments=48, ring_count=24, location=(0, 0, 0.35))
        part(color).scale[2] = 1.12
        ops.primitive_cone_add(radius1=0.11, depth=0.16, location=(0, 0, -0.37))
        part(color)
        ops.primitive_cylinder_add(radius=0.015, depth=0.55, location=(0, 0, -0.72))
        part([0.5, 0.5, 0.48])
    else:
        extruded(star() if kind == "star" else heart())
        part(color)
    for thing, made_of, looks in parts:
        finish = {None: (0.35, 0), "matte": (1.0, 0), "glossy": (0.05, 0), "metallic": (0.2, 1)}[labels["material"]]
        paint(thing, made_of, *finish, **looks)
        if thing.type == "MESH" and kind not in ("cube", "star"):
            thing.data.polygons.foreach_set("use_smooth", [True] * len(thing.data.polygons))
        thing.parent = root
    root.scale = (half,) * 3
    return root


def star() -> list[tuple[float, float]]:
    turns = [math.pi * i / 5 for i in range(10)]
    return [((1.0, 0.42)[i % 2] * math.sin(a), (1.0, 0.42)[i % 2] * math.cos(a)) for i, a in enumerate(turns)]


def heart() -> list[tuple[float, float]]:
    points = []
    for i in range(48):
        a = 2 * math.pi * i / 48
        up = 13 * math.cos(a) - 5 * math.cos(2 * a) - 2 * math.cos(3 * a) - math.cos(4 * a)
        points.append((16 * math.sin(a) ** 3 / 17, (up + 2.5) / 15))
    return points


def extruded(outline: list[tuple[float, float]], depth: float = 0.35) -> None:
    """Create a body with this outline (x, z) and make it the active object."""
    n = len(outline)
    corners = [(x, side * depth / 2, z) for side in (-1, 1) for x, z in outline]
    sides = [(i, (i + 1) % n, n + (i + 1) % n, n + i) for i in range(n)]
    mesh = bpy.data.meshes.new("outline")
    mesh.from_pydata(corners, [], [tuple(range(n)), tuple(range(2 * n - 1, n - 1, -1)), *sides])
    thing = bpy.data.objects.new("outline", mesh)
    bpy.context.scene.collection.objects.link(thing)
    bpy.context.view_layer.objects.active = thing


def cut_below(thing: Any) -> None:
    """Flatten the lower half of a mesh onto the plane z = 0."""
    for vertex in thing.data.vertices:
        vertex.co.z = max(vertex.co.z, 0)


def paint(thing: Any, color: Sequence[float], rough: float = 0.5, metal: float = 0.0, speckled: float = 0.0) -> None:
    material = bpy.data.materials.new("paint")
    material.use_nodes = True
    nodes, links = material.node_tree.nodes, material.node_tree.links
    shader = nodes["Principled BSDF"]
    shader.inputs["Base Color"].default_value = (*color, 1)
    shader.inputs["Roughness"].default_value, shader.inputs["Metallic"].default_value = rough, metal
    if speckled:
        grain, ramp = nodes.new("ShaderNodeTexNoise"), nodes.new("ShaderNodeValToRGB")
        grain.inputs["Scale"].default_value = speckled
        ramp.color_ramp.elements[0].color = (*(0.4 * c for c in color), 1)
        ramp.color_ramp.elements[1].color = (*(min(1, 1.3 * c) for c in color), 1)
        links.new(grain.outputs["Fac"], ramp.inputs[0])
        links.new(ramp.outputs[0], shader.inputs["Base Color"])
    thing.data.materials.append(material)


def linear(value: float) -> float:
    return value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4


def show_children(root: Any) -> None:
    for child in root.children:
        child.hide_render = root.hide_render


def picture(scene: Any) -> np.ndarray:
    """Render the scene: (H, W, 4), display-encoded, in [0, 1]."""
    with tempfile.TemporaryDirectory() as folder:
        scene.render.filepath = str(Path(folder) / "picture.png")
        bpy.ops.render.render(write_still=True)
        image = bpy.data.images.load(scene.render.filepath)
        image.colorspace_settings.name, image.alpha_mode = "Non-Color", "CHANNEL_PACKED"
        pixels = np.empty(len(image.pixels), np.float32)
        image.pixels.foreach_get(pixels)
        width, height = image.size
        bpy.data.images.remove(image)
    return pixels.reshape(height, width, 4)[::-1]


def save(path: Path, pixels: np.ndarray) -> None:
    """Write an 8-bit PNG, RGB or straight RGBA, without a colour conversion."""
    height, width, channels = pixels.shape
    image = bpy.data.images.new("out", width, height, alpha=channels == 4)
    image.colorspace_settings.name, image.alpha_mode = "Non-Color", "CHANNEL_PACKED"
    full = np.ones((height, width, 4), np.float32)
    full[..., :channels] = pixels
    image.pixels.foreach_set(np.ascontiguousarray(full[::-1]).ravel())
    image.filepath_raw, image.file_format = str(path), "PNG"
    image.save()
    bpy.data.images.remove(image)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--clips", type=int, default=4)
    parser.add_argument("--seed", type=int, default=1, help="seed of the first clip")
    parser.add_argument("--frames", type=int, default=9)
    parser.add_argument("--size", default="144x80")
    parser.add_argument("--samples", type=int, default=24)
    args = parser.parse_args(argv)
    width, height = map(int, args.size.split("x"))
    for seed in range(args.seed, args.seed + args.clips):
        render_clip(args.out / f"{seed:06d}", seed, args.frames, width, height, args.samples)
        print(args.out / f"{seed:06d}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
