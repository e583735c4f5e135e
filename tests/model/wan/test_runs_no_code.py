"""A model folder of a stranger's runs no code and reaches no network, whatever its configurations name.

The kinds are those of published holes in libraries that read the same files: code named by a configuration although
nobody trusts it, classes named by text, attention kernels fetched by name, pickles beside the weights.
"""

import json
import pickle
import shutil
import socket

import pytest

from tests.tiny_vera import vera_directory
from vera.core.errors import InputError
from vera.core.job.run import exit_status
from vera.core.model.load import load_model
from vera.core.model.wan.wan_directory import load_tokenizer, read_parts

CONFIGS = {
    "transformer": "config.json",
    "vae": "config.json",
    "text_encoder": "config.json",
    "tokenizer": "tokenizer_config.json",
}
MAP = {"AutoConfig": "evil.Evil", "AutoModel": "evil.Evil", "AutoTokenizer": ["evil.Evil", "evil.Evil"]}
NAMED = [
    {"auto_map": MAP},
    {"auto_map": {name: f"someone/else--{of}" for name, of in MAP.items() if isinstance(of, str)}},
    {"auto_map": MAP, "trust_remote_code": True, "tokenizer_class": "Evil", "model_type": "evil"},
    {"_class_name": "evil.Evil"},
    {"_class_name": "os.system", "_diffusers_version": "evil"},
    {"architectures": ["evil.Evil"]},
    {"tokenizer_class": "evil.Evil"},
    {"attn_implementation": "someone/kernel"},
    {"_attn_implementation": "someone/kernel"},
    {"_attn_implementation_internal": "someone/kernel"},
    {"quantization_config": {"quant_method": "evil", "modules_to_not_convert": ["evil"]}},
]


class Code:
    """A pickle that leaves a mark where it is loaded."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return open, (str(self.mark), "w")


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return vera_directory(tmp_path_factory.mktemp("whole") / "model", limits={})


@pytest.fixture
def folder(whole, tmp_path, monkeypatch):
    """A copy, with a module beside each configuration that leaves a mark; who asks for the network fails."""
    folder = shutil.copytree(whole, tmp_path / "model")
    for place in (folder, *(folder / part for part in CONFIGS)):
        (place / "evil.py").write_text(f"open({str(tmp_path / 'pwned')!r}, 'w')\nclass Evil: pass\n")

    def reach(*address):
        reached.append(address)
        raise OSError("no network")

    reached = []
    monkeypatch.setattr(socket.socket, "connect", reach)
    monkeypatch.setattr(socket, "getaddrinfo", reach)
    yield folder
    assert not reached


@pytest.mark.parametrize("part", CONFIGS)
@pytest.mark.parametrize("entries", NAMED, ids=lambda entries: " ".join(entries))
def test_what_a_configuration_names_is_not_run(folder, tmp_path, part, entries):
    path = folder / part / CONFIGS[part]
    path.write_text(json.dumps(json.loads(path.read_text()) | entries))
    try:
        read_parts(folder)
        load_tokenizer(folder / "tokenizer")
    except InputError as error:
        assert len(exit_status(error)[1]) <= 300
    assert not (tmp_path / "pwned").exists()


@pytest.mark.parametrize("part", ["transformer", "vae", "text_encoder"])
@pytest.mark.parametrize(
    "name", ["pytorch_model.bin", "diffusion_pytorch_model.bin", "model.ckpt", "model.safetensors"]
)
def test_pickles_are_not_opened(folder, tmp_path, part, name):
    for file in (folder / part).glob("*.safetensors"):
        file.unlink()
    (folder / part / name).write_bytes(pickle.dumps(Code(tmp_path / "pwned")))
    with pytest.raises(InputError):
        load_model(str(folder), "cpu")
    assert not (tmp_path / "pwned").exists()
