"""Latents and text states of a dataset's rows, made once and kept on the disk.

An entry's name is a digest of all that determines it: the movies' bytes, the encoders, how layers are prepared.
It is there whole or not at all, several processes may make it at once, and one that was damaged is made again.
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
from vera.core.errors import InputError
from vera.core.model.fingerprint import fingerprint
from vera.core.model.load import load_model

WAY = "1"  # of making latents out of layers; another way is another number
CLOCK_TICK = 2 * 10**9  # nanoseconds; the coarsest clock of a common file system
ENCODERS = ("vae", "text_encoder", "tokenizer")


class Digests:
    """SHA-256 of files' contents, remembered by path, size and time of change: a file is read again only when one of
    these is another one. Kept in a file of JSON lines, to which several processes may add at once.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.known: dict[tuple, str] | None = None

    def of(self, file: Path) -> str:
        """Of a file's bytes, or of a folder's files by name. Raises OSError."""
        stat = os.stat(file)
        facts = (os.path.abspath(file), stat.st_size, stat.st_mtime_ns)
        if self.known is None:
            self.known = self._read()
        if facts not in self.known:
            with open(file, "rb") as opened:
                self.known[facts] = hashlib.file_digest(opened, "sha256").hexdigest()
            # A file that was changed just now may change again within its clock's tick, and not show it.
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
            except ValueError:  # the end of a line that another process was writing
                continue
        return known

    def _add(self, facts: tuple, digest: str) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        line = json.dumps([*facts, digest]).encode() + b"\n"
        handle = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            os.write(handle, line)  # in one call, so that lines of several processes do not mix
        finally:
            os.close(handle)


class Cache:
    """folder: where entries are; encoders: their fingerprint."""

    def __init__(self, folder: Path, encoders: str) -> None:
        self.folder, self.encoders = Path(folder), encoders
        self.digests = Digests(self.folder / "digests.jsonl")

    def key_of_row(self, row: Row) -> str:
        """Raises BrokenRowError if a file of the row cannot be read."""
        parts = []
        for layer, file in row.files.items():
            try:
                parts += [layer, self.digests.of(file)]
            except OSError as error:
                raise BrokenRowError(row.name, file, f"cannot be read ({error.strerror})") from None
        return self._key("latents", WAY, *parts)

    def key_of_text(self, instruction: str) -> str:
        return self._key("text", instruction)

    def _key(self, kind: str, *parts: str) -> str:
        digest = hashlib.sha256("\n".join([self.encoders, *parts]).encode("utf-8", "surrogatepass")).hexdigest()
        return f"{kind}/{digest[:2]}/{digest}"

    def holds(self, key: str) -> bool:
        """Whether there is an entry; one that turns out damaged when it is drawn is made again then."""
        return self._path(key).is_file()

    def get(self, key: str) -> torch.Tensor | None:
        """What was kept, or None where there is nothing, or nothing whole."""
        try:
            with safe_open(self._path(key), "pt") as file:
                values, crc = file.get_tensor("values"), file.metadata()["crc32"]
        except (OSError, SafetensorError, KeyError, TypeError):
            return None
        return values if crc == checksum(values) else None

    def put(self, key: str, values: torch.Tensor) -> None:
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
    return str(zlib.crc32(values.contiguous().view(-1).view(torch.uint8).numpy()))


class Encoders:
    """The codec and the text encoder of a Vera directory, on the device from when they are first needed."""

    def __init__(self, root: Path, device: torch.device | str) -> None:
        self.root, self.device = Path(root), device
        self.parts: tuple[Any, Any] | None = None  # codec and text encoder; None until they are needed
        self.fingerprint = fingerprint(self.root, ENCODERS)

    def latents(self, row: Row, layers: dict[str, torch.Tensor]) -> torch.Tensor:
        """Of a row's decoded layers, in order of LAYERS: (4 or 5, C, t, h, w) fp16. Raises BrokenRowError."""
        unit, (codec, _) = model_layers(row, layers, self.device), self._loaded()
        return torch.cat([codec.encode(unit[k][None]) for k in LAYERS if k in unit]).to("cpu", torch.float16)

    def text(self, instruction: str) -> torch.Tensor:
        """States (N, D) of an instruction's own tokens, in the encoder's type. Raises InputError as WanText does."""
        states = self._loaded()[1].encode([instruction])[0].cpu()
        return states[: int((states != 0).any(-1).sum())].contiguous()

    def _loaded(self) -> tuple[Any, Any]:
        if self.parts is None:
            model: Any = load_model(str(self.root), "cpu")  # mapped, not read: the transformer costs nothing here
            codec, text = model.codec, model.text
            codec.to(self.device)
            text.encoder.to(self.device, torch.bfloat16 if torch.device(self.device).type == "cuda" else None)
            self.parts = codec, text
        return self.parts

    def release(self) -> None:
        """Give their memory back until they are needed again."""
        self.parts = None


class Fetched(NamedTuple):
    """What a row needs no encoder for: latents and states if they are kept, and else its layers as decoded.

    kept: nothing is to be made, and nothing was read.
    """

    row: Row
    key: str
    latents: torch.Tensor | None = None
    states: torch.Tensor | None = None
    layers: dict[str, torch.Tensor] | None = None
    kept: bool = False


class Sample(NamedTuple):
    """latents (4 or 5, C, t, h, w) fp16, in order of LAYERS; text states (N, D) of the instruction's own tokens; the
    row's name."""

    latents: torch.Tensor
    states: torch.Tensor
    row: str


def fetch(row: Row, cache: Cache, only_make: bool = False) -> Fetched:
    """For a worker process. only_make: what is there is not read. Raises BrokenRowError."""
    key, text = cache.key_of_row(row), cache.key_of_text(row.instruction)
    if only_make and cache.holds(key) and cache.holds(text):
        return Fetched(row, key, kept=True)
    latents = cache.get(key)
    return Fetched(row, key, latents, cache.get(text), read_layers(row) if latents is None else None)


def finish(fetched: Fetched, cache: Cache, encoders: Encoders) -> Sample | None:
    """Encode what was not kept, and keep it; None of what was only to be made and is there. Raises BrokenRowError."""
    row, latents, states = fetched.row, fetched.latents, fetched.states
    if fetched.kept:
        return None
    if latents is None:
        assert fetched.layers is not None  # fetch reads them where no latents are kept
        latents = encoders.latents(row, fetched.layers)
        cache.put(fetched.key, latents)
    if states is None:
        try:
            states = text_states(row.instruction, cache, encoders)
        except InputError as error:  # longer than the encoder reads
            raise BrokenRowError(row.name, "", str(error)) from None
    return Sample(latents, states, row.name)


def text_states(instruction: str, cache: Cache, encoders: Encoders) -> torch.Tensor:
    """States (N, D) of an instruction, kept if they were not. Raises InputError as WanText does."""
    key = cache.key_of_text(instruction)
    states = cache.get(key)
    if states is None:
        states = encoders.text(instruction)
        cache.put(key, states)
    return states
