"""From the plate's frames to the latents of the three layers: read, find cuts, encode, denoise.

Frames stream in and latents are written shot by shot (what lies between two cuts), so that
memory does not grow, and a run that was stopped goes on at the step it had reached.
"""

from contextlib import ExitStack
from itertools import chain, groupby
from operator import itemgetter

import torch

from core.errors import Stopped
from core.model.codec import latent_frames, latent_groups
from core.plate.cuts import with_cuts
from core.plate.fit import shrink
from core.sampling.denoise import evaluations, sample
from core.sampling.latents import States, latent_writer


def generated_shots(job, progress, stopping):
    """Latents (T, 3, C, h, w) of the three layers in files, by the frames of each shot between cuts.

    Those that an earlier run left are taken, be it the kept ones or those of a job that was stopped.
    """
    frames, shelf = job.plate.frames, job.kept if job.recipe.keep else job.latents
    shots = job.kept.shots("layers", frames) or job.latents.shots("layers", frames)
    if shots:
        return shots
    plates = encoded_shots(job, progress, stopping)
    masks = job.latents.shots("mask", frames)
    window, steps = latent_frames(job.model.limits.max_frames), job.steps
    states = {shot: States(job.latents.folder, f"state.{shot[0]}", job.latents.facts(shot)) for shot in plates}
    done = {shot: steps if shelf.path("layers", shot).exists() else states[shot].newest()[0] for shot in plates}

    def looks(steps_of):
        return sum(evaluations(plate.shape[0], window, range(steps_of(shot))) for shot, plate in plates.items())

    progress.stage("denoise", looks(lambda shot: steps), looks(done.get))
    for shot, plate in plates.items():
        if shelf.path("layers", shot).exists():
            continue
        state = sample(
            job.model.transformer,
            job.model.text.encode([job.recipe.prompt]),
            job.model.text.encode([""]),
            plate,
            masks.get(shot),
            seed=job.recipe.seed,
            steps=steps,
            guidance=job.guidance,
            shift=job.model.limits.shift,
            window=window,
            states=states[shot],
            advance=progress.advance,
            stopping=stopping,
        )
        with latent_writer(shelf.path("layers", shot), shelf.facts(shot)) as add:
            for start in range(0, state.shape[0], window):
                add(state.read(start, start + window)[:, 0])
        states[shot].clear()
    return shelf.shots("layers", frames)


def encoded_shots(job, progress, stopping):
    """Latents (T, C, h, w) of the plate in files, by the frames of each shot; those of the mask beside them."""
    frames = job.plate.frames
    if shots := job.latents.shots("plate", frames):
        return shots
    progress.stage("read", len(frames))
    seen = with_cuts(_seen_frames(job, progress, stopping), itemgetter(1), job.cuts, number_of=itemgetter(0))
    for _, shot in groupby(seen, key=itemgetter(1)):
        _encode_shot(job, (item for item, _ in shot))
    return job.latents.shots("plate", frames)


@torch.inference_mode()
def _encode_shot(job, shot):
    """Write the latents of (frame, picture, mask or None) of one shot, four frames at a time."""
    first = next(shot)
    kinds = ["plate"] if job.mask is None else ["mask", "plate"]
    facts, frame = {}, first[0]
    with ExitStack() as files:
        writers = {}
        for kind in kinds:
            path = job.latents.path(kind, range(frame, frame + 1))
            writers[kind] = files.enter_context(latent_writer(path, facts)), job.model.codec.encode_stream()
        for group in latent_groups(chain([first], shot)):
            pictures = {"plate": [picture for _, picture, _ in group], "mask": [mask for _, _, mask in group]}
            for kind, (add, encode) in writers.items():
                video = torch.stack(pictures[kind], dim=1)[None]
                add(encode(video.to(job.model.device))[0].movedim(1, 0))
            last = group[-1][0]
        facts.update(job.latents.facts(range(first[0], last + 1)))


def _seen_frames(job, progress, stopping):
    """Yield (frame, picture, mask or None) as the model sees them, (3, h, w) in [0, 1]."""
    for frame in job.plate.frames:
        if stopping():
            raise Stopped(f"stopped while reading frame {frame}")
        picture = shrink(torch.from_numpy(job.source(job.pixels(frame))), *job.size)
        mask = None
        if job.mask is not None:
            mask = torch.from_numpy(job.region.crop(job.mask.read(frame))[..., None].copy())
            mask = shrink(mask, *job.size).expand(3, -1, -1)
        yield frame, picture, mask
        progress.advance()
