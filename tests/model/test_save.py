"""Checkpoints in and out: names of the published sizes, memory while they stream, and folders that others can read."""

import gc
import json
import sys

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests import forked
from tests.model.conftest import original_names
from vera.core.cli.model_from_wan import main
from vera.core.errors import InputError
from vera.core.model.config import PRESETS, TransformerConfig
from vera.core.model.load import load_model
from vera.core.model.save import save_model, write_transformer
from vera.core.model.tensors import TensorFiles, load_weights
from vera.core.model.transformer import Transformer, kept_in_float32
from vera.core.model.wan.checkpoint import BranchOptions, branch_wan, config_from_wan, vera_sources
from vera.core.model.wan.parameter_names import NEW_PARAMETERS

GEOMETRY = {"1.3b": (12, 8960, 30, 1_418_996_800), "14b": (40, 13824, 40, 14_288_491_584)}


@pytest.fixture(scope="module")
def published():
    """Names and shapes of Wan2.1 T2V as diffusers declares it, on the meta device, by size and layout."""
    from diffusers import WanTransformer3DModel

    found = {}
    for size, (heads, ffn, layers, count) in GEOMETRY.items():
        with torch.device("meta"):
            wan = WanTransformer3DModel(num_attention_heads=heads, ffn_dim=ffn, num_layers=layers)
        state = wan.state_dict()
        assert sum(p.numel() for p in state.values()) == count
        found[size, "diffusers"], found[size, "original"] = state, original_names(state)
    return found


@pytest.mark.parametrize("layout", ["diffusers", "original"])
@pytest.mark.parametrize("size", GEOMETRY)
def test_the_published_sizes_map_with_nothing_missing_or_surplus(published, size, layout):
    shapes = {name: tuple(tensor.shape) for name, tensor in published[size, layout].items()}
    config = config_from_wan(shapes)
    assert config == PRESETS[size]
    sources = vera_sources(shapes, config)
    assert set(sources.values()) - {None} == set(shapes)
    assert all(name.startswith(NEW_PARAMETERS) for name, source in sources.items() if source is None)


@pytest.mark.skipif(sys.platform == "win32", reason="files with holes need more than truncate there")
def test_a_sharded_checkpoint_of_14b_is_understood_from_its_headers(published, tmp_path):
    """57 GB of holes: nothing of it can be read by accident."""
    state = published["14b", "original"]
    names, shards = sorted(state), 6
    where = {}
    for number in range(shards):
        file = f"diffusion_pytorch_model-{number + 1:05}-of-{shards:05}.safetensors"
        part = names[number * len(names) // shards : (number + 1) * len(names) // shards]
        header, at = {}, 0
        for name in part:
            size = state[name].numel() * 4
            header[name] = {"dtype": "F32", "shape": list(state[name].shape), "data_offsets": [at, at + size]}
            at, where[name] = at + size, file
        text = json.dumps(header).encode()
        with open(tmp_path / file, "wb") as out:
            out.write(len(text).to_bytes(8, "little") + text)
            out.truncate(8 + len(text) + at)
    (tmp_path / "diffusion_pytorch_model.safetensors.index.json").write_text(json.dumps({"weight_map": where}))
    files = TensorFiles(tmp_path)
    assert len(vera_sources(files.shapes, config_from_wan(files.shapes))) > 3 * len(state) - 10
    del where[names[7]]
    with pytest.raises(InputError, match="1 missing"):
        vera_sources({n: files.shapes[n] for n in where}, PRESETS["14b"])


# Memory


def status(field):
    with open("/proc/self/status") as lines:
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(field))


def growth(work):
    gc.collect()
    with open("/proc/self/clear_refs", "w") as peak:
        peak.write("5")
    before = status("VmRSS:")
    work()
    return status("VmHWM:") - before


def stream(rank, source, target, keep_open):
    """In a process of its own: peaks while branching and loading, and the model's size, into target/peaks.json."""
    torch.set_num_threads(1)
    with torch.device("meta"):
        Transformer(TransformerConfig(dim=4, heads=2, layers=1, ffn_dim=4))  # imports what torch takes to compute there
    if keep_open:  # the planted fault: every file that was opened stays
        held, opened = [], TensorFiles._opened
        TensorFiles._opened = lambda self, file: held.append(opened(self, file)) or held[-1]
    branching = growth(lambda: branch_wan(source, target, BranchOptions(shard_bytes=24 << 20)))
    folder = target / "transformer"
    with torch.device("meta"):
        vera = Transformer(TransformerConfig.load(folder / "config.json"))
    loading = growth(lambda: load_weights(vera, TensorFiles(folder), torch.bfloat16, kept_in_float32))
    model = sum(p.numel() * p.element_size() for p in vera.parameters())
    (target / "peaks.json").write_text(json.dumps([branching, loading, model]))


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
@pytest.mark.parametrize("fault", [False, True])
def test_a_checkpoint_streams_within_one_shard_and_the_model(tmp_path, fault):
    """57 MB of fp32 in shards of 13 become 170 MB, then 87 MB in memory; peaks as the system counts them."""
    from diffusers import WanTransformer3DModel

    mib, shard, slack = 2**20, 13, 20
    with torch.device("meta"):
        wan = WanTransformer3DModel(num_attention_heads=3, ffn_dim=1536, num_layers=6, text_dim=64)
    state = wan.state_dict()
    (tmp_path / "wan").mkdir()
    numbers, size, written = [[]], 0, 0
    for name, tensor in state.items():
        size += tensor.numel() * 4
        if size > shard * mib:
            numbers.append([])
            size = tensor.numel() * 4
        numbers[-1].append(name)
    for number, names in enumerate(numbers):
        save_file({n: torch.ones(state[n].shape) for n in names}, tmp_path / f"wan/{number}.safetensors")
        written += sum(state[n].numel() * 4 for n in names)
    assert len(numbers) > 4 and written > 54 * mib

    forked.spawn(stream, (tmp_path / "wan", tmp_path / "vera", fault))
    branching, loading, model = json.loads((tmp_path / "vera/peaks.json").read_text())
    assert model > 80 * mib
    fits = branching < (shard + 24 + slack) * mib, loading < model + (24 + slack) * mib
    assert fits == ((False, False) if fault else (True, True)), (branching / mib, loading / mib, model / mib)


# Saved and read again


@pytest.fixture
def vera(wan_directory, tmp_path):
    branch_wan(wan_directory, tmp_path / "vera", BranchOptions(shard_bytes=300_000))
    (tmp_path / "vera" / "model.json").write_text('{"max_frames": 49}')
    return tmp_path / "vera"


def state_of(model):
    modules = {"transformer": model.transformer, "vae": model.codec.vae, "text": model.text.encoder}
    return {f"{part}.{n}": t for part, module in modules.items() for n, t in module.state_dict().items()}


def same(a, b):
    assert a.keys() == b.keys()
    assert all(a[n].dtype == b[n].dtype and torch.equal(a[n], b[n]) for n in a)


@pytest.mark.parametrize("dtype", [None, torch.bfloat16])
def test_a_saved_model_is_read_again_bit_for_bit(vera, tmp_path, dtype):
    model = load_model(str(vera), "cpu", dtype)
    save_model(model, tmp_path / "saved", shard_bytes=200_000)
    again = load_model(str(tmp_path / "saved"), "cpu")
    same(state_of(again), state_of(model))
    assert again.limits == model.limits and again.transformer.config == model.transformer.config
    assert again.text.tokenizer("add a boat").input_ids == model.text.tokenizer("add a boat").input_ids
    with pytest.raises(InputError, match="exists already"):
        save_model(model, tmp_path / "saved")


def test_other_tools_read_the_folder(vera):
    """huggingface_hub's loader by the index, diffusers and transformers by their subfolders."""
    from diffusers import AutoencoderKLWan
    from huggingface_hub import load_torch_model
    from transformers import UMT5EncoderModel

    from vera.core.model.transformer import Transformer

    model = load_model(str(vera), "cpu")
    other = Transformer(model.transformer.config)
    pattern = "diffusion_pytorch_model{suffix}.safetensors"
    load_torch_model(other, vera / "transformer", strict=True, filename_pattern=pattern)
    same(dict(other.state_dict()), dict(model.transformer.state_dict()))
    same(AutoencoderKLWan.from_pretrained(vera, subfolder="vae").state_dict(), model.codec.vae.state_dict())
    encoder = UMT5EncoderModel.from_pretrained(vera, subfolder="text_encoder")
    assert torch.equal(encoder.shared.weight, model.text.encoder.shared.weight)
    index = json.loads((vera / "model_index.json").read_text())
    assert index["vae"] == ["diffusers", "AutoencoderKLWan"] and len(index) == 5


def test_no_shard_is_larger_than_asked_and_the_index_is_whole(vera):
    folder = vera / "transformer"
    index = json.loads((folder / "diffusion_pytorch_model.safetensors.index.json").read_text())
    sizes = {}
    for file in folder.glob("*.safetensors"):
        tensors = load_file(file)
        assert {index["weight_map"][name] for name in tensors} == {file.name}
        sizes[file.name] = sum(t.numel() * t.element_size() for t in tensors.values())
        assert sizes[file.name] <= 300_000 or len(tensors) == 1
    assert set(index["weight_map"].values()) == sizes.keys()
    assert index["metadata"]["total_size"] == sum(sizes.values())


def test_a_vera_can_be_saved_again_in_another_dtype(vera, tmp_path, capsys):
    assert main([str(vera), str(tmp_path / "small"), "--dtype", "bfloat16", "--max-shard-size", "0.0001"]) == 0
    same(
        state_of(load_model(str(tmp_path / "small"), "cpu")) | {},
        {
            **state_of(load_model(str(vera), "cpu")),
            **{
                f"transformer.{n}": t
                for n, t in load_model(str(vera), "cpu", torch.bfloat16).transformer.state_dict().items()
            },
        },
    )
    assert load_model(str(tmp_path / "small"), "cpu").limits.max_frames == 49
    assert main([str(vera), str(tmp_path / "other"), "--share-embedders"]) == 2
    assert "already a Vera model" in capsys.readouterr().err


def test_a_failed_write_leaves_nothing(vera, tmp_path, monkeypatch):
    model = load_model(str(vera), "cpu")
    monkeypatch.setattr("vera.core.model.save.write_index", lambda root: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        save_model(model, tmp_path / "saved")
    assert not list(tmp_path.glob("saved*"))


def test_one_shard_needs_no_index(tmp_path):
    config = PRESETS["1.3b"]
    tensors = {"a": torch.ones(3), "b": torch.zeros(2, 2, dtype=torch.bfloat16)}
    write_transformer(tmp_path, config, tensors, tensors.get, 1000)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["config.json", "diffusion_pytorch_model.safetensors"]
    same(load_file(tmp_path / "diffusion_pytorch_model.safetensors"), tensors)
