"""What may make a run cheaper than the full computation, each a flag."""

from dataclasses import dataclass

from core.errors import InputError
from core.sampling.cache import FirstBlockCache
from kernels.variants import VARIANTS


@dataclass(frozen=True)
class Savers:
    """attention  "dense", or the opt-ins "int8" and "window", which are not exact
    cache      threshold of the first-block cache, see FirstBlockCache; 0 is off. Not exact
    compile    torch.compile of the repeated block: exact up to rounding, slow to start
    one_batch  both guidance passes in one batch: exact up to rounding, takes more memory
    """

    attention: str = "dense"
    cache: float = 0.0
    compile: bool = False
    one_batch: bool = False

    def __post_init__(self):
        if self.attention not in VARIANTS:
            raise InputError(f"attention {self.attention!r} is not one of {', '.join(VARIANTS)}")
        if self.cache < 0:
            raise InputError(f"cache threshold {self.cache} is negative; 0 turns the cache off")

    def prepare(self, transformer, backend="inductor"):
        """Set the transformer to the wanted attention, its blocks compiled if wanted; done once before a run."""
        transformer.attention = self.attention
        if self.compile:
            for block in transformer.blocks:
                block.compile(fullgraph=True, backend=backend)

    def new_cache(self):
        """A cache for one guidance pass of one run, or None."""
        return FirstBlockCache(self.cache) if self.cache else None
