"""Latents by frame, on the disk or in memory, so that their memory does not grow with the shot.

On the disk they are safetensors files of one fp32 tensor `latents` (T, ...), whole or not there. Both kinds have
    shape, facts        of all frames; what was noted with them, texts by name
    read(start, stop)   -> (stop - start, ...), fp32
"""

import json
import math
import os
import struct
from contextlib import contextmanager
from pathlib import Path

import torch

from vera.core.errors import InputError
from vera.core.files import replacing

_HEADER = 4096  # bytes, padded with spaces: the length is written when it is known


class LayerLatents:
    """One of three layers by frame, (T, 3, C, H, W), as Codec.decode_stream reads it: [:, :, i] of (1, C, T, H, W)."""

    def __init__(self, latents, index: int, device):
        frames, _, *shape = latents.shape
        self.latents, self.index, self.device = latents, index, device
        self.shape = (1, shape[0], frames, *shape[1:])

    def __getitem__(self, key):
        i = key[2]
        return self.latents.read(i, i + 1)[:, self.index].to(self.device)


class ClipLatents:
    """Latents by frame, (T, C, H, W), as Codec.decode_stream reads them."""

    def __init__(self, latents, device):
        frames, *shape = latents.shape
        self.latents, self.device = latents, device
        self.shape = (1, shape[0], frames, *shape[1:])

    def __getitem__(self, key):
        i = key[2]
        return self.latents.read(i, i + 1).to(self.device)


class InMemory:
    """Latents (T, ...) in memory."""

    def __init__(self, latents: torch.Tensor):
        self.latents, self.shape, self.facts = latents, tuple(latents.shape), {}

    def read(self, start, stop):
        return self.latents[start:stop]


class LatentFile:
    """Latents in a file as `latent_writer` writes it. Raises InputError if it is none, or broken off."""

    def __init__(self, path: Path):
        self.path = Path(path)
        try:
            with open(path, "rb") as file:
                (length,) = struct.unpack("<Q", file.read(8))
                header = json.loads(file.read(_HEADER))
            self.shape, self.facts = tuple(header["latents"]["shape"]), header["__metadata__"]
            whole = 8 + _HEADER + 4 * math.prod(self.shape)
            if length != _HEADER or header["latents"]["dtype"] != "F32" or os.stat(path).st_size != whole:
                raise ValueError
        except (OSError, ValueError, KeyError, TypeError, struct.error):
            raise InputError(f"{path}: not a whole file of latents; remove it") from None

    def read(self, start, stop):
        stop = min(stop, self.shape[0])
        latents = torch.empty(max(stop - start, 0), *self.shape[1:])
        with open(self.path, "rb") as file:
            file.seek(8 + _HEADER + start * 4 * math.prod(self.shape[1:]))
            if file.readinto(latents.numpy().reshape(-1).view("uint8")) != latents.nbytes:
                raise OSError(f"{self.path}: breaks off")
        return latents


class LatentStore:
    """A folder for latents of one generation: files KIND.FIRST.safetensors, one for each shot between cuts."""

    def __init__(self, folder: Path, generation: str):
        self.folder, self.generation = Path(folder), generation

    def path(self, kind: str, first: int) -> Path:
        return self.folder / f"{kind}.{first}.safetensors"

    def facts(self, frames: range) -> dict[str, str]:
        return {"generation": self.generation, "frames": f"{frames[0]} {frames[-1]}"}

    def shots(self, kind: str, frames: range) -> dict[range, LatentFile]:
        """The shots of this generation that are there, if together they are these frames; else none."""
        files = (LatentFile(path) for path in self._files(kind))
        there = {_frames(file): file for file in files if file.facts["generation"] == self.generation}
        there = dict(sorted(there.items(), key=lambda item: item[0][0]))
        return there if [f for shot in there for f in shot] == list(frames) else {}

    def give(self, kind: str, other: "LatentStore") -> None:
        """Move what there is of a kind to another store."""
        for path in self._files(kind):
            other.folder.mkdir(parents=True, exist_ok=True)
            os.replace(path, other.folder / path.name)

    def bytes_there(self) -> int:
        """What the folder's files take on the disk."""
        return sum(path.stat().st_size for path in self._files("*"))

    def refuse_others(self) -> None:
        """Raises InputError if the folder holds another generation's latents."""
        for path in self._files("*"):
            if LatentFile(path).facts.get("generation") != self.generation:
                raise InputError(
                    f"{path}: generated from another plate, prompt, seed or setting; choose another --out, or remove it"
                )

    def _files(self, kind):
        return [p for p in self.folder.glob(f"{kind}.*.safetensors") if not p.stem.endswith(".part")]


def _frames(file):
    first, last = map(int, file.facts["frames"].split())
    return range(first, last + 1)


@contextmanager
def latent_writer(path: Path, facts: dict[str, str]):
    """A function that takes (n, ...) more frames; after the last the file takes its name. Raises OSError.

    `facts` are written last: what is known only then may still be put into them.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    shapes = []

    def add(latents):
        values = latents.detach().to("cpu", torch.float32).contiguous()
        file.write(values.numpy().tobytes())
        shapes.append(tuple(values.shape))

    with replacing(path) as part:
        with open(part, "wb") as file:
            file.write(bytes(8 + _HEADER))
            yield add
            shape = [sum(s[0] for s in shapes), *shapes[0][1:]]
            entry = {"dtype": "F32", "shape": shape, "data_offsets": [0, 4 * math.prod(shape)]}
            header = json.dumps({"__metadata__": facts, "latents": entry}).encode().ljust(_HEADER)
            file.seek(0)
            file.write(struct.pack("<Q", len(header)) + header)


class States:
    """The sampler's state after each step, on the disk: where a run that ended goes on. Holds the newest only."""

    def __init__(self, folder: Path, name: str, facts: dict[str, str]):
        self.folder, self.name, self.facts = Path(folder), name, facts

    def newest(self):
        """(number of steps done, their state), or (0, None)."""
        for path in sorted(self.folder.glob(f"{self.name}.step*.safetensors"), reverse=True):
            if path.stem.split("step")[-1].isdigit():
                state = LatentFile(path)
                if state.facts == self.facts:
                    return int(path.stem.split("step")[-1]), state
        return 0, None

    @contextmanager
    def writer(self, step):
        with latent_writer(self._path(step), self.facts) as add:
            yield add
        self._path(step - 1).unlink(missing_ok=True)

    def clear(self):
        for path in self.folder.glob(f"{self.name}.step*"):
            path.unlink()

    def _path(self, step):
        return self.folder / f"{self.name}.step{step:04d}.safetensors"


class StatesInMemory:
    """The same for a clip that is made in one go."""

    def __init__(self):
        self._newest = (0, None)

    def newest(self):
        return self._newest

    @contextmanager
    def writer(self, step):
        parts = []
        yield parts.append
        self._newest = (step, InMemory(torch.cat(parts)))

    def clear(self):
        self._newest = (0, None)
