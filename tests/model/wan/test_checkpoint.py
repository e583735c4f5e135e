import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from vera.core.cli.model_from_wan import main
from vera.core.errors import InputError
from vera.core.model import transformer as transformer_module
from vera.core.model.config import PRESETS, TransformerConfig
from vera.core.model.transformer import Transformer
from vera.core.model.wan.checkpoint import (
    BranchOptions,
    branch_wan,
    config_from_wan,
    parameter_shapes,
    vera_state_dict,
)
from vera.core.model.wan.parameter_names import detect_layout

LAYOUTS = ("diffusers", "original")


def shapes_of(state):
    return {name: tuple(t.shape) for name, t in state.items()}


def vera_from(state, **switches):
    config = config_from_wan(shapes_of(state), heads=3, **switches)
    vera = Transformer(config)
    vera.load_state_dict(vera_state_dict(state, config))
    return vera.eval()


def three(latents):
    return latents[:, None].expand(-1, 3, -1, -1, -1, -1)


@torch.no_grad()
def distance(vera, wan, inputs):
    """Largest difference to Wan over all branches, source and mask given."""
    latents, timestep, text = inputs["latents"], inputs["timestep"], inputs["text"]
    noise = torch.randn(2, *latents.shape, generator=torch.Generator().manual_seed(9))
    out = vera(three(latents), timestep, text, source=noise[0], mask=noise[1])
    truth = wan(latents, timestep, text, return_dict=False)[0]
    assert truth.std() > 0.1
    return (out - three(truth)).abs().max().item()


# The oracle: at initialisation every branch computes exactly what Wan computes.


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("share_embedders", [False, True])
def test_every_branch_is_wan_at_first(wan, layouts, inputs, layout, share_embedders):
    assert distance(vera_from(layouts[layout], share_embedders=share_embedders), wan, inputs) < 1e-5


def test_without_alpha_text_the_joint_attention_is_no_longer_wans(wan, layouts, inputs):
    vera = vera_from(layouts["diffusers"], alpha_text=False)
    assert not any("alpha.attn2" in n or "alpha.norm2" in n for n in vera.state_dict())
    assert distance(vera, wan, inputs) > 1e-3


@pytest.mark.parametrize("fault", ["swapped weights", "rotary split", "norm left out"])
def test_the_oracle_sees_planted_faults(wan, layouts, inputs, fault, monkeypatch):
    state = dict(layouts["diffusers"])
    if fault == "swapped weights":
        a, b = "blocks.1.attn1.to_q.weight", "blocks.1.attn2.to_q.weight"
        state[a], state[b] = state[b], state[a]
    if fault == "norm left out":
        state["blocks.0.norm2.weight"] = torch.ones_like(state["blocks.0.norm2.weight"])
    if fault == "rotary split":

        def wrong(grid, head_dim, device, times=None):
            cos, sin = transformer_module_table(grid, head_dim, device, times)
            return cos.roll(1, dims=1), sin.roll(1, dims=1)

        transformer_module_table = transformer_module.rotary_table
        monkeypatch.setattr(transformer_module, "rotary_table", wrong)
    assert distance(vera_from(state), wan, inputs) > 1e-3


# Names


def test_the_original_names_are_those_diffusers_converts(layouts):
    from diffusers.loaders.single_file_utils import convert_wan_transformer_to_diffusers

    converted = convert_wan_transformer_to_diffusers(dict(layouts["original"]))
    assert converted.keys() == layouts["diffusers"].keys()
    assert all(torch.equal(converted[n], layouts["diffusers"][n]) for n in converted)


def test_the_layout_is_recognised_from_tensor_names(layouts):
    assert {layout: detect_layout(layouts[layout]) for layout in LAYOUTS} == {n: n for n in LAYOUTS}
    with pytest.raises(InputError, match="neither"):
        detect_layout(["conv_in.weight"])


PREFIXES = ("model.diffusion_model.", "diffusion_model.", "model.")


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("prefix", PREFIXES)
def test_single_files_of_other_tools_are_read_behind_their_prefix(layouts, tmp_path, layout, prefix):
    state = {name: tensor.contiguous() for name, tensor in layouts[layout].items()}
    save_file({prefix + name: tensor for name, tensor in state.items()}, tmp_path / "comfy.safetensors")
    save_file(state, tmp_path / "plain.safetensors")
    for name in ("comfy", "plain"):
        branch_wan(tmp_path / f"{name}.safetensors", tmp_path / name)
    assert all(torch.equal(t, read(tmp_path / "plain")[n]) for n, t in read(tmp_path / "comfy").items())
    assert read(tmp_path / "comfy").keys() == read(tmp_path / "plain").keys()


def test_names_that_are_unknown_are_named(tmp_path, capsys):
    save_file({"first_stage_model.a": torch.ones(2), "model.b": torch.ones(2)}, tmp_path / "other.safetensors")
    assert main([str(tmp_path / "other.safetensors"), str(tmp_path / "vera")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "neither the original release's of Wan nor diffusers': first_stage_model.a, model.b" in line


@pytest.mark.parametrize("layout", LAYOUTS)
def test_geometry_is_read_from_shapes(layouts, layout):
    config = config_from_wan(shapes_of(layouts[layout]), heads=3)
    assert config == TransformerConfig(
        dim=60, heads=3, layers=2, ffn_dim=72, text_dim=32, freq_dim=16, latent_channels=4, patch=(1, 2, 2)
    )


@pytest.mark.parametrize("preset", ["1.3b", "14b"])
def test_heads_of_the_published_sizes_follow_from_the_width(preset):
    config = PRESETS[preset]
    names = parameter_shapes(config)
    wan = {n.replace(".edit.", ".").removeprefix("edit."): s for n, s in names.items() if "edit." in n}
    assert config_from_wan(wan) == config


def test_copies_share_their_storage_until_loaded(layouts):
    state = layouts["diffusers"]
    vera = vera_state_dict(state, config_from_wan(shapes_of(state), heads=3))
    name = "blocks.1.{}.ffn.net.2.weight"
    assert all(vera[name.format(b)] is state["blocks.1.ffn.net.2.weight"] for b in ("edit", "alpha", "composite"))
    assert all((vera[n] == 0).all() for n in vera if n.split(".")[0].endswith("embedding"))


# Refusals


def without(state, name):
    return {n: t for n, t in state.items() if n != name}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_missing_tensors_are_named(layouts, layout):
    name = {"diffusers": "blocks.1.attn2.norm_k.weight", "original": "blocks.1.cross_attn.norm_k.weight"}[layout]
    with pytest.raises(InputError, match=f"1 missing: {name}"):
        vera_from(without(layouts[layout], name))


def test_original_names_with_the_norms_swapped_are_refused(layouts):
    state = {n.replace("norm3", "norm2"): t for n, t in layouts["original"].items()}
    with pytest.raises(InputError, match=r"4 missing: blocks.0.norm3.weight.*4 surplus: blocks.0.norm2.weight"):
        vera_from(state)


def test_misshapen_tensors_are_named_with_both_shapes(layouts):
    state = dict(layouts["diffusers"])
    state["blocks.0.norm2.bias"] = torch.zeros(59)
    with pytest.raises(InputError, match=r"1 misshapen: blocks.0.norm2.bias \(59,\) where \(60,\) is needed"):
        vera_from(state)


@pytest.mark.parametrize("extra", ["img_emb.proj.0.weight", "blocks.0.cross_attn.k_img.weight"])
def test_image_to_video_checkpoints_are_refused(layouts, extra):
    with pytest.raises(InputError, match=rf"1 surplus: {extra}.*text-to-video \(T2V\)"):
        vera_from(layouts["original"] | {extra: torch.zeros(3)})


def test_many_faults_are_counted_in_one_line(layouts):
    state = {n: t for n, t in layouts["diffusers"].items() if "attn2" not in n}
    with pytest.raises(InputError, match="20 missing: .* and 17 more") as caught:
        vera_from(state)
    assert "\n" not in str(caught.value)


def test_more_channels_in_than_out_are_refused(layouts):
    state = dict(layouts["diffusers"])
    state["patch_embedding.weight"] = torch.zeros(60, 9, 1, 2, 2)
    with pytest.raises(InputError, match="9 latent channels.*T2V"):
        vera_from(state)


# Directories


def read(folder):
    return {n: t for f in sorted(folder.glob("*.safetensors")) for n, t in load_file(f).items()}


def test_a_directory_is_branched_shard_by_shard(wan_directory, layouts, tmp_path):
    target = tmp_path / "vera"
    assert branch_wan(wan_directory, target, BranchOptions(shard_bytes=300_000)) == []
    assert len(list((target / "transformer").glob("*.safetensors"))) > 2
    config = TransformerConfig.load(target / "transformer" / "config.json")
    assert (config.heads, config.layers) == (3, 2)
    truth, found = vera_state_dict(layouts["diffusers"], config), read(target / "transformer")
    assert found.keys() == truth.keys()
    assert all(torch.equal(found[n], truth[n]) for n in truth)
    assert (target / "vae" / "config.json").read_text() == (wan_directory / "vae" / "config.json").read_text()
    assert (target / "tokenizer" / "tokenizer.json").exists()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["vera", "wan"]


def test_the_original_layout_and_lower_precision(layouts, tmp_path, capsys):
    source = tmp_path / "release"
    source.mkdir()
    save_file(layouts["original"], source / "diffusion_pytorch_model.safetensors")
    (source / "config.json").write_text(json.dumps({"num_heads": 3, "eps": 1e-5}))
    assert main([str(source), str(tmp_path / "vera"), "--dtype", "bfloat16", "--share-embedders"]) == 0
    assert "vae, text_encoder, tokenizer" in capsys.readouterr().out
    config = TransformerConfig.load(tmp_path / "vera" / "transformer" / "config.json")
    assert (config.eps, config.share_embedders) == (1e-5, True)
    found = read(tmp_path / "vera" / "transformer")
    kept = {n for n, t in found.items() if t.dtype == torch.float32}
    assert kept == {n for n in found if "scale_shift" in n or "time_embedder" in n or ".norm2." in n}
    assert torch.equal(
        found["blocks.0.alpha.attn1.to_q.weight"], layouts["original"]["blocks.0.self_attn.q.weight"].bfloat16()
    )


def test_pickles_are_refused_with_the_way_out(tmp_path, capsys):
    (tmp_path / "wan").mkdir()
    (tmp_path / "wan" / "model.pth").write_bytes(b"x")
    assert main([str(tmp_path / "wan"), str(tmp_path / "vera")]) == 2
    line = capsys.readouterr().err
    assert "model.pth" in line and "safetensors.torch.save_file" in line and line.count("\n") == 1
    assert not (tmp_path / "vera").exists()


def test_a_pickled_part_is_refused_before_anything_is_written(wan_directory, tmp_path):
    for file in (wan_directory / "vae").glob("*.safetensors"):
        file.rename(file.with_suffix(".bin"))
    with pytest.raises(InputError, match="pickled"):
        branch_wan(wan_directory, tmp_path / "vera")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["wan"]


def test_an_existing_target_is_left_alone(wan_directory, tmp_path):
    (tmp_path / "vera").mkdir()
    with pytest.raises(InputError, match="exists already"):
        branch_wan(wan_directory, tmp_path / "vera")


def test_nothing_half_written_is_left(wan_directory, tmp_path, monkeypatch):
    def full(*arguments, **named):
        raise OSError("no space left")

    monkeypatch.setattr("vera.core.model.wan.checkpoint.shutil.copytree", full)
    with pytest.raises(OSError, match="no space"):
        branch_wan(wan_directory, tmp_path / "vera")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["wan"]


def test_a_damaged_file_is_refused(wan_directory, tmp_path):
    shard = sorted((wan_directory / "transformer").glob("*.safetensors"))[0]
    shard.write_bytes(shard.read_bytes()[:-10])
    with pytest.raises(InputError, match="not a readable safetensors"):
        branch_wan(wan_directory, tmp_path / "vera")


def test_the_same_tensor_twice_is_refused(wan_directory, tmp_path):
    folder = wan_directory / "transformer"
    shard = sorted(folder.glob("*.safetensors"))[0]
    (folder / "copy.safetensors").write_bytes(shard.read_bytes())
    branch_wan(wan_directory, tmp_path / "by_index")
    next(folder.glob("*.index.json")).unlink()
    with pytest.raises(InputError, match="in another file"):
        branch_wan(wan_directory, tmp_path / "vera")


@pytest.mark.parametrize("fault", ["shard missing", "path", "empty", "not an index", "two"])
def test_a_wrong_index_is_one_line(wan_directory, tmp_path, fault):
    folder = wan_directory / "transformer"
    index = next(folder.glob("*.index.json"))
    shard = sorted(folder.glob("*.safetensors"))[1]
    outside = {"weight_map": {"x": "../vae/diffusion_pytorch_model.safetensors"}}
    texts = {"path": json.dumps(outside), "empty": '{"weight_map": {}}', "not an index": "[]"}
    if fault == "shard missing":
        shard.unlink()
    elif fault == "two":
        (folder / "other.safetensors.index.json").write_text(index.read_text())
    else:
        index.write_text(texts[fault])
    said = {"shard missing": shard.name, "path": "vae", "empty": "no file", "two": "two indices"}.get(
        fault, "not an index"
    )
    with pytest.raises(InputError, match=said) as caught:
        branch_wan(wan_directory, tmp_path / "vera")
    assert "\n" not in str(caught.value)
