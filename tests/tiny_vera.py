"""A Vera directory of Wan's geometry with random weights, small enough to train in a test."""

import json
from dataclasses import asdict
from pathlib import Path

import torch
from diffusers import AutoencoderKLWan
from safetensors.torch import save_file
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast, UMT5Config, UMT5EncoderModel

from vera.core.model.config import TransformerConfig
from vera.core.model.limits import Limits
from vera.core.model.transformer import Transformer

WORDS = "<pad> </s> <unk> add a red boat & snow to the sea".split()
TEXT_DIM, CHANNELS = 16, 4
GEOMETRY = dict(dim=36, heads=3, layers=2, ffn_dim=48, text_dim=TEXT_DIM, freq_dim=16, latent_channels=CHANNELS)


def vera_directory(root: Path, limits: dict | None = None, spread=0.0, **geometry) -> Path:
    """Three heads, so that two ranks hold unequal ones. spread: deviation of what a fresh Vera has at zero."""
    torch.manual_seed(5)
    config = TransformerConfig(**GEOMETRY | geometry)
    transformer = Transformer(config)
    with torch.no_grad():
        for name, parameter in transformer.named_parameters():
            if spread and name.startswith(("source_embedding", "mask_embedding", "layer_embedding")):
                parameter.normal_(std=spread)
    (root / "transformer").mkdir(parents=True)
    config.save(root / "transformer/config.json")
    save_file(transformer.state_dict(), root / "transformer/model-00001-of-00001.safetensors")
    torch.manual_seed(6)  # whatever the transformer is; the statistics are those of these weights on tests.data.layers
    AutoencoderKLWan(
        base_dim=8,
        dim_mult=[1, 1, 1, 1],
        num_res_blocks=1,
        z_dim=CHANNELS,
        latents_mean=[0.242, 0.43, 0.205, -0.079],
        latents_std=[0.07, 0.132, 0.121, 0.119],
    ).save_pretrained(root / "vae")
    text = UMT5Config(vocab_size=len(WORDS), d_model=TEXT_DIM, d_kv=8, d_ff=24, num_layers=1, num_heads=2)
    UMT5EncoderModel(text).save_pretrained(root / "text_encoder")
    raw = Tokenizer(models.WordLevel({w: i for i, w in enumerate(WORDS)}, unk_token="<unk>"))
    raw.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    raw.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    PreTrainedTokenizerFast(
        tokenizer_object=raw, pad_token="<pad>", eos_token="</s>", unk_token="<unk>"
    ).save_pretrained(root / "tokenizer")
    if limits:
        (root / "model.json").write_text(json.dumps(asdict(Limits(**limits))))
    return root
