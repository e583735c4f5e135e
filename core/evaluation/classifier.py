"""Which of the world's objects does a layer show? A small network, trained on layers of the data engine.

`python -m vera.core.evaluation.classifier` trains it, a few minutes on one core, and prints how often it is right on
layers
that it has not seen, as they are and as mini's codec gives them back. It never sees what a model made.
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
from vera.core.data.engine.fields import extend_color, noise, plane
from vera.core.data.engine.plates import camera_at_rest
from vera.core.model.codec import Codec
from vera.core.model.mini import words

WEIGHTS = Path(__file__).with_name("classifier.safetensors")
NOTHING = "nothing"  # a layer without any shape of this world
KINDS = (*words.OBJECTS, NOTHING)
SIZE = 40  # pixels of the picture that is judged
FRAME = (80, 144)
FIRST_SEED, HELD_OUT_SEED = 6_000_000, 6_900_000


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
    classifier = Classifier()
    classifier.load_state_dict({k: v.float() for k, v in load_file(WEIGHTS).items()})
    return classifier.eval().requires_grad_(False)


def pictures(color: torch.Tensor, alpha: torch.Tensor) -> torch.Tensor:
    """Layers (N, 3, H, W) and (N, 1, H, W) cut out about what is in them -> (N, 4, SIZE, SIZE); grey where nothing
    is."""
    cut = []
    for c, a in zip(color, alpha):
        rows, cols = ((a[0] > 0.3).any(d).nonzero().flatten() for d in (1, 0))
        if len(rows) == 0:
            cut.append(torch.tensor([0.5, 0.5, 0.5, 0.0])[:, None, None].expand(4, SIZE, SIZE))
            continue
        y, x = (float(r[0] + r[-1] + 1) / 2 for r in (rows, cols))
        side = max(12.0, 1.2 * max(len(range(rows[0], rows[-1] + 1)), len(range(cols[0], cols[-1] + 1))))
        height, width = a.shape[-2:]
        at = (torch.arange(SIZE) + 0.5) / SIZE - 0.5
        gy, gx = torch.meshgrid((y + side * at) * 2 / height - 1, (x + side * at) * 2 / width - 1, indexing="ij")
        layer = torch.cat([c * a + 0.5 * (1 - a) - 0.5, a])[None]
        seen = F.grid_sample(layer, torch.stack([gx, gy], -1)[None], align_corners=False)[0]
        cut.append(seen + torch.tensor([0.5, 0.5, 0.5, 0.0])[:, None, None])
    return torch.stack(cut)


@torch.inference_mode()
def kind_of(classifier: Classifier, color: torch.Tensor, alpha: torch.Tensor) -> str:
    """What the layer shows, one of KINDS: color (3, T, h, w), alpha (T, h, w), over three of its frames."""
    some = sorted({0, len(alpha) // 2, len(alpha) - 1})
    scores = classifier(pictures(color.transpose(0, 1)[some], alpha[some, None]))
    return KINDS[int(scores.softmax(-1).mean(0).argmax())]


# ---- Training


def example(seed: int, codec: Codec) -> tuple[torch.Tensor, torch.Tensor, int]:
    """Layer number `seed`, (3, H, W) and (1, H, W), and its kind; every other one as the codec gives it back."""
    rng, gen = random.Random(seed), torch.Generator().manual_seed(seed)
    if rng.random() < 0.08:
        kind, (color, alpha) = NOTHING, _mass(rng, gen)
    else:
        labels = draw_object(rng) | {"depth": None}
        times = torch.tensor([float(rng.randint(0, SPAN))])
        premultiplied, alpha, _ = added_object(labels, rng, camera_at_rest(times), times, *FRAME)
        kind, color = labels["object"], extend_color(premultiplied, alpha)
    if rng.random() < 0.5:
        color, alpha = through(codec, color, alpha, rng.uniform(0, 0.5), gen)
    return color[0], alpha[0], KINDS.index(kind)


def _mass(rng: random.Random, gen: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """Some mass without the shape of anything, shaded."""
    x, y = plane(*FRAME)
    radius, cx, cy = rng.uniform(0.1, 0.3), rng.uniform(-0.5, 0.5), rng.uniform(-0.2, 0.2)
    ragged = noise(gen, FRAME, 3, rng.choice((2, 3, 4)))
    inside = radius * (1 + rng.uniform(0.3, 0.8) * ragged) - torch.hypot(x - cx, (y - cy) * rng.uniform(0.7, 1.6))
    alpha = (0.5 + inside * rng.choice((3, 10, FRAME[0]))).clamp(0, 1)[None, None]
    base = torch.tensor(rng.choice(list(words.COLORS.values())))[:, None, None]
    color = (base * (0.9 + 0.2 * noise(gen, FRAME, 3, 3))).clamp(0, 1)[None]
    return color, alpha


@torch.inference_mode()
def through(
    codec: Codec, color: torch.Tensor, alpha: torch.Tensor, spoil: float, gen: torch.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """A layer (T, 3, H, W) and (T, 1, H, W) through the codec, its latents spoiled by that much noise."""
    both = torch.stack([color, alpha.expand(-1, 3, -1, -1)]).transpose(1, 2)
    latents = codec.encode(both)
    latents = latents + spoil * torch.randn(latents.shape, generator=gen)
    color, alpha = codec.decode(latents, len(alpha)).clamp(0, 1).transpose(1, 2)
    return color, alpha.mean(1, keepdim=True)


def train(count: int, epochs: int, codec: Codec, say: Callable[[str], object]) -> Classifier:
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
        chosen = torch.randint(count, (batch,))
        loss = F.cross_entropy(classifier(_varied(inputs[chosen])), kinds[chosen], label_smoothing=0.05)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if step % (steps // 10) == 0:
            say(f"step {step} of {steps}: loss {loss:.3f}")
    return classifier.eval().requires_grad_(False)


def _varied(batch: torch.Tensor) -> torch.Tensor:
    """Mirrored, moved, turned and scaled a little, in other colours, with noise."""
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


def accuracy(classifier: Classifier, count: int, codec: Codec, spoil: float | None = None) -> float:
    """Share of held-out clips, over real plates too, whose object is named rightly; spoil: through the codec."""
    right = 0
    for seed in range(HELD_OUT_SEED, HELD_OUT_SEED + count):
        labels = draw_object(random.Random(seed)) | {"depth": None}
        clip = make_clip(seed, *FRAME, [0, 6, 12], labels, held_out=True)
        color, alpha = clip.edit, clip.alpha
        if spoil is not None:
            color, alpha = through(codec, color, alpha, spoil, torch.Generator().manual_seed(seed))
        right += kind_of(classifier, color.transpose(0, 1), alpha[:, 0]) == labels["object"]
    return right / count


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m vera.core.evaluation.classifier", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--count", type=int, default=5000, help="layers to learn from")
    parser.add_argument("--epochs", type=int, default=14)
    parser.add_argument("--held-out", type=int, default=200)
    parser.add_argument("--out", type=Path, default=WEIGHTS)
    args = parser.parse_args(argv)
    from vera.core.model.load import load_model

    codec = load_model("mini", "cpu").codec
    classifier = train(args.count, args.epochs, codec, lambda text: print(text, flush=True))
    save_file({k: v.half().contiguous() for k, v in classifier.state_dict().items()}, args.out)
    for name, spoil in (("as they are", None), ("through the codec", 0.0), ("through the codec, spoiled by 0.3", 0.3)):
        print(f"{args.held_out} held-out layers {name}: {accuracy(classifier, args.held_out, codec, spoil):.1%} right")
    return 0


if __name__ == "__main__":
    sys.exit(main())
