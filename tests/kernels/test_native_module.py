"""A native module that does not fit the Python code is refused in one line."""

import re
from types import SimpleNamespace

import pytest

from vera.core.job.run import FAULT, exit_status
from vera.kernels import NativeVersionError, native_module

# The functions of version 3 and their arguments. A change of this table needs another version.
FUNCTIONS = {
    "alpha_box": ["layer"],
    "area_means": ["codes", "table", "height", "width"],
    "area_planes": ["planes", "height", "width", "threads"],
    "blur_lines": ["values", "weights", "threads"],
    "blur_planes": ["values", "along", "down", "threads"],
    "double_to_half": ["value"],
    "free_subject": ["edit", "alpha", "kept", "plate"],
    "gelu_tanh": ["values", "threads"],
    "half_to_double": ["bits"],
    "largest_lines": ["values", "reach", "threads"],
    "median_size": ["values", "weights", "least"],
    "outlined_alpha": ["alpha", "fit", "edge", "plate", "steepness", "height", "width", "part"],
    "over": ["plate", "layer", "plate_encoded", "blend_encoded", "code_bits"],
    "plate_color": ["color", "alpha", "height", "width", "part"],
    "remove_specks": ["alpha", "low", "high", "area"],
    "shrink": ["image", "height", "width", "part", "most"],
}
needs_native = pytest.mark.skipif(native_module.native is None, reason="the native kernels are not built")


@needs_native
def test_the_version_belongs_to_these_functions():
    native = native_module.native
    found = {
        name: re.findall(r"[(,] ?(\w+): ", function.__doc__.splitlines()[0])
        for name, function in vars(native).items()
        if callable(function)
    }
    assert native_module.VERSION == native.VERSION == 4
    assert found == FUNCTIONS, "raise VERSION in kernels/native/module.cpp, kernels/native_module.py and here"


@pytest.mark.parametrize("version", [native_module.VERSION - 1, native_module.VERSION + 1])
def test_a_module_of_another_version_ends_in_one_line_that_says_to_rebuild(version):
    module = SimpleNamespace(VERSION=version, __file__="kernels/_native.so")
    with pytest.raises(NativeVersionError) as caught:
        native_module.with_right_version(module)
    code, line = exit_status(caught.value)
    assert code == FAULT and line.startswith("error: the native kernels (kernels/_native.so) are of version")
    assert "build them again" in line and "\n" not in line


def test_a_module_of_this_version_is_used():
    module = SimpleNamespace(VERSION=native_module.VERSION, __file__="kernels/_native.so")
    assert native_module.with_right_version(module) is module
