"""An edition of mini from its training state: `vera model export runs/mini runs/mini-codec`."""

import argparse
import sys
from dataclasses import replace
from pathlib import Path

from safetensors.torch import load_file

from vera.core.data.engine.phrases import vocabulary
from vera.core.model.limits import Limits
from vera.core.model.mini.edition import EMBEDDED, save_mini
from vera.core.model.mini.mini_config import MINI
from vera.core.model.mini.mini_text import MiniText
from vera.core.model.mini.mini_transformer import MiniTransformer
from vera.core.training.state import STATE
from vera.core.training.mini.transformer import load_codec

LIMITS = Limits(max_frames=49, pixels=144 * 80, multiple=16, steps=5, guidance=1.0, shift=6.0, step_width=4.5)


def main(argv=None) -> int:
    parser = argparse.ArgumentParser(prog="vera model export", description=__doc__)
    parser.add_argument("transformer", type=Path, help="training state of the transformer")
    parser.add_argument("codec", type=Path, help="training state of the codec")
    parser.add_argument("--to", type=Path, default=EMBEDDED)
    args = parser.parse_args(argv)
    tensors = load_file(args.transformer / STATE)
    codec = load_codec(args.codec)
    transformer = MiniTransformer(replace(MINI, latent_channels=codec.channels))
    text = MiniText(vocabulary(), transformer.config.text_dim)
    for name, module in (("transformer", transformer), ("text", text)):
        prefix = f"ema_{name}/"
        module.load_state_dict({k[len(prefix) :]: v for k, v in tensors.items() if k.startswith(prefix)})
    save_mini(args.to, transformer, text, codec, LIMITS)
    return 0


if __name__ == "__main__":
    sys.exit(main())
