"""A job's frames at the size at which it is lifted."""

import torch

from vera.core.lifting.matching import same_size
from vera.core.plate.fit import shrink


def read_plate(job, positions):
    """Plate frames at working size, (T, 3, h, w); positions are indices into job.indices."""
    frames = []
    for i in positions:
        frame = job.plate.frames[job.indices[i]]
        pixels = job.color.to_model(job.pixels(frame))
        frames.append(shrink(torch.from_numpy(pixels), *job.size))
    return torch.stack(frames)


def read_edited(job, positions):
    """Edited frames at working size, (T, 3, h, w)."""
    if job.vace is not None:
        return job.vace.video(job.delivery.job_dir)[list(positions)]
    thinned = -job.step if job.step < 0 else 1
    frames = []
    for i in positions:
        pixels = job.edited_color.to_model(job.edited.read(job.edited.frames[i * thinned]))
        frames.append(same_size(torch.from_numpy(pixels).movedim(-1, 0)[None], job.size[::-1])[0])
    return torch.stack(frames)


def read_mask(job, positions):
    """The mask of those frames at working size, (T, 1, h, w) in [0, 1]; None without one."""
    if job.mask is None:
        return None
    masks = [torch.from_numpy(job.mask.read(job.plate.frames[job.indices[i]]))[..., None] for i in positions]
    return torch.stack([shrink(m, *job.size) for m in masks])
