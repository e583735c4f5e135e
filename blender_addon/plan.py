"""Make tickets of the user's request, one for each strip. Nothing is started here."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field, replace
from typing import Any

import bpy

from . import color, host, media, place, plate_reading, stage, tickets
from .host_fields import READING
from .host_rules import (
    RefusedError,
    exposure_of,
    kept_in,
    lora_of,
    model_of,
    prompt_of,
    reading,
    take_over_kept,
    without_spaces,
)
from .tickets import Ticket

EDITABLE = ("MOVIE", "IMAGE", "SCENE", "META", "MOVIECLIP")
DRAFT_STEPS, FINE_STEPS = 8, 50


@dataclass
class Ask:
    """A request: the values of the panel or of an operator.

    mask_kind: NONE, FILE, STRIP or MASK
    door: the backend: VERA, VACE or LIFT
    guidance: 0 takes the model's own
    region, cuts, exposure: as in a recipe; "" lets the core choose
    prompts: PANEL takes the prompt above, TEXT those of the selected text strips
    reading: values of the recipe fields in the group "Reading the plate", by name
    """

    prompt: str
    mask_kind: str = "NONE"
    mask_file: str = ""
    mask_strip: str = ""
    mask: str = ""
    range: str = "STRIP"
    handles: int = 0
    model: str = "mini"
    quality: str = "STANDARD"
    steps: int = 0
    seed: int = 0
    plate: str = "AUTO"
    result: str = "VERSION"
    folder: str = "//vera/"
    door: str = "VERA"
    edited: str = ""
    vace: str = ""
    guidance: float = 0.0
    region: str = ""
    cuts: str = ""
    exposure: str = ""
    lora: str = ""
    lora_strength: float = 1.0
    prompts: str = "PANEL"
    reading: dict[str, str] = field(default_factory=dict)


def plan(scene: bpy.types.Scene, strips: list[bpy.types.Strip], ask: Ask) -> list[Ticket]:
    """Tickets for strips. Raises RefusedError, if possible before anything is written."""
    if ask.prompts == "PANEL":
        asked_prompt(ask)
    asked_model(ask)
    blend_space = color.blending_space(scene)
    place.settle(scene)
    if ask.range == "SELECTION":
        strips, limits = _within_selection(scene, strips)
    else:
        strips, limits = [s for s in strips if s.type in EDITABLE], None
        strips = [s for s in strips if s.name != ask.mask_strip and not is_layer(s)]
    if ask.range == "SCENE":
        preview = scene.use_preview_range
        limits = (
            (scene.frame_preview_start, scene.frame_preview_end + 1)
            if preview
            else (scene.frame_start, scene.frame_end + 1)
        )
    if not strips:
        raise RefusedError("no strip to edit is selected; select movie, image, scene or meta strips")
    if ask.prompts == "TEXT":
        return [_ticket(scene, *asked, blend_space) for asked in _by_text(scene, strips, limits, ask)]
    return [_ticket(scene, strip, limits, ask, blend_space) for strip in strips]


def _by_text(
    scene: bpy.types.Scene, strips: list[bpy.types.Strip], limits: tuple[int, int] | None, ask: Ask
) -> list[tuple[bpy.types.Strip, tuple[int, int], Ask]]:
    """(strip, range, request) for each text strip that is selected over a strip. The text is the request's prompt."""
    texts = sorted((s for s in host.all_strips(scene) if s.type == "TEXT" and s.select), key=host.left)
    asked = []
    for strip in strips:
        over = [t for t in texts if host.left(t) < host.right(strip) and host.left(strip) < host.right(t)]
        if not over:
            raise RefusedError(
                f"{strip.name}: no selected text strip lies over it; select one, or take the panel's prompt"
            )
        for text in over:
            first, end = host.left(text), host.right(text)
            if limits:
                first, end = max(first, limits[0]), min(end, limits[1])
            asked.append((strip, (first, end), replace(ask, prompt=text.text)))
    return asked


def asked_prompt(ask: Ask) -> str:
    """Raises RefusedError."""
    return prompt_of(ask.door.lower(), ask.prompt)


def asked_model(ask: Ask) -> str:
    """The recipe's model: a Vera's name or folder, vace:FOLDER or lift:FILES. Raises RefusedError."""
    given = {"VERA": "", "VACE": ask.vace, "LIFT": ask.edited}[ask.door].strip()
    path = os.path.abspath(bpy.path.abspath(given)) if given else ""
    model = model_of(ask.door.lower(), ask.model, path)
    if path and not os.path.exists(path) and not any(sign in os.path.basename(path) for sign in "#@%"):
        raise RefusedError(f"{path} is not there; choose another")
    return model


def is_layer(strip: bpy.types.Strip) -> bool:
    return "vera" in strip


def _within_selection(
    scene: bpy.types.Scene, strips: list[bpy.types.Strip]
) -> tuple[list[bpy.types.Strip], tuple[int, int]]:
    """The active strip, and the range [first, end) that the other selected strips span. Raises RefusedError."""
    active = scene.sequence_editor.active_strip
    others = [s for s in strips if s != active]
    if active is None or active.type not in EDITABLE or not others:
        raise RefusedError("range Selection: make the strip to edit active, and select others that span the range")
    return [active], (min(map(host.left, others)), max(map(host.right, others)))


def _ticket(
    scene: bpy.types.Scene, strip: bpy.types.Strip, limits: tuple[int, int] | None, ask: Ask, blend_space: str
) -> Ticket:
    """The ticket of one strip. limits: [first, end) of the range, None for the whole strip. Raises RefusedError."""
    frames = _frames_within(strip, limits)
    _check_media(scene, strip, frames)
    number = tickets.new_id()
    folder = _folder(scene, strip, ask, number)
    found = plate_reading.decide(scene, strip, frames)
    _refuse_below_adjustment(scene, found.top, frames)
    note = plate_reading.transparency_warning(scene, strip, found.top, frames)
    why = _reason_to_render(scene, strip, frames, ask, found.why)
    passes: list[dict[str, Any]] = []
    if why:
        plate = os.path.join(folder, "plate", "plate.####.exr")
        passes.append(_plate_pass(scene, strip, frames, plate))
        shown = media.MediaFrames(plate, frames[0], list(frames), "linear")
    else:
        shown = _own_media(strip, frames, ask.handles)
    mask = _mask(scene, ask, folder, shown, frames if why else None, passes)
    recipe = {
        **_recipe(strip, ask, shown, why),
        "mask": mask,
        "blend_space": blend_space,
        "out": os.path.join(folder, blend_space),
    }
    render = _render_job(scene, folder, passes) if passes else None
    return Ticket(
        id=number,
        document=tickets.document_of(scene),
        blend=bpy.data.filepath,
        scene=scene.name,
        source=_source(scene, strip, why),
        recipe={k: v for k, v in recipe.items() if v is not None},
        shown=shown.to_json(),
        visible=[frames[0], frames[-1] + 1],
        blend_space=blend_space,
        folder=folder,
        stage=render,
        target="" if ask.result == "LAYER" else None,
        note=note,
        version=number,
        state="stage" if render else "submit",
        created=tickets.now(),
    )


def _frames_within(strip: bpy.types.Strip, limits: tuple[int, int] | None) -> range:
    """The strip's frames within the range. Raises RefusedError if there are none."""
    first, end = host.left(strip), host.right(strip)
    if limits:
        first, end = max(first, limits[0]), min(end, limits[1])
    if first >= end:
        raise RefusedError(f"{strip.name}: none of its frames lies in the range; move the strip or the range")
    return range(first, end)


def _reason_to_render(scene: bpy.types.Scene, strip: bpy.types.Strip, frames: range, ask: Ask, found: str) -> str:
    """Why the plate is rendered; "" if the strip's own media is the plate. found: see `PlateReading.why`."""
    why = "as asked" if ask.plate == "SEEN" else found
    if not why and ask.mask_kind in ("STRIP", "MASK") and not _lies_plain(scene, strip, frames):
        return "a mask of the scene over a strip that is moved, scaled or turned"
    return why


def _plate_pass(scene: bpy.types.Scene, strip: bpy.types.Strip, frames: range, plate: str) -> dict[str, Any]:
    """What the render stage needs to render the plate into the files of a pattern."""
    return {
        "kind": "plate",
        "strips": stage.strips_of_picture(strip, scene),
        "mask": None,
        "frames": list(frames),
        "unfaded": plate_reading.strips_without_opacity(scene, strip, frames),
        "files": [_numbered(plate, f) for f in frames],
    }


def _own_media(strip: bpy.types.Strip, frames: range, handles: int) -> media.MediaFrames:
    """The strip's own files at these frames and up to `handles` more on each side. Raises RefusedError."""
    first, end = frames[0], frames[-1] + 1
    there = media.content_frames(strip)
    begin = min(first, max(first - handles, there[0]))
    stop = max(end, min(end + handles, there[-1] + 1))
    media.check_files(strip, range(begin, stop))
    return media.media_frames(strip, range(begin, stop))


def _recipe(strip: bpy.types.Strip, ask: Ask, shown: media.MediaFrames, why: str) -> dict[str, Any]:
    """The recipe's fields besides mask and output. why: the plate is rendered, see `_reason_to_render`."""
    return {
        "plate": shown.plate,
        "prompt": asked_prompt(ask),
        "model": asked_model(ask),
        "seed": ask.seed,
        "steps": steps_of(ask),
        "color_space": shown.color_space,
        "frames": shown.frames() if "#" in shown.plate or strip.type == "MOVIE" else None,
        # Blender shows interlaced frames as they are stored; deinterlaced strips are rendered first.
        "fields": "ignore" if strip.type == "MOVIE" and not why else None,
        **_settings(ask),
        **reading(READING, ask.reading, why),
    }


def _source(scene: bpy.types.Scene, strip: bpy.types.Strip, why: str) -> dict[str, Any]:
    """What a ticket notes of the strip, to find it again and to see whether it has changed."""
    return {
        "mark": tickets.mark_of(strip),
        "name": strip.name,
        "state": plate_reading.look_hash(scene, strip),
        "start": host.content_start(strip),
        "rendered": why,
        "colorspace": getattr(getattr(strip, "colorspace_settings", None), "name", "") if not why else "",
    }


def _render_job(scene: bpy.types.Scene, folder: str, passes: list[dict[str, Any]]) -> dict[str, Any]:
    """What the render stage is given."""
    return {
        "folder": folder,
        "scene": scene.name,
        "passes": passes,
        "scripts": bpy.context.preferences.filepaths.use_scripts_auto_execute,
    }


def _refuse_below_adjustment(scene: bpy.types.Scene, top: bpy.types.Strip, frames: range) -> None:
    """Raise RefusedError if an adjustment strip above the strip leaves no free channel between for the layer."""
    owner = host.home(scene, top)
    above = [
        s
        for s in host.strips(owner)
        if s.type == "ADJUSTMENT"
        and not s.mute
        and s.channel > top.channel
        and host.left(s) <= frames[-1]
        and frames[0] < host.right(s)
    ]
    if above:
        lowest = min(above, key=lambda s: s.channel)
        if place.free_channel(owner, frames[0], frames[-1] + 1, top.channel + 1) > lowest.channel:
            raise RefusedError(
                f"no channel between {top.name} and {lowest.name} is free for the layer; move {lowest.name} up"
            )


def _check_media(scene: bpy.types.Scene, strip: bpy.types.Strip, frames: range) -> None:
    """Check the media of the strip and of all strips in it, at the visible frames. Raises RefusedError."""
    names = set(stage.strips_of_picture(strip, scene))
    for part in host.all_strips(scene):
        if part.name in names:
            there = range(max(frames[0], host.left(part)), min(frames[-1] + 1, host.right(part)))
            media.check_files(part, there)


def _settings(ask: Ask) -> dict[str, Any]:
    """The recipe's further fields; None lets the core choose."""
    lora = os.path.abspath(bpy.path.abspath(ask.lora.strip())) if ask.lora.strip() else ""
    if lora and not os.path.isfile(lora):
        raise RefusedError(f"LoRA: {lora} is not there; choose another file, or none")
    return {
        "guidance": ask.guidance or None,
        "region": without_spaces(ask.region),
        "cuts": without_spaces(ask.cuts),
        "exposure": exposure_of(ask.exposure),
        "lora": lora_of(lora, ask.lora_strength),
    }


def steps_of(ask: Ask) -> int | None:
    """Number of denoising steps; None takes the model's own."""
    return {"DRAFT": DRAFT_STEPS, "FINE": FINE_STEPS, "STEPS": ask.steps}.get(ask.quality)


def prepare(ticket: Ticket) -> None:
    """Make the ticket's folder, and the copy of the file to render from. Raises RefusedError."""
    try:
        for part in ("", *(p["kind"] for p in ticket.stage["passes"])) if ticket.stage else ("",):
            os.makedirs(os.path.join(ticket.folder, part), exist_ok=True)
    except OSError as error:
        raise RefusedError(
            f"{ticket.folder}: cannot be made ({error.strerror}); choose another folder "
            "for results, or fix its permissions"
        ) from None
    if not os.access(ticket.folder, os.W_OK):
        raise RefusedError(f"{ticket.folder}: is read-only; choose another folder for results, or fix its permissions")
    if ticket.stage:
        ticket.stage["blend"] = stage.copy_file(ticket.folder)
    take_over_kept(ticket.kept, ticket.recipe["out"])


def _folder(scene: bpy.types.Scene, strip: bpy.types.Strip, ask: Ask, number: str) -> str:
    """A new folder for the results. For a file that was never saved it lies in the extension's user folder."""
    base = ask.folder.strip() or "//vera/"
    if base.startswith("//") and not bpy.data.filepath:
        base = tickets.user_folder("edits")
    name = re.sub(r"[^A-Za-z0-9_-]+", "_", os.path.splitext(strip.name)[0]).strip("_") or "strip"
    return os.path.join(os.path.abspath(bpy.path.abspath(base)), f"{name}_{number[:8]}")


def _lies_plain(scene: bpy.types.Scene, strip: bpy.types.Strip, frames: range) -> bool:
    """Whether the strip's pixels are the scene's pixels, and no frame of the media is seen twice."""
    t, c = strip.transform, strip.crop
    element = strip.elements[0]
    settings = scene.render
    return (
        (t.scale_x, t.scale_y, t.offset_x, t.offset_y, t.rotation) == (1, 1, 0, 0, 0)
        and not any((c.min_x, c.max_x, c.min_y, c.max_y, strip.use_flip_x, strip.use_flip_y))
        and len(set(media.media_frames(strip, frames).numbers)) == len(frames)
        and (element.orig_width, element.orig_height) == (settings.resolution_x, settings.resolution_y)
    )


def _mask(
    scene: bpy.types.Scene,
    ask: Ask,
    folder: str,
    shown: media.MediaFrames,
    seen_frames: range | None,
    passes: list[dict[str, Any]],
) -> str | None:
    """The mask's path. For a mask of the scene, a render pass with the plate's frame numbers is added to `passes`.

    seen_frames: timeline frames of a rendered plate; None for the strip's own media. Raises RefusedError.
    """
    if ask.mask_kind == "NONE":
        return None
    if ask.mask_kind == "FILE":
        path = os.path.abspath(bpy.path.abspath(ask.mask_file)) if ask.mask_file.strip() else ""
        if not path:
            raise RefusedError("the mask's file is empty; choose one, or Mask: None")
        is_pattern = any(sign in os.path.basename(path) for sign in "#@%")
        if not is_pattern and not os.path.isfile(path):
            raise RefusedError(f"mask: {path} is not there; choose another file")
        return path
    if ask.mask_kind == "STRIP":
        strip = next((s for s in host.all_strips(scene) if s.name == ask.mask_strip), None)
        if strip is None:
            raise RefusedError(f"mask: no strip is named '{ask.mask_strip}'; choose a mask strip")
        strips, mask = stage.strips_of_picture(strip, scene), None
    else:
        if ask.mask not in bpy.data.masks:
            raise RefusedError(f"mask: no mask is named '{ask.mask}'; choose one")
        strips, mask = [], ask.mask
    pattern = os.path.join(folder, "mask", "mask.####.png")
    timeline = list(seen_frames or range(shown.first, shown.first + len(shown.numbers)))
    passes.append(
        {
            "kind": "mask",
            "strips": strips,
            "mask": mask,
            "frames": timeline,
            "files": [_numbered(pattern, n) for n in shown.numbers],
        }
    )
    return pattern


def _numbered(pattern: str, frame: int) -> str:
    """The file of a frame. As in the core, a minus sign is one of the four characters of `####`."""
    return pattern.replace("####", f"{frame:04d}")


def kept_of(version: dict[str, Any]) -> str:
    """The folder of a version's generated latents; "" if they were not kept."""
    return next(filter(None, map(kept_in, version["deliveries"].values())), "")


def redelivery(scene: bpy.types.Scene, layer: bpy.types.Strip, blend_space: str) -> Ticket:
    """A ticket that delivers a layer's current version again, for another blending space."""
    version = place.current(layer)
    before = version["recipe"]
    folder = os.path.dirname(before["out"])
    number = tickets.new_id()
    mark = place.data_of(layer)["source"]
    source = place.source_of_layer(scene, layer)
    return Ticket(
        id=number,
        document=tickets.document_of(scene),
        blend=bpy.data.filepath,
        scene=scene.name,
        source={
            "mark": mark,
            "name": source.name if source else layer.name,
            "start": version["source_start"],
            "rendered": version["rendered"],
            "colorspace": version["colorspace"],
        },
        recipe={**before, "blend_space": blend_space, "out": os.path.join(folder, blend_space)},
        shown={"plate": before["plate"], "first": version["first"], "numbers": version["numbers"], "color_space": None},
        visible=version["visible"],
        blend_space=blend_space,
        folder=folder,
        version=version["id"],
        kept=kept_of(version),
        created=tickets.now(),
    )
