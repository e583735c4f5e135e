"""The hash that names a job."""

import hashlib
import json
from typing import Any


def identity(**determinants: Any) -> str:
    """A hash, 32 hex digits, of values that determine pixels.

    A job has two hashes: of everything that determines its latents, and of that and everything that determines its
    delivery. They cover contents, not paths: the same plate under another path is the same job.
    """
    text = json.dumps(determinants, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
