"""A fingerprint of a model directory that is cheap to compute even for 50 GB."""

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Protocol

from vera.core.errors import InputError

SAMPLE_BYTES = 4096  # read from the middle of every tensor; raising it finds smaller changes and takes longer
HASHED = (".json", ".txt", ".model", ".safetensors")


class Digest(Protocol):
    """A hash object of hashlib."""

    def update(self, data: bytes, /) -> None:
        """Take in more bytes."""


def fingerprint(root: Path, parts: Iterable[str]) -> str:
    """SHA-256 of a model directory, as 64 hex digits.

    It covers path, size and contents of every .json, .txt, .model and .safetensors file of the parts, in order of name.
    Of safetensors files, the contents are the whole header and up to 4 KiB from the middle of every tensor. A training
    step changes every weight of a tensor and therefore the fingerprint; a change of a few other values may not.
    model.json (limits) is not part of it. Raises InputError for a damaged safetensors file.
    """
    digest = hashlib.sha256()
    for part in parts:
        for file in sorted((root / part).rglob("*"), key=lambda f: f.relative_to(root).as_posix()):
            if file.suffix in HASHED:
                digest.update(f"{file.relative_to(root).as_posix()}\n{file.stat().st_size}\n".encode())
                hash_tensors(file, digest) if file.suffix == ".safetensors" else digest.update(file.read_bytes())
    return digest.hexdigest()


def hash_tensors(path: Path, digest: Digest) -> None:
    """The header (8 bytes of its length, then JSON with each tensor's byte range), then the samples."""
    try:
        with open(path, "rb") as file:
            length = file.read(8)
            header = file.read(min(int.from_bytes(length, "little"), path.stat().st_size))
            digest.update(length + header)
            for name, entry in json.loads(header).items():
                if name != "__metadata__":
                    start, end = entry["data_offsets"]
                    file.seek(8 + len(header) + max(start, (start + end - SAMPLE_BYTES) // 2))
                    digest.update(file.read(min(SAMPLE_BYTES, end - start)))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise InputError(f"{path}: not a readable safetensors file; copy it again") from None
