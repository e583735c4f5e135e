"""Plan a shot's GPU memory: how a full-size model's weights are stored and offloaded (`vera plan`).

A render on CUDA makes the same choice if --weights and --offload are auto.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch

from vera.core.errors import InputError
from vera.core.extras import missing, require
from vera.core.model.codec import latent_frames
from vera.core.model.config import PRESETS, TransformerConfig
from vera.core.model.families import family_of
from vera.core.model.footprint import (
    CONTEXT,
    FRAGMENTATION,
    GIB,
    decoding_bytes,
    denoising_bytes,
    encoding_bytes,
    weight_bytes,
)
from vera.core.model.limits import Limits
from vera.core.model.names import folder_of
from vera.core.model.quantise import without_library_logging
from vera.core.model.wan.wan_directory import WanParts
from vera.core.plate.fit import model_size

if TYPE_CHECKING:
    from diffusers import AutoencoderKLWan
    from transformers import UMT5EncoderModel

LEAST_WINDOW = 9  # frames of the shortest window; shorter ones are mostly overlap
# (weights, offload) in order of preference: those that change the picture by rounding only come first.
WAYS = (("bf16", "none"), ("bf16", "parts"), ("bf16", "blocks"), ("int8", "parts"), ("int8", "blocks"))
STREAMS = 4  # videos decoded together without offload: three layers, and the plate for relative colour
TEXT_WORK = GIB // 2  # working memory in bytes of encoding one prompt


@dataclass(frozen=True)
class Geometry:
    """The properties of a model that a plan needs, without its weights; vae and encoder are on the meta device."""

    config: TransformerConfig
    limits: Limits
    vae: torch.nn.Module
    encoder: torch.nn.Module

    @classmethod
    def of(cls, name: str) -> Geometry:
        """The geometry of a Vera directory, or of a published size. Raises InputError."""
        if name in PRESETS:
            return cls(PRESETS[name], Limits(), *wans_parts())
        if not folder_of(name).is_dir():
            raise InputError(f"--model {name}: neither a model directory nor {' or '.join(PRESETS)}")
        about = family_of(name).describe(folder_of(name))
        if not isinstance(about, WanParts):
            raise InputError(f"--model {name}: a small model that fits any GPU; plans are for full-size models")
        return cls(about.config, about.limits, about.vae, about.encoder)

    @cached_property
    def text_bytes(self) -> int:
        return sum(p.numel() for p in self.encoder.parameters()) * 2

    @cached_property
    def codec_bytes(self) -> int:
        return sum(p.numel() for p in self.vae.parameters()) * 4


@dataclass(frozen=True)
class Plan:
    """A way to keep a model in memory, and its cost.

    weights, offload: as in a recipe
    window: frames that the model sees together
    phases: peak bytes of GPU memory in each phase of a render
    host: bytes of host memory
    """

    weights: str
    offload: str
    window: int
    phases: dict[str, int]
    host: int

    @property
    def peak(self) -> int:
        return max(self.phases.values())


class Planner:
    """Plans for one model and one shot of `frames` frames. plate_size: (width, height). aspect: of a pixel."""

    def __init__(
        self, geometry: Geometry, plate_size: tuple[int, int], frames: int, aspect: float = 1.0, one_batch: bool = False
    ) -> None:
        self.geometry, limits = geometry, geometry.limits
        self.size = model_size(plate_size[0], plate_size[1], aspect, limits.pixels, limits.multiple)
        self.window = min(frames, limits.max_frames)
        self.batch = 2 if one_batch else 1
        self._work: dict[Any, Any] = {}

    def plan(self, weights: str, offload: str, window: int) -> Plan:
        """What one way costs."""
        whole = weight_bytes(self.geometry.config, weights)
        text, codec, transformer = self.geometry.text_bytes, self.geometry.codec_bytes, whole["blocks"] + whole["rest"]
        # Streamed: while a block works, the next one arrives.
        working = whole["rest"] + 2 * whole["block"] if offload == "blocks" else transformer
        # None of a model that stays is ever alone; of one whose parts take turns, each is.
        stay = text + codec + transformer if offload == "none" else 0

        def alone(part):
            return stay or part

        phases = {
            "encode": alone(codec) + self._cached(encoding_bytes, self.geometry.vae, self.size),
            "text": alone(text) + TEXT_WORK,
            "denoise": alone(working)
            + self._cached(denoising_bytes, self.geometry.config, self.size, window, self.batch),
            "decode": alone(codec) + self._cached(decoding_bytes, self.geometry.vae, self.size, STREAMS if stay else 1),
        }
        phases = {name: int(size * FRAGMENTATION) + CONTEXT for name, size in phases.items()}
        host = 0 if stay else text + codec + transformer
        return Plan(weights, offload, window, phases, host)

    def _cached(self, count, subject, *given):
        if (count, given) not in self._work:
            self._work[count, given] = count(subject, *given)
        return self._work[count, given]

    def ways(self, weights: str = "auto", offload: str = "auto") -> list[tuple[str, str]]:
        """The combinations (weights, offload) that the request allows, in order of preference."""
        asked = [w for w in WAYS if weights in ("auto", w[0]) and offload in ("auto", w[1])]
        if not asked:  # fp8, and int8 without offload, are used on request only
            kept = ("none", "parts", "blocks") if offload == "auto" else (offload,)
            asked = [(weights, each) for each in kept]
        return [w for w in asked if missing_library(*w) is None] or asked[:1]

    def windows(self) -> Iterator[int]:
        """Window lengths to try: the model's own or the shot's length, then half of it, and so on."""
        window = self.window
        while True:
            yield window
            if window <= LEAST_WINDOW:
                return
            window = max((window + 1) // 2, LEAST_WINDOW)

    def choose(self, memory: int, host: int | None = None, weights: str = "auto", offload: str = "auto") -> Plan | None:
        """The first plan that fits GPU memory and host memory, both in bytes; None if none fits."""
        for window in self.windows():
            for way in self.ways(weights, offload):
                plan = self.plan(way[0], way[1], window)
                if plan.peak <= memory and (host is None or plan.host <= host * 0.9):
                    return plan
        return None

    def least(self, weights: str = "auto", offload: str = "auto") -> Plan:
        """The plan with the smallest peak; of equal ones, the longest window, then the most preferred combination."""
        plans = [self.plan(way[0], way[1], window) for window in self.windows() for way in self.ways(weights, offload)]
        return min(plans, key=lambda plan: plan.peak)


def wans_parts() -> tuple[AutoencoderKLWan, UMT5EncoderModel]:
    """Wan2.1's codec and text encoder on the meta device."""
    require("planning for full-size models", "diffusers", "transformers")
    with without_library_logging():
        from diffusers import AutoencoderKLWan
        from transformers import UMT5Config, UMT5EncoderModel

    config = UMT5Config(
        vocab_size=256384,
        d_model=4096,
        d_kv=64,
        d_ff=10240,
        num_layers=24,
        num_heads=64,
        feed_forward_proj="gated-gelu",
    )
    with torch.device("meta"):
        return AutoencoderKLWan(), UMT5EncoderModel(config)


def missing_library(weights: str, offload: str) -> str | None:
    """The missing library that a combination needs, or None."""
    needed = {"fp8": "torchao", "int8": "torchao"}.get(weights), "accelerate" if offload == "blocks" else None
    return missing(*filter(None, needed))


def host_memory() -> int | None:
    """Bytes of host memory, or None if the system does not report it."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return None


def lines(planner: Planner, memory: int | None, chosen: Plan | None) -> Iterator[str]:
    """The table of all combinations at the full window, and the choice."""
    frames = f"{planner.window} frames ({latent_frames(planner.window)} latent ones)"
    yield f"{planner.size[0]}x{planner.size[1]}, {frames} at once; GiB of GPU memory by phase"
    yield (
        f"{'weights':8} {'offload':8} {'encode':>7} {'text':>7} {'denoise':>8} {'decode':>7} {'peak':>7}   {'host':>6}"
    )
    for way in WAYS:
        plan = planner.plan(way[0], way[1], planner.window)
        cells = " ".join(f"{plan.phases[p] / GIB:{width}.1f}" for p, width in zip(plan.phases, (7, 7, 8, 7)))
        fits = "" if memory is None or plan.peak > memory else "  fits"
        yield f"{plan.weights:8} {plan.offload:8} {cells} {plan.peak / GIB:7.1f}   {plan.host / GIB:6.1f}{fits}"
    if chosen and memory is not None:
        smaller = "" if chosen.window == planner.window else ", which changes the picture where they meet"
        yield (
            f"chosen for {memory / GIB:g} GiB: --weights {chosen.weights} --offload {chosen.offload}, windows of"
            f" {chosen.window} frames{smaller}: {chosen.peak / GIB:.1f} GiB, and "
            f"{chosen.host / GIB:.1f} GiB of the host's"
        )
    elif memory is not None:
        least = planner.least()
        yield (
            f"nothing fits {memory / GIB:g} GiB; least of all, {least.peak / GIB:.1f} "
            f"GiB, takes --weights {least.weights}"
            f" --offload {least.offload} with windows of {least.window} frames"
        )
