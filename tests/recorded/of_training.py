"""Losses of the first steps of every kind of training, edits and spoils of the lift's, labels, and refused settings."""

import json
import random
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.data.datasets.layers import write_dataset
from tests.recorded.footage import plates
from tests.recorded.recording import attempt, files, of_command, record
from tests.training.mini.test_heads import SCENES_CONFIG
from tests.training.mini.test_objects import CONFIG as OBJECTS_CONFIG
from tests.training.mini.test_vae_training import CONFIG as VAE_CONFIG
from vera.core.data.engine.clips import make_clip
from vera.core.training.lift.kinds import KINDS, Draw
from vera.core.training.mini import objects, transformer_training
from vera.core.training.mini.objects import labelled_points, labelled_prompt
from vera.core.training.mini.scenes import labelled_scene


def trained(folder: Path, config: dict[str, Any], *options: str) -> Any:
    """What `vera train` prints, and its log without durations."""
    file = folder / "config.json"
    file.write_text(json.dumps(config))
    run = of_command(folder, "train", file, "--out", folder / "run", *options)
    found = {
        name: each for name, each in files(folder / "run", folder).items() if name.endswith((".json", ".jsonl", ".csv"))
    }
    said = [line for line in run["says"] if not line.startswith("step ") and "torchao" not in line]  # by the clock
    return run | {"says": said, "files": found}


@contextmanager
def losses_kept(owner: Any, name: str) -> Iterator[list[dict[str, float]]]:
    """The losses that a function of the owner returns, call by call."""
    kept: list[dict[str, float]] = []
    original = getattr(owner, name)

    def noted(*given: Any) -> dict[str, torch.Tensor]:
        losses = original(*given)
        kept.append({key: float(each) for key, each in losses.items()})
        return losses

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(owner, name, noted)
        yield kept


@record
def heads(folder: Path) -> Any:
    """Losses of the first two steps of the objects' field, and of 50 light ones of the scenes' head."""
    for name in ("objects", "scenes"):
        (folder / name).mkdir()
    with losses_kept(objects, "shape_losses") as shapes, losses_kept(objects.Lessons, "losses") as lessons:
        trained(folder / "objects", OBJECTS_CONFIG | {"steps": 2})
    return {"shapes": shapes, "lessons": lessons, "scenes": trained(folder / "scenes", SCENES_CONFIG | {"steps": 50})}


@record
def vae(folder: Path) -> Any:
    """Of the first step alone."""
    return trained(folder, VAE_CONFIG | {"steps": 1, "save_every": 1})


@record
def gate(folder: Path) -> Any:
    """Two clips of one size."""
    config = {"train": "lift", "seed": 5, "clips": 2, "held_out": 1, "sizes": [[64, 64]], "steps": 2, "batch": 32}
    return trained(folder, config)


@record
def losses_of_the_transformer(folder: Path) -> Any:
    torch.manual_seed(4)
    latents, seen = torch.randn(3, 5, 4, 2, 2, 2), torch.rand(3, 2, 2, 2)
    offset = torch.randn(3, 3, 4, 2, 2, 2) * 0.1

    def transformer(noisy: torch.Tensor, timestep: torch.Tensor, text: Any, source: Any, mask: Any, shot: Any) -> Any:
        return 0.3 * noisy + offset + (0 if mask is None else 0.1 * mask.mean())

    clips = transformer_training.EncodedClips(None, latents, seen, None)
    found = {}
    for masked in (True, False):
        torch.manual_seed(2)
        found[f"mask {masked}"] = transformer_training.flow_loss(transformer, clips, masked, 3.0, torch.ones(4))
    found["times"] = [transformer_training.pick_times(random.Random(n), 3) for n in range(4)]
    return found


@record
def refused_configurations(folder: Path) -> Any:
    cases = {
        "no kind": {"seed": 1},
        "another kind": {"train": "x"},
        "a missing setting": {"train": "objects", "seed": 1},
        "an unknown setting": OBJECTS_CONFIG | {"stps": 1},
        "a wrong type": OBJECTS_CONFIG | {"steps": "4"},
        "no steps": OBJECTS_CONFIG | {"steps": 0},
        "a negative rate": OBJECTS_CONFIG | {"rate": -1},
        "no text": OBJECTS_CONFIG | {"text": "nosuch"},
        "a vae of no size": VAE_CONFIG | {"size": 0},
        "a gate of no clips": {
            "train": "lift",
            "seed": 5,
            "clips": 0,
            "held_out": 1,
            "sizes": [[64, 64]],
            "steps": 1,
            "batch": 1,
        },
        "vera without a model": {"train": "vera"},
    }
    found: dict[str, Any] = {name: trained(folder, config)["says"] for name, config in cases.items()}
    (folder / "config.json").write_text(json.dumps(OBJECTS_CONFIG))
    for words in (["--minutes", "0"], ["--threads", "0"], ["--export", folder], ["--watch", folder / "no"]):
        run = of_command(folder, "train", folder / "config.json", "--out", folder / "run", *words)
        found[" ".join(map(str, words)).replace(str(folder), "TMP")] = [run["exit"], run["says"]]
    return found


@record
def kinds_of_edits(folder: Path) -> Any:
    plate = torch.stack([torch.from_numpy(p).movedim(-1, 0).float() for p in plates(2)])
    found = {}
    for kind in KINDS:
        found[kind.__name__] = attempt(kind, Draw(random.Random(3), torch.Generator().manual_seed(3), plate))
    return found


@record
def labels(folder: Path) -> Any:
    return [
        [labelled_prompt(seed) for seed in range(6)],
        [labelled_scene(seed) for seed in range(6)],
        [labelled_points(name, 40, torch.Generator().manual_seed(1)) for name in ("balloon", "star")],
    ]


@record
def clips_of_the_data_engine(folder: Path) -> Any:
    found = {}
    for seed in range(10):
        clip = make_clip(seed, 48, 80, [0, 5])
        found[str(seed)] = [clip.instruction, clip.labels, clip.path, clip.edit, clip.alpha, clip.composite, clip.mask]
    return found


@record
def datasets(folder: Path) -> Any:
    root = write_dataset(folder / "data", 2)
    with (root / "train.jsonl").open("a") as lines:
        lines.write('{"edit_instruction": "x"}\nno json\n')
    runs = [[root], [root, "--json"], [root, "--pixels", "--workers", "1"], [folder / "no"], [root, "--workers", "0"]]
    return [of_command(folder, "data", "check", *words) for words in runs[:2] + runs[3:]]
