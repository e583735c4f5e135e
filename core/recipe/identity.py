"""The hash that names a job."""

import hashlib
import json
from typing import Any


def identity(**determinants: Any) -> str:
    """A hash, 32 hex digits, over everything that determines the pixels.

    A job has two: its generation's, over everything that determines the latents, and its own, over that and over
    everything that delivery does with them. It holds contents, not paths: the same plate under another path is the
    same job.
    """
    text = json.dumps(determinants, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
