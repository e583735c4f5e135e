"""Texts and rules that all hosts of Vera share, in one file with the standard library only (Python >= 3.9).

A host includes a copy of this file beside client.py; docs/extending/host.md explains its use.
"""

from __future__ import annotations

import math
import os
import shutil
from collections.abc import Iterable
from typing import Any

# The ways to make an edit. A host's menu may name them differently; `model_of` makes the recipe's `model` of them.
VERA, VACE, LIFT = "vera", "vace", "lift"
_NAMED = {VACE: "the folder of VACE's weights", LIFT: "the edited video"}
LIFT_PROMPT = "Lift the edit"  # a lift needs no prompt, but a layer has a name

# (start, length) of each stage in percent of the whole job; denoising is the longest. A lift from a file has no
# denoising, and consists mostly of the lift.
_STAGES = {
    "start": (0, 1),
    "prepare": (1, 2),
    "read": (2, 10),
    "denoise": (10, 80),
    "lift": (80, 85),
    "deliver": (85, 100),
    "finish": (100, 100),
}
_STAGES_OF_A_LIFT = {**_STAGES, "denoise": (10, 10), "lift": (10, 85)}
_DOING = {"read": "reading", "denoise": "generating", "lift": "lifting", "deliver": "writing"}
_PREPARING = {"start": "loading the model", "prepare": "checking the plate", "finish": "finishing"}
# Values with which a field can be left out, because a service that does not know the field behaves like this.
_MADE_ANYWAY = {
    "layer_space": "linear",
    "blend_space": "linear",
    "layer_mode": "auto",
    "exposure": "auto",
    "keep": False,
}
# Sampling fields, which are left out for a lift from a file. Other unsupported fields (a region, a LoRA) are refused by
# the core.
OF_SAMPLING = ("seed", "steps", "guidance", "negative_prompt", "shift", "offload")
_MAY_BE_LEFT_OUT = ("keep",)  # fields that change no pixel; they are left out for an older service


class RefusedError(Exception):
    """The request is refused. The message is one line for the user: what, where, the fix."""


def progress_words(job: dict[str, Any]) -> str:
    """A job's state as text for the user: "generating, 3 of 8, 12 s left"."""
    if job.get("cancelling"):
        return "cancelling"
    if job["state"] == "queued":
        return f"in the queue, place {job['position']}" if job.get("position") else "in the queue"
    if job["state"] != "running":
        return str(job["state"])
    stage, total, left = str(job.get("stage")), job.get("total"), job.get("seconds_left")
    if stage in _DOING:
        count = f", {job.get('done') or 0} of {total}" if total else ""
        return _DOING[stage] + count + (f", {duration(left)} left" if left else "")
    return _PREPARING.get(stage, "running")


def percent(job: dict[str, Any]) -> int:
    """Progress of the whole job, 0 to 100."""
    if job.get("state") == "done":
        return 100
    model = (job.get("recipe") or {}).get("model") or ""
    stages = _STAGES_OF_A_LIFT if model.startswith(LIFT + ":") else _STAGES
    low, high = stages.get(str(job.get("stage")), (0, 2))
    total, done = job.get("total") or 0, job.get("done") or 0
    share = min(1.0, max(0.0, done / total)) if total > 0 else 0.0
    return int(low + (high - low) * share)


def duration(seconds: float) -> str:
    """A duration as text: seconds below 90, then minutes, then hours."""
    if seconds < 90:
        return f"{math.floor(seconds + 0.5)} s"
    minutes = math.floor(seconds / 60 + 0.5)
    return f"{minutes} min" if minutes < 90 else f"{math.floor(minutes / 60 + 0.5)} h"


def model_of(way: str, name: str, path: str) -> str:
    """The recipe's `model`. way: VERA, VACE or LIFT. name: of a Vera, path: of weights or of the edited video.

    Raises RefusedError.
    """
    if way == VERA:
        return name.strip() or "mini"
    if not path.strip():
        raise RefusedError(f"{_NAMED[way]} is not named; choose it, or the model Vera")
    return f"{way}:{path.strip()}"


def prompt_of(way: str, text: str) -> str:
    """The prompt on one line. Raises RefusedError."""
    prompt = " ".join(text.split()) or (LIFT_PROMPT if way == LIFT else "")
    if not prompt:
        raise RefusedError("the prompt is empty; write what should change")
    return prompt


def exposure_of(text: str) -> float | str | None:
    """The recipe's `exposure` from a typed text: stops, "auto", or None for an empty text. Raises RefusedError."""
    typed = text.strip()
    if typed in ("", "auto"):
        return typed or None
    try:
        stops = float(typed)
    except ValueError:
        stops = math.nan
    if not math.isfinite(stops):
        raise RefusedError(f"exposure {typed!r} is no number of stops; write one, or auto")
    return stops


def lora_of(path: str, strength: float) -> list[str] | None:
    """The recipe's `lora` of one file, None where no file is named."""
    if not path:
        return None
    return [path if strength == 1 else f"{path}:{strength:g}"]


def without_spaces(text: str) -> str | None:
    """Numbers with commas as a recipe has them ("1013,1040"), None where nothing is typed."""
    return "".join(text.split()) or None


def keeps(model: str) -> bool:
    """Whether a job should keep its latents, to deliver them again in another blending or working space.

    A lift has no latents.
    """
    return not model.startswith((LIFT + ":", VACE + ":"))


def reading(fields: Iterable[Any], values: dict[str, str], rendered: str) -> dict[str, Any]:
    """What is set of the group "Reading the plate", as a recipe has it.

    fields: of host_fields.py. values: the panel's, by name; "" and "default" are the core's own choice. rendered: why
    the host renders the plate first, "" where the core reads its own files. Raises RefusedError.
    """
    found: dict[str, Any] = {}
    for field in fields:
        value = values.get(field.name, "").strip()
        if value in ("", "default"):
            continue
        if field.of_files and rendered:
            raise RefusedError(
                f"{field.label} {value} says how the plate's own files are read, and the plate is rendered first"
                f" ({rendered}); leave it at default, or edit the media as it is"
            )
        found[field.name] = value.split(",") if field.listed else value
    return found


def fitting(recipe: dict[str, Any], known: set[str]) -> dict[str, Any]:
    """The recipe with the fields that a service knows, without empty values.

    A lift gets no sampling fields. If an older service does not know a field, the field is left out if it has the
    older service's behaviour as value. Raises RefusedError for a field that the service would need.
    """
    fits = {}
    is_lift = str(recipe.get("model", "")).startswith(LIFT + ":")
    for name, value in recipe.items():
        if value is None or value == "" or value == [] or (is_lift and name in OF_SAMPLING):
            continue
        if name in known:
            fits[name] = value
        elif name not in _MAY_BE_LEFT_OUT and _MADE_ANYWAY.get(name) != value:
            words = f"this version of the core has no {name.replace('_', ' ')} ({value})"
            raise RefusedError(f"{words}; update Vera, or do without")
    return fits


def layer_file(frame: int) -> str:
    """The name of a frame in a delivery's folder `edit`."""
    return f"edit.{'-' if frame < 0 else ''}{abs(frame):04d}.exr"


def frames_in_words(frames: list[int]) -> str:
    """A list of frames as short text: "frame 1003", "frames 1003, 1004, 1005, ... (12 in all)"."""
    named = ("frames " if len(frames) > 1 else "frame ") + ", ".join(map(str, frames[:3]))
    return named + (f", ... ({len(frames)} in all)" if len(frames) > 3 else "")


def kept_in(out: str) -> str:
    """The folder of a delivery's kept latents, or "" if there are none."""
    folder = os.path.join(out, "kept")
    return folder if os.path.isdir(folder) else ""


def take_over_kept(kept: str, out: str) -> None:
    """Give a new delivery the kept latents of another one, so that nothing is generated again. Raises RefusedError.

    Files are hard-linked if the disk can do so, else copied. Links are not followed.
    """
    target = os.path.join(out, "kept")
    if not os.path.isdir(kept) or os.path.exists(target):
        return
    try:
        os.makedirs(out, exist_ok=True)
        shutil.copytree(kept, target, symlinks=True, copy_function=_link)
    except (OSError, shutil.Error) as error:
        raise RefusedError(f"{target}: cannot be written ({error}); make room or change the rights") from None


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target, follow_symlinks=False)
    except (OSError, NotImplementedError):
        shutil.copy2(source, target, follow_symlinks=False)


def look_words(read: list[str], name: str = "", why_rendered: str = "") -> str:
    """The text of a look at the plate: the service's lines, or the reason why the host must render the plate first."""
    lines = [f"The plate is rendered first: {why_rendered}."] if why_rendered else read
    return "\n".join([*([f"{name}:"] if name else []), *lines])
