"""A small network that recognises which object a layer shows, trained on layers of the data engine.

`python -m vera.core.evaluation.classifier` trains it in a few minutes on one core. The command prints its accuracy on
held-out layers, as generated and after mini's codec. The classifier is never trained on the output of a model.
"""

import argparse
import random
import sys
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import nn

from vera.core.data.engine.clips import SPAN, added_object, draw_object, make_clip
from vera.core.data.engine.plates import camera_at_rest
from vera.core.data.engine.random_fields import extend_color, noise, plane
from vera.core.model.codec import Codec
from vera.core.model.mini import words

WEIGHTS = Path(__file__).with_name("classifier.safetensors")
NOTHING = "nothing"  # class of a layer without any known object
KINDS = (*words.OBJECTS, NOTHING)  # the classes
SIZE = 40  # side in pixels of the picture that is classified
FRAME = (80, 144)  # height and width in pixels of training layers
FIRST_SEED, HELD_OUT_SEED = 6_000_000, 6_900_000  # seeds of the first training layer and of the first held-out clip
OBJECT_ALPHA = 0.3  # alpha above which a pixel belongs to the object's box; raising it leaves out faint parts
CUT_MARGIN = 1.2  # side of the square cut out around the object, over the side of its box
MIN_CUT = 12.0  # pixels: smallest side of the square cut out; raising it shows small objects smaller
NOTHING_SHARE = 0.08  # share of training layers without an object


class Classifier(nn.Module):
    """Pictures (N, 4, SIZE, SIZE), premultiplied over grey and alpha -> scores (N, len(KINDS))."""

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        sizes = (4, width, 2 * width, 3 * width, 4 * width)
        blocks = []
        for a, b in zip(sizes, sizes[1:]):
            blocks += [nn.Conv2d(a, b, 3, padding=1), nn.GroupNorm(4, b), nn.GELU(), nn.MaxPool2d(2)]
        self.body = nn.Sequential(*blocks)
        self.head = nn.Linear(4 * (sizes[-1]), len(KINDS))

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        x = F.adaptive_avg_pool2d(self.body(pictures), 2).flatten(1)
        return self.head(F.dropout(x, 0.2, self.training))


def load_classifier() -> Classifier:
    """The trained classifier, on the CPU in fp32."""
    classifier = Classifier()
    classifier.load_state_dict({k: v.float() for k, v in load_file(WEIGHTS).items()})
    return classifier.eval().requires_grad_(False)


def pictures(color: torch.Tensor, alpha: torch.Tensor) -> torch.Tensor:
    """Cut out the object of each layer: (N, 3, H, W) and (N, 1, H, W) -> (N, 4, SIZE, SIZE); grey where alpha is 0."""
    cuts = []
    for c, a in zip(color, alpha):
        rows, cols = ((a[0] > OBJECT_ALPHA).any(d).nonzero().flatten() for d in (1, 0))
        if len(rows) == 0:
            cuts.append(torch.tensor([0.5, 0.5, 0.5, 0.0])[:, None, None].expand(4, SIZE, SIZE))
            continue
        y, x = (float(r[0] + r[-1] + 1) / 2 for r in (rows, cols))
        side = max(MIN_CUT, CUT_MARGIN * max(len(range(rows[0], rows[-1] + 1)), len(range(cols[0], cols[-1] + 1))))
        height, width = a.shape[-2:]
        offset = (torch.arange(SIZE) + 0.5) / SIZE - 0.5
        gy, gx = torch.meshgrid(
            (y + side * offset) * 2 / height - 1, (x + side * offset) * 2 / width - 1, indexing="ij"
        )
        layer = torch.cat([c * a + 0.5 * (1 - a) - 0.5, a])[None]
        cut = F.grid_sample(layer, torch.stack([gx, gy], -1)[None], align_corners=False)[0]
        cuts.append(cut + torch.tensor([0.5, 0.5, 0.5, 0.0])[:, None, None])
    return torch.stack(cuts)


@torch.inference_mode()
def kind_of(classifier: Classifier, color: torch.Tensor, alpha: torch.Tensor) -> str:
    """Classify a layer, color (3, T, h, w) and alpha (T, h, w), by its first, middle and last frame; one of KINDS."""
    frames = sorted({0, len(alpha) // 2, len(alpha) - 1})
    scores = classifier(pictures(color.transpose(0, 1)[frames], alpha[frames, None]))
    return KINDS[int(scores.softmax(-1).mean(0).argmax())]


# ---- Training


def example(seed: int, codec: Codec) -> tuple[torch.Tensor, torch.Tensor, int]:
    """Training layer `seed`: colour (3, H, W), alpha (1, H, W), class index. Half of the layers pass the codec."""
    rng, gen = random.Random(seed), torch.Generator().manual_seed(seed)
    if rng.random() < NOTHING_SHARE:
        kind, (color, alpha) = NOTHING, _shapeless(rng, gen)
    else:
        labels = draw_object(rng) | {"depth": None}
        times = torch.tensor([float(rng.randint(0, SPAN))])
        premultiplied, alpha, _ = added_object(labels, rng, camera_at_rest(times), times, FRAME)
        kind, color = labels["object"], extend_color(premultiplied, alpha)
    if rng.random() < 0.5:
        color, alpha = through_codec(codec, color, alpha, rng.uniform(0, 0.5), gen)
    return color[0], alpha[0], KINDS.index(kind)


def _shapeless(rng: random.Random, gen: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """A shaded blob that resembles no object: colour (1, 3, H, W) and alpha (1, 1, H, W)."""
    x, y = plane(*FRAME)
    radius, cx, cy = rng.uniform(0.1, 0.3), rng.uniform(-0.5, 0.5), rng.uniform(-0.2, 0.2)
    ragged = noise(gen, FRAME, 3, rng.choice((2, 3, 4)))
    inside = radius * (1 + rng.uniform(0.3, 0.8) * ragged) - torch.hypot(x - cx, (y - cy) * rng.uniform(0.7, 1.6))
    alpha = (0.5 + inside * rng.choice((3, 10, FRAME[0]))).clamp(0, 1)[None, None]
    base = torch.tensor(rng.choice(list(words.COLORS.values())))[:, None, None]
    color = (base * (0.9 + 0.2 * noise(gen, FRAME, 3, 3))).clamp(0, 1)[None]
    return color, alpha


@torch.inference_mode()
def through_codec(
    codec: Codec, color: torch.Tensor, alpha: torch.Tensor, noise: float, gen: torch.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """Encode and decode a layer, (T, 3, H, W) and (T, 1, H, W); noise: standard deviation added to the latents."""
    both = torch.stack([color, alpha.expand(-1, 3, -1, -1)]).transpose(1, 2)
    latents = codec.encode(both)
    latents = latents + noise * torch.randn(latents.shape, generator=gen)
    color, alpha = codec.decode(latents, len(alpha)).clamp(0, 1).transpose(1, 2)
    return color, alpha.mean(1, keepdim=True)


def train(count: int, epochs: int, codec: Codec, say: Callable[[str], object]) -> Classifier:
    """Train a classifier on `count` layers; say(line) reports progress."""
    torch.manual_seed(0)
    inputs, kinds = torch.empty(count, 4, SIZE, SIZE), torch.empty(count, dtype=torch.long)
    for k in range(count):
        color, alpha, kinds[k] = example(FIRST_SEED + k, codec)
        inputs[k] = pictures(color[None], alpha[None])[0]
    say(f"{count} layers")
    classifier = Classifier().to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(classifier.parameters(), lr=2e-3, weight_decay=0.02)
    steps, batch = epochs * count // 64, 64
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, steps)
    for step in range(steps):
        indices = torch.randint(count, (batch,))
        loss = F.cross_entropy(classifier(_augmented(inputs[indices])), kinds[indices], label_smoothing=0.05)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if step % (steps // 10) == 0:
            say(f"step {step} of {steps}: loss {loss:.3f}")
    return classifier.eval().requires_grad_(False)


def _augmented(batch: torch.Tensor) -> torch.Tensor:
    """Augment a batch: mirror, shift, rotate and scale slightly, permute and scale colours, add noise."""
    count = len(batch)
    angle, scale = 0.15 * torch.randn(count), 1 + 0.12 * torch.randn(count)
    mirror = torch.where(torch.rand(count) < 0.5, -1.0, 1.0)
    turn = torch.stack(
        [angle.cos() * scale * mirror, -angle.sin() * scale, angle.sin() * scale * mirror, angle.cos() * scale], 1
    )
    affine = torch.cat([turn.view(-1, 2, 2), 0.08 * torch.randn(count, 2, 1)], 2)
    neutral = torch.tensor([0.5, 0.5, 0.5, 0.0])[:, None, None]
    moved = F.grid_sample(batch - neutral, F.affine_grid(affine, batch.shape, align_corners=False), align_corners=False)
    moved[:, :3] = moved[:, torch.randperm(3)] * (0.7 + 0.5 * torch.rand(count, 1, 1, 1))
    return moved + neutral + 0.03 * torch.randn_like(batch)


def accuracy(classifier: Classifier, count: int, codec: Codec, noise: float | None = None) -> float:
    """Share of held-out clips whose object is recognised; noise: passed through the codec with this noise, or None."""
    correct = 0
    for seed in range(HELD_OUT_SEED, HELD_OUT_SEED + count):
        labels = draw_object(random.Random(seed)) | {"depth": None}
        clip = make_clip(seed, *FRAME, [0, 6, 12], labels, held_out=True)
        color, alpha = clip.edit, clip.alpha
        if noise is not None:
            color, alpha = through_codec(codec, color, alpha, noise, torch.Generator().manual_seed(seed))
        correct += kind_of(classifier, color.transpose(0, 1), alpha[:, 0]) == labels["object"]
    return correct / count


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m vera.core.evaluation.classifier", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--count", type=int, default=5000, help="number of training layers")
    parser.add_argument("--epochs", type=int, default=14)
    parser.add_argument("--held-out", type=int, default=200)
    parser.add_argument("--out", type=Path, default=WEIGHTS)
    args = parser.parse_args(argv)
    from vera.core.model.load import load_model

    codec = load_model("mini", "cpu").codec
    classifier = train(args.count, args.epochs, codec, lambda text: print(text, flush=True))
    save_file({k: v.half().contiguous() for k, v in classifier.state_dict().items()}, args.out)
    for name, level in (("as generated", None), ("through the codec", 0.0), ("through the codec with noise 0.3", 0.3)):
        share = accuracy(classifier, args.held_out, codec, level)
        print(f"{args.held_out} held-out layers {name}: {share:.1%} recognised")
    return 0


if __name__ == "__main__":
    sys.exit(main())
