"""What is drawn at plate size: every backdrop, swarm and structure, splits of a layer, and grain and sharpness."""

from pathlib import Path
from typing import Any

import numpy as np
import torch

from tests.recorded.footage import SIZE, disc, plate
from tests.recorded.recording import record
from vera.core.layer.backdrop.backdrop import PAINTINGS, Backdrop, Room
from vera.core.layer.backdrop.painting import BackdropRequest
from vera.core.layer.backdrop.plate_motion import Move
from vera.core.layer.particles import WEATHER, Particles, drawn_particles, over_veil
from vera.core.layer.plate_light import PlateLight, Scene
from vera.core.layer.split import Kinds, split_layer
from vera.core.layer.turbulence import STRUCTURES, Turbulence, with_structure

ASPECT = 4 / 3
ROWS = 36  # of a backdrop's painting


def scene(clips: bool = True) -> Scene:
    """A scene lit by the plate of the footage."""
    return Scene(SIZE, ASPECT, PlateLight.of(plate(0)[::6, ::6].astype(np.float32)), clips)


@record
def backdrops(folder: Path) -> Any:
    """Every background at two times, with a seed of its own and with margins for a moving camera."""
    found = {}
    for kind in PAINTINGS:
        made = Backdrop(BackdropRequest(kind, 3, frozenset()), ASPECT, ROWS)
        found[kind] = [made.picture(time) for time in (0.0, 7.5)]
        room = Backdrop(BackdropRequest(kind, 4, frozenset()), 16 / 9, ROWS, Room(0.1, 0.05, 0.02, 0.03))
        found[f"{kind}, moved"] = room.framed(room.picture(2.0).light, Move(right=0.02, down=-0.01), (18, 32))
    return found


@record
def particles(folder: Path) -> Any:
    alpha, color = torch.from_numpy(disc(0, 20, 15)[..., 0]).float(), torch.full((3, *SIZE), 0.8)
    found = {}
    for kind in WEATHER:
        swarms = [Particles(kind, seed, 8, amount, (0.0, 0.1)) for seed, amount in ((0, 1.0), (1, 2.0))]
        found[kind] = [drawn_particles(each, scene(clips)) for each, clips in zip(swarms, (True, False), strict=True)]
        found[f"{kind} over a veil"] = over_veil(swarms[0], alpha, color, scene())
    return found


@record
def structures(folder: Path) -> Any:
    alpha = torch.from_numpy(disc(0, 22, 18)[..., 0]).float()
    color = torch.from_numpy(plate(1)).movedim(-1, 0).float()
    return {k: with_structure(Turbulence(k, 3, 5), alpha, color, scene()) for k in STRUCTURES}


@record
def splits(folder: Path) -> Any:
    """A layer of parts that darken, veil, light and hide, in each of the types."""
    alpha = np.clip(disc(0, 20, 6), 0, 1)
    color = np.concatenate([alpha * np.array([0.6, 0.3, 0.2]), alpha], -1).astype(np.float32)
    across = np.linspace(0, 1, SIZE[1], dtype=np.float32)[None].repeat(SIZE[0], 0)
    found = {}
    for name, kinds in {
        "mixed": Kinds(across, np.zeros_like(across), across[::-1] * 0),
        "dark": Kinds(across * 0, np.ones_like(across), across * 0),
        "gain": Kinds(across * 0, np.zeros_like(across), across),
        "all": Kinds(across, (across > 0.5).astype(np.float32), 1 - across),
    }.items():
        for dtype in (np.float16, np.float32):
            made = split_layer(color.astype(dtype), plate(0).astype(np.float32), kinds, dtype)
            found[f"{name} {np.dtype(dtype).name}"] = made
    return found
