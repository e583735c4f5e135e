"""Make a Request, pure data, of a node and its script. Unsupported scripts are refused. Main thread only."""

from __future__ import annotations

import math
import os
import re
from typing import Any, cast

import nuke

from . import color, plate, settings, versions
from .host import as_nuke_finds, full_size, no_undo
from .host_fields import READING
from .host_rules import (
    LIFT,
    VACE,
    VERA,
    RefusedError,
    exposure_of,
    lora_of,
    model_of,
    prompt_of,
    reading,
    without_spaces,
)

DRAFT_STEPS = 4  # denoising steps of a one-frame draft; raising it is slower and closer to the final result
_WAYS = {"Vera": VERA, "VACE": VACE, "lift from file": LIFT}  # the node's menu -> the names of host_rules.py


def request(
    node: nuke.Gizmo, write: bool = True, draft: bool = False, frames: tuple[int, int] | None = None
) -> versions.Request:
    """The node's current request, at full size. Raises RefusedError.

    write: fill in an empty results folder, so that it stays the same if the script is moved
    draft: with few steps
    frames: (first, last) in place of the node's own
    """
    with full_size():
        return _request(node, write, draft, frames)


def _request(node: nuke.Gizmo, write: bool, draft: bool, frames: tuple[int, int] | None) -> versions.Request:
    source = node.input(0)
    if source is None:
        raise RefusedError("there is no plate; connect one to the first input")
    prompt = prompt_of(way(node), str(node["prompt"].value()))
    if len(nuke.views()) > 1:
        raise RefusedError("a script with several views is not supported yet; edit one view in a script of its own")
    _refuse_unrendered(node)
    first, last = frames or _frames(node, source)
    base = folder(node, write)
    working = color.known(str(node["working_space"].value()).strip()) or color.of_script(plate.root_knob)
    files = plate.plate_files(source, first, last, base, working)
    recipe = {
        "plate": files.path,
        "prompt": prompt,
        "frames": f"{first}-{last}",
        "model": model(node),
        "seed": whole(node, "seed", 0, 2**31 - 1),
        "color_space": files.space,
        "layer_space": working,
    }
    recipe.update(_more(node))
    asked = {field.name: str(node["read_" + field.name].value() or "") for field in READING}
    recipe.update(reading(READING, asked, "Nuke writes it" if files.write else ""))
    if draft:
        recipe["steps"] = DRAFT_STEPS
    elif node["quality"].value() == "own":
        recipe["steps"] = whole(node, "steps", 1, 1000)
        recipe["guidance"] = float(node["guidance"].value())
    if node["use_region"].value():
        recipe["region"] = region(node["region"], source.format())
    mask = None
    drawn = node.input(1)
    if drawn is not None:
        _refuse_other_size(drawn, source)
        mask = plate.mask_files(drawn, first, last, base, working)
        recipe["mask"] = mask.path
    edited = plate.state_of_pattern(recipe["model"].partition(":")[2]) if way(node) == LIFT else ""
    return versions.Request(
        recipe,
        files.state + (mask.state if mask else "") + edited,
        files.path if files.write else None,
        mask.path if mask and mask.write else None,
        first,
        last,
    )


def _more(node: nuke.Gizmo) -> dict[str, Any]:
    """Further recipe fields that the node sets; empty knobs leave the choice to the core. Raises RefusedError."""
    found: dict[str, Any] = {
        "cuts": without_spaces(str(node["cuts"].value())),
        "exposure": exposure_of(str(node["exposure"].value())),
    }
    found["layer_mode"] = str(node["layer_mode"].value())
    lora = plate.absolute(str(node["lora"].value() or "").strip())
    found["lora"] = lora_of(lora, float(node["lora_strength"].value()))
    found["also"] = [name[len("also_") :] for name in node.knobs() if name.startswith("also_") and node[name].value()]
    return {name: value for name, value in found.items() if value not in (None, "", "auto", [])}


def way(node: nuke.Gizmo) -> str:
    """The way to make the edit: VERA, VACE or LIFT of host_rules.py."""
    return _WAYS[str(node["door"].value())]


def model(node: nuke.Gizmo) -> str:
    """The recipe's model: a Vera's name or folder, vace:FOLDER or lift:FILES. Raises RefusedError."""
    path = plate.absolute(str(node["model_path"].value() or "").strip())
    return model_of(way(node), str(node["model"].value()), path)


def folder(node: nuke.Gizmo, fill_in: bool = False) -> str:
    """The folder of this node's versions: the absolute path of its knob, or the default path."""
    base = str(cast("nuke.File_Knob", node["folder"]).evaluate() or "").strip().replace("\\", "/")
    if not base:
        base = _default_folder(node)
        versions.check_base(base)
        if fill_in:
            with no_undo():
                node["folder"].setValue(base)
    base = as_nuke_finds(base.rstrip("/"))
    versions.check_base(base)
    return base


def region(knob: Any, form: nuke.Format) -> str:
    """The core's "X,Y,W,H" from the top left, of a box in Nuke's pixels from the bottom left."""
    left, right = max(0, math.floor(knob.x())), min(form.width(), math.ceil(knob.r()))
    bottom, top = max(0, math.floor(knob.y())), min(form.height(), math.ceil(knob.t()))
    if right <= left or top <= bottom:
        raise RefusedError("the region is empty or outside the plate; draw it on the plate, or switch it off")
    return f"{left},{form.height() - top},{right - left},{top - bottom}"


def whole(node: nuke.Node, name: str, low: int, high: int) -> int:
    """The whole number of a knob. Raises RefusedError, because an expression can give any number."""
    value = node[name].getValue()
    if value != int(value) or not low <= value <= high:
        raise RefusedError(f"{name} {value:g} is not a whole number from {low} to {high}; change it")
    return int(value)


def _frames(node: nuke.Gizmo, source: nuke.Node) -> tuple[int, int]:
    if node["range"].value() == "own":
        first, last = whole(node, "first", 0, 10**7), whole(node, "last", 0, 10**7)
    else:
        first, last = int(source.firstFrame()), int(source.lastFrame())
    if first < 0:
        raise RefusedError(
            f"frames {first}-{last}: frames below 0 are not supported; choose your own range, or shift the plate"
        )
    if last < first:
        raise RefusedError(f"frames {first}-{last} run backwards; change first and last")
    return first, last


def _default_folder(node: nuke.Gizmo) -> str:
    name = re.sub(r"[^A-Za-z0-9_.-]", "_", node.fullName())
    script = (plate.root_knob("name") or "").replace("\\", "/")
    if not script:
        return f"{settings.load().cache}/unsaved/{name}-{os.urandom(4).hex()}"
    stem = re.sub(r"[^A-Za-z0-9_.-]", "_", os.path.splitext(os.path.basename(script))[0])
    return f"{os.path.dirname(os.path.abspath(script))}/vera/{stem}/{name}".replace("\\", "/")


def _refuse_unrendered(node: nuke.Gizmo) -> None:
    for index in (0, 1):
        for edit in plate.edits_upstream(node.input(index)):
            if not edit["result_shown"].value():
                raise RefusedError(f"{edit.fullName()} before it is not rendered yet; render that one first")


def _refuse_other_size(mask: nuke.Node, source: nuke.Node) -> None:
    a, b = mask.format(), source.format()
    if (a.width(), a.height()) != (b.width(), b.height()):
        raise RefusedError(
            f"the mask is {a.width()}x{a.height()}, but the plate is {b.width()}x{b.height()}; "
            "reformat the mask to the plate"
        )
