import subprocess
import sys

import pytest
import torch

from tests.kernels import truth
from vera.kernels import attention_choice, flash
from vera.kernels import joint_attention as joint
from vera.kernels.attention_choice import KINDS, choose, explain
from vera.kernels.joint_attention import joint_attention, joint_attention_reference


@pytest.fixture
def gpu(monkeypatch):
    """As if there were a GPU of this capability, with or without cuDNN and Triton."""

    def pretend(capability, cudnn=True, triton=True):
        monkeypatch.delenv(attention_choice.VARIABLE, raising=False)
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device=None: capability)
        monkeypatch.setattr(torch.backends.cudnn, "is_available", lambda: cudnn)
        monkeypatch.setattr(attention_choice, "installed", lambda: triton)
        monkeypatch.setattr(attention_choice, "runs_on", lambda device: triton and device.type == "cuda")

    return pretend


def kind(dtype=torch.bfloat16, dim=128, **given):
    return choose("cuda", dtype, dim, **given).kind


def test_on_the_cpu_torch_chooses(monkeypatch):
    monkeypatch.delenv(attention_choice.VARIABLE, raising=False)
    assert choose("cpu", torch.float32, 32).kind == "sdpa"
    assert choose("cpu", torch.float32, 32, needs_gradient=True).kind == "reference"


def test_on_hopper_cudnn_then_triton_then_torch(gpu):
    gpu((9, 0))
    assert kind() == "cudnn"
    gpu((9, 0), cudnn=False)
    assert kind() == "triton"
    assert kind(needs_gradient=True) == "sdpa"
    gpu((9, 0), cudnn=False, triton=False)
    assert kind() == "sdpa"


def test_newer_flash_attention_comes_first_where_it_is_installed(gpu, monkeypatch):
    """On the architectures that it has kernels for, in training too; and where torch has the switch."""
    monkeypatch.setattr(
        attention_choice, "importable", lambda module: module in ("flash_attn_interface", "flash_attn.cute")
    )
    monkeypatch.setattr(attention_choice, "torch_flash_implementations", lambda: ["FA3", "FA4"])
    chosen = {}
    for capability in ((8, 0), (9, 0), (10, 0), (12, 0)):
        gpu(capability)
        chosen[capability] = kind(), kind(needs_gradient=True), kind(torch.float32)
    assert chosen == {
        (8, 0): ("sdpa",) * 3,
        (9, 0): ("fa3", "fa3", "sdpa"),
        (10, 0): ("fa4", "fa4", "sdpa"),
        (12, 0): ("sdpa",) * 3,
    }
    gpu((10, 0))
    with pytest.raises(ValueError, match="compute capability 9.x only"):
        kind(kind="fa3")
    monkeypatch.setattr(attention_choice, "torch_flash_implementations", lambda: [])
    assert kind() == "cudnn"


def test_torchs_flash_attention_is_put_back_for_the_others(monkeypatch):
    """The switch is of the whole process: whoever asks for torch's own must get it."""
    active, asked = [None], []
    own = joint.torch.nn.attention
    monkeypatch.setattr(own, "current_flash_attention_impl", lambda: active[0])
    monkeypatch.setattr(own, "activate_flash_attention_impl", lambda name: asked.append(name) or active.insert(0, name))
    monkeypatch.setattr(own, "restore_flash_attention_impl", lambda: asked.append(None) or active.insert(0, None))
    for wanted in ("fa3", "fa3", "fa4", None, None):
        joint.use_flash(wanted)
    assert asked == ["FA3", "FA4", None]


@pytest.mark.parametrize("capability", [(7, 5), (8, 0), (8, 9), (9, 0), (10, 0), (12, 0), (13, 0)])
def test_every_device_type_and_size_has_a_choice(gpu, capability):
    gpu(capability)
    for dtype in (torch.float64, torch.float32, torch.float16, torch.bfloat16):
        for dim in (8, 20, 32, 64, 128, 256):
            assert kind(dtype, dim) in KINDS
    assert kind(torch.float32) == "sdpa"


@pytest.mark.parametrize(
    "given, message",
    [
        (dict(kind="triton", dim=80), "head sizes"),
        (dict(kind="triton", dtype=torch.float32), "fp16 and bf16"),
        (dict(kind="triton", needs_gradient=True), "no backward"),
        (dict(kind="cudnn", dtype=torch.float32), "fp16 and bf16"),
        (dict(kind="fa3"), "not installed|no switch"),
        (dict(kind="fast"), "there is no such attention"),
    ],
)
def test_a_forced_choice_that_cannot_be_says_why(gpu, given, message):
    gpu((9, 0))
    with pytest.raises(ValueError, match=message):
        kind(**given)


def test_a_choice_is_forced_by_argument_over_environment(gpu, monkeypatch):
    gpu((9, 0))
    monkeypatch.setenv(attention_choice.VARIABLE, "triton")
    assert kind() == "triton"
    assert kind(kind="sdpa") == "sdpa"


def test_explain_is_one_line_that_says_which_and_why(gpu):
    gpu((9, 0), cudnn=False)
    line = explain("cuda", torch.bfloat16, (1, 3, 32760, 12, 128))
    assert "\n" not in line
    assert line.startswith("joint attention: triton")
    assert "not cudnn: there is no cuDNN here" in line
    assert "3 x 32760 tokens, 12 heads of 128, bfloat16" in line


def test_the_kernels_are_not_called_on_the_cpu_unforced(monkeypatch):
    monkeypatch.delenv(attention_choice.VARIABLE, raising=False)
    given = truth.inputs((1, 3, 9, 2, 16), torch.float64)
    assert truth.error(joint_attention(*given), truth.attention(*given)[0]) < 1e-13
    with pytest.raises(ValueError, match="Triton"):
        joint_attention(*given, kind="triton")


@pytest.mark.parametrize("chosen", ["reference", "sdpa"])
def test_each_kind_computes_the_same_on_the_cpu(chosen):
    given = truth.inputs((2, 3, 9, 2, 16), torch.float64)
    result = joint_attention(*given, kind=chosen)
    torch.testing.assert_close(result, joint_attention_reference(*given), rtol=0, atol=1e-13)


def test_gradients_come_through_and_agree_with_the_reference():
    given = [x.requires_grad_() for x in truth.inputs((1, 3, 7, 2, 8), torch.float64)]
    weight = torch.randn(1, 3, 7, 2, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(9))
    wanted = torch.autograd.grad((joint_attention_reference(*given) * weight).sum(), given)
    found = torch.autograd.grad((joint_attention(*given) * weight).sum(), given)
    for a, b in zip(found, wanted):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-12)


@pytest.mark.parametrize("gradient", [False, True])
def test_compiles_into_one_graph(gradient):
    given = [x.requires_grad_(gradient) for x in truth.inputs((1, 3, 7, 2, 8), torch.float32)]

    def attend(query, key, value):
        return joint_attention(query * 2, key, value).flatten(3)

    compiled = torch.compile(attend, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(*given), attend(*given), rtol=0, atol=1e-6)


def test_the_registered_shapes_are_right():
    given = truth.inputs((2, 3, 5, 2, 8), torch.float32)
    torch.library.opcheck(torch.ops.vera.joint_attention.default, (*given, None), test_utils=CHECKS)


def test_flash_declares_its_outputs():
    out, lse = flash._empty(torch.empty(2, 3, 5, 4, 32), None, None)
    assert out.shape == (2, 3, 5, 4, 32) and lse.shape == (2, 4, 15) and lse.dtype == torch.float32


CHECKS = ("test_schema", "test_faketensor", "test_aot_dispatch_dynamic")


def test_the_mark_of_a_constant_is_torchs_own():
    def ours():
        pass

    def torchs():
        pass

    assert (
        vars(attention_choice.constant_when_compiled(ours)) == vars(torch.compiler.assume_constant_result(torchs)) != {}
    )


def test_rendering_imports_neither_the_compiler_nor_a_scheduler_library():
    code = (
        "import sys, vera.core.backends.generate; print(*{'torch._dynamo', 'diffusers', "
        "'scipy.stats'} & {*sys.modules})"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == ""
