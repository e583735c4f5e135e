"""The panel's settings, which the scene stores."""

from typing import Any

import bpy

from . import plan
from .host_fields import READING, HostField

MASKS = (
    ("NONE", "None", "The edit may go anywhere"),
    ("FILE", "File", "White where the edit may go: a sequence (####), a movie or a still of the plate's size"),
    ("STRIP", "Strip", "A mask strip, or any strip that shows white where the edit may go; it is rendered first"),
    ("MASK", "Blender Mask", "A mask of this file; it is rendered first"),
)
RANGES = (
    ("STRIP", "Strip", "All that each selected strip shows"),
    ("SELECTION", "Selection", "The part of the active strip that the other selected strips span"),
    (
        "SCENE",
        "Scene In/Out",
        "The part of each selected strip within the scene's range, or the preview range if there is one",
    ),
)
QUALITIES = (
    ("DRAFT", "Draft", f"{plan.DRAFT_STEPS} steps"),
    ("STANDARD", "Standard", "The model's own number of steps"),
    ("FINE", "Fine", f"{plan.FINE_STEPS} steps"),
    ("STEPS", "Steps", "The number of steps below"),
)
PLATES = (
    (
        "AUTO",
        "Media if Plain",
        "The strip's own files, unless modifiers, effects or a changed speed alter its picture",
    ),
    ("SEEN", "As Seen", "What the strip shows at the scene's size is rendered first, and edited"),
)
DOORS = (
    ("VERA", "Vera", "A model that makes layers"),
    (
        "VACE",
        "VACE",
        "VACE's public weights: the masked area is generated again, and the layer is lifted from the result",
    ),
    ("LIFT", "Lift from File", "A video of the plate that was edited elsewhere; the layer is what differs"),
)
PROMPTS = (
    ("PANEL", "One for All", "The prompt above, for each selected strip"),
    (
        "TEXT",
        "From Text Strips",
        "Each selected text strip over a selected strip is a prompt, for the frames that it spans",
    ),
)
RESULTS = (
    ("VERSION", "Version", "A further version on the strip's layer strip, if it has one"),
    ("LAYER", "New Layer", "A layer strip of its own, above"),
)


def _asked(field: HostField) -> Any:
    """The Blender property of a recipe field in the group "Reading the plate"."""
    if not field.choices:
        return bpy.props.StringProperty(name=field.label, description=field.help)
    items = [("default", "Default", field.help), *((choice, choice, "") for choice in field.choices)]
    return bpy.props.EnumProperty(name=field.label, items=items, description=field.help)


class VeraSettings(bpy.types.PropertyGroup):
    prompt: bpy.props.StringProperty(name="Prompt", description="What should change, such as: Add falling snow")
    mask_kind: bpy.props.EnumProperty(name="Mask", items=MASKS)
    mask_file: bpy.props.StringProperty(name="File", subtype="FILE_PATH")
    mask_strip: bpy.props.StringProperty(name="Strip")
    mask: bpy.props.PointerProperty(name="Mask", type=bpy.types.Mask)
    range: bpy.props.EnumProperty(name="Range", items=RANGES)
    handles: bpy.props.IntProperty(
        name="Handles",
        min=0,
        max=1000,
        description="Further frames on both sides, if the media has them; the layer's handles hide them",
    )
    model: bpy.props.StringProperty(name="Vera", default="mini", description="mini, or the folder of a full-size model")
    door: bpy.props.EnumProperty(name="Model", items=DOORS)
    edited: bpy.props.StringProperty(
        name="Edited Video",
        subtype="FILE_PATH",
        description=(
            "A movie, or a sequence (####) with the plate's numbers, with as many frames as are edited; of any size"
        ),
    )
    vace: bpy.props.StringProperty(name="VACE", subtype="DIR_PATH", description="The folder of VACE's weights")
    quality: bpy.props.EnumProperty(name="Quality", items=QUALITIES, default="STANDARD")
    steps: bpy.props.IntProperty(name="Steps", min=1, max=1000, default=16)
    seed: bpy.props.IntProperty(name="Seed", min=0, description="Each seed gives another result")
    plate: bpy.props.EnumProperty(name="Plate", items=PLATES)
    result: bpy.props.EnumProperty(name="Result", items=RESULTS)
    prompts: bpy.props.EnumProperty(name="Prompts", items=PROMPTS)
    guidance: bpy.props.FloatProperty(
        name="Guidance", min=0, max=30, description="How closely the prompt is followed; 0: the model's own value"
    )
    region: bpy.props.StringProperty(
        name="Region", description="Edit only here: X,Y,W,H in pixels of the plate, from its top left. Empty: anywhere"
    )
    cuts: bpy.props.StringProperty(
        name="Cuts",
        description="First frames of new shots in the plate, such as 1013,1040; or none. Empty: found automatically",
    )
    exposure: bpy.props.StringProperty(
        name="Exposure",
        description="Stops of exposure for the model, if the plate is scene-linear. Empty: chosen automatically",
    )
    lora: bpy.props.StringProperty(
        name="LoRA", subtype="FILE_PATH", description="Changes that are added to the model's weights"
    )
    lora_strength: bpy.props.FloatProperty(name="Strength", default=1.0, min=-10, max=10)
    folder: bpy.props.StringProperty(
        name="Folder",
        subtype="DIR_PATH",
        default="//vera/",
        description="Where layers are written. Of a file that was never saved: Vera's folder in Blender's user folder",
    )


VeraSettings.__annotations__.update({f"read_{field.name}": _asked(field) for field in READING})


def ask_of(scene: bpy.types.Scene) -> plan.Ask:
    s = scene.vera
    return plan.Ask(
        s.prompt,
        s.mask_kind,
        s.mask_file,
        s.mask_strip,
        s.mask.name if s.mask else "",
        s.range,
        s.handles,
        s.model,
        s.quality,
        s.steps,
        s.seed,
        s.plate,
        s.result,
        s.folder,
        s.door,
        s.edited,
        s.vace,
        s.guidance,
        s.region,
        s.cuts,
        s.exposure,
        s.lora,
        s.lora_strength,
        s.prompts,
        {field.name: getattr(s, f"read_{field.name}") for field in READING},
    )


def take_over(s: VeraSettings, recipe: dict[str, Any]) -> None:
    """Put a version's prompt, seed and settings into the panel."""
    s.prompt, s.seed = recipe["prompt"], recipe.get("seed", 0)
    s.prompts = "PANEL"
    way, colon, path = recipe.get("model", "mini").partition(":")
    s.door = way.upper() if colon and way in ("lift", "vace") else "VERA"
    if s.door == "VERA":
        s.model = recipe.get("model", "mini")
    else:
        setattr(s, {"LIFT": "edited", "VACE": "vace"}[s.door], path)
    s.quality = "STEPS" if recipe.get("steps") else "STANDARD"
    s.steps = recipe.get("steps") or s.steps
    s.guidance = recipe.get("guidance") or 0.0
    s.region, s.cuts, s.exposure = (
        str(v) if (v := recipe.get(n)) is not None else "" for n in ("region", "cuts", "exposure")
    )
    for field in READING:
        value = recipe.get(field.name) or ("default" if field.choices else "")
        setattr(s, f"read_{field.name}", ",".join(value) if isinstance(value, list) else value)
    lora, colon, strength = (recipe.get("lora") or [""])[0].rpartition(":")
    is_number = colon and strength.replace(".", "", 1).lstrip("-").isdigit()
    s.lora = lora if is_number else (recipe.get("lora") or [""])[0]
    s.lora_strength = float(strength) if is_number else 1.0


def register() -> None:
    bpy.utils.register_class(VeraSettings)
    bpy.types.Scene.vera = bpy.props.PointerProperty(type=VeraSettings)


def unregister() -> None:
    del bpy.types.Scene.vera
    bpy.utils.unregister_class(VeraSettings)
