"""Report how a recipe's plate, mask and prompt are read, before there is a job (a "look").

The server does not decode untrusted files, so each look is a separate process with limited memory and time. It opens
files and reads headers, loads no model and writes nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vera.core.errors import InputError, one_line
from vera.core.service.security import RequestError

ROOT = Path(__file__).parents[2]
LOOK = (sys.executable, "-m", "vera.core.service.look")
LOOK_SECONDS = 60.0  # limit of one look; raising it helps slow disks and lets the artist wait longer
MAX_LINES = 60  # largest number of lines in an answer
UNREADABLE = 422  # HTTP status of a look that did not finish


async def look(recipe: dict[str, Any], roots: Sequence[str], memory_limit: int | None) -> list[str]:
    """The lines of a look. Raises InputError, and RequestError if the process crashed or took too long."""
    process = await asyncio.create_subprocess_exec(
        *LOOK, cwd=ROOT, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    asked = json.dumps({"recipe": recipe, "roots": list(roots), "memory_limit": memory_limit or 0})
    try:
        said, _ = await asyncio.wait_for(process.communicate(asked.encode()), LOOK_SECONDS)
        answer = json.loads(said)
    except TimeoutError:
        raise RequestError(UNREADABLE, f"the files could not be read within {LOOK_SECONDS:g} s") from None
    except ValueError:
        raise RequestError(UNREADABLE, "the files ended the process that looked at them; the log has more") from None
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
    if "error" in answer:
        raise InputError(answer["error"])
    return answer["lines"]


def lines_of(recipe: dict[str, Any], roots: Sequence[str]) -> list[str]:
    """The report as lines. Raises InputError."""
    from vera.core.job.inspection import page_of, recipe_report
    from vera.core.recipe import EditRecipe
    from vera.core.service.security import check_files

    check_files(recipe, roots)
    lines = page_of(recipe_report(EditRecipe.from_values(recipe, "the recipe")))
    return [one_line(line) for line in lines[:MAX_LINES]]


def main() -> None:
    """The main function of a look's process: request on standard input, answer on standard output."""
    from vera.core.service.worker import limit_memory

    asked = json.loads(sys.stdin.read())
    limit_memory(asked["memory_limit"])
    out, sys.stdout = sys.stdout, sys.stderr  # libraries print
    try:
        answer: dict[str, Any] = {"lines": lines_of(asked["recipe"], asked["roots"])}
    except (InputError, OSError, MemoryError) as error:
        answer = {"error": one_line(error) or type(error).__name__}
    except Exception as error:
        traceback.print_exc()
        answer = {"error": one_line(f"fault: {type(error).__name__}: {error}")}
    print(json.dumps(answer), file=out, flush=True)


if __name__ == "__main__":
    main()
