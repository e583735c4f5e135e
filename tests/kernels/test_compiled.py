"""Compiles the kernels ahead of time, without a GPU, and looks at what became of them."""

import sys

import pytest

pytest.importorskip("triton", reason="Triton is not installed: nothing to compile with")
if sys.platform != "linux":
    pytest.skip("the disassembler comes with Triton on Linux only", allow_module_level=True)

from benchmarks import compiled
from vera.kernels.language import interpreting

if interpreting():
    pytest.skip("TRITON_INTERPRET is set: nothing is compiled", allow_module_level=True)

SHARED = {(9, 0): 227, (8, 0): 163, (8, 9): 99}  # KiB a block may have


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))


def fits(made, capability):
    assert made.stack == 0 and made.spills == 0
    assert made.shared <= SHARED[capability] * 1024


@pytest.mark.parametrize("dim", [32, 64, 128])
def test_hopper_specialises_its_warps(dim):
    made = compiled.flash((9, 0), dim)
    fits(made, (9, 0))
    assert made.specialised
    assert made.ptx.count("wgmma.mma_async") == made.tensor_core > 0
    assert "cp.async.bulk.tensor" in made.ptx and "setmaxnreg" in made.ptx


def test_hopper_specialises_in_fp16_and_without_a_tail():
    made = compiled.flash((9, 0), 128, ragged=False, dtype="fp16")
    fits(made, (9, 0))
    assert made.specialised


# Of the widest heads, which take most registers, every case; of the others each value beside each.
OLDER = [(128, capability, ragged) for capability in ((8, 0), (8, 9)) for ragged in (True, False)]
OLDER += [(32, (8, 0), True), (32, (8, 9), False), (64, (8, 0), False), (64, (8, 9), True)]


@pytest.mark.parametrize("dim, capability, ragged", OLDER)
def test_older_cards_keep_tensor_cores_and_registers(dim, capability, ragged):
    made = compiled.flash(capability, dim, ragged)
    fits(made, capability)
    assert not made.specialised
    assert made.ptx.count("mma.sync") == made.tensor_core > 0
    assert "cp.async" in made.ptx


@pytest.mark.parametrize("capability", [(9, 0), (8, 0), (8, 9)])
def test_windowed(capability):
    made = compiled.across(capability, 128)
    fits(made, capability)
    assert made.specialised == (capability == (9, 0))
    assert made.tensor_core > 0


@pytest.mark.parametrize("capability", [(9, 0), (8, 0), (8, 9)])
def test_eight_bit(capability):
    made = compiled.eight_bit(capability, 128)
    fits(made, capability)
    assert made.specialised == (capability == (9, 0))
    whole = "wgmma.mma_async.sync.aligned.m64n64k32.s32.s8.s8" if made.specialised else "m16n8k32.row.col.satfinite.s32"
    assert whole in made.ptx, "scores are not from integers"
    fits(compiled.quantise(capability, 128, 128), capability)


@pytest.mark.parametrize("capability", [(9, 0), (8, 0)])
@pytest.mark.parametrize("width", [1536, 5120])
def test_packing_moves_sixteen_bytes_at_a_time(capability, width):
    made = compiled.norm_rotary_pack(capability, width, 128)
    fits(made, capability)
    loads, wide = made.ptx.count("ld.global."), made.ptx.count("ld.global.v4")
    assert loads == wide > 0
    assert made.ptx.count("st.global.") == made.ptx.count("st.global.v4") > 0
