import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from vera.core.errors import InputError
from vera.core.model.fingerprint import fingerprint
from vera.core.model.limits import Limits
from vera.core.model.load import load_model
from vera.core.model.wan.checkpoint import BranchOptions, branch_wan
from vera.core.model.wan.wan_directory import PARTS


@pytest.fixture
def vera(wan_directory, tmp_path):
    branch_wan(wan_directory, tmp_path / "vera", BranchOptions(shard_bytes=300_000))
    return tmp_path / "vera"


def edit(folder, change):
    """Rewrite a folder's only, or first, safetensors file."""
    file = sorted(folder.glob("*.safetensors"))[0]
    state = load_file(file)
    change(state)
    save_file(state, file, {"format": "pt"})


def test_a_directory_becomes_the_model_it_was_made_from(vera, wan, vae, encoder, tokenizer, inputs):
    model = load_model(str(vera), "cpu")
    latents, timestep, text = inputs["latents"], inputs["timestep"], inputs["text"]
    with torch.no_grad():
        out = model.transformer(latents[:, None].expand(-1, 3, -1, -1, -1, -1), timestep, text, latents)
        truth = wan(latents, timestep, text, return_dict=False)[0]
        states = encoder(tokenizer("add a boat", return_tensors="pt").input_ids).last_hidden_state
    assert (out - truth[:, None]).abs().max() < 1e-5
    assert (model.text.encode(["add a boat"])[:, :4] - states).abs().max() < 1e-6
    assert all(torch.equal(p, dict(vae.named_parameters())[n]) for n, p in model.codec.vae.named_parameters())
    assert model.codec.channels == 4 and model.text.max_length == 512
    assert model.limits == Limits(max_frames=81, pixels=399360, multiple=16)
    assert not any(m.training for m in (model.transformer, model.codec.vae, model.text.encoder))


def test_lower_precision_leaves_the_islands_and_the_codec(vera):
    model = load_model(str(vera), "cpu", torch.bfloat16)
    types = {n: p.dtype for n, p in model.transformer.named_parameters()}
    assert types["blocks.0.edit.attn1.to_q.weight"] == torch.bfloat16
    assert types["blocks.0.edit.norm2.weight"] == types["alpha.scale_shift_table"] == torch.float32
    assert types["edit.condition_embedder.time_embedder.linear_1.weight"] == torch.float32
    assert {p.dtype for p in model.text.encoder.parameters()} == {torch.bfloat16}
    assert {p.dtype for p in model.codec.vae.parameters()} == {torch.float32}
    assert model.text.encode(["boat"]).dtype == torch.bfloat16


def test_offloaded_parts_are_read_outside_the_device(vera, monkeypatch):
    from vera.core.model.wan import wan_directory

    read, files = {}, wan_directory.TensorFiles
    monkeypatch.setattr(
        wan_directory, "TensorFiles", lambda folder, device: read.update({folder.name: device}) or files(folder, "cpu")
    )
    monkeypatch.setattr(wan_directory, "offloaded", lambda model, encoder, offload, device: f"{offload} to {device}")
    assert load_model(str(vera), "cuda", offload="parts") == "parts to cuda"
    assert read == {"transformer": "cuda", "vae": "cpu", "text_encoder": "cpu"}


def test_an_offloaded_directory_computes_the_same(vera):
    plain, visiting = load_model(str(vera), "cpu"), load_model(str(vera), "cpu", offload="parts")
    assert torch.equal(plain.text.encode(["add a boat"]), visiting.text.encode(["add a boat"]))
    video = torch.rand(1, 3, 5, 16, 16, generator=torch.Generator().manual_seed(0))
    latents = plain.codec.encode(video)
    assert torch.equal(visiting.codec.encode(video), latents)
    assert torch.equal(visiting.codec.decode(latents, 5), plain.codec.decode(latents, 5))


def test_branches_do_not_share_weights(vera):
    model = load_model(str(vera), "cpu")
    block = model.transformer.blocks[0]
    assert torch.equal(block.edit.attn1.to_q.weight, block.alpha.attn1.to_q.weight)
    with torch.no_grad():
        block.edit.attn1.to_q.weight.zero_()
    assert block.alpha.attn1.to_q.weight.abs().max() > 0


@pytest.mark.parametrize("name", ["shared.weight", "encoder.embed_tokens.weight"])
def test_the_text_embedding_is_found_under_either_name(vera, encoder, tokenizer, name):
    def rename(state):
        state[name] = state.pop("shared.weight")

    edit(vera / "text_encoder", rename)
    loaded = load_model(str(vera), "cpu").text.encoder
    ids = tokenizer("add a boat", return_tensors="pt").input_ids
    with torch.no_grad():
        assert torch.equal(loaded(ids).last_hidden_state, encoder(ids).last_hidden_state)
    assert loaded.shared.weight.data_ptr() == loaded.encoder.embed_tokens.weight.data_ptr()


# Fingerprint


def test_the_fingerprint_is_of_the_content(vera, tmp_path):
    first = fingerprint(vera, PARTS)
    assert fingerprint(vera.rename(tmp_path / "elsewhere"), PARTS) == first
    assert len(first) == 64


@pytest.mark.parametrize("part", ["transformer", "vae", "text_encoder"])
def test_the_fingerprint_sees_a_change_in_any_tensor(vera, part):
    names = list(load_file(sorted((vera / part).glob("*.safetensors"))[0]))
    seen = {fingerprint(vera, PARTS)}
    for name in names[:: max(len(names) // 4, 1)]:
        edit(vera / part, lambda state: state[name].add_(1e-3))
        seen.add(fingerprint(vera, PARTS))
    assert len(seen) == 1 + len(names[:: max(len(names) // 4, 1)])


@pytest.mark.parametrize("name", ["spiece.model", "vocab.txt", "tokenizer_config.json"])
def test_the_fingerprint_sees_the_tokenizer(tmp_path, name):
    (tmp_path / "tokenizer").mkdir()
    prints = set()
    for content in (b"a", b"b"):
        (tmp_path / "tokenizer" / name).write_bytes(content)
        prints.add(fingerprint(tmp_path, ["tokenizer"]))
    assert len(prints) == 2


def test_the_fingerprint_sees_the_configuration(vera):
    first = fingerprint(vera, PARTS)
    path = vera / "transformer" / "config.json"
    path.write_text(path.read_text().replace("1e-06", "1e-05"))
    assert fingerprint(vera, PARTS) != first


# Limits


def test_limits_are_read(vera):
    (vera / "model.json").write_text('{"max_frames": 49, "pixels": 4096, "light_curve": "range"}')
    assert load_model(str(vera), "cpu").limits == Limits(49, 4096, 16, light_curve="range")


@pytest.mark.parametrize(
    "text", ['{"max_frames": 0}', '{"light_curve": "log"}', '{"pixels": 1.5}', '{"speed": 1}', "[]x", "3"]
)
def test_wrong_limits_are_refused(vera, text):
    (vera / "model.json").write_text(text)
    with pytest.raises(InputError, match="model.json"):
        load_model(str(vera), "cpu")


# Refusals


@pytest.mark.parametrize(
    "name, message",
    [
        ("nonsense", "neither 'mini' nor a directory"),
        ("1.3b", "vera model from-wan"),
        ("14b", "no weights of that size"),
    ],
)
def test_unknown_names(name, message):
    with pytest.raises(InputError, match=message):
        load_model(name, "cpu")


@pytest.mark.parametrize("part", ["transformer", "vae", "text_encoder", "tokenizer"])
def test_missing_parts_are_named(vera, part):
    (vera / part).rename(vera / "away")
    with pytest.raises(InputError, match=f"{part}: missing"):
        load_model(str(vera), "cpu")


@pytest.mark.parametrize("part", ["transformer", "vae", "text_encoder"])
def test_pickles_in_place_of_safetensors(vera, part):
    for file in (vera / part).glob("*.safetensors"):
        file.rename(file.with_suffix(".bin"))
    with pytest.raises(InputError, match=rf"{part}.*\.bin: pickled.*save_file"):
        load_model(str(vera), "cpu")


@pytest.mark.parametrize("part", ["transformer", "vae", "text_encoder"])
def test_tensors_that_do_not_fit_are_named_before_any_is_read(vera, part, monkeypatch):
    def spoil(state):
        state["away"] = state.pop(sorted(state)[0])

    name = sorted(load_file(sorted((vera / part).glob("*.safetensors"))[0]))[0]
    edit(vera / part, spoil)
    monkeypatch.setattr("vera.core.model.tensors.TensorFiles.get", lambda *_: pytest.fail("a weight was read"))
    with pytest.raises(InputError, match=f"{part}: .*1 missing: {name}; 1 surplus: away"):
        load_model(str(vera), "cpu")


def test_parts_of_different_models_are_refused(vera):
    path = vera / "transformer" / "config.json"
    config = json.loads(path.read_text())
    path.write_text(json.dumps(config | {"text_dim": 64}))
    with pytest.raises(InputError, match="width 64, encoder 32"):
        load_model(str(vera), "cpu")
    path.write_text(json.dumps(config | {"latent_channels": 16}))
    with pytest.raises(InputError, match="16 latent channels, vae of 4"):
        load_model(str(vera), "cpu")


@pytest.mark.parametrize("part", ["vae", "text_encoder"])
@pytest.mark.parametrize("text", ["{", '{"dim_mult": 3, "num_layers": "x"}'])
def test_wrong_configurations_are_one_line(vera, part, text):
    (vera / part / "config.json").write_text(text)
    with pytest.raises(InputError, match=f"{part}.config.json") as caught:
        load_model(str(vera), "cpu")
    assert "\n" not in str(caught.value)


def test_an_empty_tokenizer_is_refused(vera):
    for file in (vera / "tokenizer").iterdir():
        file.unlink()
    with pytest.raises(InputError, match="not a tokenizer"):
        load_model(str(vera), "cpu")
