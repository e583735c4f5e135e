"""`vera data check DIR`: list the rows of a layered dataset that cannot be used, with reasons."""

from __future__ import annotations

import io
import json
import sys
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING

from vera.core.cli.arguments import Parser
from vera.core.cli.command import command
from vera.core.errors import InputError, printable

if TYPE_CHECKING:
    from vera.core.data.datasets.layered import BrokenRowError, Row


@command
def main(argv: list[str] | None = None) -> int:
    """Returns the exit code."""
    parser = Parser(
        prog="vera data check",
        description="Name the rows of a layered dataset that cannot be used. Exit codes: 0 none, 1 some, 2 no dataset.",
    )
    parser.add_argument("dataset", type=Path, help="a folder of .jsonl files, or of clips (docs/training.md)")
    parser.add_argument("--pixels", action="store_true", help="decode every frame too; slow, but complete")
    parser.add_argument("--json", action="store_true", help="one JSON object per broken row")
    parser.add_argument("--workers", type=int, default=8)
    args = parser.parse_args(argv)
    if not 1 <= args.workers <= 256:
        raise InputError(f"--workers {args.workers}: is not from 1 to 256")
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # names of broken rows may not be printable
    # Imported late, so that --help and wrong arguments are answered at once.
    from vera.core.data.datasets.layered import check_rows, read_rows

    rows, broken = read_rows(args.dataset)
    broken += check_rows(rows, args.workers)
    bad = {fault.row for fault in broken}
    good = [row for row in rows if row.name not in bad]
    if args.pixels:
        with ProcessPoolExecutor(args.workers, get_context("spawn")) as pool:
            broken += [fault for fault in pool.map(fault_in_pixels, good) if fault]
    for fault in broken:
        print(json.dumps(vars(fault)) if args.json else printable(fault))
    usable = len(rows) - len({fault.row for fault in broken} & {row.name for row in rows})
    print(f"{usable} rows can be used, {len(broken)} cannot", file=sys.stderr)
    for where, count in Counter(fault.row.rsplit(":", 1)[0] for fault in broken).most_common():
        print(printable(f"  {count} in {where}"), file=sys.stderr)
    return 1 if broken else 0


def fault_in_pixels(row: Row) -> BrokenRowError | None:
    """The defect of a row's frames, or None."""
    from vera.core.data.datasets.layered import BrokenRowError
    from vera.core.data.datasets.layered_media import model_layers, read_layers

    try:
        layers = read_layers(row)
        if not row.test:
            model_layers(row, layers)
    except BrokenRowError as fault:
        return fault
    return None


if __name__ == "__main__":
    sys.exit(main())
