"""A whole model with random weights, small enough for tests of the way of a shot."""

import torch
from torch import nn

from vera.core.backends import generate
from vera.core.job.prepare import prepare
from vera.core.job.run import run_job
from vera.core.model.interfaces import Model
from vera.core.model.limits import Limits
from vera.core.model.mini.mini_codec import MiniCodec
from vera.core.model.mini.mini_config import MiniConfig
from vera.core.model.mini.mini_text import MiniText
from vera.core.model.mini.mini_transformer import MiniTransformer
from vera.core.progress import Progress
from vera.core.recipe import EditRecipe

WINDOW = 9  # frames, 3 latent frames


def tiny_model(pixels=48 * 32) -> Model:
    """Of the embedded model's kind; sees 9 frames of about 48x32 at a time, in two steps."""
    torch.manual_seed(0)
    config = MiniConfig(
        dim=24, heads=2, layers=1, ffn_dim=24, text_dim=8, freq_dim=8, latent_channels=4, place_input=True
    )
    transformer, text = MiniTransformer(config).eval(), MiniText(["add", "a", "red", "ball"], 8, heads=2).eval()
    codec = MiniCodec(channels=4, width=8, blocks=1).eval()
    nn.init.normal_(codec.refiner[-1].weight, std=0.05)
    for name, parameter in transformer.named_parameters():
        if name.startswith(("source_embedding", "mask_embedding", "layer_embedding")):
            nn.init.normal_(parameter, std=0.5)
    limits = Limits(max_frames=WINDOW, pixels=pixels, multiple=16, steps=2, guidance=2.0, shift=3.0)
    return Model("tiny", transformer, codec, text, "tiny", limits)


class Quiet(Progress):
    def __init__(self):
        super().__init__("none")


def draw(monkeypatch, layers):
    """Instead of what a model decodes: layers(color, alpha, reconstruction) -> color, alpha, each at model size."""
    decoded = generate.decoded_frames

    def drawn(*given):
        for color, alpha, composed, reconstruction, _ in decoded(*given):
            yield generate.DecodedFrame(*layers(color, alpha.clone(), reconstruction), composed, reconstruction)

    monkeypatch.setattr(generate, "decoded_frames", drawn)


def keep_some(color, alpha, reconstruction):
    """For `draw`: opaque in places as the model drew, 0.8 on the left, 0 on the right half."""
    alpha[:, : alpha.shape[1] // 3], alpha[:, alpha.shape[1] // 2 :] = 0.8, 0
    return color, alpha


def composite_file(out, frame):
    return next(out.glob(f"composite/composite.{frame:04d}.*"))


def make(model, plate, out, stopping=lambda: False, **values):
    """Prepare and edit; returns the job and its report."""
    recipe = EditRecipe(str(plate), "Add a red ball", str(out), **values)
    job = prepare(recipe, "cpu", lambda name, device: model)
    return job, run_job(job, Quiet(), stopping)
