"""`python -m core.render`: plate and prompt in, edit layer out."""

from __future__ import annotations

import argparse
import itertools
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from vera.core.cli.arguments import Parser, add_recipe_options, recipe_values
from vera.core.errors import InputError
from vera.core.job.run import DONE, RenderOptions, failed, render, stop_request
from vera.core.progress import KINDS, Progress
from vera.core.recipe import EditRecipe

if TYPE_CHECKING:
    from vera.core.backends.base import Job, Loader

DESCRIPTION = """\
Makes the edit that the prompt asks for as an RGBA layer over the untouched plate.
Where the layer's alpha is 0, the plate keeps its bits."""

EPILOG = """\
results in OUT:
  edit/edit.####.exr            the layer: RGBA half, premultiplied, for an 'over' on the plate
  composite/composite.####.*    the layer laid over the plate, in the plate's own type
  kept/                         with --keep: what was generated, for another delivery of it
  preview.mp4  contact_sheet.png  recipe.json  manifest.json (written last: it marks a whole delivery)

examples:
  python -m core.render --plate shot.####.exr --prompt "Add a red balloon rising on the right" --out out/balloon
  python -m core.render --plate shot.mov --frames 1-49 --prompt "Add falling snow" --out out/snow
  python -m core.render --plate shot.%04d.png --mask sky.%04d.png --out out/sea \\
      --prompt "Change the background to the sea. Keep the dancer intact."
  python -m core.render --plate shot.####.exr --region 640,200,512,512 --out out/ring --prompt "Add a small yellow ring"
  python -m core.render job.json        the same as JSON: {"plate": ..., "prompt": ..., "out": ...}

--dry-run reports how plate, mask and prompt are read, and the job's settings.
The same command resumes a stopped job, and does nothing when the delivery is complete.
If GPU memory runs out, cheaper settings are tried and reported. VERA_ATTENTION=triton, cudnn, sdpa or
reference forces an implementation of dense attention; --verbose prints the choice.
exit codes: 0 done; 2 the input is wrong, nothing was written; 3 stopped, can be resumed; 1 out of memory, disk
full, or an internal error."""


def parser() -> Parser:
    """The command's options: the recipe fields, and options of the run."""
    p = Parser(
        prog="python -m core.render",
        description=DESCRIPTION,
        epilog=EPILOG,
    )
    p.add_argument("job", nargs="?", help="a job file (JSON); options given beside it replace its values")
    add_recipe_options(p)
    p.add_argument(
        "--verbose", action="store_true", help="print the choices made (device, attention, ...), with reasons"
    )
    p.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    p.add_argument(
        "--processes", type=int, default=1, metavar="N", help="GPUs that share each step (with --device cpu: processes)"
    )
    p.add_argument(
        "--shard", action="store_true", help="with --processes: each holds its share of the weights, not all of them"
    )
    p.add_argument("--wait", action="store_true", help="wait for another job that works in the same folder")
    add_run_options(p)
    return p


def add_run_options(parser: Parser) -> None:
    """Options of the run that a render and a lift share."""
    parser.add_argument("--dry-run", action="store_true", help="report inputs and settings; write nothing")
    parser.add_argument("--json", action="store_true", help="with --dry-run: as JSON")
    parser.add_argument("--progress", choices=KINDS, default="bar", help="jsonl: events on standard output, errors too")


def recipe_of(args: argparse.Namespace) -> EditRecipe:
    """The recipe of the options and the job file; options take precedence. Raises InputError."""
    values = recipe_values(args)
    return EditRecipe.from_file(args.job, **values) if args.job else EditRecipe.from_values(values)


@contextmanager
def crew_of(processes: int, recipe: EditRecipe, sharded: bool = False) -> Iterator[Loader | None]:
    """A loader that spreads a model over `processes`; None for a single process.

    sharded: each process holds a share of the weights
    """
    if processes < 1:
        raise InputError(f"--processes {processes}: give 1 or more")
    if processes == 1:
        if sharded:
            raise InputError("--shard: one process has all weights; give --processes, or leave it out")
        yield None
        return
    from vera.core.backends import load_backend

    if not load_backend(recipe.model).samples:
        raise InputError(f"--processes: model {recipe.model} runs on one; leave it out")
    from vera.core.sampling.parallel import WorkerProcesses
    from vera.core.sampling.speed_options import SpeedOptions

    with WorkerProcesses(processes, SpeedOptions.of(recipe), sharded) as workers:
        yield workers.load


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    return run(parser(), recipe_of, argv)


def run(parser: Parser, recipe_of: Callable[[argparse.Namespace], EditRecipe], argv: list[str] | None) -> int:
    """Parse the arguments, make the recipe and render it; returns the exit code. `vera lift` uses it too."""
    arguments = sys.argv[1:] if argv is None else argv
    progress = Progress("jsonl" if _asks_for_events(arguments) else "none")  # until the arguments are read
    try:
        args = parser.parse_args(arguments)
        progress = Progress(args.progress)
        recipe = recipe_of(args)
        stopping = stop_request()
        if args.processes > 1 and args.processes % 2 == 0:
            recipe = replace(recipe, one_batch=True)  # each half of the processes computes one guidance pass
        with crew_of(args.processes, recipe, args.shard) as load:
            if args.dry_run:
                print(dry_run(recipe, args, load))
                return DONE
            options = RenderOptions(args.verbose, args.wait, load, planned=not args.shard)
            _, said = render(recipe, args.device, progress, stopping, options)
            progress.say(said, event="done", out=recipe.out)
        return DONE
    except Exception as error:
        progress.close()
        return failed(error, progress)
    finally:
        progress.close()


def dry_run(recipe: EditRecipe, args: argparse.Namespace, load: Loader | None) -> str:
    """Print the report of --dry-run as text or as JSON. Writes nothing. Raises InputError."""
    from vera.core.job.opening import open_inputs

    inputs = open_inputs(recipe)
    from vera.core.backends import load_backend
    from vera.core.job.inspection import job_report, page_of
    from vera.core.job.memory import ModelLoading, within_memory
    from vera.core.model.load import load_model

    device = args.device

    def report_of(job: Job) -> dict[str, Any]:
        return job_report(job, device, load_backend(recipe.model).explain(job, device))

    loading = ModelLoading(load or load_model, planned=not args.shard)
    report = within_memory(report_of, recipe, device, loading, inputs)
    return json.dumps(report, indent=2) if args.json else "\n".join(page_of(report))


def _asks_for_events(arguments: list[str]) -> bool:
    return "--progress=jsonl" in arguments or ("--progress", "jsonl") in itertools.pairwise(arguments)


if __name__ == "__main__":
    sys.exit(main())
