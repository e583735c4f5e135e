"""GELU: the native kernel against torch in double precision, the same bits however it is called, and where torch is
asked instead."""

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from vera.kernels import gelu as kernel

native = pytest.mark.skipif(kernel._native is None, reason="the native kernels are not built")


def numbers(count: int = 300_001) -> torch.Tensor:
    return torch.linspace(-30, 30, count)


@native
def test_values_are_those_of_double_precision():
    with torch.inference_mode():
        x = numbers()
        wanted = kernel.reference(x.double())
        assert (kernel.gelu_tanh(x.clone()) - wanted).abs().div(wanted.abs() + 1).max() < 3e-7


@native
def test_zeros_and_nan_pass():
    with torch.inference_mode():
        found = kernel.gelu_tanh(torch.tensor([0.0, -0.0, torch.nan, torch.inf]))
    assert found[:2].tolist() == [0, 0] and found[2].isnan() and found[3] == torch.inf


@native
def test_the_bits_do_not_depend_on_threads_or_on_what_lies_beside():
    x, threads = numbers(), torch.get_num_threads()
    try:
        with torch.inference_mode():
            torch.set_num_threads(1)
            one = kernel.gelu_tanh(x.clone())
            torch.set_num_threads(3)
            assert torch.equal(kernel.gelu_tanh(x.clone()), one)
            assert torch.equal(kernel.gelu_tanh(x[12345:12352].clone()), one[12345:12352])
    finally:
        torch.set_num_threads(threads)


def test_a_gradient_is_that_of_torch():
    x = numbers(99).requires_grad_()
    kernel.gelu_tanh(x).sum().backward()
    again = numbers(99).requires_grad_()
    kernel.reference(again).sum().backward()
    assert torch.equal(x.grad, again.grad)


@pytest.mark.parametrize("make", [torch.Tensor.double, torch.Tensor.bfloat16, lambda x: x.view(-1, 3).t()])
def test_other_types_and_layouts_are_those_of_torch_and_stay(make):
    with torch.inference_mode():
        x = make(numbers(99))
        before = x.clone()
        assert torch.equal(kernel.gelu_tanh(x), kernel.reference(before)) and torch.equal(x, before)


def test_tensors_without_numbers_pass():
    with FakeTensorMode(), torch.no_grad():
        assert kernel.gelu_tanh(torch.empty(4, 5)).shape == (4, 5)


def test_without_the_native_module_torch_is_used(monkeypatch):
    monkeypatch.setattr(kernel, "_native", None)
    with torch.inference_mode():
        assert torch.equal(kernel.gelu_tanh(numbers(99)), kernel.reference(numbers(99)))
