"""What was chosen for a job, and why: the lines of `--verbose`."""

import torch

from core.model.codec import latent_frames


def explain(job, device_asked) -> list[str]:
    """One line each on device, model, size and sampling, attention, cache, compilation and guidance passes."""
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
        f" {'visit the device' if hasattr(model.text, 'visitor') else 'stay on the device'}",
        f"sampling: {width}x{height}, {frames} frames at once, {job.steps} steps, guidance {job.guidance:g}",
        *job.savers.explain(model.transformer, length),
    ]


def _why(asked, device):
    if asked != "auto":
        return "asked for"
    if device.type == "cuda":
        return "auto: there is CUDA"
    return "auto: the GPU's memory ran out" if torch.cuda.is_available() else "auto: torch finds no CUDA device"


def _size(transformer):
    parameters = list(transformer.parameters())
    types = sorted({str(p.dtype).removeprefix("torch.") for p in parameters})
    return f"{sum(p.numel() for p in parameters) / 1e6:.1f} million weights of {' and '.join(types)}"
