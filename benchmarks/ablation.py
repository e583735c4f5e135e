"""Test the paper's claims about its parts: `python -m benchmarks.ablation --steps 1000 --out out/ablation`.

Small models of one geometry are trained side by side on the same clips and the same noise. They have no drawing, which
would do much of the work of each:
  separate    three transformers, one joint attention: Vera
  shared      one transformer's weights for all three layers, distinguished by their embeddings
  no composite    like separate, without a loss on the composite branch
  no mask     like separate, never given a mask
They are judged on held-out clips: the loss of each branch, with and without mask, and layers sampled from noise against
the truth. The results are a table (Markdown) and a curve (PNG), equal on every machine up to rounding.
"""

import argparse
import json
import time
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import nn

from vera.core.data.engine.instructions import vocabulary
from vera.core.model.config import BRANCHES
from vera.core.model.device import mixed_precision
from vera.core.model.mini.mini_config import MINI
from vera.core.model.mini.mini_text import MiniText
from vera.core.model.mini.mini_transformer import MiniTransformer
from vera.core.model.mini.shot import MiniShot
from vera.core.model.names import EMBEDDED
from vera.core.sampling.denoise import ClipInputs, SamplingSettings, denoise
from vera.core.training.curve import draw_curves
from vera.core.training.mini.transformer_training import (
    EncodedClips,
    flow_loss,
    generated_clips,
    latents_of,
    load_codec,
    pixel_scale,
)
from vera.core.training.state import trapezoid

GEOMETRY = replace(MINI, dim=96, heads=3, layers=4, ffn_dim=384, text_dim=96, drawing=False)
HELD_OUT, TRAINING = 7_000_000_000, 6_000_000_000
RATE, MASKED = 0.002, 0.5


@dataclass
class Variant:
    weights: tuple = (1.0, 1.0, 1.0)  # of the branches' losses
    shared: bool = False
    mask: bool = True


VARIANTS = {
    "separate": Variant(),
    "shared": Variant(shared=True),
    "no composite": Variant(weights=(1.0, 1.0, 0.0)),
    "no mask": Variant(mask=False),
}


class Learner:
    """One variant, its text encoder and its optimiser."""

    def __init__(self, variant: Variant):
        torch.manual_seed(0)
        self.variant = variant
        self.transformer = MiniTransformer(GEOMETRY)
        if variant.shared:
            share(self.transformer)
        self.text = MiniText(vocabulary(), GEOMETRY.text_dim, heads=3)
        modules = nn.ModuleList([self.transformer, self.text])
        self.parameters = list(modules.parameters())
        self.optimizer = torch.optim.AdamW(self.parameters, lr=RATE, betas=(0.9, 0.98), weight_decay=0.01)

    def losses(self, batch, with_mask, scale):
        latents, seen, texts, times = batch
        states = self.text.encode(texts)
        mask = with_mask and self.variant.mask
        shot = replace(MiniShot.whole(len(times)), times=torch.tensor(times))
        return flow_loss(self.transformer, EncodedClips(states, latents, seen, shot), mask, 3.0, scale)

    def learn(self, batch, with_mask, scale, rate):
        losses = self.losses(batch, with_mask, scale)
        self.optimizer.zero_grad()
        (losses * torch.tensor(self.variant.weights)).mean().backward()
        nn.utils.clip_grad_norm_(self.parameters, 1.0)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.step()


def share(transformer) -> None:
    """The edit branch's weights for all three branches."""
    for owner in (transformer, *transformer.blocks):
        for name in BRANCHES[1:]:
            setattr(owner, name, owner.edit)


def batch_of(codec, seed, count):
    pictures, _, texts, times = generated_clips(seed, count, 1)
    return *latents_of(codec, pictures), texts, times


@torch.inference_mode()
def held_out_losses(learner, batches, scale, with_mask):
    """Mean of the branches' losses (3,) at the same noise for every variant."""
    torch.manual_seed(1)
    return torch.stack([learner.losses(batch, with_mask, scale) for batch in batches]).mean(0)


@torch.inference_mode()
def sampled(learner, codec, batches, steps=8):
    """Layers from noise, without mask and guidance: errors of alpha and of the composed picture against the truth,
    agreement with the composite branch; means over the clips."""
    alpha_error, errors, disagreements = [], [], []
    for latents, _, texts, _ in batches:
        for k in range(len(latents)):
            source, truth = latents[k : k + 1, 0], latents[k, 1:4]
            out = denoise(
                learner.transformer,
                ClipInputs.of_tensors(learner.text.encode([texts[k]]), None, source),
                SamplingSettings(seed=k, steps=steps, guidance=1, shift=3.0, window=13),
            )[0]
            plate, edit, alpha, composite, true_alpha, true_composite = (
                codec.decode(z[None], 1)[0].clamp(0, 1) for z in (source[0], *out, truth[1], truth[2])
            )
            composed = alpha * edit + (1 - alpha) * plate
            alpha_error.append((alpha - true_alpha).abs().mean())
            errors.append((composed - true_composite).pow(2).mean())
            disagreements.append((composed - composite).pow(2).mean())
    mean = [torch.stack(x).mean().item() for x in (alpha_error, errors, disagreements)]
    decibels = [-10 * torch.tensor(m).log10().item() for m in mean[1:]]
    return {"alpha error": mean[0], "against truth, dB": decibels[0], "agreement, dB": decibels[1]}


def main(argv=None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.ablation", description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--judge", type=int, default=48, help="held-out clips")
    parser.add_argument("--out", type=Path, default=Path("out/ablation"))
    args = parser.parse_args(argv)
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    codec = load_codec(EMBEDDED)
    scale = pixel_scale(codec, GEOMETRY.latent_std)
    judge = [batch_of(codec, HELD_OUT + i, min(16, args.judge)) for i in range(0, args.judge, 16)]
    learners = {name: Learner(v) for name, v in VARIANTS.items()}
    args.out.mkdir(parents=True, exist_ok=True)
    rows, started = [], time.time()
    for step in range(args.steps):
        if step % 4 == 0:
            batch = batch_of(codec, TRAINING + step * args.batch, args.batch)
        with_mask = torch.rand((), generator=torch.Generator().manual_seed(step)) < MASKED
        for learner in learners.values():
            torch.manual_seed(step)  # the same noise for all
            with mixed_precision(torch.device("cpu")):
                learner.learn(batch, with_mask, scale, trapezoid(step, args.steps, RATE, warmup=50))
        if (step + 1) % max(1, args.steps // 20) == 0:
            row = {n: held_out_losses(x, judge, scale, False)[:2].mean().item() for n, x in learners.items()}
            rows.append({"step": step + 1} | row)
            print(json.dumps(rows[-1]), f"{time.time() - started:.0f} s", flush=True)
    draw_curves([r["step"] for r in rows], {n: [r[n] for r in rows] for n in learners}, args.out / "ablation.png")
    (args.out / "ablation.md").write_text(table(learners, codec, judge, scale), encoding="utf-8")
    print((args.out / "ablation.md").read_text(encoding="utf-8"))
    return 0


def table(learners, codec, judge, scale) -> str:
    head = ["variant", "million parameters", "edit", "alpha", "composite", "alpha, mask given"]
    lines = []
    for name, learner in learners.items():
        count = sum(p.numel() for p in learner.transformer.parameters()) / 1e6
        without, given = (held_out_losses(learner, judge, scale, m) for m in (False, True))
        drawn = sampled(learner, codec, judge)
        shown = f"{given[1]:.3f}" if learner.variant.mask else "-"
        lines.append(
            [name, f"{count:.1f}", *(f"{x:.3f}" for x in without), shown, *(f"{x:.4g}" for x in drawn.values())]
        )
    head += list(drawn)
    return "\n".join("| " + " | ".join(row) + " |" for row in (head, ["---"] * len(head), *lines)) + "\n"


if __name__ == "__main__":
    raise SystemExit(main())
