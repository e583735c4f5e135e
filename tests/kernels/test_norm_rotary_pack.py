import torch

from tests.kernels import truth
from tests.kernels.packing import exact, packing_inputs
from vera.kernels.norm_rotary_pack import can_pack, norm_rotary_pack, norm_rotary_pack_reference


def test_reference_is_the_complex_product_in_float64():
    given = packing_inputs(2, 11, 6, 32, torch.float32)
    for reference, wanted in zip(norm_rotary_pack_reference(*given), exact(*given)):
        assert 0 < truth.error(reference, wanted) < 4e-6


def test_without_a_gpu_it_is_the_reference():
    given = packing_inputs(1, 5, 2, 32, torch.bfloat16)
    for result, reference in zip(norm_rotary_pack(*given), norm_rotary_pack_reference(*given)):
        assert torch.equal(result, reference)


def test_the_kernel_is_not_for_the_cpu():
    with torch.no_grad():
        assert not can_pack(torch.zeros(1, 3, 4, 8))
