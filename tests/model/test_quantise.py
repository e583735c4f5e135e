"""8-bit weights and blocks outside the device: how far from bf16, what they take, and what stays as it is."""

import pytest
import torch

from vera.core.errors import InputError
from vera.core.model.footprint import weight_bytes
from vera.core.model.load import load_model
from vera.core.model.offload import computing_device
from vera.core.model.quantise import is_quantised
from vera.core.model.wan import wan_directory
from vera.core.model.wan.checkpoint import branch_wan

# Relative L1 of the output's change against bf16, on random weights of small geometry.
ERROR = {"int8": 0.02, "fp8": 0.06}


@pytest.fixture
def vera(wan_directory, tmp_path):
    branch_wan(wan_directory, tmp_path / "vera")
    return str(tmp_path / "vera")


@torch.inference_mode()
def output(model, inputs):
    latents = inputs["latents"]
    return model.transformer(
        latents[:, None].expand(-1, 3, -1, -1, -1, -1), inputs["timestep"], inputs["text"], latents
    )


def off(found, truth):
    return ((found - truth).abs().mean() / truth.abs().mean()).item()


def bytes_of(parameter):
    parts = [getattr(parameter, name, None) for name in ("qdata", "scale")]
    return (
        sum(p.numel() * p.element_size() for p in parts if p is not None)
        or parameter.numel() * parameter.element_size()
    )


@pytest.mark.parametrize("kind", ERROR)
def test_the_error_against_bf16(vera, inputs, kind):
    full = output(load_model(vera, "cpu", weights="bf16"), inputs)
    model = load_model(vera, "cpu", weights=kind)
    error = off(output(model, inputs), full)
    assert ERROR[kind] / 10 < error < ERROR[kind]
    parameters = dict(model.transformer.named_parameters())
    small = {n for n, p in parameters.items() if hasattr(p, "qdata")}
    assert len(small) == 2 * 3 * 10 and all(n.startswith("blocks.") for n in small)
    assert {p.qdata.dtype for n, p in parameters.items() if n in small} == {
        {"int8": torch.int8, "fp8": torch.float8_e4m3fn}[kind]
    }
    assert (
        parameters["alpha.scale_shift_table"].dtype == parameters["blocks.0.edit.norm2.weight"].dtype == torch.float32
    )
    assert parameters["edit.proj_out.weight"].dtype == torch.bfloat16


@pytest.mark.parametrize("weights", ["bf16", "fp8", "int8"])
def test_what_the_planner_counts_is_what_is_allocated(vera, weights):
    model = load_model(vera, "cpu", weights=weights).transformer
    counted = weight_bytes(model.config, weights)
    blocks = sum(bytes_of(p) for p in model.blocks.parameters())
    assert counted["blocks"] == blocks == 2 * counted["block"]
    assert counted["rest"] == sum(bytes_of(p) for p in model.parameters()) - blocks


def test_each_weight_is_put_into_8_bits_before_the_next_is_read(vera, monkeypatch):
    """So that a model never is in memory in 16 bits whole."""
    order, get = [], wan_directory.TensorFiles.get
    monkeypatch.setattr(wan_directory.TensorFiles, "get", lambda self, name: order.append(name) or get(self, name))
    monkeypatch.setattr(
        wan_directory,
        "linear_quantiser",
        lambda kind: lambda owner, name: is_quantised(name, owner) and order.append(owner),
    )
    load_model(vera, "cpu", weights="int8")
    put = [i for i, entry in enumerate(order) if isinstance(entry, torch.nn.Linear)]
    assert len(put) == 60 and all(order[i - 1].endswith(".weight") for i in put)


@pytest.mark.parametrize("kind", ["int8", "fp8"])
def test_mini_in_8_bits(kind):
    plain, small = load_model("mini", "cpu"), load_model("mini", "cpu", weights=kind)
    assert next(small.transformer.parameters()).dtype == torch.float32
    name = "blocks.0.edit.ffn.net.2"
    error = (
        small.transformer.get_submodule(name).weight.dequantize() - plain.transformer.get_submodule(name).weight
    ).abs()
    assert error.max() < plain.transformer.get_submodule(name).weight.abs().max() / (100 if kind == "int8" else 15)
    x = torch.randn(2, 3, 768, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        truth = plain.transformer.get_submodule(name)(x)
        assert off(small.transformer.get_submodule(name)(x), truth) < ERROR[kind]


def test_without_the_library_it_is_one_line(vera, monkeypatch):
    monkeypatch.setattr("vera.core.extras.find_spec", lambda name: None if name == "torchao" else name)
    with pytest.raises(InputError, match="--weights int8: needs torchao, .*; pip install"):
        load_model(vera, "cpu", weights="int8")


@pytest.mark.parametrize("weights", ["auto", "int8"])
def test_offloaded_blocks_compute_the_same(vera, inputs, weights):
    from diffusers.hooks.group_offloading import _is_torchao_tensor

    plain, away = load_model(vera, "cpu", weights=weights), load_model(vera, "cpu", weights=weights, offload="blocks")
    assert _is_torchao_tensor(away.transformer.blocks[0].edit.attn1.to_q.weight) == (weights == "int8"), (
        "would not be moved"
    )
    assert away.device == computing_device(away.transformer) == torch.device("cpu")
    for _ in range(2):
        assert torch.equal(output(away, inputs), output(plain, inputs))
    assert torch.equal(away.text.encode(["a boat"]), plain.text.encode(["a boat"]))


def test_each_block_is_there_only_while_it_works(vera, inputs, monkeypatch):
    from diffusers.hooks.group_offloading import ModuleGroup

    log = []
    model = load_model(vera, "cpu", offload="blocks")
    place = {id(block): i for i, block in enumerate(model.transformer.blocks)}
    for name, sign in (("onload_", "+"), ("offload_", "-")):
        done = getattr(ModuleGroup, name)

        def noted(self, done=done, sign=sign):
            log.append(f"{sign}{place.get(id(self.modules[0]), 'rest')}")
            return done(self)

        monkeypatch.setattr(ModuleGroup, name, noted)
    output(model, inputs)
    assert log == ["+rest", "+0", "-0", "+1", "-1", "-rest"]


def test_blocks_need_accelerate(vera, monkeypatch):
    monkeypatch.setattr("vera.core.extras.find_spec", lambda name: None if name == "accelerate" else name)
    with pytest.raises(InputError, match="needs accelerate"):
        load_model(vera, "cpu", offload="blocks")


def test_a_render_in_8_bits_with_offloaded_blocks(vera, tmp_path, capsys):
    """`vera render` with int8 weights and blocks in host memory delivers, and --verbose reports both."""
    import json
    from pathlib import Path

    from tests.plate.media import write_sequence
    from vera.core.cli import render

    (Path(vera) / "model.json").write_text(
        json.dumps({"max_frames": 9, "pixels": 48 * 32, "steps": 1, "guidance": 1.0})
    )
    plate = write_sequence(tmp_path, range(1, 4), size=(32, 48, 3))
    args = ["--plate", str(plate), "--prompt", "add a boat", "--out", str(tmp_path / "out"), "--model", vera]
    args += ["--weights", "int8", "--offload", "blocks", "--device", "cpu", "--progress", "none", "--verbose"]
    assert render.main(args) == 0
    said = capsys.readouterr().err
    assert "bfloat16 and float32 and int8" in said and "so do its blocks" in said
    manifest = json.loads((tmp_path / "out/manifest.json").read_text())
    assert len(manifest["frames"]) == 3 and manifest["extra"]["warnings"] == []
