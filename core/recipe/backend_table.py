"""The backends, the ways to make edit layers, in one table. A recipe's model says which one makes it.

`lift:FILE` and `vace:DIR` are models of the backends `lift` and `vace`; a model without such a prefix is of DEFAULT.
"""

from dataclasses import dataclass

from vera.core.recipe.path_kind import PathKind

DEFAULT = "generate"


@dataclass(frozen=True)
class BackendRow:
    """module: the import name of a module with a `BACKEND` that fulfils `vera.core.backends.base.Backend`.
    path: what stands in the model's name after the prefix. words: a job of it in messages, as "a lift"."""

    module: str
    path: PathKind
    words: str


BACKENDS = {
    "generate": BackendRow("vera.core.backends.generate", PathKind.MODEL, "a render"),
    "lift": BackendRow("vera.core.backends.lift", PathKind.PATTERN, "a lift"),
    "vace": BackendRow("vera.core.backends.vace", PathKind.FOLDER, "a lift"),
}


def prefixes() -> tuple[str, ...]:
    """What may stand before the colon of a model's name."""
    return tuple(name for name in BACKENDS if name != DEFAULT)
