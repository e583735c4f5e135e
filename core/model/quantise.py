"""Store the blocks' projections, almost all of a model, in 8 bits with torchao.

Each row of a matrix has one scale. Computation stays in the activations' type. The other weights (embedders, heads,
norms, modulation) keep their type. Relative error of normally distributed weights: int8 0.7 %, fp8 (e4m3) 2.6 %.
"""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from torch import nn

from vera.core.extras import require

KINDS = ("fp8", "int8")


def is_quantised(name: str, owner: nn.Module) -> bool:
    """Whether this parameter of a Transformer is stored in 8 bits."""
    return name.startswith("blocks.") and name.endswith(".weight") and type(owner) is nn.Linear


@contextmanager
def without_library_logging() -> Iterator[None]:
    """Context without torchao's log messages about kernels for other builds of torch; diffusers imports torchao too."""
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)


def linear_quantiser(kind: str) -> Callable[[nn.Module, str], None]:
    """A function (module, full parameter name) that quantises the module in place if it is a block's projection.

    Raises InputError without torchao.
    """
    require(f"--weights {kind}", "torchao", otherwise="leave it out")
    with without_library_logging():
        from torchao.quantization import Float8WeightOnlyConfig, Int8WeightOnlyConfig, quantize_

    config = {"int8": Int8WeightOnlyConfig, "fp8": Float8WeightOnlyConfig}[kind]()

    def quantise_linear(owner: nn.Module, name: str) -> None:
        if is_quantised(name, owner):
            quantize_(owner, config)

    return quantise_linear


def quantise(transformer: nn.Module, kind: str) -> None:
    """Quantise a loaded Transformer in place."""
    quantise_linear = linear_quantiser(kind)
    for name, module in transformer.named_modules():
        quantise_linear(module, name + ".weight")
