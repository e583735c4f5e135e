"""Read a torch.distributed.checkpoint state from an untrusted source without running code from it.

The index of a state, `.metadata`, is a pickle, and torch would run any function that the pickle names. Entries that
are not tensors are pickles too. This reader allows only torch's own classes in the index and only tensors as entries;
torch reads their bytes with weights_only.
"""

import pickle
from pathlib import Path
from typing import Any

import torch
from torch.distributed.checkpoint import FileSystemReader
from torch.distributed.checkpoint.metadata import Metadata, StorageMeta, TensorStorageMetadata

# Module -> the names that an index may use.
_INDEX = {
    "pathlib": {"PosixPath", "PurePosixPath", "WindowsPath", "PureWindowsPath"},
    "torch": {"Size"},
    "torch.serialization": {"_get_layout"},
    "torch.distributed.checkpoint.filesystem": {"_StorageInfo"},
    "torch.distributed.checkpoint.metadata": {
        "ChunkStorageMetadata",
        "Metadata",
        "MetadataIndex",
        "StorageMeta",
        "TensorProperties",
        "TensorStorageMetadata",
        "_MEM_FORMAT_ENCODING",
    },
}

# Python 3.13 pickles paths under another module's name, which other versions do not have.
_MOVED = {"pathlib._local": "pathlib"}


class StateReader(FileSystemReader):
    """A reader for torch.distributed.checkpoint.load that runs no code from a state. Raises UnpicklingError."""

    def read_metadata(self, *args: Any, **kwargs: Any) -> Metadata:
        """See `FileSystemReader.read_metadata`."""
        with self.fs.create_stream(self._get_metadata_path(kwargs.get("rank")), "rb") as file:
            index = _IndexUnpickler(file).load()
        _check_index(index)
        index.storage_meta = index.storage_meta or StorageMeta()
        index.storage_meta.load_id = self.load_id
        return index


class _IndexUnpickler(pickle.Unpickler):
    """Unpickles only the classes in _INDEX and torch's dtypes. Raises UnpicklingError for others."""

    def find_class(self, module: str, name: str) -> Any:
        module = _MOVED.get(module, module)
        is_type = module == "torch" and isinstance(getattr(torch, name, None), torch.dtype)
        if is_type or name in _INDEX.get(module, ()):
            return super().find_class(module, name)
        raise pickle.UnpicklingError(f"its index names {module}.{name}, which is not allowed in a state of Vera")


def _check_index(index: object) -> None:
    """Raise UnpicklingError if an index declares an entry that is not a tensor, or a file in another folder."""
    if not isinstance(index, Metadata):
        raise pickle.UnpicklingError("its index is not an index of tensors")
    for name, entry in index.state_dict_metadata.items():
        if not isinstance(entry, TensorStorageMetadata):
            raise pickle.UnpicklingError(f"its index declares {str(name)[:80]}, which is not a tensor")
    for location in index.storage_data.values():
        file = location.relative_path
        if not isinstance(file, str) or Path(file).name != file:
            raise pickle.UnpicklingError("its index names a file in another folder")
