"""Weights of 8 bits, through torchao: the projections of the blocks, which are nearly all of a model.

A row of a matrix shares one scale; what is computed with stays in the activations' type. The rest of the
weights (embedders, heads, norms, modulation) keeps its type. Relative error of the weights of a normal
distribution: int8 0.7 %, fp8 (e4m3) 2.6 %.
"""

import logging
from contextlib import contextmanager

from torch import nn

from vera.core.extras import require

KINDS = ("fp8", "int8")


def is_quantised(name: str, owner: nn.Module) -> bool:
    """Whether this parameter of a Transformer is one of those that are kept in 8 bits."""
    return name.startswith("blocks.") and name.endswith(".weight") and type(owner) is nn.Linear


@contextmanager
def quietly():
    """Imports without what torchao says of its kernels for other builds of torch; diffusers imports it too."""
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)


def quantiser(kind: str):
    """A function that puts a linear layer's weight into 8 bits, in place. Raises InputError without torchao."""
    require(f"--weights {kind}", "torchao", otherwise="leave it out")
    with quietly():
        from torchao.quantization import Float8WeightOnlyConfig, Int8WeightOnlyConfig, quantize_

    config = {"int8": Int8WeightOnlyConfig, "fp8": Float8WeightOnlyConfig}[kind]()
    return lambda linear: quantize_(linear, config)


def quantise(transformer: nn.Module, kind: str) -> None:
    """All of a Transformer that is in memory already, in place."""
    put = quantiser(kind)
    for name, module in transformer.named_modules():
        if is_quantised(name + ".weight", module):
            put(module)
