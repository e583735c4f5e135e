"""Small random Wan models and what is made of them."""

import pytest
import torch
from diffusers import AutoencoderKLWan, WanTransformer3DModel

HEADS, HEAD_DIM, TEXT_DIM, CHANNELS = 3, 20, 32, 4


@pytest.fixture(autouse=True, scope="session")
def one_thread():
    torch.set_num_threads(1)


def randomise(module, seed):
    """Draw every parameter at random, so that none is a neutral zero or one and no two are equal."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, p in module.named_parameters():
            p.copy_(torch.randn(p.shape, generator=generator) * 0.2 + (0.7 if "norm" in name and p.ndim == 1 else 0))
    return module.eval()


@pytest.fixture
def wan():
    """diffusers' Wan, 2 layers; heads of 20 split unevenly over time, height and width (8, 6, 6)."""
    return randomise(
        WanTransformer3DModel(
            num_attention_heads=HEADS,
            attention_head_dim=HEAD_DIM,
            in_channels=CHANNELS,
            out_channels=CHANNELS,
            text_dim=TEXT_DIM,
            freq_dim=16,
            ffn_dim=72,
            num_layers=2,
        ),
        seed=1,
    )


@pytest.fixture
def inputs():
    """Latents (2, C, 3, 6, 4), timesteps and text states for the small Wan."""
    generator = torch.Generator().manual_seed(2)
    latents = torch.randn(2, CHANNELS, 3, 6, 4, generator=generator)
    text = torch.randn(2, 7, TEXT_DIM, generator=generator)
    text[1, 4:] = 0
    return {"latents": latents, "timestep": torch.tensor([37.0, 912.0]), "text": text}


@pytest.fixture
def vae():
    config = dict(base_dim=8, dim_mult=[1, 1, 1, 1], num_res_blocks=1, z_dim=CHANNELS)
    torch.manual_seed(3)
    return AutoencoderKLWan(**config, latents_mean=[0.3, -0.2, 0.1, 0.5], latents_std=[1.5, 2.0, 0.7, 1.2]).eval()


def original_names(state):
    """The original release's names for diffusers' state, written against the release's own module tree.

    Independent of vera.core.model.wan.checkpoint: built name by name from how the release declares its modules.
    """
    out = {}

    def take(original, diffusers, leaves=("weight", "bias")):
        for leaf in leaves:
            out[f"{original}.{leaf}"] = state[f"{diffusers}.{leaf}"]

    take("patch_embedding", "patch_embedding")
    for kind, wide in (("text", "text_embedder"), ("time", "time_embedder")):
        for index, linear in ((0, "linear_1"), (2, "linear_2")):
            take(f"{kind}_embedding.{index}", f"condition_embedder.{wide}.{linear}")
    take("time_projection.1", "condition_embedder.time_proj")
    block = 0
    while f"blocks.{block}.scale_shift_table" in state:
        b = f"blocks.{block}"
        out[f"{b}.modulation"] = state[f"{b}.scale_shift_table"]
        for original, diffusers in (("self_attn", "attn1"), ("cross_attn", "attn2")):
            for letter in "qkv":
                take(f"{b}.{original}.{letter}", f"{b}.{diffusers}.to_{letter}")
            take(f"{b}.{original}.o", f"{b}.{diffusers}.to_out.0")
            take(f"{b}.{original}.norm_q", f"{b}.{diffusers}.norm_q", ["weight"])
            take(f"{b}.{original}.norm_k", f"{b}.{diffusers}.norm_k", ["weight"])
        take(f"{b}.norm3", f"{b}.norm2")
        take(f"{b}.ffn.0", f"{b}.ffn.net.0.proj")
        take(f"{b}.ffn.2", f"{b}.ffn.net.2")
        block += 1
    take("head.head", "proj_out")
    out["head.modulation"] = state["scale_shift_table"]
    return out


@pytest.fixture
def layouts(wan):
    """The small Wan's weights in both layouts."""
    state = dict(wan.state_dict())
    return {"diffusers": state, "original": original_names(state)}


@pytest.fixture
def tokenizer():
    """Nine words and T5's special tokens; ids: 0 pad, 1 end, 2 unknown."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    words = "<pad> </s> <unk> add a red boat & snow to the sea".split()
    raw = Tokenizer(models.WordLevel({w: i for i, w in enumerate(words)}, unk_token="<unk>"))
    raw.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    raw.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    return PreTrainedTokenizerFast(tokenizer_object=raw, pad_token="<pad>", eos_token="</s>", unk_token="<unk>")


@pytest.fixture
def encoder():
    from transformers import UMT5Config, UMT5EncoderModel

    torch.manual_seed(4)
    config = UMT5Config(vocab_size=40, d_model=TEXT_DIM, d_kv=8, d_ff=48, num_layers=2, num_heads=4)
    return UMT5EncoderModel(config).eval()


@pytest.fixture
def wan_directory(tmp_path, wan, vae, encoder, tokenizer):
    """A tiny Wan2.1 T2V directory in diffusers' layout."""
    root = tmp_path / "wan"
    wan.save_pretrained(root / "transformer", max_shard_size="100KB")
    vae.save_pretrained(root / "vae")
    encoder.save_pretrained(root / "text_encoder")
    tokenizer.save_pretrained(root / "tokenizer")
    return root
