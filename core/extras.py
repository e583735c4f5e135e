"""Optional libraries: the package's extras, and a one-line error if a feature's library is missing."""

from importlib.util import find_spec

from vera.core.errors import InputError

# Extra of pyproject.toml -> its libraries.
EXTRAS = {
    "full-size": ("diffusers", "transformers", "accelerate", "peft", "torchao"),
    "farm": ("ray",),
    "train": ("tensorboard",),
}


def missing(*libraries: str) -> str | None:
    """The first of these libraries that is not installed, or None."""
    return next((name for name in libraries if find_spec(name) is None), None)


def require(feature: str, *libraries: str, otherwise: str = "") -> None:
    """Raise InputError unless a feature's libraries are installed. otherwise: an alternative for the message."""
    name = missing(*libraries)
    if name:
        extra = next(extra for extra, names in EXTRAS.items() if name in names)
        other = f", or {otherwise}" if otherwise else ""
        raise InputError(f"{feature}: needs {name}, which is not installed; pip install 'vera-edit[{extra}]'{other}")
