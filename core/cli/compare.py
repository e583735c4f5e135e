"""`vera compare`: the paper's benchmark for models of ours and for any editor's results."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from vera.core.cli.arguments import Parser
from vera.core.cli.command import command
from vera.core.errors import InputError
from vera.core.job.run import DONE, stop_request

if TYPE_CHECKING:
    from vera.core.comparing.benchmark_rows import Row
    from vera.core.comparing.methods import Method

DESCRIPTION = """\
Renders the rows of a test set with models, adds finished results of other editors, and writes one
table of all, the paper's published figures included, and a report with players.
docs/evaluation.md explains every figure."""

EPILOG = """\
results in OUT:
  table.md  table.json      means by method, beside the published rows; what failed, by name
  report/index.html         players side by side, worst clips first
  results/METHOD/CLIP/      what models rendered, each a delivery of core.render
  figures/METHOD/CLIP.json  one clip's figures

examples:
  vera compare test/obj-add.jsonl test/bg-change.jsonl --model vera=path/to/vera --out out/compare
  vera compare test/obj-add.jsonl --model mini --results VACE=results/vace --clips 8 --out out/compare

The same command resumes; rendered and measured clips are reused.
exit codes: as for vera render. A clip that fails is named in the table; the others continue."""


def parser() -> argparse.ArgumentParser:
    p = Parser(
        prog="vera compare",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    p.add_argument("test", nargs="+", help="the test set's rows: JSONL files")
    p.add_argument("--out", required=True, help="folder for the results")
    p.add_argument("--root", help="folder of the rows' relative paths (default: each JSONL's folder)")
    p.add_argument("--model", action="append", default=[], metavar="[NAME=]MODEL", help="render it; may be repeated")
    p.add_argument(
        "--results", action="append", default=[], metavar="[NAME=]FOLDER", help="videos of an editor; may be repeated"
    )
    p.add_argument("--clips", type=int, help="only this many rows, from the first")
    p.add_argument("--no-masks", action="store_true", help="render without the rows' masks")
    p.add_argument("--steps", type=int, help="denoising steps, as for vera render")
    p.add_argument("--guidance", type=float, help="guidance, as for vera render")
    p.add_argument("--seed", type=int, help="seed, as for vera render")
    p.add_argument(
        "--alpha-of",
        choices=("layer", "subject"),
        default="layer",
        help="meaning of 1 in the rows' alphas of changed backgrounds: edited (default), or the kept subject",
    )
    p.add_argument("--lpips", metavar="FILE", help="LPIPS weights (safetensors); without them it is not measured")
    p.add_argument(
        "--judge", metavar="COMMAND", help="a command or module:function that answers questions; else not measured"
    )
    p.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    p.add_argument("--progress", choices=("bar", "jsonl", "none"), default="bar")
    return p


@command
def main(argv: list[str] | None = None) -> int:
    progress = None
    try:
        args = parser().parse_args(argv)
        stopping = stop_request()

        # Imported late, so that --help and wrong arguments are answered at once.
        from vera.core.comparing.benchmark import Measures, compare, named_lpips
        from vera.core.comparing.benchmark_rows import read_rows
        from vera.core.comparing.methods import Folder, Renderer, caching_loader, named
        from vera.core.measure.judge import find_judge
        from vera.core.model.device import choose_device
        from vera.core.progress import Progress

        out = Path(args.out)
        test = read_rows(args.test, args.root)
        if args.clips is not None and args.clips < 1:
            raise InputError(f"--clips {args.clips}: give 1 or more")
        load = caching_loader()
        settings = {n: v for n in ("steps", "guidance", "seed") if (v := getattr(args, n)) is not None}
        methods: list[Method] = [
            Renderer(name, model, out / "results" / name, settings, not args.no_masks, args.device, load)
            for name, model in named(args.model, "model")
        ]
        methods += [Folder(name, Path(folder), tuple(test.rows)) for name, folder in named(args.results, "results")]
        test = test._replace(rows=test.rows[: args.clips])
        refuse(methods, test.rows)
        lpips = named_lpips(args.lpips, choose_device(args.device)) if args.lpips else None
        judge = (args.judge, find_judge(args.judge)) if args.judge else None
        progress = Progress(args.progress)
        result = compare(test, methods, out, progress, stopping, Measures(args.alpha_of, lpips, judge))
        failed = sum("error" in c for c in result["clips"])
        text = f"{len(result['clips']) - failed} results measured, {failed} failed, {len(test.broken)} rows of no use"
        progress.say(f"{text}; {out / 'report' / 'index.html'}", event="done", out=str(out))
        return DONE
    finally:
        if progress is not None:
            progress.close()


def refuse(methods: Sequence[Method], rows: Sequence[Row]) -> None:
    """Raise InputError for a request that cannot be compared."""
    names = [m.name for m in methods]
    if not names:
        raise InputError("nothing to compare; give --model MODEL or --results NAME=FOLDER")
    for name in names:
        if names.count(name) > 1 or name in ("plate", "truth"):
            raise InputError(f"method {name!r} is named twice, or is a word of the report; say --results OTHER=FOLDER")
    for method in methods:
        method.refuse(rows)


if __name__ == "__main__":
    sys.exit(main())
