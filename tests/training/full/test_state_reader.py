"""Resuming from an untrusted state runs no code from the state."""

import io
import pickle
import shutil
from pathlib import PurePosixPath

import pytest
import torch
import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint.metadata import BytesStorageMetadata

from vera.core.training.full.state_reader import StateReader, _IndexUnpickler


class Code:
    """A pickle that creates the file `mark` when it is loaded."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return open, (str(self.mark), "w")


def tensors(value=1.0):
    small = torch.ones(2, dtype=torch.bfloat16)
    return {"weights/a": torch.full((4, 3), value), "step/a": torch.tensor(7.0), "b": small}


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("dcp") / "step-000007"
    dcp.save(tensors(), checkpoint_id=folder, no_dist=True)
    return folder


@pytest.fixture
def state(saved, tmp_path):
    return shutil.copytree(saved, tmp_path / saved.name)


def load(folder):
    into = tensors(0.0)
    dcp.load(into, storage_reader=StateReader(folder), no_dist=True)
    return into


def rewrite(folder, change):
    path = folder / ".metadata"
    index = pickle.loads(path.read_bytes())
    path.write_bytes(pickle.dumps(change(index) or index))


def test_an_unaltered_state_is_read(state):
    found = load(state)
    assert all(torch.equal(found[name], value) for name, value in tensors().items())


@pytest.mark.parametrize(
    "damage",
    [
        lambda index, mark: Code(mark),
        lambda index, mark: setattr(index, "planner_data", Code(mark)),
        lambda index, mark: index.state_dict_metadata.update({"weights/a": BytesStorageMetadata()}),
        lambda index, mark: index.state_dict_metadata.update(other=Code(mark)),
        lambda index, mark: (
            [setattr(place, "relative_path", "../elsewhere") for place in index.storage_data.values()] and None
        ),
        lambda index, mark: {"weights/a": 1},
    ],
    ids=["code alone", "code within", "bytes for a tensor", "code as an entry", "another folder", "no index"],
)
def test_an_altered_index_is_refused_and_runs_no_code(state, tmp_path, damage):
    mark = tmp_path / "pwned"
    rewrite(state, lambda index: damage(index, mark))
    with pytest.raises(dcp.api.CheckpointException, match="its index"):
        load(state)
    assert not mark.exists()


def test_pickles_in_place_of_tensors_run_no_code(state, tmp_path):
    mark = tmp_path / "pwned"
    data = next(state.glob("*.distcp"))
    data.write_bytes(pickle.dumps(Code(mark)).ljust(data.stat().st_size, b"\0"))
    with pytest.raises(dcp.api.CheckpointException):
        load(state)
    assert not mark.exists()


@pytest.mark.parametrize("module", ["pathlib", "pathlib._local"])
def test_paths_of_every_python_are_read(module):
    """Python 3.13 names the second module; other versions do not have it."""
    assert _IndexUnpickler(io.BytesIO(f"c{module}\nPurePosixPath\n.".encode())).load() is PurePosixPath
