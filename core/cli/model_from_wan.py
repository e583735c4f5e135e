"""`vera model from-wan`: make a Vera directory from a Wan2.1 checkpoint, or rewrite a Vera's."""

import sys

from vera.core.cli.arguments import Parser
from vera.core.cli.command import command, tell
from vera.core.errors import InputError
from vera.core.recipe import parse_lora


@command
def main(arguments: list[str] | None = None) -> int:
    """`vera model from-wan`; returns the exit code."""
    parser = Parser(
        prog="vera model from-wan",
        description="Make a Vera directory from a Wan2.1 T2V checkpoint, or rewrite a Vera directory.",
    )
    parser.add_argument("source", help="Wan2.1 T2V (diffusers' or original layout, or a safetensors file), or a Vera")
    parser.add_argument("target", help="the Vera directory to make")
    parser.add_argument("--dtype", choices=("float32", "bfloat16", "float16"), help="default: the weights' own")
    parser.add_argument("--max-shard-size", type=float, default=5.0, metavar="GB", help="default: 5")
    parser.add_argument("--lora", action="append", default=[], metavar="FILE[:STRENGTH]", help="merge it in")
    parser.add_argument(
        "--lora-skip-missing", action="store_true", help="leave out LoRA tensors that match nothing; they are named"
    )
    parser.add_argument("--share-embedders", action="store_true", help="one time and text embedder for all branches")
    parser.add_argument("--alpha-without-text", action="store_true", help="no text cross-attention in the alpha branch")
    options = parser.parse_args(arguments)
    if not 0.00001 <= options.max_shard_size <= 1000:
        raise InputError(f"--max-shard-size {options.max_shard_size:g}: is not a number of gigabytes above 0")
    loras = [parse_lora(text) for text in options.lora]
    import torch  # imported late, so that --help and wrong arguments are answered at once

    from vera.core.model.wan.checkpoint import BranchOptions, branch_wan

    chosen = BranchOptions(
        options.dtype and getattr(torch, options.dtype),
        int(options.max_shard_size * 1e9),
        loras,
        options.lora_skip_missing,
        lambda line: tell(f"warning: {line}"),
        {"share_embedders": options.share_embedders, "alpha_text": not options.alpha_without_text},
    )
    absent = branch_wan(options.source, options.target, chosen)
    print(f"wrote {options.target}")
    if absent:
        print(f"still to be copied there from a diffusers Wan2.1 directory: {', '.join(absent)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
