"""`vera data clips SHOTS --out DIR`: cut your own layered shots into training clips."""

from pathlib import Path

from vera.core.cli.arguments import Parser
from vera.core.cli.command import command
from vera.core.errors import InputError, printable


@command
def main(argv: list[str] | None = None) -> int:
    """Returns the exit code."""
    parser = Parser(
        prog="vera data clips",
        description="Cut layered shots (RGBA foreground and plate) into training clips: lossless movies of 49 frames at"
        " 16 frames a second. Training can also read the shots directly; clips are smaller and can be played.",
    )
    parser.add_argument("shots", type=Path, help="a folder of shots, each with an instruction.txt (docs/training.md)")
    parser.add_argument("--out", type=Path, required=True, help="a new folder for the clips")
    args = parser.parse_args(argv)
    if args.out.exists():
        raise InputError(f"--out {args.out}: already exists; give a new folder")
    # Imported late, so that --help and wrong arguments are answered at once.
    from vera.core.data.datasets.clip_files import write_clip
    from vera.core.data.datasets.layered import BrokenRowError, read_rows

    rows, broken = read_rows(args.shots)
    written = 0
    for row in rows:
        folder = args.out / row.name.replace("#", "-")
        try:
            if folder.exists():
                raise BrokenRowError(row.name, folder, "is another shot's clip; rename the shot's folder")
            write_clip(row, folder)
            written += 1
            print(printable(row.name))
        except BrokenRowError as fault:
            broken.append(fault)
    for each in broken:
        print(printable(each))
    print(f"{written} clips in {args.out}, {len(broken)} shots or clips left out")
    return 1 if broken else 0
