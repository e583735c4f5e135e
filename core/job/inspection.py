"""Report how a plate, a mask and a prompt are read, before any work, as data and as text.

`vera render --dry-run` and `vera inspect` print it. Nothing is written.
"""

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from vera.core.errors import printable
from vera.core.plate.color_space import resolve_space, space_reason
from vera.core.plate.source import HeldOutMask, Mask, Plate

if TYPE_CHECKING:
    from vera.core.backends.base import Job
    from vera.core.recipe import EditRecipe


def plate_report(plate: Plate, asked_space: str | None = None) -> dict[str, Any]:
    """The properties of a plate as it is read. asked_space: the user's colour space. Raises InputError."""
    space = resolve_space(asked_space, plate)
    first = plate.frames[0]
    spec = plate.spec(first)
    return {
        "path": plate.path,
        "kind": "movie" if plate.is_movie else "still" if len(plate.frames) == 1 else "sequence",
        "first_file": str(plate.file(first)),
        "frames": {"first": first, "last": plate.frames[-1], "count": len(plate.frames)},
        "rate": str(plate.fps) if plate.fps else None,
        "timecode": (spec.get_string_attribute("smpte:TimeCode") or None) if spec else plate.timecode,
        "width": plate.width,
        "height": plate.height,
        "offset": list(plate.offset),
        "display": list(plate.display),
        "pixel_aspect": plate.pixel_aspect,
        "pixel_type": plate.pixel_type,
        "picture": plate.picture or None,
        "channels": list(plate.channels),
        "channels_left_out": list(plate.ignored_channels),
        "notes": list(plate.notes),
        "fields": plate.field_order,
        "matrix": asdict(plate.matrix) if plate.matrix else None,
        "range": asdict(plate.range) if plate.range else None,
        "color_space": {"name": space.name, "config": space.config, "why": space_reason(asked_space, plate)},
    }


def mask_report(mask: Mask | HeldOutMask) -> dict[str, Any] | None:
    """The properties of a mask as it is read; None if there is only a hold-out."""
    if isinstance(mask, HeldOutMask):
        return mask_report(mask.mask) if mask.mask else None
    return {
        "path": mask.path,
        "frames": {"first": mask.frames[0], "last": mask.frames[-1], "count": len(mask.frames)},
        "width": mask.width,
        "height": mask.height,
        "read_from": "alpha" if mask.uses_alpha else "luminance",
        "notes": list(mask.notes),
    }


def recipe_report(recipe: "EditRecipe") -> dict[str, Any]:
    """The properties of a recipe's plate, mask and prompt, without loading a model. Raises InputError."""
    from vera.core.job.opening import read_prompts
    from vera.core.plate.choice import Choice
    from vera.core.plate.source import open_mask, open_plate
    from vera.core.recipe import NO_MASK, backend_of, refuse_unsupported

    refuse_unsupported(recipe, backend_of(recipe.model))
    plate = open_plate(recipe.plate, recipe.frames, Choice.of(recipe))
    mask = open_mask(recipe.mask, plate) if recipe.mask and recipe.mask != NO_MASK else None
    said = read_prompts(recipe)
    return {
        "plate": plate_report(plate, recipe.color_space),
        "mask": mask_report(mask) if mask else None,
        "prompt": {"text": recipe.prompt, "read": None},
        "warnings": [*plate.notes, *(mask.notes if mask else ()), *said],
    }


def job_report(job: "Job", device: str, explained: list[str]) -> dict[str, Any]:
    """The settings of a job. device: as requested. explained: the backend's lines about its choices."""
    from vera.core.job.estimate import estimate, model_bytes  # with torch, which the report on a plate does without

    reader = getattr(getattr(getattr(job, "model", None), "text", None), "words_of", None)
    x, y, width, height = job.region.x, job.region.y, job.region.width, job.region.height
    return {
        "plate": plate_report(job.plate, job.recipe.color_space),
        "mask": mask_report(job.mask) if job.mask else None,
        "prompt": {"text": job.recipe.prompt, "read": reader(job.recipe.prompt) if reader else None},
        "model": {
            "name": job.model_name,
            "width": job.size[0],
            "height": job.size[1],
            "frames_at_once": job.frames_at_once,
            "steps": job.steps,
            "guidance": job.guidance,
            "device_asked": device,
            "weights_bytes": model_bytes(job),
            "chosen": explained,
        },
        "region": [x, y, width, height],
        "out": job.recipe.out,
        "disk_bytes": job.delivery.bytes_to_write(),
        "estimate": asdict(estimate(job, device)),
        "hash": job.hash,
        "warnings": list(job.warnings),
    }


def page_of(report: dict[str, Any]) -> list[str]:
    """The text lines of a report on a job, or on a plate with or without mask."""
    plate, mask = report["plate"], report.get("mask")
    lines = _plate_lines(plate)
    if mask:
        lines.append(_line("mask", f"{mask['path']}, {_frames(mask)}, {_size(mask)}, read from {mask['read_from']}"))
    if report.get("prompt"):
        lines.append(_line("prompt", report["prompt"]["text"]))
        if report["prompt"]["read"] is not None:
            lines.append(_line("read as", " ".join(report["prompt"]["read"])))
    if report.get("model"):
        lines += _job_lines(report)
    said = report.get("warnings") or [
        *plate["notes"],
        *(mask["notes"] if mask else ()),
    ]  # a job's warnings include the notes
    return lines + [_line("warning", text) for text in said]


def _plate_lines(plate: dict[str, Any]) -> list[str]:
    offset = "" if plate["offset"] == [0, 0] else f", data window begins at {plate['offset'][0]},{plate['offset'][1]}"
    aspect = "" if plate["pixel_aspect"] == 1 else f", pixel aspect {plate['pixel_aspect']:g}"
    rate = f"{plate['rate']} frames a second" if plate["rate"] else "no rate stated"
    timecode = f", timecode {plate['timecode']}" if plate["timecode"] else ""
    left_out = plate["channels_left_out"]
    space = plate["color_space"]
    return [
        _line("plate", f"{plate['path']} ({plate['kind']}, first file {plate['first_file']})"),
        _line("frames", f"{_frames(plate)}, {rate}{timecode}"),
        _line("picture", f"{_size(plate)}{offset}{aspect}, {plate['pixel_type']}"),
        _line("channels", ", ".join(plate["channels"]) + (f"; left out: {', '.join(left_out)}" if left_out else "")),
        *(_line(name, f"{plate[name]['value']} ({plate[name]['why']})") for name in ("matrix", "range") if plate[name]),
        *([_line("fields", f"interlaced; first field: {plate['fields']}")] if plate["fields"] else []),
        _line("colour space", f"{space['name']} ({space['why']})"),
    ]


def _job_lines(report: dict[str, Any]) -> list[str]:
    from vera.core.job.estimate import estimate_lines

    model, plate = report["model"], report["plate"]
    x, y, width, height = report["region"]
    weights = f", {model['weights_bytes'] / 1e6:.0f} MB of weights" if model["weights_bytes"] else ""
    whole = (width, height) == (plate["width"], plate["height"])
    return [
        *([] if whole else [_line("region", f"{width}x{height} at {x},{y}")]),
        _line("model", f"{model['name']} at {model['width']}x{model['height']}{weights}"),
        *(_line("", text) for text in model["chosen"]),
        *(_line(name, text) for name, text in estimate_lines(report["estimate"], report["out"])),
        _line("hash", report["hash"]),
    ]


def _frames(part: dict[str, Any]) -> str:
    frames = part["frames"]
    return (
        f"{frames['first']}-{frames['last']} ({frames['count']})" if frames["count"] > 1 else f"{frames['first']} (1)"
    )


def _size(part: dict[str, Any]) -> str:
    return f"{part['width']}x{part['height']}"


def _line(name: str, text: str) -> str:
    return printable(f"{name:14}{text}")
