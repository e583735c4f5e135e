"""`python -m core.render`: plate and prompt in, edit layer out."""

import sys
import traceback
from contextlib import contextmanager

from vera.core.cli.arguments import Parser
from vera.core.errors import InputError
from vera.core.job.run import DONE, exit_status, render, stop_request
from vera.core.recipe import ATTENTIONS, COMPRESSIONS, LAYER_TYPES, OFFLOADS, WEIGHTS, EditRecipe, split_model

DESCRIPTION = """\
Adds or changes what the prompt says, as an RGBA edit layer over the untouched plate.
Where the layer's alpha is 0 the plate stays as filmed, bit for bit."""

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
  python -m core.render --plate shot.####.exr --region 640,200,512,512 --out out/ring --prompt "Add a small gold ring"
  python -m core.render job.json        the same as JSON: {"plate": ..., "prompt": ..., "out": ...}

The same command again goes on where it stopped, and does nothing when all is done.
Out of GPU memory it tries cheaper ways by itself, and says so. VERA_ATTENTION=triton, cudnn,
sdpa or reference forces what computes dense attention; --verbose tells what was chosen.
exit codes: 0 done; 2 the input is wrong, nothing was written; 3 stopped, can be resumed; 1 out of memory, no room
on the disk, or our fault."""


def parser() -> Parser:
    p = Parser(
        prog="python -m core.render",
        description=DESCRIPTION,
        epilog=EPILOG,
    )
    p.add_argument("job", nargs="?", help="a job file (JSON); options given beside it replace its values")
    p.add_argument("--plate", help="frames to edit: plate.####.exr, plate.%%04d.dpx, one still, or a movie")
    p.add_argument("--prompt", help="what should change, in words")
    p.add_argument("--out", help="folder for the results")
    p.add_argument("--mask", help="white where the edit may go: a sequence, a movie, or one still for all frames")
    p.add_argument("--frames", help="a range such as 1001-1049 (default: all there are)")
    p.add_argument("--model", help="mini (default), a full-size model's folder, vace:FOLDER, or lift:EDITED_VIDEO")
    p.add_argument("--seed", type=int, help="another seed gives another take (default 0)")
    p.add_argument("--steps", type=int, help="denoising steps: more is slower and finer (default: the model's)")
    p.add_argument("--guidance", type=float, help="how hard to follow the prompt; 1 is fastest (default: the model's)")
    p.add_argument(
        "--color-space",
        help="of the plate: any name in $OCIO's config or OpenColorIO's ACES one, such as ACEScg (default: as its files"
        " tell, else linear for half and float, srgb for integers)",
    )
    p.add_argument("--exposure", help="stops added to a plate of light before the model sees it (default: auto)")
    p.add_argument(
        "--blend-space",
        choices=("linear", "encoded"),
        help="where the layer will be laid over the plate: in linear light (default), or in display-encoded values",
    )
    p.add_argument("--layer-space", help="linear space of the layer's RGB (default: the plate's primaries)")
    p.add_argument(
        "--layer-mode",
        choices=("auto", "replace", "relative"),
        help="colour as the model made it, relative to the plate, or whichever serves, pixel by pixel (default)",
    )
    p.add_argument("--region", metavar="X,Y,W,H", help="edit only these pixels of the plate, seen larger by the model")
    p.add_argument("--cuts", help="first frames of new shots, such as 1013,1040; auto (default) finds them; or none")
    p.add_argument(
        "--keep", action="store_true", default=None, help="keep what was generated, to deliver again in another way"
    )
    p.add_argument("--layer-type", choices=LAYER_TYPES, help="of the layer's EXR files (default half)")
    p.add_argument("--compression", choices=COMPRESSIONS, help="of the EXR files, all lossless (default zip)")
    p.add_argument(
        "--also",
        metavar="LIST",
        help="more of the layer, such as prores,png,matte: OUT/edit.mov (ProRes 4444), OUT/png (16 bit), matte.A as a"
        " second part of the EXR files",
    )
    saving = p.add_argument_group("cheaper than the full computation (docs/kernels.md has each one's error)")
    saving.add_argument("--attention", choices=ATTENTIONS, help="int8 and window are faster on a GPU")
    saving.add_argument(
        "--cache",
        type=float,
        metavar="THRESHOLD",
        help="skip work that changes less than this; 0.1 is careful, 0.4 bold",
    )
    saving.add_argument(
        "--compile", action="store_true", default=None, help="compile the model: slow to start, then faster"
    )
    saving.add_argument(
        "--one-batch", action="store_true", default=None, help="both guidance passes at once: takes more memory"
    )
    large = p.add_argument_group("full-size models (docs/full-size.md)")
    large.add_argument(
        "--weights",
        choices=WEIGHTS,
        help="of the transformer: bf16, or 8 bits, which is another picture (default: auto, bf16 if that fits the GPU)",
    )
    large.add_argument(
        "--offload",
        choices=OFFLOADS,
        help="what waits in the host's memory: text encoder and codec (parts), the transformer's blocks too (default: auto)",
    )
    large.add_argument(
        "--lora", action="append", metavar="FILE[:STRENGTH]", help="a LoRA for Wan2.1 or this Vera; may be given again"
    )
    p.add_argument("--verbose", action="store_true", help="say what was chosen (device, attention, ...), and why")
    p.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    p.add_argument(
        "--processes", type=int, default=1, metavar="N", help="GPUs that share each step (with --device cpu: processes)"
    )
    p.add_argument("--progress", choices=("bar", "jsonl", "none"), default="bar")
    return p


def recipe_of(args):
    names = ("plate", "prompt", "out", "mask", "frames", "model", "seed", "steps", "guidance")
    names += ("color_space", "exposure", "blend_space", "layer_space", "layer_mode", "region", "cuts", "keep")
    names += ("attention", "cache", "compile", "one_batch")
    names += ("layer_type", "compression", "also", "weights", "offload", "lora")
    values = {n: getattr(args, n) for n in names}
    values = {n: v for n, v in values.items() if v is not None}
    return EditRecipe.from_file(args.job, **values) if args.job else EditRecipe.from_values(values)


@contextmanager
def crew_of(processes, recipe):
    """What loads a model onto so many processes."""
    from vera.core.model.load import load_model
    from vera.core.sampling.speed_options import SpeedOptions

    if processes < 1:
        raise InputError(f"--processes {processes}: give 1 or more")
    if processes == 1:
        yield load_model
        return
    if split_model(recipe.model)[0]:
        raise InputError(f"--processes: model {recipe.model} runs on one; leave it out")
    from vera.core.sampling.parallel import Crew

    with Crew(processes, SpeedOptions.of(recipe)) as crew:
        yield crew.load


def main(argv=None) -> int:
    progress = None
    try:
        args = parser().parse_args(argv)
        recipe = recipe_of(args)
        stopping = stop_request()

        from vera.core.progress import Progress

        progress = Progress(args.progress)
        with crew_of(args.processes, recipe) as load:
            _, said = render(recipe, args.device, progress, stopping, args.verbose, load)
            progress.say(said, event="done", out=recipe.out)
        return DONE
    except Exception as error:
        code, line = exit_status(error)
        if line.startswith("fault"):
            traceback.print_exc()
        print(line, file=sys.stderr)
        return code
    finally:
        if progress is not None:
            progress.close()


if __name__ == "__main__":
    sys.exit(main())
