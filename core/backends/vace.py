"""The backend that regenerates the masked area with VACE and lifts the layer from the resulting video.

The model is `vace:DIR`, a directory of diffusers' WanVACEPipeline; see core/lifting/vace_editor.py.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from vera.core.backends.base import LayerSource, Loader, Opened, foundation_of
from vera.core.backends.lift import LiftJob, controls_of, deliver_lifted, display_color
from vera.core.extras import require
from vera.core.layer.origin import GENERATED, Origin
from vera.core.lifting.registration import Canvas
from vera.core.model.device import why_device
from vera.core.plate.region import region_of
from vera.core.progress import ProgressLike
from vera.core.recipe import split_model
from vera.core.recipe.parse import parse_parts

if TYPE_CHECKING:
    from vera.core.lifting.vace_editor import Vace


@dataclass(frozen=True)
class VaceVideo:
    """VACE's video of `count` frames in the job's folder."""

    vace: "Vace"
    folder: Path
    count: int

    def canvas(self, positions: Sequence[int]) -> Canvas:
        """See lifting.read_frames.EditedVideo."""
        return Canvas.same(self.read(positions))

    def read(self, positions: Sequence[int]) -> torch.Tensor:
        """See lifting.read_frames.EditedVideo."""
        return self.vace.video(self.folder, self.count)[list(positions)]

    def report_facts(self) -> dict[str, Any]:
        """See `EditedVideo`. There are no facts: frames and shape are the plate's."""
        return {}


@dataclass(frozen=True, kw_only=True)
class VaceJob(LiftJob):
    """vace: the checked directory and the settings of the run."""

    vace: "Vace"


class VaceBackend:
    """The backend that lifts a layer from a video made by VACE."""

    name = "vace"
    samples = False

    def prepare(self, opened: Opened, load: Loader) -> VaceJob:
        """See `base.Backend`."""
        recipe, plate = opened.recipe, opened.plate
        require(f"model '{recipe.model}'", "diffusers", "transformers")
        from vera.core.lifting.vace_editor import open_vace  # imported here, because diffusers takes seconds to import

        vace = open_vace(split_model(recipe.model)[1], recipe, plate, opened.mask, opened.device)
        source = LayerSource(
            made_from={
                "model": vace.fingerprint,
                "prompt": recipe.prompt,
                "seed": recipe.seed,
                "steps": vace.steps,
                "guidance": vace.guidance,
                "controls": asdict(controls_of(recipe)),
            },
            origin=Origin("vace", vace.fingerprint, GENERATED),
            laid_over={"parts": parse_parts(recipe.parts)},
        )
        base = foundation_of(opened, display_color(recipe.color_space, plate), source)
        base.delivery.preflight()
        return VaceJob(
            **base.job_fields(),
            region=region_of(plate, None),
            size=vace.size,
            steps=vace.steps,
            guidance=vace.guidance,
            model_name=recipe.model,
            indices=list(range(len(plate.frames))),
            edited=VaceVideo(vace, base.delivery.job_dir, len(plate.frames)),
            vace=vace,
        )

    def run(self, job: VaceJob, progress: ProgressLike, stopping: Callable[[], bool]) -> dict[str, Any]:
        """See `base.Backend`. Windows that VACE has made are not made again."""
        job.vace.make(job, progress, stopping)
        return deliver_lifted(job, progress, stopping)

    def explain(self, job: VaceJob, device_asked: str) -> list[str]:
        """Device, directory, sampling and lift."""
        vace = job.vace
        frames = min(len(job.plate.frames), vace.limits.max_frames)
        why, (width, height) = (why_device(device_asked, torch.device(vace.device)), vace.size)
        return [
            f"device: {vace.device} ({why}), {torch.get_num_threads()} CPU threads",
            f"model: VACE of {vace.root}",
            f"sampling: {width}x{height}, {frames} frames at once, {vace.steps} steps, guidance {vace.guidance:g}",
            f"lift: {job.size[0]}x{job.size[1]}, {len(job.indices)} edited frames, on the CPU",
        ]


BACKEND = VaceBackend()
