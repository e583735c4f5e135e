"""Make an edited video with VACE: diffusers' WanVACEPipeline regenerates the masked area. A lift turns it
into a layer.

A VACE directory, as published in diffusers' layout:
    transformer/ vae/ text_encoder/ tokenizer/ scheduler/     safetensors and their configurations
    model.json                                                optional: the fields of vera.core.model.load.Limits
Nothing is downloaded and no pickle is opened.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
import torch
from diffusers import (
    AutoencoderKLWan,
    FlowMatchEulerDiscreteScheduler,
    UniPCMultistepScheduler,
    WanVACEPipeline,
    WanVACETransformer3DModel,
)
from diffusers.models.transformers.transformer_wan import WanRotaryPosEmbed
from PIL import Image
from transformers import UMT5Config, UMT5EncoderModel

from vera.core.errors import InputError, StoppedError
from vera.core.extras import require
from vera.core.lifting.read_frames import LiftedJob, read_mask, read_plate
from vera.core.model.codec import pad_frames
from vera.core.model.fingerprint import fingerprint
from vera.core.model.limits import Limits
from vera.core.model.tensors import TensorFiles, check_shapes, load_weights, read_json, shapes_of
from vera.core.model.text import WanText
from vera.core.model.wan.wan_directory import build_on_meta, load_tokenizer, tie_embedding
from vera.core.plate.color import PlateColor
from vera.core.plate.color_curve import DISPLAY
from vera.core.plate.color_space import resolve_space
from vera.core.plate.fit import model_size
from vera.core.plate.source import open_plate
from vera.core.state_file import StateFile, state_writer, whole_state

if TYPE_CHECKING:
    from vera.core.layer.delivery import Delivery
    from vera.core.plate.source import HeldOutMask, Mask, Plate
    from vera.core.progress import ProgressLike
    from vera.core.recipe import EditRecipe

SCHEDULERS = {c.__name__: c for c in (UniPCMultistepScheduler, FlowMatchEulerDiscreteScheduler)}
SHIFT_OF = {"UniPCMultistepScheduler": "flow_shift", "FlowMatchEulerDiscreteScheduler": "shift"}  # name of the setting
PARTS = {
    "transformer": WanVACETransformer3DModel.from_config,
    "vae": AutoencoderKLWan.from_config,
    "text_encoder": lambda raw: UMT5EncoderModel(UMT5Config.from_dict(raw)),
}
WEIGHTS_SHARE = 0.6  # share of a GPU's memory that bf16 weights may fill; raising it leaves less for activations
CARRIED_FRAMES = 5  # last frames of a window that start the next one; raising it joins windows better and costs time
# Value in [0, 1] of the masked pixels in VACE's input: 127.5 of 255, as its authors do. VACE would read other values
# there as a control signal (depth, pose).
MASKED_VALUE = 0.5

# Default negative prompt: Wan's own `sample_neg_prompt` (Wan2.1, Apache-2.0).
NEGATIVE_PROMPT = (
    "色调艳丽，过曝，静态，细节模糊不清，字幕，风格，作品，画作，画面，静止，整体发灰，最差质量，低质量，JPEG压缩残留，"
    "丑陋的，残缺的，多余的手指，画得不好的手部，画得不好的脸部，畸形的，毁容的，形态畸形的肢体，手指融合，"
    "静止不动的画面，杂乱的背景，三条腿，背景人很多，倒着走"
)
# VACE's own shift of the noise schedule, unless model.json has one. Raising it spends more steps at high noise.
SHIFT = 16.0


class MadeJob(LiftedJob, Protocol):
    """The part of a job that VACE reads. The edited video is stored in the folder of its delivery."""

    @property
    def recipe(self) -> EditRecipe: ...
    @property
    def delivery(self) -> Delivery: ...
    @property
    def hash(self) -> str: ...


@dataclass(frozen=True)
class Vace:
    """A checked directory, and the settings of a run.

    size: (width, height)
    shift: of the noise schedule
    negative: negative prompt
    references: pictures of the things to paint, 8 bits RGB
    conditioning: strength with which plate, mask and references are followed
    offload: "none", "parts" or "blocks": the weights kept in host memory while they are not used
    """

    root: Path
    limits: Limits
    size: tuple[int, int]
    steps: int
    guidance: float
    shift: float
    negative: str
    references: tuple[Image.Image, ...]
    conditioning: float
    offload: str
    device: str
    fingerprint: str

    def make(self, job: MadeJob, progress: ProgressLike, stopping: Callable[[], bool]) -> None:
        """Make the edited video of the job window by window, and store each one. Raises StoppedError."""
        windows = self.windows(len(job.plate.frames))
        todo = [(k, w) for k, w in enumerate(windows) if _whole(job, k, w) is None]
        if not todo:
            return
        pipeline, text = self._load()
        with torch.inference_mode():
            states, empty = (text.encode([p]) for p in (job.recipe.prompt, self.negative))
        paint = partial(pipeline, prompt_embeds=states, negative_prompt_embeds=empty)
        progress.stage("denoise", len(todo) * self.steps)
        for k, (start, end) in todo:
            before = _carried(job, k - 1, windows[k - 1]) if k else None
            masked, mask = _masked_plate(job, range(start, end), before)
            step_done = _step_callback(job.plate.frames[start], progress, stopping)
            video = self._paint_window(paint, masked, mask, job.recipe.seed, step_done)[: end - start]
            with state_writer(_file(job.delivery.job_dir, k), _facts(job, (start, end)), torch.float16) as add:
                add(video)

    def video(self, job_dir: Path, count: int) -> torch.Tensor:
        """The stored edited video of `count` frames, (T, 3, h, w), encoded in [0, 1]."""
        videos = []
        for k, window in enumerate(self.windows(count)):
            videos.append(StateFile(_file(job_dir, k)).read(CARRIED_FRAMES if k else 0, window[1] - window[0]).float())
        return torch.cat(videos)

    def windows(self, count: int) -> list[tuple[int, int]]:
        """[start, end) of each window. Consecutive windows share CARRIED_FRAMES frames."""
        longest, found = max(self.limits.max_frames, CARRIED_FRAMES + 4), [(0, min(count, self.limits.max_frames))]
        while found[-1][1] < count:
            start = found[-1][1] - CARRIED_FRAMES
            found.append((start, min(count, start + longest)))
        return found

    def _paint_window(self, paint, video, mask, seed, step_done):
        """The edited video (T, 3, h, w) of one window. paint: the pipeline with the text's states."""
        made = paint(
            video=[video],
            mask=[mask],
            reference_images=list(self.references) or None,
            conditioning_scale=self.conditioning,
            height=self.size[1],
            width=self.size[0],
            num_frames=len(video),
            num_inference_steps=self.steps,
            guidance_scale=self.guidance,
            generator=torch.Generator("cpu").manual_seed(seed),
            callback_on_step_end=step_done,
            output_type="pt",
        ).frames[0]
        return made.float().cpu().clamp(0, 1)

    def _load(self):
        wide = None if self.device == "cpu" else torch.bfloat16
        modules = {part: build_on_meta(build, self.root / part) for part, build in PARTS.items()}
        transformer = modules["transformer"]
        # No file holds the rotary tables, and tables built on the meta device have no values.
        config = transformer.config
        transformer.rope = WanRotaryPosEmbed(config.attention_head_dim, config.patch_size, config.rope_max_seq_len)
        keep = {"transformer": _kept_in_float32, "vae": lambda name: True, "text_encoder": lambda name: False}
        for part, module in modules.items():
            files = TensorFiles(self.root / part, self.device if self.offload == "none" else "cpu")
            if part == "text_encoder":
                tie_embedding(files)
            load_weights(module, files, torch.float32 if wide is None else wide, keep[part])
        tokenizer = load_tokenizer(self.root / "tokenizer")
        scheduler = read_json(self.root / "scheduler" / "scheduler_config.json")
        kind = scheduler["_class_name"]
        scheduler = SCHEDULERS[kind].from_config(scheduler, **{SHIFT_OF[kind]: self.shift})
        pipeline = WanVACEPipeline(tokenizer=tokenizer, scheduler=scheduler, **modules)
        if self.offload == "blocks":
            pipeline.enable_sequential_cpu_offload(device=self.device)
        elif self.offload == "parts":
            pipeline.enable_model_cpu_offload(device=self.device)
        else:
            pipeline.to(self.device)
        pipeline.set_progress_bar_config(disable=True)
        return pipeline, WanText(tokenizer, modules["text_encoder"])


def _masked_plate(job, positions, before):
    """What VACE is given of these frames, (T, 3, h, w) each: the plate with the masked pixels replaced, and the mask.

    before: edited frames of the window before, which replace the first ones, or None. T is the next 4k + 1, as the
    codec takes them: the last frame is repeated, and the copies are dropped from the result.
    """
    hole = read_mask(job, positions)
    assert hole is not None  # refused in open_vace
    video, mask = read_plate(job, positions), (hole > 0).float()
    if before is not None:
        video[: len(before)], mask[: len(before)] = before, 0
    video = torch.where(mask > 0, MASKED_VALUE, video)
    return tuple(pad_frames(v.transpose(0, 1)[None])[0].transpose(0, 1) for v in (video, mask.expand(-1, 3, -1, -1)))


def _step_callback(first_frame, progress, stopping):
    """The pipeline's callback after each step. It raises StoppedError."""

    def step_done(pipe, index, time, state):
        progress.advance()
        if stopping():
            raise StoppedError(f"stopped while denoising from frame {first_frame}")
        return state

    return step_done


def _kept_in_float32(name):
    return any(part in name for part in WanVACETransformer3DModel._keep_in_fp32_modules)


def open_vace(path: str, recipe: EditRecipe, plate: Plate, mask: Mask | HeldOutMask | None, device: str) -> Vace:
    """Check a VACE directory and the recipe for it, from configurations and headers only. Raises InputError."""
    if mask is None:
        raise InputError(
            "VACE needs a mask: without one it regenerates the whole frame and keeps nothing of the plate;"
            " give --mask, white where the edit may be"
        )
    root = Path(path)
    for part in (*PARTS, "tokenizer", "scheduler"):
        if not (root / part).is_dir():
            raise InputError(f"{root / part}: missing; a VACE directory holds {', '.join(PARTS)}, tokenizer, scheduler")
    for part, build in PARTS.items():
        files = TensorFiles(root / part)
        if part == "text_encoder":
            tie_embedding(files)
        check_shapes(files.shapes, shapes_of(build_on_meta(build, root / part)), root / part)
    scheduler = read_json(root / "scheduler" / "scheduler_config.json").get("_class_name")
    if scheduler not in SCHEDULERS:
        raise InputError(f"{root / 'scheduler'}: scheduler '{scheduler}' is not one of {', '.join(SCHEDULERS)}")
    limits = Limits.load(root / "model.json")
    steps = limits.steps if recipe.steps is None else recipe.steps
    guidance = float(limits.guidance if recipe.guidance is None else recipe.guidance)
    size = model_size(plate.width, plate.height, plate.pixel_aspect, limits.pixels, limits.multiple)
    said = read_json(root / "model.json") if (root / "model.json").is_file() else {}
    shift = recipe.shift or (limits.shift if "shift" in said else SHIFT)
    if recipe.negative_prompt is not None and guidance <= 1:  # diffusers then runs one pass
        raise InputError("negative prompt: has no effect at a guidance of 1 or less; give --guidance, or leave it out")
    negative = NEGATIVE_PROMPT if recipe.negative_prompt is None else recipe.negative_prompt
    references = tuple(read_reference(path) for path in recipe.reference)
    conditioning = 1.0 if recipe.conditioning_scale is None else recipe.conditioning_scale
    made = [
        f"vace, grey to paint on, {fingerprint(root, (*PARTS, 'tokenizer'))} {scheduler}",
        f"shift {shift!r}, conditioning {conditioning!r}, size {size}, window {limits.max_frames}",
        f"away from {negative}",
        *(hashlib.sha256(f"{picture.size}".encode() + picture.tobytes()).hexdigest() for picture in references),
    ]
    return Vace(
        root=root,
        limits=limits,
        size=size,
        steps=steps,
        guidance=guidance,
        shift=shift,
        negative=negative,
        references=references,
        conditioning=conditioning,
        offload=chosen_offload(recipe.offload, root, device),
        device=device,
        fingerprint=hashlib.sha256("\n".join(made).encode()).hexdigest(),
    )


def read_reference(path: str) -> Image.Image:
    """A reference picture, encoded for display. Raises InputError."""
    still = open_plate(path)
    if len(still.frames) != 1:
        raise InputError(f"reference {path}: {len(still.frames)} frames; give one picture")
    color = PlateColor(resolve_space(None, still), still.pixel_type, light_curve=DISPLAY)
    pixels = color.to_model(still.read(still.frames[0]))
    return Image.fromarray((pixels * 255 + 0.5).astype(np.uint8))


def chosen_offload(asked: str, root: Path, device: str) -> str:
    """The offload setting: as asked, or for "auto" on CUDA by the sizes of the files.

    Raises InputError if its library is missing. Not measured on a GPU.
    """
    if device == "cpu":
        return "none"
    chosen = asked
    if asked == "auto":
        memory = WEIGHTS_SHARE * torch.cuda.get_device_properties(0).total_memory
        sizes = [bytes_in_bf16(root / part) for part in PARTS]
        chosen = "none" if sum(sizes) <= memory else "parts" if max(sizes) <= memory else "blocks"
    if chosen != "none":
        require(f"--offload {chosen}", "accelerate")
    return chosen


def bytes_in_bf16(folder: Path) -> int:
    """Bytes of a part's tensors in bf16, read from the files' headers."""
    return sum(2 * math.prod(shape) for shape in TensorFiles(folder).shapes.values())


def _file(job_dir: Path, window: int) -> Path:
    return job_dir / f"vace-{window:04d}.safetensors"


def _facts(job: MadeJob, window: tuple[int, int]) -> dict[str, str]:
    return {"job": job.hash, "window": f"{window[0]} {window[1]}"}


def _whole(job: MadeJob, k: int, window: tuple[int, int]) -> StateFile | None:
    """The window's file; None if it is missing, damaged or of another job."""
    return whole_state(_file(job.delivery.job_dir, k), _facts(job, window))


def _carried(job: MadeJob, k: int, window: tuple[int, int]) -> torch.Tensor:
    """The last frames of a window, which start the next one."""
    count = window[1] - window[0]
    return StateFile(_file(job.delivery.job_dir, k)).read(count - CARRIED_FRAMES, count).float()
