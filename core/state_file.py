"""Intermediate state of a job on disk: one tensor by frame, written in portions, with a digest that is checked.

Each file is safetensors with one tensor `latents` (T, ...), fp32 or fp16, and is written atomically. Its header has the
writer's facts and a digest of everything else, so that any flipped bit is found before a value is used.
"""

import hashlib
import json
import math
import os
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from vera.core.errors import InputError
from vera.core.files import JsonLimits, check_shape, make_folder, open_regular, parse_json, replacing

_HEADER = 4096  # bytes of the header, padded with spaces, because the tensor's length is known only at the end
_BLOCK = 4 * 2**20  # bytes that are checked at a time
_TYPES = {"F32": torch.float32, "F16": torch.float16}
_SHAPE = {"__metadata__": dict, "latents": {"dtype": str, "shape": [int], "data_offsets": [int]}}
_MOST_DIMENSIONS = 8
# Facts of earlier versions' files, which have no digest.
_FACTS_BEFORE_DIGESTS = {"generation", "frames"}


class DamagedStateError(InputError):
    """A state file is damaged. The message is one line with its name and the fix."""


class StateFile:
    """A file written by `state_writer`. facts: the writer's texts by name. shape: (T, ...).

    Raises DamagedStateError for a damaged header or a truncated file; `check` verifies the values.
    """

    _checked: set[tuple[str, int, int, int]] = set()  # files that were verified, by path, size and times

    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        try:
            with open_regular(path) as file:
                length, text = struct.unpack("<Q", file.read(8))[0], file.read(_HEADER)
                self._state = os.fstat(file.fileno())
            header = parse_json(text, JsonLimits(bytes=_HEADER, depth=4))
            check_shape(header, _SHAPE)
            self._read_header(header)
            if length != _HEADER or text != _header(self.facts, self.digest, self._kind, self.shape):
                raise ValueError
        except (OSError, ValueError, KeyError, struct.error):
            raise self._damage() from None

    def _read_header(self, header: dict[str, Any]) -> None:
        """Raises ValueError, KeyError."""
        self.facts: dict[str, str] = dict(header["__metadata__"])
        self.digest: str | None = self.facts.pop("digest", None)
        self._kind: str = header["latents"]["dtype"]
        self.shape: tuple[int, ...] = tuple(header["latents"]["shape"])
        self.dtype = _TYPES[self._kind]
        size = self.dtype.itemsize * math.prod(self.shape)
        if not 1 <= len(self.shape) <= _MOST_DIMENSIONS or min(self.shape) < 0:
            raise ValueError
        if self._state.st_size != 8 + _HEADER + size or not all(isinstance(v, str) for v in self.facts.values()):
            raise ValueError
        if self.digest is None and set(self.facts) - _FACTS_BEFORE_DIGESTS:
            raise ValueError

    def check(self) -> None:
        """Read everything once. Raises DamagedStateError if the digest differs or a value is not finite."""
        state = self._state
        known = (str(self.path.absolute()), state.st_ino, state.st_size, state.st_mtime_ns)
        if known in StateFile._checked:
            return
        digest, finite = _new_digest(), True
        kind = np.dtype(np.float32 if self._kind == "F32" else np.float16)
        try:
            with open_regular(self.path) as file:
                file.seek(8 + _HEADER)
                while block := file.read(_BLOCK):
                    digest.update(block)
                    finite = finite and bool(np.isfinite(np.frombuffer(block, kind)).all())
        except (OSError, ValueError):
            raise self._damage() from None
        digest.update(_header_facts(self.facts, self._kind, self.shape))
        if not finite or (self.digest is not None and self.digest != digest.hexdigest()):
            raise self._damage()
        StateFile._checked.add(known)

    def read(self, start: int, stop: int) -> torch.Tensor:
        """Frames start .. stop-1, (stop - start, ...), in the file's type. Raises OSError."""
        stop = min(stop, self.shape[0])
        values = torch.empty(max(stop - start, 0), *self.shape[1:], dtype=self.dtype)
        with open_regular(self.path) as file:
            file.seek(8 + _HEADER + start * self.dtype.itemsize * math.prod(self.shape[1:]))
            if file.readinto(values.numpy().reshape(-1).view("uint8")) != values.nbytes:
                raise OSError(f"{self.path}: is cut short")
        return values

    def _damage(self) -> DamagedStateError:
        return DamagedStateError(f"{self.path}: damaged, not a whole file of latents; remove it")


def whole_state(path: Path, facts: dict[str, str]) -> StateFile | None:
    """The verified file if it has at least these facts; None if it is missing, damaged or of another job."""
    if not path.exists() and not path.is_symlink():
        return None
    try:
        file = StateFile(path)
        if {name: file.facts.get(name) for name in facts} != facts:
            return None
        file.check()
    except DamagedStateError:
        return None
    return file


@contextmanager
def state_writer(
    path: Path, facts: dict[str, str], dtype: torch.dtype = torch.float32
) -> Iterator[Callable[[torch.Tensor], None]]:
    """Context with a function that appends frames (n, ...); at its end the file takes its name. Raises OSError.

    `facts` are written at the end, so that entries can be added meanwhile.
    """
    kind = next(name for name, known in _TYPES.items() if known == dtype)
    make_folder(path.parent.parent, path.parent.name)
    shapes: list[tuple[int, ...]] = []
    digest = _new_digest()

    def add(values: torch.Tensor) -> None:
        values = values.detach().to("cpu", dtype).contiguous()
        content = values.numpy().reshape(-1).view(np.uint8)
        digest.update(content)
        file.write(content)
        shapes.append(tuple(values.shape))

    with replacing(path) as part:
        with open_regular(part, os.O_RDWR) as file:
            file.write(bytes(8 + _HEADER))
            yield add
            shape = (sum(s[0] for s in shapes), *shapes[0][1:])
            digest.update(_header_facts(facts, kind, shape))
            file.seek(0)
            file.write(struct.pack("<Q", _HEADER) + _header(facts, digest.hexdigest(), kind, shape))


def _header(facts: dict[str, str], digest: str | None, kind: str, shape: tuple[int, ...]) -> bytes:
    metadata = facts if digest is None else {**facts, "digest": digest}
    size = _TYPES[kind].itemsize * math.prod(shape)
    entry = {"dtype": kind, "shape": list(shape), "data_offsets": [0, size]}
    text = json.dumps({"__metadata__": metadata, "latents": entry}).encode()
    if len(text) > _HEADER:
        raise ValueError(f"facts of {len(text)} bytes; at most {_HEADER} are allowed")
    return text.ljust(_HEADER)


def _new_digest() -> Any:
    """A hash object for the values in order, followed by `_header_facts`."""
    return hashlib.blake2b(digest_size=16)


def _header_facts(facts: dict[str, str], kind: str, shape: tuple[int, ...]) -> bytes:
    return json.dumps([facts, kind, list(shape)], sort_keys=True).encode()
