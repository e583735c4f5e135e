"""JSON of job files."""

import json
from pathlib import Path
from typing import Any

from vera.core.errors import InputError


def read_json(path: str) -> Any:
    """The content of a job file, or of a list of jobs. Raises InputError."""
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{path}: no such job file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read ({error.__class__.__name__}); give a JSON job file") from None
    except json.JSONDecodeError as error:
        raise InputError(f"{path}: not JSON, line {error.lineno}: {error.msg}") from None
