"""The files of an edition of mini, and what they say before a weight is read. Without torch.

config.json               MiniConfig
transformer.safetensors   in 8 bits, see `in_8_bits`
text.safetensors          the same; its metadata holds the vocabulary
codec.safetensors         mini's own codec in fp32, or a small Wan-type VAE in fp16
objects.safetensors       the field of objects in fp16, see object_field.py; optional
scenes.safetensors        the head that reads backgrounds in fp16, see scene_reader.py; optional
model.json                Limits; may be edited by hand
SHA256SUMS                the digest of each other file, as `sha256sum --check` reads it; optional
"""

import json
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError, safe_open

from vera.core.errors import InputError
from vera.core.model.limits import Limits
from vera.core.model.mini.mini_config import MiniConfig
from vera.core.model.names import EMBEDDED

CONFIG, LIMITS, DIGESTS = "config.json", "model.json", "SHA256SUMS"
TRANSFORMER, TEXT, CODEC = "transformer.safetensors", "text.safetensors", "codec.safetensors"
OBJECTS, SCENES = "objects.safetensors", "scenes.safetensors"
WEIGHTS = (TRANSFORMER, TEXT, CODEC)  # which every edition has
MAX_CODEC_CONFIG = 65_536  # characters of a VAE's configuration in its file
MAX_WORDS = 100_000  # largest accepted vocabulary


@dataclass(frozen=True)
class MiniDescription:
    """What is known of an edition before a weight is read."""

    config: MiniConfig
    limits: Limits
    words: tuple[str, ...]


def describe(folder: Path) -> MiniDescription:
    """What an edition's folder says of it. Raises InputError."""
    refuse_missing(folder)
    return MiniDescription(MiniConfig.load(folder / CONFIG), Limits.load(folder / LIMITS), vocabulary_of(folder / TEXT))


def refuse_missing(folder: Path) -> None:
    """Raise InputError for an edition without one of its files."""
    for name in (CONFIG, LIMITS, *WEIGHTS):
        if not (folder / name).is_file():
            raise InputError(f"{folder / name}: missing; an edition of mini is incomplete, {again(folder)}")


def again(folder: Path) -> str:
    """How a damaged edition is made whole."""
    return "install again" if folder == EMBEDDED else "export or copy it again"


def damaged(path: Path, error: Exception) -> InputError:
    """The refusal of a file that cannot be read."""
    reason = (str(error).splitlines() or [type(error).__name__])[0]
    return InputError(f"{path}: damaged ({reason[:200]}); {again(path.parent)}")


def vocabulary_of(path: Path) -> tuple[str, ...]:
    """The words of an edition's text encoder. Raises InputError."""
    try:
        words = json.loads(metadata_of(path)["words"])
    except (KeyError, ValueError, RecursionError) as error:
        raise damaged(path, error) from None
    if not isinstance(words, list) or len(words) > MAX_WORDS or not all(isinstance(word, str) for word in words):
        raise InputError(f"{path}: damaged (no list of words); {again(path.parent)}")
    return tuple(words)


def metadata_of(path: Path) -> dict[str, str]:
    """The texts in a safetensors header. Raises InputError."""
    try:
        with safe_open(path, "np") as file:
            return file.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise damaged(path, error) from None
