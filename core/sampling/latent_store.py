"""Latents by frame, on disk or in memory; on disk, memory use does not grow with the shot.

Latents on disk are fp32 files of `vera.core.state_file`. Both kinds have
    shape               of all frames
    facts               metadata, texts by name
    read(start, stop)   -> (stop - start, ...), fp32
"""

import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from vera.core.errors import InputError
from vera.core.files import make_folder
from vera.core.state_file import DamagedStateError, StateFile, state_writer, whole_state


class LayerLatents:
    """One layer of latents by frame (T, 3, C, H, W), in the form that Codec.decode_stream reads: (1, C, T, H, W)."""

    def __init__(self, latents: Any, index: int, device: Any) -> None:
        frames, _, *shape = latents.shape
        self.latents, self.index, self.device = latents, index, device
        self.shape = (1, shape[0], frames, *shape[1:])

    def __getitem__(self, key: tuple[Any, ...]) -> torch.Tensor:
        i = key[2]
        return self.latents.read(i, i + 1)[:, self.index].to(self.device)


class ClipLatents:
    """Latents by frame (T, C, H, W), in the form that Codec.decode_stream reads: (1, C, T, H, W)."""

    def __init__(self, latents: Any, device: Any) -> None:
        frames, *shape = latents.shape
        self.latents, self.device = latents, device
        self.shape = (1, shape[0], frames, *shape[1:])

    def __getitem__(self, key: tuple[Any, ...]) -> torch.Tensor:
        i = key[2]
        return self.latents.read(i, i + 1).to(self.device)


class InMemory:
    """Latents (T, ...) in memory."""

    def __init__(self, latents: torch.Tensor) -> None:
        self.latents, self.shape = latents, tuple(latents.shape)
        self.facts: dict[str, str] = {}

    def read(self, start: int, stop: int) -> torch.Tensor:
        return self.latents[start:stop]


class LatentStore:
    """A folder with the latents of one generation: KIND.FIRST.safetensors for each shot; FIRST is its first frame.

    generation: cache key of everything that determines the latents.
    """

    def __init__(self, folder: Path, generation: str) -> None:
        self.folder, self.generation = Path(folder), generation

    def path(self, kind: str, first: int) -> Path:
        return self.folder / f"{kind}.{first}.safetensors"

    def facts(self, frames: range) -> dict[str, str]:
        return {"generation": self.generation, "frames": f"{frames[0]} {frames[-1]}"}

    def shots(self, kind: str, frames: Sequence[int]) -> dict[range, StateFile]:
        """The intact shots of this generation, by frames; {} unless they cover exactly these frames."""
        found = {}
        for path in self._files(kind):
            try:
                file = StateFile(path)
                if file.facts.get("generation") == self.generation:
                    file.check()
                    found[_frames(file)] = file
            except DamagedStateError:
                continue
        found = dict(sorted(found.items(), key=lambda item: item[0][0]))
        if sum(map(len, found)) != len(frames):
            return {}
        return found if [f for shot in found for f in shot] == list(frames) else {}

    def holds(self, kind: str, frames: range) -> bool:
        """Whether the shot of these frames exists, intact and of this generation."""
        return whole_state(self.path(kind, frames[0]), self.facts(frames)) is not None

    def damaged(self) -> list[Path]:
        """Files that are damaged."""
        found = []
        for path in self._files("*"):
            try:
                StateFile(path).check()
            except DamagedStateError:
                found.append(path)
        return found

    def move_to(self, kind: str, other: "LatentStore") -> None:
        """Move all files of a kind to another store."""
        for path in self._files(kind):
            make_folder(other.folder.parent, other.folder.name)
            os.replace(path, other.folder / path.name)

    def bytes_there(self) -> int:
        """Size of all files in bytes."""
        return sum(path.lstat().st_size for path in self._files("*"))

    def refuse_others(self) -> None:
        """Raise InputError if the folder holds latents of another generation; damaged files are ignored."""
        for path in self._files("*"):
            try:
                generation = StateFile(path).facts.get("generation")
            except DamagedStateError:
                continue
            if generation != self.generation:
                raise InputError(
                    f"{path}: generated from another plate, prompt, seed or setting; choose another --out, or remove it"
                )

    def _files(self, kind: str) -> list[Path]:
        return sorted(p for p in self.folder.glob(f"{kind}.*.safetensors") if not p.stem.endswith(".part"))


def _frames(file: StateFile) -> range:
    """The frames of a file, from its facts. Raises DamagedStateError if they name none."""
    match = re.fullmatch(r"(-?[0-9]{1,9}) (-?[0-9]{1,9})", file.facts.get("frames", ""))
    if not match or int(match[1]) > int(match[2]):
        raise DamagedStateError(f"{file.path}: names no frames; remove it")
    return range(int(match[1]), int(match[2]) + 1)


class States:
    """The sampler's newest state on disk, from which a stopped run resumes."""

    def __init__(self, folder: Path, name: str, facts: dict[str, str]) -> None:
        self.folder, self.name, self.facts = Path(folder), name, facts

    def newest(self) -> tuple[int, Any]:
        """(number of finished steps, their state), or (0, None); damaged states are ignored."""
        for path in sorted(self.folder.glob(f"{self.name}.step*.safetensors"), reverse=True):
            step = re.fullmatch(r".*\.step([0-9]{4,9})", path.stem)
            state = whole_state(path, self.facts) if step else None
            if step and state is not None:
                return int(step[1]), state
        return 0, None

    @contextmanager
    def writer(self, step: int) -> Iterator[Callable[[torch.Tensor], Any]]:
        with state_writer(self._path(step), self.facts) as add:
            yield add
        self._path(step - 1).unlink(missing_ok=True)

    def clear(self) -> None:
        for path in self.folder.glob(f"{self.name}.step*"):
            path.unlink()

    def _path(self, step: int) -> Path:
        return self.folder / f"{self.name}.step{step:04d}.safetensors"


class StatesInMemory:
    """The same interface in memory, without resume."""

    def __init__(self) -> None:
        self._newest: tuple[int, Any] = (0, None)

    def newest(self) -> tuple[int, Any]:
        return self._newest

    @contextmanager
    def writer(self, step: int) -> Iterator[Callable[[torch.Tensor], Any]]:
        parts: list[torch.Tensor] = []
        yield parts.append
        self._newest = (step, InMemory(torch.cat(parts)))

    def clear(self) -> None:
        self._newest = (0, None)
