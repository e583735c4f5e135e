"""An edition of mini from its training state: `vera model export runs/mini runs/mini-codec`."""

import argparse
import sys
from dataclasses import replace
from pathlib import Path

from safetensors.torch import load_file

from vera.core.data.engine.phrases import vocabulary
from vera.core.model.config import PRESETS
from vera.core.model.load import MINI
from vera.core.model.mini.edition import save_mini
from vera.core.model.mini.mini_text import MiniText
from vera.core.model.transformer import Transformer
from vera.core.training.state import STATE
from vera.core.training.mini.transformer import load_codec

LIMITS = {"max_frames": 49, "pixels": 144 * 80, "multiple": 16, "steps": 5, "guidance": 1.0, "shift": 6.0}


def main(argv=None) -> int:
    parser = argparse.ArgumentParser(prog="vera model export", description=__doc__)
    parser.add_argument("transformer", type=Path, help="training state of the transformer")
    parser.add_argument("codec", type=Path, help="training state of the codec")
    parser.add_argument("--to", type=Path, default=MINI)
    args = parser.parse_args(argv)
    tensors = load_file(args.transformer / STATE)
    codec = load_codec(args.codec)
    transformer = Transformer(replace(PRESETS["mini"], latent_channels=codec.channels))
    text = MiniText(vocabulary(), transformer.config.text_dim)
    for name, module in (("transformer", transformer), ("text", text)):
        prefix = f"ema_{name}/"
        module.load_state_dict({k[len(prefix) :]: v for k, v in tensors.items() if k.startswith(prefix)})
    save_mini(args.to, transformer, text, codec, LIMITS)
    return 0


if __name__ == "__main__":
    sys.exit(main())
