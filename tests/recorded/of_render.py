"""Renders by a tiny model with every option that changes files, and by mini: manifests, words, events and pixels."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.plate.media import write_image
from tests.recorded.footage import bytes_of, disc, film, plate, plates, sequence
from tests.recorded.recording import files, of_command, record
from tests.tiny import draw, tiny_model
from vera.core.model import load
from vera.core.sampling import denoise, solver, time_windows


def ball(color: torch.Tensor, alpha: torch.Tensor, reconstruction: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """A layer whose pixels are known: opaque on the left, soft in the middle, none on the right."""
    alpha[:, : alpha.shape[1] // 3], alpha[:, alpha.shape[1] // 2 :] = 0.8, 0
    return color, alpha


@contextmanager
def tiny_models() -> Iterator[None]:
    """`vera render` loads the tiny model, and draws `ball`'s alpha."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(load, "load_model", lambda name, device, **asked: tiny_model())
        draw(patch, ball)
        yield


def rendered(folder: Path, *options: str | Path, shot: str | None = None, prompt="Add a red ball") -> dict[str, Any]:
    shot = shot or sequence(folder / "in", plates(2), extension="exr")
    out = folder / "out"
    given = ["--plate", shot, "--out", out, "--prompt", prompt, "--progress", "jsonl", "--device", "cpu", *options]
    with tiny_models():
        return of_command(folder, "render", *given) | {"files": files(out, folder)}


@record
def plain_sequence(folder: Path) -> Any:
    return rendered(folder, "--verbose")


@record
def every_format(folder: Path) -> Any:
    mask = write_image(folder / "m.png", bytes_of(disc(0, 20) * np.ones(3)))
    options = ["--mask", mask, "--also", "prores,png,matte", "--layer-type", "float", "--compression", "piz"]
    return rendered(folder, *options, "--blend-space", "encoded", "--layer-mode", "replace", "--seed", "7")


@record
def region_of_pngs(folder: Path) -> Any:
    shot = sequence(folder / "in", plates(2))
    options = ["--region", "8,4,48,40", "--layer-mode", "relative", "--steps", "1", "--guidance", "1", "--shift", "5"]
    return rendered(folder, *options, "--keep", shot=shot)


@record
def movie_with_cuts(folder: Path) -> Any:
    shot = film(folder / "m.mkv", [*plates(3), *(1 - p for p in plates(2))])
    return rendered(folder, "--cuts", "4", "--match", "grain,sharpness", "--frames", "2-5", shot=shot)


@record
def scene_linear_in_another_space(folder: Path) -> Any:
    options = [
        "--color-space",
        "ACEScg",
        "--layer-space",
        "linear",
        "--exposure",
        "1.5",
        "--negative-prompt",
        "a red ball",
    ]
    return rendered(folder, *options, "--cache", "0.2", "--compression", "rle", "--frames", "1002-1002")


@record
def longer_than_a_window(folder: Path) -> Any:
    shot = sequence(folder / "in", [plate(n) for n in range(14)])
    found = rendered(folder, "--steps", "2", shot=shot)
    found["files"] = {name: each for name, each in found["files"].items() if "101" in name or name == "manifest.json"}
    return found


@record
def a_job_again_and_another_into_its_folder(folder: Path) -> Any:
    shot = sequence(folder / "in", plates(2), extension="exr")
    first = rendered(folder, shot=shot)
    again = rendered(folder, shot=shot)
    other = rendered(folder, "--seed", "3", shot=shot)
    return [{k: each[k] for k in ("exit", "prints", "says")} for each in (first, again, other)]


@record
def dry_runs(folder: Path) -> Any:
    return [
        rendered(folder, "--dry-run", *more) for more in ([], ["--json"], ["--also", "prores", "--region", "0,0,32,32"])
    ]


@record
def refused_renders(folder: Path) -> Any:
    shot = sequence(folder / "in", plates(2))
    write_image(folder / "wrong.png", bytes_of(plate(0, (10, 10))))
    (folder / "file").write_text("x")
    cases = [
        ["--region", "60,40,20,20"],
        ["--region", "0,0,1,1"],
        ["--cuts", "9999"],
        ["--cuts", "1001"],
        ["--frames", "1-5"],
        ["--mask", folder / "no.png"],
        ["--mask", folder / "file"],
        ["--color-space", "nosuch"],
        ["--layer-space", "srgb"],
        ["--lora", "no.safetensors"],
        ["--blend-space", "encoded", "--layer-space", "ACEScg"],
        ["--steps", "0"],
        ["--parts", "1"],
        ["--edited-offset", "1"],
        ["--match", "grain,noise"],
        ["--also", "gif"],
        ["--model", "nosuch"],
        ["--model", "lift:"],
        ["--out", folder / "file"],
        ["--plate", folder / "no.#.exr"],
        ["--guidance", "99"],
        ["--nosuch"],
        ["--weights", "fp8"],
        ["--offload", "blocks"],
        ["--attention", "int8"],
        ["--processes", "0"],
        ["--prompt", ""],
    ]
    found = {}
    for more in cases:
        refused = rendered(folder, *more, shot=shot)
        name = " ".join(str(word).replace(str(folder), "TMP") for word in more)
        found[name] = refused["prints"][-1:] + [refused["exit"]]
    return found


@record
def mini_draws(folder: Path) -> Any:
    """The embedded model in one step: an object at plate size, an effect, and a new background."""
    shot = sequence(folder / "in", plates(1))
    found = {}
    for name, prompt in {
        "object": "Add a large red balloon on the left",
        "effect": "Add falling snow",
        "background": "Replace the background with the sea at sunset",
    }.items():
        out = folder / name
        given = ["--plate", shot, "--out", out, "--prompt", prompt, "--steps", "1", "--guidance", "1", "--mask", "none"]
        made = of_command(folder, "render", *given, "--progress", "none", "--device", "cpu")
        found[name] = made | {"files": files(out, folder)}
    return found


@record
def windows_in_time(folder: Path) -> Any:
    return {
        f"{n} of {size} by {step}": time_windows.windows(n, size, step)
        for n, size, step in [
            (3, 9, 4),
            (9, 9, 4),
            (10, 9, 4),
            (21, 9, 5),
            (40, 13, 7),
            (22, 21, 1),
        ]
    }


@record
def noise_and_solver(folder: Path) -> Any:
    found: dict[str, Any] = {
        "noise": [denoise.seeded_noise(5, 0, 3, (2, 4, 4)), denoise.seeded_noise(5, 1, 3, (2, 4, 4))],
        "coarse": denoise.seeded_noise(5, 0, 2, (4, 4, 4), 2),
        "evaluations": [denoise.evaluations(n, 3, range(s)) for n, s in ((2, 4), (3, 4), (9, 2))],
    }
    for steps, shift in ((1, 3.0), (2, 1.0), (8, 3.0), (8, 16.0)):
        made = solver.Solver(steps, shift)
        found[f"{steps} steps, shift {shift}"] = {n: v for n, v in vars(made).items() if not callable(v)}
    return found
