"""Libraries that only some features need: they are in extras of the package, and named in one line when missing."""

from importlib.util import find_spec

from vera.core.errors import InputError

# Extra of pyproject.toml: the libraries that it adds.
EXTRAS = {
    "full-size": ("diffusers", "transformers", "accelerate", "peft", "torchao"),
    "farm": ("ray",),
    "train": ("tensorboard",),
}


def missing(*libraries: str) -> str | None:
    """The first of these libraries that is not installed; None where all are."""
    return next((name for name in libraries if find_spec(name) is None), None)


def require(feature: str, *libraries: str, otherwise: str = "") -> None:
    """Check that a feature's libraries are installed; otherwise: another way out, for the message. Raises
    InputError."""
    name = missing(*libraries)
    if name:
        extra = next(extra for extra, names in EXTRAS.items() if name in names)
        other = f", or {otherwise}" if otherwise else ""
        raise InputError(f"{feature}: needs {name}, which is not installed; pip install 'vera-edit[{extra}]'{other}")
