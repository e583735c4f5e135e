"""Lifts of a dozen kinds of edits in memory, and of a few through the command with every option."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tests.plate.media import write_image
from tests.recorded.footage import EDITS, SIZE, bytes_of, disc, edited, film, plate, plates, sequence
from tests.recorded.recording import attempt, files, of_command, record
from vera.core.lifting import framing, lift_window, pairing
from vera.core.lifting.controls import LiftControls


def clip(pictures: list[np.ndarray]) -> torch.Tensor:
    return torch.from_numpy(np.stack(pictures)).movedim(-1, 1).float()


def in_memory(kind: str, controls: LiftControls, mask: torch.Tensor | None = None, count=3) -> dict[str, Any]:
    """What `lift_clip` finds, and the number of its steps."""
    steps: list[int] = []
    shown, came = clip(plates(count)), clip(edited(kind, count))
    with torch.inference_mode():
        placed = lift_window.Placed(came, torch.ones_like(came[:, :1]), torch.eye(2, 3).repeat(count, 1, 1))
        found = lift_window.lift_clip(shown, placed, mask, lambda: steps.append(1), controls)
    return vars(found) | {"drift": found.drift.size(), "steps": len(steps)}


def _each(names: Any, made: Callable[..., Any]) -> None:
    """A record for each of the names."""
    for name, *given in names:

        def result(folder: Path, given=given) -> Any:
            return made(folder, *given)

        result.__module__, result.__name__ = __name__, name
        record(result)


_each([(f"lift of {kind}", kind) for kind in EDITS], lambda folder, kind: in_memory(kind, LiftControls()))

CONTROLS = {
    "classical": LiftControls(learned=False),
    "sensitive": LiftControls(sensitivity=3),
    "insensitive": LiftControls(learned=False, sensitivity=0.4),
    "steep": LiftControls(edge=4),
    "unsteady": LiftControls(learned=False, steadiness=0),
}
_each([(f"lift {name}", c) for name, c in CONTROLS.items()], lambda folder, c: in_memory("soft object", c))


@record
def lift_within_a_mask(folder: Path) -> Any:
    mask = torch.zeros(3, 1, *SIZE)
    mask[..., :26] = 1
    return in_memory("object", LiftControls(), mask)


def lifted(folder: Path, kind: str, *options: str, extension="png", count=3, video=None) -> dict[str, Any]:
    """A lift through the command: exit code, words, and every file."""
    shot = sequence(folder / "in", plates(count), extension=extension)
    video = video or sequence(folder / "edited", edited(kind, count))
    out = folder / "out"
    given = ["--plate", shot, "--edited", video, "--out", out, "--progress", "jsonl", *options]
    return of_command(folder, "lift", *given) | {"files": files(out, folder)}


@record
def command_with_parts_and_split_files(folder: Path) -> Any:
    return lifted(folder, "object and shadow", "--parts", "1", "--split", "files", extension="exr")


@record
def command_with_formats(folder: Path) -> Any:
    hold = write_image(folder / "hold.png", bytes_of(disc(0, 6) * np.ones(3)))
    mask = write_image(folder / "mask.png", bytes_of(disc(2, 20) * np.ones(3)))
    options = ("--hold-out", str(hold), "--mask", str(mask), "--also", "prores,png,matte", "--layer-type", "float")
    more = ("--blend-space", "encoded", "--match", "grain,sharpness", "--compression", "piz", "--frames", "1001-1002")
    return lifted(folder, "object", *options, *more)


@record
def command_with_a_longer_movie(folder: Path) -> Any:
    film(folder / "edited.mkv", edited("veil", 4))
    options = ("--edited-offset", "-1", "--split", "parts", "--note", "Add mist", "--verbose", "--steadiness", "0")
    return lifted(folder, "", *options, "--sensitivity", "0.5", video=str(folder / "edited.mkv"))


@record
def command_on_another_shot(folder: Path) -> Any:
    other = [np.random.default_rng(n).random((*SIZE, 3)) for n in range(3)]
    return lifted(folder, "", video=sequence(folder / "other", other))


@record
def command_without_a_common_frame(folder: Path) -> Any:
    return lifted(folder, "object", "--edited-offset", "9")


@record
def command_on_part_of_the_picture(folder: Path) -> Any:
    cut = [p[4:40, 8:60] for p in edited("object", 3)]
    return lifted(folder, "", video=sequence(folder / "cut", cut))


@record
def pairs_of_frames(folder: Path) -> Any:
    cases = [
        (3, 3, None),
        (6, 3, None),
        (3, 6, None),
        (48, 25, None),  # with the rates below
        (5, 7, None),
        (9, 8, None),
        (3, 3, 1),
        (1, 1, 0),
    ]
    rates = {(48, 25): (24.0, 12.5)}
    found: dict[str, Any] = {}
    for count, came, offset in cases:
        fps = rates.get((count, came), (24.0, 24.0))
        whole = offset if isinstance(offset, int) else None
        found[f"{came} for {count}, offset {whole}"] = attempt(
            pairing.first_guess, count, came, fps, "edited.mov", whole
        )
    found["paired"] = [
        attempt(pairing.paired, places, list(range(11, 16)))
        for places in ([0, 1, 2, 3, 4], [0, 0, 1, 3], [1, 1, 2], [4, 3], [2])
    ]
    shown = pairing.shrunk_for_pairing(clip([plate(n * 3) for n in range(8)]))
    came = pairing.shrunk_for_pairing(clip([plate(n * 3) for n in (0, 1, 1, 2, 3, 5, 6, 7)]))
    found["by pictures"] = pairing.pair_frames(shown, came, [float(n) for n in range(8)])
    found["nearest"] = pairing.nearest_frames([-0.6, 0.4, 0.5, 7.8], 8)
    return found


@record
def framings(folder: Path) -> Any:
    shown = clip(plates(2))
    cut = shown[:, :, 6:44, 5:57]
    wide = torch.nn.functional.pad(shown, (0, 0, 6, 6))
    found = {}
    for name, came in {"whole": shown, "cut": cut, "borders": wide, "mirrored": shown.flip(-1)}.items():
        made = framing.find_framing(shown, came, 1.0)
        found[name] = [made, framing.without_borders(shown, came, made), made.window(), made.covered((64, 48))]
    found["rescaled"] = framing.rescaled(found["cut"][0], (2.0, 2.0), (3.0, 1.5))
    found["fitted"] = framing.whole((64, 48), (128, 64))
    return found
