"""A VACE directory of random weights as diffusers writes it, small enough to run in a test."""

import json
from pathlib import Path

import torch
from diffusers import AutoencoderKLWan, FlowMatchEulerDiscreteScheduler, WanVACETransformer3DModel
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast, UMT5Config, UMT5EncoderModel

SIZE = (48, 64)  # height and width at which it works


def vace_directory(root: Path) -> Path:
    """Written into `root`, which is returned: windows of 9 frames of 48x64, two steps."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    WanVACETransformer3DModel(
        num_attention_heads=2,
        attention_head_dim=12,
        in_channels=4,
        out_channels=4,
        text_dim=32,
        freq_dim=16,
        ffn_dim=32,
        num_layers=3,
        vace_layers=[0, 2],
        vace_in_channels=8 + 64,
        rope_max_seq_len=32,
    ).save_pretrained(root / "transformer")
    AutoencoderKLWan(
        base_dim=4, dim_mult=[1, 1, 1, 1], num_res_blocks=1, z_dim=4, latents_mean=[0.0] * 4, latents_std=[1.0] * 4
    ).save_pretrained(root / "vae")
    config = UMT5Config(vocab_size=40, d_model=32, d_kv=8, d_ff=48, num_layers=1, num_heads=4)
    UMT5EncoderModel(config).save_pretrained(root / "text_encoder")
    words = "<pad> </s> <unk> add a red boat".split()
    raw = Tokenizer(models.WordLevel({w: i for i, w in enumerate(words)}, unk_token="<unk>"))
    raw.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    raw.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    PreTrainedTokenizerFast(
        tokenizer_object=raw, pad_token="<pad>", eos_token="</s>", unk_token="<unk>"
    ).save_pretrained(root / "tokenizer")
    FlowMatchEulerDiscreteScheduler(shift=3.0).save_pretrained(root / "scheduler")
    (root / "model.json").write_text(
        json.dumps({"max_frames": 9, "pixels": SIZE[0] * SIZE[1], "multiple": 16, "steps": 2})
    )
    return root
