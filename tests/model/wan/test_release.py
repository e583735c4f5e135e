"""A folder as Wan2.1 was first released: three layouts of names, two of the files pickles."""

import json
import os
import pickle
from functools import partial

import diffusers
import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.model.conftest import CHANNELS
from vera.core.cli.model_from_wan import main
from vera.core.errors import InputError
from vera.core.model.load import load_model
from vera.core.model.wan.checkpoint import BranchOptions, branch_wan
from vera.core.model.wan.release import TEXT, TOKENIZER, VAE


def release_text(state):
    """UMT5's weights under the release's names, written against its own module tree."""
    out, block = (
        {"token_embedding.weight": state["shared.weight"], "norm.weight": state["encoder.final_layer_norm.weight"]},
        0,
    )
    while f"encoder.block.{block}.layer.0.layer_norm.weight" in state:
        take = lambda name, b=f"encoder.block.{block}.layer.": state[f"{b}{name}.weight"]  # noqa: E731
        own = {f"attn.{x}": take(f"0.SelfAttention.{x}") for x in "qkvo"}
        own |= {"norm1": take("0.layer_norm"), "norm2": take("1.layer_norm")}
        own["pos_embedding.embedding"] = take("0.SelfAttention.relative_attention_bias")
        own |= {"ffn.gate.0": take("1.DenseReluDense.wi_0"), "ffn.fc1": take("1.DenseReluDense.wi_1")}
        own["ffn.fc2"] = take("1.DenseReluDense.wo")
        out |= {f"blocks.{block}.{name}.weight": tensor for name, tensor in own.items()}
        block += 1
    return out


def release_codec(state):
    """The codec's weights under the release's names: flat lists of residual blocks and resamplings."""
    places = {
        "encoder.conv_in": "encoder.conv1",
        "decoder.conv_in": "decoder.conv1",
        "quant_conv": "conv1",
        "post_quant_conv": "conv2",
    }
    for side in ("encoder", "decoder"):
        places |= {f"{side}.norm_out": f"{side}.head.0", f"{side}.conv_out": f"{side}.head.2"}
        places |= {f"{side}.mid_block.resnets.{i}": f"{side}.middle.{2 * i}" for i in (0, 1)}
        places[f"{side}.mid_block.attentions.0"] = f"{side}.middle.1"
    places |= {f"encoder.down_blocks.{i}": f"encoder.downsamples.{i}" for i in range(11)}
    for stage in range(4):
        places |= {f"decoder.up_blocks.{stage}.resnets.{i}": f"decoder.upsamples.{4 * stage + i}" for i in range(3)}
        places[f"decoder.up_blocks.{stage}.upsamplers.0"] = f"decoder.upsamples.{4 * stage + 3}"
    inside = {
        "norm1": "residual.0",
        "conv1": "residual.2",
        "norm2": "residual.3",
        "conv2": "residual.6",
        "conv_shortcut": "shortcut",
    }
    out = {}
    for name, tensor in state.items():
        place = next(p for p in sorted(places, key=len, reverse=True) if name.startswith(p + "."))
        first, dot, leaf = name[len(place) + 1 :].rpartition(".")
        out[f"{places[place]}.{inside.get(first, first)}{dot}{leaf}"] = tensor
    return out


@pytest.fixture
def vae(monkeypatch):
    """The release's tree at a twelfth of its width."""
    statistics = {"latents_mean": [0.0] * CHANNELS, "latents_std": [1.0] * CHANNELS}
    small = partial(diffusers.AutoencoderKLWan, base_dim=8, z_dim=CHANNELS, **statistics)
    small.from_config = diffusers.AutoencoderKLWan.from_config
    torch.manual_seed(3)
    vae = small().eval()
    monkeypatch.setattr(diffusers, "AutoencoderKLWan", small)
    return vae


@pytest.fixture
def release(tmp_path, layouts, vae, encoder, tokenizer):
    root = tmp_path / "release"
    root.mkdir()
    save_file(layouts["original"], root / "diffusion_pytorch_model.safetensors")
    (root / "config.json").write_text(json.dumps({"num_heads": 3}))
    torch.save(release_codec(vae.state_dict()), root / f"{VAE}.pth")
    torch.save(release_text(encoder.state_dict()), root / f"{TEXT}.pth")
    tokenizer.save_pretrained(root / TOKENIZER)
    return root


@pytest.mark.parametrize("form", [".pth", ".safetensors"])
def test_the_release_becomes_a_whole_vera(release, tmp_path, vae, encoder, tokenizer, form):
    if form == ".safetensors":
        for stem in (VAE, TEXT):
            state = torch.load(release / f"{stem}.pth", weights_only=True)
            save_file({n: t.contiguous() for n, t in state.items()}, release / f"{stem}.safetensors")
            (release / f"{stem}.pth").unlink()
    assert branch_wan(release, tmp_path / "vera", BranchOptions(shard_bytes=20_000)) == []
    model = load_model(str(tmp_path / "vera"), "cpu")
    ids = tokenizer("add a boat", return_tensors="pt").input_ids
    with torch.no_grad():
        truth = encoder(ids).last_hidden_state
    assert (model.text.encode(["add a boat"])[:, :4] - truth).abs().max() < 1e-5
    assert all(torch.equal(model.text.encoder.state_dict()[n], t) for n, t in encoder.state_dict().items())
    loaded = model.codec.vae.state_dict()
    assert all(torch.equal(loaded[n], t) for n, t in vae.state_dict().items())
    assert len(list((tmp_path / "vera/text_encoder").glob("model-*.safetensors"))) > 2
    weights = load_file(next((tmp_path / "vera/transformer").glob("*.safetensors")))
    assert not any("token_embedding" in n or "downsamples" in n for n in weights)


class Bomb:
    def __init__(self, target):
        self.target = str(target)

    def __reduce__(self):
        return (os.mkdir, (self.target,))


@pytest.mark.parametrize(
    "fault, said",
    [
        ("code", "not read as plain weights"),
        ("half", "not read as"),
        ("more", "more than tensors"),
        ("missing", "1 missing: encoder.block.0.layer.1.DenseReluDense.wi_0.weight"),
    ],
)
def test_wrong_files_are_refused_before_anything_is_written(release, tmp_path, capsys, fault, said):
    file = release / f"{TEXT}.pth"
    if fault == "code":
        file.write_bytes(pickle.dumps(Bomb(tmp_path / "exploded")))
    elif fault == "half":
        file.write_bytes(file.read_bytes()[:2000])
    elif fault == "more":
        torch.save({"a": torch.ones(2), "step": 5}, file)
    else:
        state = torch.load(file, weights_only=True)
        state.pop("blocks.0.ffn.gate.0.weight")
        torch.save(state, file)
    assert main([str(release), str(tmp_path / "vera")]) == 2
    error = capsys.readouterr().err
    assert file.name in error and said in error and error.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["release"], "code was run, or something written"


def test_a_text_encoder_of_another_kind(release, tmp_path):
    torch.save({"x.weight": torch.ones(2, 2)}, release / f"{TEXT}.pth")
    with pytest.raises(InputError, match="not UMT5 of Wan's release"):
        branch_wan(release, tmp_path / "vera")
