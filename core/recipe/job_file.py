"""JSON of job files."""

from pathlib import Path
from typing import Any

from vera.core import files
from vera.core.errors import InputError

LIMITS = files.JsonLimits(bytes=16 * 2**20)  # a list of 10,000 shots has some 4 MB


def read_json(path: str) -> Any:
    """The content of a job file, or of a list of jobs. Raises InputError."""
    try:
        return files.read_json(Path(path), limits=LIMITS, follow_links=True)
    except FileNotFoundError:
        raise InputError(f"{path}: no such job file") from None
    except files.JsonError as error:
        raise InputError(f"{path}: {error}") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error.__class__.__name__
        raise InputError(f"{path}: cannot be read ({reason}); give a JSON job file") from None
