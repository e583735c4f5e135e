"""Methods to compare: a model that renders its results, or a folder with the results of any editor."""

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from vera.core.backends.base import Job, Loader
from vera.core.comparing.benchmark_rows import Row
from vera.core.comparing.frame_matching import Case, Delivery, Video
from vera.core.errors import InputError
from vera.core.job.memory import ModelLoading, within_memory
from vera.core.job.run import run_job
from vera.core.model.families import family_of
from vera.core.model.interfaces import Model
from vera.core.model.load import load_model
from vera.core.plate.named_files import MOVIES
from vera.core.progress import ProgressLike
from vera.core.recipe import EditRecipe, backend_of
from vera.core.recipe.backend_table import DEFAULT
from vera.core.recipe.backends import refuse_unsupported

_NAME = re.compile(r"[\w][\w.+-]*")


@dataclass(frozen=True)
class Folder:
    """Finished results: deliveries of `vera render`, or movies, named by video_id and prompt_id.

    The search order is: KEY/ with a manifest.json; movies named VIDEO_PROMPT, VIDEO-PROMPT or VIDEO/PROMPT; movies
    named by one of the two ids, if the id belongs to one row only. A movie NAME_alpha beside NAME is its alpha.
    """

    name: str
    folder: Path
    rows: tuple[Row, ...]

    def refuse(self, rows: Sequence[Row]) -> None:
        """Raise InputError if the folder has no result for any row."""
        if not self.folder.is_dir():
            raise InputError(f"--results {self.folder}: no such folder; give the folder with the videos")
        manifests = (self.folder / row.key / "manifest.json" for row in rows)
        movies = (self._movies(stem) for row in rows for stems in self._stems(row) for stem in stems)
        if not any(path.is_file() for path in manifests) and not any(movies):
            raise InputError(
                f"--results {self.folder}: holds no movie and no delivery of any row, such as {rows[0].key}.mp4; "
                "give the folder with the videos, named as the rows"
            )

    def result(self, case: Case) -> Delivery | Video:
        """The result of a row. Raises InputError if there is none, or more than one."""
        row = case.row
        if (self.folder / row.key / "manifest.json").is_file():
            return Delivery(self.folder / row.key, case)
        for stems in self._stems(row):
            found = [m for stem in stems for m in self._movies(stem)]
            if len(found) > 1:
                names = " and ".join(m.name for m in found)
                raise InputError(f"{self.folder}: {names} are both results of {row.key}; keep one")
            if found:
                alphas = self._movies(found[0].with_suffix("").relative_to(self.folder).as_posix() + "_alpha")
                return Video(found[0], alphas[0] if alphas else None, case)
        raise InputError(f"{self.folder}: no movie named {row.key}")

    def _stems(self, row: Row) -> list[tuple[str, ...]]:
        if row.prompt_id is None:
            return [(row.video_id,)]
        stems = [tuple(f"{row.video_id}{mark}{row.prompt_id}" for mark in "_-/")]
        for name in ("prompt_id", "video_id"):
            if sum(getattr(r, name) == getattr(row, name) for r in self.rows) == 1:
                stems.append((str(getattr(row, name)),))
        return stems

    def _movies(self, stem: str) -> list[Path]:
        return [p for e in MOVIES if (p := self.folder / f"{stem}.{e}").is_file()]


@dataclass(frozen=True)
class Renderer:
    """A model of Vera. Its results are deliveries in `folder`/KEY, rendered once as `vera render` does.

    settings: recipe fields besides plate, prompt and mask. masks: whether masks are passed to the model. load: loads
    the model, see `caching_loader`.
    """

    name: str
    model: str
    folder: Path
    settings: dict[str, Any]
    masks: bool
    device: str
    load: Loader

    def refuse(self, rows: Sequence[Row]) -> None:
        """Raise InputError if the model or a setting is wrong for every row; reads no weights."""
        recipe = self.recipe(rows[0])  # raises for values that no recipe accepts
        backend = backend_of(recipe.model)
        refuse_unsupported(recipe, backend)
        if backend == DEFAULT:
            family_of(recipe.model)
        elif not Path(recipe.model.partition(":")[2]).exists():
            raise InputError(f"--model {recipe.model}: {recipe.model.partition(':')[2]} is not there")

    def recipe(self, row: Row) -> EditRecipe:
        """The recipe of a row. Raises InputError."""
        mask: dict[str, Any] = {"mask": str(row.mask)} if self.masks and row.mask else {}
        return EditRecipe(
            plate=str(row.input),
            prompt=row.prompt,
            out=str(self.folder / row.key),
            model=self.model,
            also=("matte",),
            **mask,
            **self.settings,
        )

    def make(self, row: Row, progress: ProgressLike, stopping: Callable[[], bool]) -> None:
        """Render the clip, or resume it. Raises InputError, OutOfMemoryError, StoppedError."""

        def work(job: Job) -> None:
            if not job.delivery.complete():
                run_job(job, progress, stopping)

        within_memory(work, self.recipe(row), self.device, ModelLoading(self.load))

    def result(self, case: Case) -> Delivery:
        """The rendered delivery. Raises InputError."""
        return Delivery(self.folder / case.row.key, case)


Method = Folder | Renderer


def caching_loader() -> Loader:
    """load_model with a cache of one model: it loads only when name, device or options change."""
    cache: dict[tuple[str, str, str], Model] = {}

    def load(name: str, device: torch.device | str, **options: Any) -> Model:
        key = (name, str(device), repr(sorted(options.items())))
        if key not in cache:
            cache.clear()  # never two models in memory
            cache[key] = load_model(name, device, **options)
        return cache[key]

    return load


def named(texts: Iterable[str], kind: str) -> list[tuple[str, str]]:
    """Parse options of the form NAME=VALUE or VALUE into (name, value); the name defaults to the last part of the path.

    Raises InputError for a name that cannot name a file.
    """
    pairs = []
    for text in texts:
        name, _, value = text.rpartition("=")
        name = name or Path(value).name
        if not _NAME.fullmatch(name):
            raise InputError(f"--{kind} {text}: {name!r} cannot name a method; use --{kind} NAME={value}")
        pairs.append((name, value))
    return pairs
