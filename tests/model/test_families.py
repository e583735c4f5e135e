"""A model's folder and its list of digests have the same files."""

import pytest

from vera.core.errors import InputError
from vera.core.model.families import family_of

LISTED = "config.json", "model.json", "transformer.safetensors", "text.safetensors", "codec.safetensors"
OPTIONAL = "objects.safetensors"


@pytest.fixture
def model(tmp_path):
    for name in (*LISTED, OPTIONAL):
        (tmp_path / name).touch()
    (tmp_path / "SHA256SUMS").write_text("".join(f"{'0' * 64}  {name}\n" for name in (*LISTED, OPTIONAL)))
    return tmp_path


@pytest.mark.parametrize("name", [OPTIONAL, "config.json", "codec.safetensors"])
def test_a_listed_file_that_is_missing_is_refused(model, name):
    assert family_of(str(model)).name
    (model / name).unlink()
    with pytest.raises(
        InputError, match=f"{name}: missing, though SHA256SUMS lists it; export or copy the model again"
    ):
        family_of(str(model))


def test_weights_that_are_not_listed_are_refused(model):
    (model / "scenes.safetensors").touch()
    with pytest.raises(InputError, match="scenes.safetensors: not listed in SHA256SUMS"):
        family_of(str(model))
    (model / "scenes.safetensors").rename(model / "notes.txt")
    assert family_of(str(model)).name


def test_an_empty_list_is_refused_and_none_is_allowed(model):
    (model / "SHA256SUMS").write_text("")
    with pytest.raises(InputError, match="SHA256SUMS: lists no file"):
        family_of(str(model))
    (model / "SHA256SUMS").unlink()
    assert family_of(str(model)).name
