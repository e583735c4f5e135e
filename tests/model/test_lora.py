"""LoRAs: stock ones in every key style against diffusers' own loading, and those trained here, from start to merge."""

import json

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from tests.model.conftest import randomise
from vera.core.cli.model_from_wan import main
from vera.core.errors import InputError
from vera.core.model.config import BRANCHES, TransformerConfig
from vera.core.model.load import load_model
from vera.core.model.lora import Loras, add_lora, load_lora, lora_state, merge_lora, save_lora
from vera.core.model.transformer import Transformer
from vera.core.model.wan.checkpoint import branch_wan, config_from_wan, vera_state_dict
from vera.core.model.wan.parameter_names import TO_ORIGINAL

MODULES = [
    f"blocks.{i}.{m}"
    for i in range(2)
    for m in (*(f"attn{a}.to_{x}" for a in (1, 2) for x in ("q", "k", "v", "out.0")), "ffn.net.0.proj", "ffn.net.2")
]
RANK, ALPHA = 3, 5.0


def original(module):
    number = module.split(".")[1]
    return TO_ORIGINAL[module.replace(f"blocks.{number}.", "blocks.{}.")].format(number)


STYLES = {  # (module's name in the file, low, high, whether alphas are there)
    "diffusers": (lambda m: f"transformer.{m}", "lora_A.weight", "lora_B.weight", False),
    "peft": (lambda m: f"base_model.model.{m}", "lora_A.default.weight", "lora_B.default.weight", False),
    "original": (lambda m: f"diffusion_model.{original(m)}", "lora_A.weight", "lora_B.weight", False),
    "original, down and up": (lambda m: f"diffusion_model.{original(m)}", "lora_down.weight", "lora_up.weight", True),
    "DiffSynth": (lambda m: f"pipe.dit.{original(m)}", "lora_A.default.weight", "lora_B.default.weight", False),
    "Wan-Fun": (lambda m: "lora_unet__" + original(m).replace(".", "_"), "lora_down.weight", "lora_up.weight", True),
    "half dotted": (
        lambda m: "lora_unet_" + original(m).replace("blocks.", "blocks_", 1),
        "lora_down.weight",
        "lora_up.weight",
        True,
    ),
    "bare": (original, "lora.down.weight", "lora.up.weight", True),
    "Comfy's model": (lambda m: f"model.diffusion_model.{original(m)}", "lora_A.weight", "lora_B.weight", False),
    "kohya": (lambda m: "lora_unet_" + original(m).replace(".", "_"), "lora_down.weight", "lora_up.weight", True),
}


OF_NO_DIFFUSERS = ("peft", "DiffSynth", "Wan-Fun", "half dotted", "bare", "Comfy's model")


def pairs(wan, seed=5):
    """Low and high of every projection of the small Wan."""
    generator = torch.Generator().manual_seed(seed)
    shapes = {m: wan.get_submodule(m).weight.shape for m in MODULES}
    draw = lambda *shape: torch.randn(*shape, generator=generator) * 0.2  # noqa: E731
    return {m: (draw(RANK, shape[1]), draw(shape[0], RANK)) for m, shape in shapes.items()}


def written(style, adapters):
    name, low, high, alphas = STYLES[style]
    state = {f"{name(m)}.{low}": a for m, (a, _) in adapters.items()}
    state |= {f"{name(m)}.{high}": b for m, (_, b) in adapters.items()}
    return state | ({f"{name(m)}.alpha": torch.tensor(ALPHA) for m in adapters} if alphas else {})


def vera_with(wan, files):
    """A Vera of the small Wan with LoRA files added as a loader does."""
    state = dict(wan.state_dict())
    config = config_from_wan({n: tuple(t.shape) for n, t in state.items()}, heads=3)
    weights = vera_state_dict(state, config)
    loras = Loras(files, {n: tuple(t.shape) for n, t in weights.items()})
    vera = Transformer(config)
    vera.load_state_dict({n: loras.changed(n, t) for n, t in weights.items()})
    return vera.eval()


@torch.no_grad()
def output(vera, inputs):
    latents = inputs["latents"]
    return vera(latents[:, None].expand(-1, 3, -1, -1, -1, -1), inputs["timestep"], inputs["text"], latents)


@torch.no_grad()
def wans(wan, inputs):
    return wan(inputs["latents"], inputs["timestep"], inputs["text"], return_dict=False)[0]


# Stock LoRAs


@pytest.mark.parametrize("style", STYLES)
def test_every_branch_is_what_diffusers_makes_of_the_file(wan, inputs, tmp_path, style):
    from diffusers.loaders import WanLoraLoaderMixin

    state = written(style, pairs(wan))
    save_file(state, tmp_path / "stock.safetensors")
    vera = vera_with(wan, [(tmp_path / "stock.safetensors", 1.0)])
    before = wans(wan, inputs)
    if style in OF_NO_DIFFUSERS:  # the same tensors in a style that diffusers reads
        state = written("kohya" if STYLES[style][3] else "diffusers", pairs(wan))
    wan.load_lora_adapter(WanLoraLoaderMixin.lora_state_dict(state), prefix="transformer")
    truth = wans(wan, inputs)
    assert (truth - before).abs().max() > 0.05
    assert (output(vera, inputs) - truth[:, None]).abs().max() < 1e-4


def test_strengths_and_files_add_up(wan, tmp_path):
    one, two = pairs(wan, 5), pairs(wan, 6)
    save_file(written("diffusers", one), tmp_path / "one.safetensors")
    save_file(written("kohya", two), tmp_path / "two.safetensors")
    vera = vera_with(wan, [(tmp_path / "one.safetensors", 0.5), (tmp_path / "two.safetensors", -2.0)])
    for m in MODULES:
        change = (
            0.5 * one[m][1].double() @ one[m][0].double() - 2 * ALPHA / RANK * two[m][1].double() @ two[m][0].double()
        )
        truth = wan.get_submodule(m).weight.double() + change
        for branch in BRANCHES:
            own = m.replace("blocks.", "").split(".", 1)
            found = vera.get_submodule(f"blocks.{own[0]}.{branch}.{own[1]}").weight
            assert (found.double() - truth).abs().max() < 1e-5


@pytest.mark.parametrize(
    "bias, factor",
    [
        ("diff_b", 2.0),  # a whole change: by the strength alone
        ("lora_B.bias", 0.5),  # of the low-rank path: by alpha / rank too
    ],
)
def test_a_bias_beside_a_low_rank_pair_is_scaled_by_what_it_belongs_to(wan, tmp_path, bias, factor):
    module = "diffusion_model.blocks.0.self_attn.q"
    state = {f"{module}.lora_A.weight": torch.zeros(4, 60), f"{module}.lora_B.weight": torch.zeros(60, 4)}
    state |= {f"{module}.alpha": torch.tensor(1.0), f"{module}.{bias}": torch.ones(60)}
    save_file(state, tmp_path / "lora.safetensors")
    vera, plain = (
        m.blocks[0].edit.attn1.to_q.bias
        for m in (vera_with(wan, loras) for loras in ([(tmp_path / "lora.safetensors", 2.0)], []))
    )
    assert torch.allclose(vera - plain, torch.full((60,), factor))


def test_whole_changes_of_weights_and_biases(wan, tmp_path):
    """As some distillations store norms, biases and the patch embedding; the original's norm3 is norm2 here."""
    state = {
        "diffusion_model.blocks.1.norm3.diff": torch.full((60,), 0.5),
        "diffusion_model.blocks.1.norm3.diff_b": torch.full((60,), 0.25),
        "diffusion_model.blocks.0.self_attn.q.diff_b": torch.ones(60),
        "diffusion_model.patch_embedding.diff": torch.ones(60, 4, 1, 2, 2),
        "diffusion_model.head.head.diff_b": torch.ones(16),
    }
    save_file(state, tmp_path / "lora.safetensors")
    vera, plain = vera_with(wan, [(tmp_path / "lora.safetensors", 2.0)]), vera_with(wan, [])
    moved = {
        n: (t - plain.state_dict()[n])
        for n, t in vera.state_dict().items()
        if not torch.equal(t, plain.state_dict()[n])
    }
    expected = {"blocks.1.{}.norm2.weight": 1.0, "blocks.1.{}.norm2.bias": 0.5, "blocks.0.{}.attn1.to_q.bias": 2.0}
    expected |= {"{}.patch_embedding.weight": 2.0, "{}.proj_out.bias": 2.0}
    assert moved.keys() == {name.format(branch) for name in expected for branch in BRANCHES}
    for name, step in expected.items():
        assert (moved[name.format("alpha")] - step).abs().max() < 1e-5


MODULATIONS = {
    "release": ("diffusion_model.blocks.1.diff_m", "diffusion_model.head.diff_m"),
    "no prefix": ("blocks.1.diff_m", "head.diff_m"),
    "kohya": ("lora_unet_blocks_1.diff_m", "lora_unet_head.diff_m"),
    "Wan-Fun": ("lora_unet__blocks_1.diff_m", "lora_unet__head.diff_m"),
    "named": ("diffusion_model.blocks.1.modulation.diff", "diffusion_model.head.modulation.diff"),
    "diffusers": ("transformer.blocks.1.scale_shift_table.diff", "transformer.scale_shift_table.diff"),
}


@pytest.mark.parametrize("style", MODULATIONS)
def test_changes_of_the_modulation_reach_every_branch(wan, tmp_path, style):
    """As Wan's distillation LoRAs have them: of each block, and of the head."""
    block, head = MODULATIONS[style]
    change = torch.linspace(-1, 1, 6 * 60).reshape(1, 6, 60)
    save_file({block: change, head: torch.full((1, 2, 60), 0.25)}, tmp_path / "lora.safetensors")
    vera, plain = vera_with(wan, [(tmp_path / "lora.safetensors", 0.5)]), vera_with(wan, [])
    before = plain.state_dict()
    moved = {n: t - before[n] for n, t in vera.state_dict().items() if not torch.equal(t, before[n])}
    assert moved.keys() == {f"{at}{b}.scale_shift_table" for at in ("blocks.1.", "") for b in BRANCHES}
    for branch in BRANCHES:
        assert (moved[f"blocks.1.{branch}.scale_shift_table"] - 0.5 * change).abs().max() < 1e-6
        assert (moved[f"{branch}.scale_shift_table"] - 0.125).abs().max() < 1e-6


def test_a_distillations_file_with_all_of_it_is_taken(wan, tmp_path):
    state = written("original, down and up", pairs(wan))
    state |= {f"diffusion_model.blocks.{b}.diff_m": torch.ones(1, 6, 60) for b in range(2)}
    state |= {
        "diffusion_model.head.diff_m": torch.ones(1, 2, 60),
        "diffusion_model.blocks.0.norm3.diff": torch.ones(60),
    }
    state |= {"diffusion_model.time_projection.1.diff_b": torch.ones(360)}
    save_file(state, tmp_path / "lora.safetensors")
    vera_with(wan, [(tmp_path / "lora.safetensors", 1.0)])


OF_IMAGE_TO_VIDEO = {
    "diffusion_model.blocks.0.cross_attn.k_img.lora_down.weight": (3, 60),
    "diffusion_model.blocks.0.cross_attn.k_img.lora_up.weight": (60, 3),
    "diffusion_model.blocks.0.cross_attn.norm_k_img.diff": (60,),
    "diffusion_model.img_emb.proj.1.lora_down.weight": (3, 60),
    "diffusion_model.img_emb.proj.1.lora_up.weight": (60, 3),
    "diffusion_model.img_emb.proj.0.diff_b": (60,),
}


@pytest.mark.parametrize("style", ["original", "kohya"])
def test_unmatched_lora_tensors_are_skipped_on_request_and_named(wan, tmp_path, style):
    plain, more = tmp_path / "plain.safetensors", tmp_path / "more.safetensors"
    save_file(written(style, pairs(wan)), plain)
    save_file(written(style, pairs(wan)) | {n: torch.ones(s) for n, s in OF_IMAGE_TO_VIDEO.items()}, more)
    shapes = {n: tuple(t.shape) for n, t in vera_with(wan, []).state_dict().items()}
    with pytest.raises(InputError, match="6 of .*match nothing.*--lora-skip-missing leaves these out"):
        Loras([(more, 1.0)], shapes)
    kept, without = Loras([(more, 1.0)], shapes, skip_missing=True), Loras([(plain, 1.0)], shapes, skip_missing=True)
    (note,) = kept.notes
    assert "6 of" in note and "k_img" in note and "left out" in note and without.notes == ()
    for name, shape in shapes.items():
        assert torch.equal(kept.changed(name, torch.zeros(shape)), without.changed(name, torch.zeros(shape)))


def test_a_file_of_which_nothing_matches_is_refused_even_so(wan, tmp_path):
    save_file({n: torch.ones(s) for n, s in OF_IMAGE_TO_VIDEO.items()}, tmp_path / "lora.safetensors")
    shapes = {n: tuple(t.shape) for n, t in vera_with(wan, []).state_dict().items()}
    with pytest.raises(InputError, match="6 of 6 tensors match nothing in this model"):
        Loras([(tmp_path / "lora.safetensors", 1.0)], shapes, skip_missing=True)


MINI_PAIR = {"A": (2, 192), "B": (192, 2)}


def test_skipped_lora_tensors_are_reported_with_the_model(tmp_path):
    state = {f"transformer.blocks.0.edit.attn1.to_q.lora_{x}.weight": torch.zeros(s) for x, s in MINI_PAIR.items()}
    state["transformer.blocks.0.edit.attn9.to_q.diff"] = torch.ones(3)
    save_file(state, tmp_path / "lora.safetensors")
    (note,) = load_model("mini", "cpu", lora=(f"{tmp_path / 'lora.safetensors'}",), lora_skip_missing=True).notes
    assert "1 of 3" in note and "attn9" in note


@pytest.mark.parametrize("form", ["metadata", "adapter_config.json", "neither"])
def test_the_alpha_of_a_whole_file(wan, tmp_path, form):
    name = "adapter_model.safetensors"
    facts = json.dumps({"transformer.r": RANK, "transformer.lora_alpha": 6})
    save_file(
        written("diffusers", pairs(wan)),
        tmp_path / name,
        {"lora_adapter_metadata": facts} if form == "metadata" else None,
    )
    if form == "adapter_config.json":
        (tmp_path / "adapter_config.json").write_text('{"r": 3, "lora_alpha": 6, "use_rslora": false}')
    m, scale = MODULES[0], 1 if form == "neither" else 2
    low, high = pairs(wan)[m]
    found = vera_with(wan, [(tmp_path / name, 1.0)]).blocks[0].alpha.attn1.to_q.weight - wan.get_submodule(m).weight
    assert (found - scale * high @ low).abs().max() < 1e-5


def test_a_bias_of_the_low_rank_path_is_scaled_with_it(wan, tmp_path):
    """As PEFT's own layer computes it."""
    from peft import LoraConfig, inject_adapter_in_model

    module = "blocks.0.attn1.to_q"
    low, high = pairs(wan)[module]
    bias = torch.linspace(-1, 1, 60)
    state = {"lora_A.weight": low, "lora_B.weight": high, "lora_B.bias": bias}
    facts = json.dumps({"transformer.lora_alpha": 6})
    file = tmp_path / "lora.safetensors"
    save_file({f"transformer.{module}.{n}": t for n, t in state.items()}, file, {"lora_adapter_metadata": facts})
    ours = vera_with(wan, [(file, 1.0)]).blocks[0].edit.attn1.to_q
    inject_adapter_in_model(LoraConfig(r=RANK, lora_alpha=6, lora_bias=True, target_modules=module), wan)
    theirs = wan.get_submodule(module)
    with torch.no_grad():
        for name, value in state.items():
            dict(theirs.named_parameters())[name.replace(".", ".default.")].copy_(value)
        x = torch.randn(5, 60, generator=torch.Generator().manual_seed(0))
        assert (ours(x) - theirs(x)).abs().max() < 1e-4


FAULTS = {
    "image to video": ({"diffusion_model.blocks.0.cross_attn.k_img.lora_A.weight": (3, 60)}, "1 of 21.*k_img"),
    "another depth": ({"diffusion_model.blocks.2.self_attn.q.lora_A.weight": (3, 60)}, "match nothing.*blocks.2"),
    "a layer of another model": ({"lora_unet_down_blocks_0.lora_down.weight": (3, 60)}, "match nothing.*down_blocks"),
    "another decomposition": ({"transformer.blocks.0.attn1.to_q.dora_scale": (60,)}, "match nothing.*dora_scale"),
    "one of a pair": (
        {"transformer.condition_embedder.time_proj.lora_A.weight": (3, 60)},
        "time_proj.*other is missing",
    ),
    "two ranks": (
        {f"transformer.proj_out.lora_{x}.weight": s for x, s in (("A", (2, 60)), ("B", (16, 3)))},
        "different rank",
    ),
    "no matrix": (
        {f"transformer.proj_out.lora_{x}.weight": s for x, s in (("A", ()), ("B", (16, 3)))},
        "different rank",
    ),
    "another width": (
        {f"transformer.proj_out.lora_{x}.weight": s for x, s in (("A", (2, 61)), ("B", (16, 2)))},
        r"change \(16, 61\) of .*proj_out.weight, which is \(16, 60\)",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_what_does_not_match_is_refused_by_name(wan, tmp_path, fault):
    extra, said = FAULTS[fault]
    base = {} if fault in ("two ranks", "no matrix", "another width") else written("diffusers", pairs(wan))
    save_file(base | {n: torch.zeros(s) for n, s in extra.items()}, tmp_path / "lora.safetensors")
    said = said.replace("of 21", f"of {len(base) + 1}")
    with pytest.raises(InputError, match=f"--lora .*lora.safetensors: .*{said}") as caught:
        vera_with(wan, [(tmp_path / "lora.safetensors", 1.0)])
    assert "\n" not in str(caught.value)


def test_files_that_are_none(wan, tmp_path):
    with pytest.raises(InputError, match="no such file"):
        vera_with(wan, [(tmp_path / "away.safetensors", 1.0)])
    (tmp_path / "lora.bin").write_bytes(b"x")
    with pytest.raises(InputError, match="pickled"):
        vera_with(wan, [(tmp_path / "lora.bin", 1.0)])


# In a model


def test_a_directory_is_loaded_with_a_lora_and_merged_the_same(wan, wan_directory, tmp_path):
    branch_wan(wan_directory, tmp_path / "vera")
    save_file(written("original", pairs(wan)), tmp_path / "lora.safetensors")
    file = f"{tmp_path / 'lora.safetensors'}:0.7"
    plain, added = load_model(str(tmp_path / "vera"), "cpu"), load_model(str(tmp_path / "vera"), "cpu", lora=(file,))
    assert main([str(tmp_path / "vera"), str(tmp_path / "merged"), "--lora", file]) == 0
    merged = load_model(str(tmp_path / "merged"), "cpu").transformer.state_dict()
    assert all(torch.equal(t, merged[n]) for n, t in added.transformer.state_dict().items())
    assert not torch.equal(
        merged["blocks.0.edit.attn1.to_q.weight"], plain.transformer.blocks[0].edit.attn1.to_q.weight
    )
    prints = {plain.fingerprint, added.fingerprint}
    prints.add(load_model(str(tmp_path / "vera"), "cpu", lora=(file.replace("0.7", "0.8"),)).fingerprint)
    save_file(written("original", pairs(wan, 6)), tmp_path / "lora.safetensors")
    prints.add(load_model(str(tmp_path / "vera"), "cpu", lora=(file,)).fingerprint)
    assert len(prints) == 4


def test_mini_takes_one_for_a_branch(tmp_path):
    low, high = torch.randn(2, 192), torch.randn(192, 2)
    name = "transformer.blocks.0.edit.attn1.to_q"
    save_file({f"{name}.lora_A.weight": low, f"{name}.lora_B.weight": high}, tmp_path / "lora.safetensors")
    plain, added = load_model("mini", "cpu"), load_model("mini", "cpu", lora=(str(tmp_path / "lora.safetensors"),))
    states = plain.transformer.state_dict(), added.transformer.state_dict()
    assert [n for n in states[0] if not torch.equal(states[0][n], states[1][n])] == ["blocks.0.edit.attn1.to_q.weight"]
    assert plain.fingerprint != added.fingerprint


# Training


@pytest.fixture
def vera():
    config = TransformerConfig(dim=24, heads=2, layers=2, ffn_dim=32, text_dim=8, freq_dim=8, latent_channels=4)
    return randomise(Transformer(config), seed=3)


@pytest.fixture
def small():
    generator = torch.Generator().manual_seed(2)
    draw = lambda *shape: torch.randn(*shape, generator=generator)  # noqa: E731
    return {
        "latents": draw(1, 3, 4, 2, 4, 4),
        "timestep": torch.tensor([500.0]),
        "text": draw(1, 5, 8),
        "source": draw(1, 4, 2, 4, 4),
    }


def trained(vera, small, **given):
    """Adapters after a few steps."""
    parameters = add_lora(vera, **given)
    optimiser = torch.optim.Adam(parameters, lr=0.05)
    for _ in range(3):
        vera(**small).square().mean().backward()
        optimiser.step()
        optimiser.zero_grad()
    return parameters


@torch.no_grad()
def run(vera, small):
    return vera(**small)


def test_adapters_change_nothing_at_first_and_train_their_branch_alone(vera, small):
    frozen = {n: t.clone() for n, t in vera.state_dict().items()}
    before = run(vera, small)
    parameters = add_lora(vera, rank=2, branches=("alpha",))
    assert torch.equal(run(vera, small), before)
    assert sum(p.numel() for p in vera.parameters() if p.requires_grad) == sum(p.numel() for p in parameters)
    assert len(parameters) == 2 * 2 * (4 + 4 + 2) and all(p.dtype == torch.float32 for p in parameters)
    vera(**small).square().mean().backward()
    assert all(p.grad is not None for p in parameters)
    assert {n for n, p in vera.named_parameters() if p.requires_grad and ".alpha." not in n} == set()
    state = {n.replace(".base_layer", ""): t for n, t in vera.state_dict().items()}
    assert all(torch.equal(state[n], t) for n, t in frozen.items())
    with pytest.raises(InputError, match="adapters already"):
        add_lora(vera, rank=2)


def test_saved_loaded_merged_and_added_are_one(vera, small, tmp_path):
    config, base = vera.config, {n: t.clone() for n, t in vera.state_dict().items()}
    trained(vera, small, rank=2, alpha=6, branches=("edit", "composite"))
    truth = run(vera, small)
    file = tmp_path / "lora.safetensors"
    save_lora(vera, file)
    names = set(load_file(file))
    assert "transformer.blocks.1.edit.attn1.to_out.0.lora_B.weight" in names and not any(".alpha." in n for n in names)
    with safe_open(file, "pt") as opened:
        assert json.loads(opened.metadata()["lora_adapter_metadata"])["transformer.lora_alpha"] == 6

    resumed = Transformer(config)
    resumed.load_state_dict(base)
    load_lora(resumed.eval(), file)
    assert torch.equal(run(resumed, small), truth)
    assert all(torch.equal(t, lora_state(vera)[n]) for n, t in lora_state(resumed).items())

    merge_lora(vera)
    assert vera.state_dict().keys() == base.keys() and (run(vera, small) - truth).abs().max() < 1e-5
    loras = Loras([(file, 1.0)], {n: tuple(t.shape) for n, t in base.items()})
    assert all((loras.changed(n, t) - vera.state_dict()[n]).abs().max() < 1e-6 for n, t in base.items())
    add_lora(vera, rank=1)  # there is room again


def test_in_lower_precision_adapters_stay_fp32(vera, small):
    vera = vera.to(torch.bfloat16)
    parameters = trained(vera, small, rank=2)
    assert {p.dtype for p in parameters} == {torch.float32} and vera.blocks[0].edit.norm1.weight is None
    assert run(vera, small).isfinite().all()


def test_a_file_of_no_branch_is_not_trained_on(vera, tmp_path):
    save_file({"transformer.blocks.0.attn1.to_q.lora_A.weight": torch.zeros(2, 24)}, tmp_path / "lora.safetensors")
    with pytest.raises(InputError, match="not adapters of this model's branches"):
        load_lora(vera, tmp_path / "lora.safetensors")
