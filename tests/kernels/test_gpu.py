"""What the interpreter tests check, on a CUDA device and in bf16 as well; `make gpu-test`."""

import pytest
import torch

from tests.kernels import truth
from tests.kernels.packing import exact, packing_inputs
from vera.kernels import int8, windowed
from vera.kernels.attention_choice import FLASH, obstacle
from vera.kernels.joint_attention import joint_attention, joint_attention_reference
from vera.kernels.language import installed
from vera.kernels.norm_rotary_pack import norm_rotary_pack, norm_rotary_pack_reference

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
    pytest.mark.skipif(not installed(), reason="needs Triton"),
]
HALVES = [torch.float16, torch.bfloat16]


def on_gpu(shape, dtype, **given):
    return [x.cuda() for x in truth.inputs(shape, dtype, **given)]


def near(result, baseline, wanted):
    """At most twice the error of torch's own attention in the same type."""
    small = torch.finfo(result.dtype).eps * wanted.abs().max().item() / 2
    assert truth.error(result, wanted) <= 2 * truth.error(baseline, wanted) + small


@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("dim", [32, 64, 128])
@pytest.mark.parametrize("length", [1, 43, 128, 1001])
def test_dense(dtype, dim, length):
    from vera.kernels.flash import flash_attention

    given = on_gpu((2, 3, length, 3, dim), dtype)
    wanted, wanted_lse = truth.attention(*given)
    attended, lse = flash_attention(*given)
    near(attended, joint_attention(*given, kind="sdpa"), wanted)
    assert truth.error(lse, wanted_lse) < 1e-4


@pytest.mark.parametrize("dtype", HALVES)
def test_dense_is_right_where_attention_is_sharp(dtype):
    given = on_gpu((1, 3, 333, 2, 128), dtype, sharpness=6.0)
    near(joint_attention(*given, kind="triton"), joint_attention(*given, kind="sdpa"), truth.attention(*given)[0])


def test_keys_past_the_end_have_no_weight():
    query, key, value = on_gpu((1, 3, 45, 1, 128), torch.bfloat16)
    given = (query * 0.1 + 3, key * 0.1 - 3, value)
    near(joint_attention(*given, kind="triton"), joint_attention(*given, kind="sdpa"), truth.attention(*given)[0])


def test_dense_at_the_length_of_a_real_clip():
    # 3 x 20,280 tokens, 49 frames of 832x480; two heads, some rows against fp64.
    given = on_gpu((1, 3, 20280, 2, 128), torch.bfloat16)
    attended = joint_attention(*given, kind="triton").flatten(1, 2)
    q, k, v = (x.double().flatten(1, 2).transpose(1, 2) for x in given)
    for rows in (slice(0, 64), slice(20250, 20314), slice(60776, 60840)):
        scores = q[:, :, rows] @ k.transpose(-1, -2) / 128**0.5
        wanted = (torch.softmax(scores, dim=-1) @ v).transpose(1, 2)
        assert truth.error(attended[:, rows], wanted) < 2e-3


@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("dim", [32, 64, 128])
@pytest.mark.parametrize("grid, window", [((3, 5, 7), (1, 3)), ((5, 9, 13), (3, 5)), ((7, 30, 4), (3, 11))])
def test_windowed(dtype, dim, grid, window):
    given = on_gpu((2, 3, grid[0] * grid[1] * grid[2], 2, dim), dtype, sharpness=2.0)
    wanted, _ = truth.attention(*given, allowed=windowed.window_mask(grid, window, "cuda"))
    baseline = windowed.windowed_attention_reference(*given, grid, window)
    near(windowed.windowed_attention(*given, grid, window), baseline, wanted)


@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("dim, length", [(32, 1001), (64, 128), (128, 43), (128, 2000)])
def test_eight_bit(dtype, dim, length):
    query, key, value = on_gpu((2, 3, length, 2, dim), dtype, sharpness=2.0)
    key = key + 3 * key[:, :1, :1]
    error = int8.quantisation_error(query, key, value)
    assert error.passes, str(error)
    wanted = int8.int8_attention_reference(query.float(), key.float(), value.float()).double()
    assert truth.error(int8.int8_attention(query, key, value), wanted) < 2e-2 * wanted.abs().max().item()


@pytest.mark.parametrize("kind", [None, "cudnn", "fa3", "fa4", "sdpa", "triton", "reference"])
def test_every_kind_runs(kind):
    given = on_gpu((1, 3, 200, 2, 64), torch.bfloat16)
    problem = kind and obstacle(kind, given[0].device, torch.bfloat16, 64, False)
    if problem and kind in FLASH:
        pytest.skip(problem)
    near(joint_attention(*given, kind=kind), joint_attention_reference(*given), truth.attention(*given)[0])


@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("batch, length, heads, dim", [(2, 7, 6, 32), (1, 333, 12, 128), (1, 65, 40, 128)])
def test_norm_rotary_pack(dtype, batch, length, heads, dim):
    given = packing_inputs(batch, length, heads, dim, dtype, device="cuda")
    for result, reference, wanted in zip(norm_rotary_pack(*given), norm_rotary_pack_reference(*given), exact(*given)):
        near(result, reference, wanted)


@pytest.mark.parametrize("compiled", [False, True])
def test_a_block_packs_as_it_stacks(compiled, monkeypatch):
    from vera.core.model import transformer
    from vera.core.model.config import TransformerConfig

    torch.manual_seed(0)
    config = TransformerConfig(dim=256, heads=4, layers=1, ffn_dim=512, text_dim=32, freq_dim=32)
    block = transformer.JointBlock(config).cuda()
    hidden, text = torch.randn(2, 3, 60, 256).cuda(), torch.randn(2, 5, 256).cuda()
    given = (hidden, [text] * 3, 0.1 * torch.randn(2, 3, 6, 256).cuda())
    rotary = transformer.rotary_table((3, 4, 5), 64, "cuda")
    with torch.no_grad():
        run = torch.compile(block, fullgraph=True) if compiled else block
        packed = run(*given, rotary)
        monkeypatch.setattr(transformer, "can_pack", lambda hidden: False)
        stacked = block(*given, rotary)
    assert 0 < (packed - stacked).abs().max().item() < 2e-4
