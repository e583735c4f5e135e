"""Report what Triton compiles the kernels to for an architecture, without a GPU.

`python -m benchmarks.compiled` compiles every kernel ahead of time and prints a table:
registers per thread, stack bytes, local memory instructions (spills), shared memory,
tensor-core instructions, all instructions, and whether warps specialise.
"""

import re
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from vera.kernels import int8
from vera.kernels.flash import _flash, tiles
from vera.kernels.norm_rotary_pack import _norm_rotary_pack, launch_warps
from vera.kernels.windowed import _across, across_tiles

TYPES = {"bf16": "*bf16", "fp16": "*fp16"}


@dataclass(frozen=True)
class Compiled:
    registers: int
    stack: int  # bytes per thread
    spills: int  # local memory loads and stores in the machine code
    shared: int  # bytes per block
    tensor_core: int  # wgmma or mma instructions in the PTX
    instructions: int  # in the machine code, without padding
    specialised: bool  # the compiler split the warps by role
    ptx: str


def flash(capability, dim, ragged=True, dtype="bf16") -> Compiled:
    """The dense kernel with its tiles for this compute capability."""
    block_m, block_n, warps, stages, specialise = tiles(capability, dim)
    data = dict.fromkeys(("query", "key", "value", "out"), TYPES[dtype])
    constants = dict(DIM=dim, BLOCK_M=block_m, BLOCK_N=block_n, RAGGED=ragged, SPECIALISE=specialise, STAGES=stages)
    signature = data | {"lse": "*fp32", "heads": "i32", "tokens": "i32", "scale": "fp32"}
    return build(_flash, signature, constants, capability, warps, stages)


def across(capability, dim, dtype="bf16") -> Compiled:
    """The windowed kernel's second pass."""
    block_m, block_n, warps, stages, specialise = across_tiles(capability, dim)
    data = dict.fromkeys(("query", "key", "value", "within", "out"), TYPES[dtype])
    lists = {"lse": "*fp32", "starts": "*i32", "counts": "*i32", "scale": "fp32"}
    numbers = ("heads", "length", "lines", "width", "reach_times", "reach_lines", "longest")
    constants = dict(DIM=dim, BLOCK_M=block_m, BLOCK_N=block_n, SPECIALISE=specialise, STAGES=stages)
    return build(_across, data | lists | dict.fromkeys(numbers, "i32"), constants, capability, warps, stages)


def eight_bit(capability, dim, ragged=True, dtype="bf16") -> Compiled:
    """Attention from int8 queries and keys."""
    warps, stages, specialise = int8.schedule(capability)
    data = {"query": "*i8", "key": "*i8"} | dict.fromkeys(("value", "out"), TYPES[dtype])
    rest = {"query_scale": "*fp32", "key_scale": "*fp32", "heads": "i32", "tokens": "i32", "scale": "fp32"}
    constants = dict(DIM=dim, BLOCK_M=int8.QUERY_GROUP, BLOCK_N=int8.KEY_GROUP, RAGGED=ragged)
    constants |= dict(SPECIALISE=specialise, STAGES=stages)
    return build(int8._flash_int8, data | rest, constants, capability, warps, stages)


def quantise(capability, dim, group, dtype="bf16") -> Compiled:
    signature = {"x": TYPES[dtype], "mean": "*fp32", "whole": "*i8", "scale": "*fp32", "heads": "i32", "tokens": "i32"}
    return build(int8._quantise, signature, dict(DIM=dim, GROUP=group), capability, 8, 3)


def norm_rotary_pack(capability, width, dim, dtype="bf16") -> Compiled:
    names = ("query", "key", "query_weight", "key_weight", "joint_query", "joint_key")
    signature = dict.fromkeys(names, TYPES[dtype]) | {"cos": "*fp32", "sin": "*fp32"}
    signature |= {"layer": "i32", "length": "i32", "eps": "fp32"}
    block = triton.next_power_of_2(width)
    constants = dict(WIDTH=width, DIM=dim, BLOCK=block)
    return build(_norm_rotary_pack, signature, constants, capability, launch_warps(block), 3)


def build(kernel, signature, constants, capability, warps, stages) -> Compiled:
    """Compile like the JIT, with pointers that are multiples of 16 bytes."""
    names = kernel.arg_names
    major, minor = capability
    source = ASTSource(
        fn=kernel,
        signature={name: signature.get(name, "constexpr") for name in names},
        constexprs={(names.index(name),): value for name, value in constants.items()},
        attrs={
            (names.index(name),): [["tt.divisibility", 16]] for name, kind in signature.items() if kind.startswith("*")
        },
    )
    options = {"num_warps": warps, "num_stages": stages, "enable_fp_fusion": True}
    made = triton.compile(source, target=GPUTarget("cuda", major * 10 + minor, 32), options=options)
    usage, code = disassemble(made.asm["cubin"])
    registers, stack = (int(re.search(rf"{word}:(\d+)", usage)[1]) for word in ("REG", "STACK"))
    operations = re.findall(r"^\s+/\*[0-9a-f]{4,}\*/\s+(?:@!?U?P\w+ )?(\w+)", code, re.MULTILINE)
    ptx = made.asm["ptx"]
    return Compiled(
        registers=registers,
        stack=stack,
        spills=sum(name in ("LDL", "STL") for name in operations),
        shared=made.metadata.shared,
        tensor_core=len(re.findall(r"\bwgmma\.mma_async|\bmma\.sync", ptx)),
        instructions=sum(name != "NOP" for name in operations),
        specialised="ttg.warp_specialize" in made.asm["ttgir"],
        ptx=ptx,
    )


def disassemble(cubin: bytes) -> tuple[str, str]:
    """(resource usage, machine code) by the tools that come with Triton."""
    tools = Path(triton.__file__).parent / "backends" / "nvidia" / "bin"
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "kernel.cubin"
        path.write_bytes(cubin)
        calls = ([tools / "cuobjdump", "--dump-resource-usage", path], [tools / "nvdisasm", "-c", path])
        return tuple(subprocess.run(call, capture_output=True, text=True, check=True).stdout for call in calls)


def rows():
    """(kernel, architecture, form, compiled) of every kernel as it is launched."""
    for capability in ((9, 0), (8, 0), (8, 9)):
        arch = "sm_{}{}".format(*capability)
        for dim in (32, 64, 128):
            yield "dense", arch, f"head {dim}, ragged", flash(capability, dim)
        yield "dense", arch, "head 128, even", flash(capability, 128, ragged=False)
        yield "window, across", arch, "head 128", across(capability, 128)
        yield "8-bit", arch, "head 128, ragged", eight_bit(capability, 128)
        yield "8-bit, quantise", arch, "head 128, groups of 128", quantise(capability, 128, 128)
        for width in (1536, 5120):
            yield "norm, rotary, pack", arch, f"width {width}", norm_rotary_pack(capability, width, 128)


def main():
    print(f"Triton {triton.__version__}, bf16\n")
    print("| kernel | architecture | form | registers | stack | spills ", end="")
    print("| shared KiB | tensor core | instructions | warps |\n|" + "---|" * 10)
    for kernel, arch, form, c in rows():
        warps = "specialised" if c.specialised else "alike"
        counts = f"{c.registers} | {c.stack} | {c.spills} | {c.shared / 1024:.0f} | {c.tensor_core} | {c.instructions}"
        print(f"| {kernel} | {arch} | {form} | {counts} | {warps} |")


if __name__ == "__main__":
    main()
