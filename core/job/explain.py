"""What was chosen for a job, and why: the lines of `--verbose`."""

import torch

from vera.core.model.codec import latent_frames
from vera.core.recipe import split_model


def explain(job, device_asked) -> list[str]:
    """One line each on device, model, size and sampling, attention, cache, compilation and guidance passes."""
    if split_model(job.recipe.model)[0]:
        return _explain_lift(job, device_asked)
    model, config = job.model, job.model.transformer.config
    frames = min(len(job.plate.frames), model.limits.max_frames)
    height, width = job.size[1], job.size[0]
    grid = (latent_frames(frames), height // model.codec.space_stride, width // model.codec.space_stride)
    length = 1
    for count, patch in zip(grid, config.patch):
        length *= count // patch
    return [
        f"device: {model.device} ({_why(device_asked, model.device)}), {torch.get_num_threads()} CPU threads",
        f"model: {model.name}, {_size(model.transformer)}; text encoder and codec"
        f" {'visit the device' if hasattr(model.text, 'visitor') else 'stay on the device'}"
        f"{', so do its blocks' if hasattr(model.transformer, 'computes_on') else ''}",
        f"sampling: {width}x{height}, {frames} frames at once, {job.steps} steps, guidance {job.guidance:g}",
        *job.speed.explain(model.transformer, length),
    ]


def _explain_lift(job, device_asked):
    lines = [f"lift: {job.size[0]}x{job.size[1]}, {len(job.indices)} edited frames, on the CPU"]
    if job.vace is None:
        return lines
    vace = job.vace
    frames = min(len(job.plate.frames), vace.limits.max_frames)
    why, (width, height) = _why(device_asked, torch.device(vace.device)), vace.size
    return [
        f"device: {vace.device} ({why}), {torch.get_num_threads()} CPU threads",
        f"model: VACE of {vace.root}",
        f"sampling: {width}x{height}, {frames} frames at once, {vace.steps} steps, guidance {vace.guidance:g}",
        *lines,
    ]


def _why(asked, device):
    if asked != "auto":
        return "asked for"
    if device.type == "cuda":
        return "auto: there is CUDA"
    return "auto: the GPU's memory ran out" if torch.cuda.is_available() else "auto: torch finds no CUDA device"


def _size(transformer):
    parameters = list(transformer.parameters())
    types = sorted({str(getattr(p, "qdata", p).dtype).removeprefix("torch.") for p in parameters})
    return f"{sum(p.numel() for p in parameters) / 1e6:.1f} million weights of {' and '.join(types)}"
