"""Where a model runs, and in which number format it is trained there."""

import pytest
import torch

from vera.core.model.device import has_bfloat16_units, mixed_precision

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    "capabilities, units",
    [
        ({"avx2": True, "avx512_bf16": False, "amx_bf16": False}, False),
        ({"avx512_f": True}, False),
        ({"avx512_f": True, "avx512_bf16": True}, True),
        ({"amx_bf16": True}, True),
        ({"neon": True, "bf16": False}, False),
        ({"neon": True, "bf16": True}, True),
    ],
)
def test_training_uses_bfloat16_only_where_the_cpu_has_units_for_it(monkeypatch, capabilities, units):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities, raising=False)
    assert has_bfloat16_units(CPU) is units
    with mixed_precision(CPU):
        product = torch.ones(2, 2) @ torch.ones(2, 2)
    assert product.dtype == (torch.bfloat16 if units else torch.float32)
