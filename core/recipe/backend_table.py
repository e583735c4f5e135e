"""The table of backends. The name of a recipe's model determines the backend.

`lift:FILE` and `vace:DIR` are models of the backends `lift` and `vace`. A model without prefix belongs to DEFAULT.
"""

from dataclasses import dataclass

from vera.core.recipe.path_kind import PathKind

DEFAULT = "generate"


@dataclass(frozen=True)
class BackendRow:
    """How messages and the loader know a backend.

    module: import name of a module with a `BACKEND` that implements `Backend` (core/backends/base.py)
    path: kind of the path after the prefix in the model's name; None if there is no path
    words: name of such a job in messages, such as "a lift"
    """

    module: str
    path: PathKind | None
    words: str


BACKENDS = {
    "generate": BackendRow("vera.core.backends.generate", PathKind.MODEL, "a render"),
    "lift": BackendRow("vera.core.backends.lift", PathKind.PATTERN, "a lift"),
    "vace": BackendRow("vera.core.backends.vace", PathKind.FOLDER, "a lift"),
}


def prefixes() -> tuple[str, ...]:
    """The prefixes of models' names, without the colon."""
    return tuple(name for name in BACKENDS if name != DEFAULT)
