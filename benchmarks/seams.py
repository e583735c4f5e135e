"""`python -m benchmarks.seams`: are seams visible where time windows meet?

Compares three ways of making a long clip: windows butted together, overlapped, and overlapped with moving offsets
(ours).

With a model, the plate is a still, so that every change between frames belongs to the edit. The figure is the
composite's change at seams, divided by its change inside a window; 1 means no seam. Seams are the ends of windows and
whole overlaps, in which one window's picture blends into the next one's; the ends are also reported separately. All
changes are taken between latent frames, since a codec's joints are there. A model flickers anyway, so each prompt is
made with several seeds, the changes are summed, and the error is the scatter of the clips.

With --model stand-in, the model is a worst case: each window wants a different picture and knows nothing of the others.
The figure is the largest change between neighbouring latent frames. --picture writes one line of the picture over time.
"""

import argparse
import json
import sys
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import nn

from vera.core.model.load import load_model
from vera.core.plate.fit import model_size, shrink
from vera.core.plate.source import open_plate
from vera.core.sampling import denoise as sampler
from vera.core.sampling.time_windows import Window, windows

PROMPTS = (
    "Add a large red balloon on the right",
    "Add fog",
    "Change the background to the sea. Keep the animal intact.",
)


def butted(length, size, step):
    return [Window(start, torch.ones(min(size, length - start))) for start in range(0, length, size)]


def unmoved(length, size, step):
    return windows(length, size, 0)


WAYS = {"butted": butted, "overlapped": unmoved, "overlapped, moving": windows}


@torch.inference_mode()
def compose(model, picture, source, prompt, way, settings):
    """The layers over the plate, (3, frames, h, w)."""
    codec, frames = model.codec, 1 + model.codec.time_stride * (source.shape[2] - 1)
    sampler.windows = way
    layers = sampler.denoise(
        model.transformer,
        sampler.ClipInputs.of_tensors(model.text.encode([prompt]), model.text.encode([""]), source),
        settings,
    )
    color, alpha = (codec.decode(layers[:, i], frames)[0].clamp(0, 1) for i in range(2))
    alpha = alpha.mean(0, keepdim=True)
    return alpha * color + (1 - alpha) * picture[:, None]


def window_of(model):
    return 1 + (model.limits.max_frames - 1) // model.codec.time_stride


def seams_of(looks, length):
    """Joints k, between latent frames k - 1 and k: those at windows' ends, and all that are not inside of one
    window."""
    seen = [[w.span for w in looks if w.start <= k < w.stop] for k in range(length)]
    ends = {k for k in range(1, length) if seen[k - 1] != seen[k]}
    return ends, ends | {k for k in range(1, length) if len(seen[k - 1]) > 1 or len(seen[k]) > 1}


def changes(made, ends, seams, stride):
    """Mean change into the first frame of a latent frame: at ends, at seams, and elsewhere."""
    change = made.diff(dim=1).abs().mean(dim=(0, 2, 3))[::stride].tolist()  # joint k is change[k - 1]
    inside = set(range(1, 1 + len(change))) - seams
    return tuple(float(np.mean([change[k - 1] for k in joints])) for joints in (ends, seams, inside))


def summed(pairs):
    """The ratio of all clips' changes together, and its standard error by leaving out one clip at a time."""
    at, inside = np.transpose(pairs)
    without = (at.sum() - at) / (inside.sum() - inside)
    error = np.sqrt((len(at) - 1) * without.var()) if len(at) > 1 else np.nan
    return round(float(at.sum() / inside.sum()), 3), round(float(error), 3)


class Wilful(nn.Module):
    """A worst-case model: each window wants a bar whose colour and place depend on the number of the window's first
    frame (stored in the source). As noise falls, it follows its input more than its wish."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))

    def read_shot(self, source, mask, window):
        return None

    def forward(self, latents, timestep, text, source, mask=None, shot=None, cache=None):
        level = float(timestep[0]) / 1000
        rng = np.random.default_rng(int(source[0, 0, 0, 0, 0]))
        wanted, at = torch.full((3, 1, 1, latents.shape[-1]), 0.35), rng.integers(5, latents.shape[-1] - 20)
        wanted[..., at : at + 16] = torch.from_numpy(rng.random((3, 1, 1, 1), np.float32))
        seen = nn.functional.avg_pool1d(latents.mean((0, 3, 4)), 15, 1, 7, count_include_pad=False)
        return (latents - level * wanted[None, None] - seen[None, :, :, None, None]) / level


def stand_in(frames, steps):
    """The lines over time (3, latent frames, width) of the three ways."""
    source = torch.arange(float(frames)).view(1, 1, frames, 1, 1).expand(1, 3, frames, 1, 96)
    lines, text = {}, torch.ones(1, 1, 1)
    for name, way in WAYS.items():
        sampler.windows = way
        made = sampler.denoise(
            Wilful(),
            sampler.ClipInputs.of_tensors(text, text, source),
            sampler.SamplingSettings(seed=1, steps=steps, guidance=1, shift=3.0, window=13),
        )
        lines[name] = made[0, 0, :, :, 0]
    return lines


def sheet(lines, path):
    """One line of the picture over time (down the sheet), for each way beside each other."""
    pictures = [(line.clamp(0, 1).permute(1, 2, 0).numpy() * 255).round().astype(np.uint8) for line in lines.values()]
    pictures = [picture.repeat(max(1, 290 // len(picture)), axis=0).repeat(3, axis=1) for picture in pictures]
    height, width = pictures[0].shape[:2]
    image = Image.new("RGB", (len(lines) * (width + 8) + 8, height + 28), (24, 24, 24))
    draw = ImageDraw.Draw(image)
    for i, (name, picture) in enumerate(zip(lines, pictures)):
        draw.text((8 + i * (width + 8), 6), name, fill=(210, 210, 210))
        image.paste(Image.fromarray(picture), (8 + i * (width + 8), 22))
    image.save(path)


def main(argv=None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.seams", description=__doc__.splitlines()[0])
    parser.add_argument("--plate", default="demo/plate.mp4")
    parser.add_argument("--model", default="mini", help="mini, a model's folder, or stand-in")
    parser.add_argument("--frames", type=int, default=145, help="of the stand-in, latent frames")
    parser.add_argument("--steps", type=int)
    parser.add_argument("--prompts", nargs="+", default=PROMPTS)
    parser.add_argument("--seeds", type=int, default=3, help="clips a prompt")
    parser.add_argument("--picture", type=Path, help="write one line of the first clips over time here")
    args = parser.parse_args(argv)
    if args.model == "stand-in":
        lines = stand_in(args.frames, args.steps or 16)
        largest = {name: round(float(line.diff(dim=1).abs().mean(dim=(0, 2)).max()), 4) for name, line in lines.items()}
        print(json.dumps({"stand-in": args.frames, "largest_change": largest}))
        if args.picture:
            sheet(lines, args.picture)
        return 0
    model, plate = load_model(args.model, "cpu"), open_plate(args.plate)
    size = model_size(plate.width, plate.height, plate.pixel_aspect, model.limits.pixels, model.limits.multiple)
    picture = shrink(torch.from_numpy(plate.read(plate.frames[0])[..., :3] / np.float32(255)), *size)
    steps, length = args.steps or model.limits.steps, 1 + (args.frames - 1) // model.codec.time_stride
    with torch.inference_mode():
        source = model.codec.encode(picture[:, None].expand(-1, args.frames, -1, -1)[None])
    found = {name: [] for name in WAYS}
    for prompt in args.prompts:
        for seed in range(1, 1 + args.seeds):
            done, lines = {}, {}
            for name, way in WAYS.items():
                looks = [way(length, window_of(model), step) for step in range(steps)]
                spans = str([[w.span for w in look] for look in looks])
                if spans not in done:  # in one step nothing moves
                    guidance, shift = model.limits.guidance, model.limits.shift
                    settings = sampler.SamplingSettings(seed, steps, guidance, shift, window_of(model))
                    done[spans] = compose(model, picture, source, prompt, way, settings)
                lines[name] = done[spans][:, :, size[1] // 2]
                ends, seams = seams_of(looks[-1], length)
                found[name].append(changes(done[spans], ends, seams, model.codec.time_stride))
            if args.picture and len(found[name]) == 1:
                sheet(lines, args.picture)
        told = {name: summed([c[1:] for c in of[-args.seeds :]])[0] for name, of in found.items()}
        print(json.dumps({"prompt": prompt, "clips": args.seeds, "seams": told}), flush=True)
    told = {
        at: {name: "{:.3f} +- {:.3f}".format(*summed([(c[i], c[2]) for c in of])) for name, of in found.items()}
        for i, at in enumerate(("ends", "seams"))
    }
    print(json.dumps({"clips": len(found[name]), "frames": args.frames, "steps": steps, **told}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
