"""Functions have at most six parameters; each exception has a reason."""

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
TREES = ("core", "kernels", "vera", "blender_addon", "nuke_plugin", "benchmarks", "tools")
MAX_PARAMETERS = 6
MODEL = "the inputs of a video transformer, in the order of diffusers"
KERNEL = "a Triton kernel, or an operation that torch calls, takes flat tensors"
EXCEPTIONS = {
    "benchmarks/seams.py forward": MODEL,
    "core/model/transformer.py forward": MODEL,
    "core/model/mini/mini_transformer.py forward": MODEL,
    "core/model/mini/drawing.py forward": "the inputs of a module of torch, some of them optional",
    "core/model/people.py __init__": "the parameters of MobileNetV3's block, as torchvision names them",
    "core/model/load.py load_model": "the keywords are recipe fields, which callers pass on by name",
    "kernels/flash.py _flash": KERNEL,
    "kernels/int8.py _flash_int8": KERNEL,
    "kernels/int8.py _quantise": KERNEL,
    "kernels/norm_rotary_pack.py _empty": KERNEL,
    "kernels/norm_rotary_pack.py _norm_rotary_pack": KERNEL,
    "kernels/norm_rotary_pack.py _packed": KERNEL,
    "kernels/norm_rotary_pack.py _store_row": KERNEL,
    "kernels/norm_rotary_pack.py norm_rotary_pack": KERNEL,
    "kernels/norm_rotary_pack.py norm_rotary_pack_reference": KERNEL,
    "kernels/windowed.py _across": KERNEL,
}


def long_signatures(file: Path) -> Iterator[str]:
    """Names of a file's functions with more parameters, besides self and cls."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            given = node.args
            names = [a.arg for a in (*given.posonlyargs, *given.args, *given.kwonlyargs)]
            names += [a.arg for a in (given.vararg, given.kwarg) if a]
            if len([name for name in names if name not in ("self", "cls")]) > MAX_PARAMETERS:
                yield node.name


def test_a_function_takes_at_most_six_parameters():
    found = {
        f"{file.relative_to(ROOT).as_posix()} {name}"
        for tree in TREES
        for file in (ROOT / tree).rglob("*.py")
        for name in long_signatures(file)
    }
    assert found == set(EXCEPTIONS)
