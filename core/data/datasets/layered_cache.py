"""Disk cache of the latents and text states of a dataset's rows.

The cache key of an entry is a digest of everything that determines it: the bytes of the movies, the encoders, and the
number of the method that prepares layers. Entries are written atomically, so several processes may write the same
entry at once. A damaged entry is computed again.
"""

import hashlib
import json
import os
import time
import uuid
import zlib
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from vera.core.data.datasets.layered import LAYERS, BrokenRowError, Row
from vera.core.data.datasets.layered_media import model_layers, read_layers
from vera.core.data.datasets.own_clips import files_of
from vera.core.errors import InputError
from vera.core.model.fingerprint import fingerprint
from vera.core.model.load import load_model

METHOD = "1"  # version of how latents are made from layers; part of the cache key
OWN_METHOD = "2"  # version of how your own shots are cut into clips; part of the cache key of these clips
CLOCK_TICK = 2 * 10**9  # nanoseconds; the coarsest time stamp of a common file system (FAT)
ENCODERS = ("vae", "text_encoder", "tokenizer")


class Digests:
    """SHA-256 digests of files, cached by path, size and modification time.

    A file is read again only when one of the three changes. The digests are stored as JSON lines in one file, to which
    several processes may append at once.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.known: dict[tuple, str] | None = None

    def of(self, file: Path) -> str:
        """Digest of a file's bytes. Raises OSError."""
        stat = os.stat(file)
        facts = (os.path.abspath(file), stat.st_size, stat.st_mtime_ns)
        if self.known is None:
            self.known = self._read()
        if facts not in self.known:
            with open(file, "rb") as opened:
                self.known[facts] = hashlib.file_digest(opened, "sha256").hexdigest()
            # A second change within one clock tick would leave the time stamp equal: do not store young files.
            if time.time_ns() - stat.st_mtime_ns > CLOCK_TICK:
                self._add(facts, self.known[facts])
        return self.known[facts]

    def _read(self) -> dict[tuple, str]:
        known: dict[tuple, str] = {}
        try:
            lines = self.path.read_bytes().split(b"\n")
        except OSError:
            return known
        for line in lines:
            try:
                path, size, time_ns, digest = json.loads(line)
                known[path, size, time_ns] = digest
            except ValueError:  # an incomplete line: its writer was interrupted
                continue
        return known

    def _add(self, facts: tuple, digest: str) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        line = json.dumps([*facts, digest]).encode() + b"\n"
        handle = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            os.write(handle, line)  # one call, so that lines of several processes do not mix
        finally:
            os.close(handle)


class Cache:
    """A folder of cached tensors. encoders: fingerprint of the codec and the text encoder, part of every cache key."""

    def __init__(self, folder: Path, encoders: str) -> None:
        self.folder, self.encoders = Path(folder), encoders
        self.digests = Digests(self.folder / "digests.jsonl")

    def key_of_row(self, row: Row) -> str:
        """Cache key of a row's latents. Raises BrokenRowError if a file of the row cannot be read."""
        parts = []
        for layer, file in row.files.items():
            try:
                parts += [layer, *(self.digests.of(each) for each in files_of(file))]
            except OSError as error:
                raise BrokenRowError(row.name, file, f"cannot be read ({error.strerror})") from None
        return self._key("latents", METHOD, *parts, *([OWN_METHOD, repr(row.segment)] if row.segment else []))

    def key_of_text(self, instruction: str) -> str:
        """Cache key of an instruction's text states."""
        return self._key("text", instruction)

    def _key(self, kind: str, *parts: str) -> str:
        digest = hashlib.sha256("\n".join([self.encoders, *parts]).encode("utf-8", "surrogatepass")).hexdigest()
        return f"{kind}/{digest[:2]}/{digest}"

    def holds(self, key: str) -> bool:
        """Whether the entry exists; its contents are not checked."""
        return self._path(key).is_file()

    def get(self, key: str) -> torch.Tensor | None:
        """The cached tensor, or None if the entry is missing or damaged."""
        try:
            with safe_open(self._path(key), "pt") as file:
                values, crc = file.get_tensor("values"), file.metadata()["crc32"]
        except (OSError, SafetensorError, KeyError, TypeError):
            return None
        return values if crc == checksum(values) else None

    def put(self, key: str, values: torch.Tensor) -> None:
        """Write an entry atomically."""
        path = self._path(key)
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f"{uuid.uuid4().hex}.part")
        try:
            save_file({"values": values}, part, {"crc32": checksum(values)})
            os.replace(part, path)
        finally:
            part.unlink(missing_ok=True)

    def _path(self, key: str) -> Path:
        return self.folder / f"{key}.safetensors"


def checksum(values: torch.Tensor) -> str:
    """CRC-32 of a tensor's bytes, as decimal text."""
    return str(zlib.crc32(values.contiguous().view(-1).view(torch.uint8).numpy()))


class Encoders:
    """The codec and the text encoder of a model directory, loaded to the device when first used."""

    def __init__(self, root: Path, device: torch.device | str) -> None:
        self.root, self.device = Path(root), device
        self.decoder: Any = None  # the codec, while it decodes
        self.parts: tuple[Any, Any] | None = None  # codec and text encoder; None while they are not loaded
        self.fingerprint = fingerprint(self.root, ENCODERS)

    def latents(self, row: Row, layers: dict[str, torch.Tensor]) -> torch.Tensor:
        """Encode a row's decoded layers in the order of LAYERS: (4 or 5, C, t, h, w) fp16. Raises BrokenRowError."""
        unit, (codec, _) = model_layers(row, layers, self.device), self._loaded()
        return torch.cat([codec.encode(unit[k][None]) for k in LAYERS if k in unit]).to("cpu", torch.float16)

    def text(self, instruction: str) -> torch.Tensor:
        """States (N, D) of an instruction's tokens without padding, in the encoder's dtype.

        Raises InputError if the instruction is longer than the encoder reads.
        """
        states = self._loaded()[1].encode([instruction])[0].cpu()
        return states[: int((states != 0).any(-1).sum())].contiguous()

    def decode(self, latents: torch.Tensor, frames: int) -> torch.Tensor:
        """Pixels (3, T, H, W) fp32 of one layer's latents (1, C, t, h, w). Only the codec is moved to the device."""
        if self.decoder is None:
            model: Any = load_model(str(self.root), "cpu")
            model.codec.to(self.device)
            self.decoder = model.codec
        with torch.inference_mode():
            return self.decoder.decode(latents.to(self.device, torch.float32), frames)[0]

    def _loaded(self) -> tuple[Any, Any]:
        if self.parts is None:
            model: Any = load_model(str(self.root), "cpu")  # memory-mapped: the unused transformer is never read
            codec, text = model.codec, model.text
            codec.to(self.device)
            text.encoder.to(self.device, torch.bfloat16 if torch.device(self.device).type == "cuda" else None)
            self.parts = codec, text
        return self.parts

    def release(self) -> None:
        """Free the memory of codec and text encoder; the next use loads them again."""
        self.parts = self.decoder = None


class Fetched(NamedTuple):
    """The part of a sample that needs no encoder: cached latents and states, or the decoded layers.

    key: cache key of the latents.
    cached: everything is in the cache, and nothing was read because only the cache was to be filled.
    """

    row: Row
    key: str
    latents: torch.Tensor | None = None
    states: torch.Tensor | None = None
    layers: dict[str, torch.Tensor] | None = None
    cached: bool = False


class Sample(NamedTuple):
    """One training sample.

    latents: (4 or 5, C, t, h, w) fp16, in the order of LAYERS.
    states: (N, D) text states of the instruction's tokens, without padding.
    row: the row's name.
    """

    latents: torch.Tensor
    states: torch.Tensor
    row: str


def fetch(row: Row, cache: Cache, fill_only: bool = False) -> Fetched:
    """Read a row from the cache, or else decode its layers; runs in a worker process.

    fill_only: only fill the cache; do not read entries that exist. Raises BrokenRowError.
    """
    key, text = cache.key_of_row(row), cache.key_of_text(row.instruction)
    if fill_only and cache.holds(key) and cache.holds(text):
        return Fetched(row, key, cached=True)
    latents = cache.get(key)
    return Fetched(row, key, latents, cache.get(text), read_layers(row) if latents is None else None)


def finish(fetched: Fetched, cache: Cache, encoders: Encoders) -> Sample | None:
    """Encode and cache what `fetch` did not find. None if `fetched.cached`. Raises BrokenRowError."""
    row, latents, states = fetched.row, fetched.latents, fetched.states
    if fetched.cached:
        return None
    if latents is None:
        assert fetched.layers is not None  # fetch decodes the layers of a row without cached latents
        latents = encoders.latents(row, fetched.layers)
        cache.put(fetched.key, latents)
    if states is None:
        try:
            states = text_states(row.instruction, cache, encoders)
        except InputError as error:  # the instruction is longer than the encoder reads
            raise BrokenRowError(row.name, "", str(error)) from None
    return Sample(latents, states, row.name)


def text_states(instruction: str, cache: Cache, encoders: Encoders) -> torch.Tensor:
    """States (N, D) of an instruction, from the cache or else encoded and cached.

    Raises InputError if the instruction is longer than the encoder reads.
    """
    key = cache.key_of_text(instruction)
    states = cache.get(key)
    if states is None:
        states = encoders.text(instruction)
        cache.put(key, states)
    return states
