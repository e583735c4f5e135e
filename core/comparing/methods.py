"""Where a method's results come from: a model that renders them, or a folder of what an editor made."""

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from vera.core.backends.base import Job, Loader
from vera.core.comparing.clips import Case, Delivery, Video
from vera.core.comparing.rows import Row
from vera.core.errors import InputError
from vera.core.job.memory import within_memory
from vera.core.job.run import run_job
from vera.core.model.families import family_of
from vera.core.model.interfaces import Model
from vera.core.model.load import load_model
from vera.core.plate.movie import MOVIES
from vera.core.progress import ProgressLike
from vera.core.recipe import EditRecipe, backend_of
from vera.core.recipe.backend_table import DEFAULT
from vera.core.recipe.backends import refuse_unsupported

_NAME = re.compile(r"[\w][\w.+-]*")


@dataclass(frozen=True)
class Folder:
    """Finished results: deliveries of core.render, or videos, named by video_id and prompt_id.

    Looked for, in this order: KEY/ with a manifest.json; then movies called VIDEO_PROMPT, VIDEO-PROMPT or
    VIDEO/PROMPT; then those called by one of the two ids alone, where that names one row only. Beside a movie, one
    called the same with _alpha is its alpha.
    """

    name: str
    folder: Path
    rows: tuple[Row, ...]

    def refuse(self, rows: Sequence[Row]) -> None:
        """Raise InputError where the folder has nothing for any of the rows."""
        if not self.folder.is_dir():
            raise InputError(f"--results {self.folder}: no such folder; name the one with the videos")
        there = (self.folder / row.key / "manifest.json" for row in rows)
        movies = (self._movies(stem) for row in rows for stems in self._stems(row) for stem in stems)
        if not any(path.is_file() for path in there) and not any(movies):
            raise InputError(
                f"--results {self.folder}: holds no movie and no delivery of any row, such as {rows[0].key}.mp4; "
                "name the folder with the videos, called as the rows are"
            )

    def result(self, case: Case) -> Delivery | Video:
        """Raises InputError where there is none, or more than one."""
        row = case.row
        if (self.folder / row.key / "manifest.json").is_file():
            return Delivery(self.folder / row.key, case)
        for stems in self._stems(row):
            found = [m for stem in stems for m in self._movies(stem)]
            if len(found) > 1:
                names = " and ".join(m.name for m in found)
                raise InputError(f"{self.folder}: {names} are both of {row.key}; keep one")
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
    """A model of ours: results are deliveries in `folder`/KEY, made as core.render makes them, and only once.

    settings: of the recipe, beside plate, prompt and mask. load: of vera.core.model.load, or one that keeps its model.
    """

    name: str
    model: str
    folder: Path
    settings: dict[str, Any]
    masks: bool
    device: str
    load: Loader

    def refuse(self, rows: Sequence[Row]) -> None:
        """Raise InputError where the model, or a setting, is wrong for every row; no weight is read."""
        recipe = self.recipe(rows[0])  # raises for values that no recipe takes
        backend = backend_of(recipe.model)
        refuse_unsupported(recipe, backend)
        if backend == DEFAULT:
            family_of(recipe.model)
        elif not Path(recipe.model.partition(":")[2]).exists():
            raise InputError(f"--model {recipe.model}: {recipe.model.partition(':')[2]} is not there")

    def recipe(self, row: Row) -> EditRecipe:
        """What is rendered for a row. Raises InputError."""
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
        """Render the clip, or go on with it. Raises InputError, OutOfMemoryError, StoppedError."""

        def work(job: Job) -> None:
            if not job.delivery.complete():
                run_job(job, progress, stopping)

        within_memory(work, self.recipe(row), self.device, self.load)

    def result(self, case: Case) -> Delivery:
        return Delivery(self.folder / case.row.key, case)


Method = Folder | Renderer  # where results come from


def kept_model() -> Loader:
    """vera.core.model.load.load_model, which loads again only when something else is asked for."""
    kept: dict[tuple[str, str, str], Model] = {}

    def load(name: str, device: torch.device | str, **options: Any) -> Model:
        key = (name, str(device), repr(sorted(options.items())))
        if key not in kept:
            kept.clear()  # never two at once
            kept[key] = load_model(name, device, **options)
        return kept[key]

    return load


def named(texts: Iterable[str], kind: str) -> list[tuple[str, str]]:
    """NAME=VALUE, or VALUE alone, whose last part is then the name. Raises InputError for what names no file."""
    pairs = []
    for text in texts:
        name, _, value = text.rpartition("=")
        name = name or Path(value).name
        if not _NAME.fullmatch(name):
            raise InputError(f"--{kind} {text}: {name!r} is no name for a method; say --{kind} NAME={value}")
        pairs.append((name, value))
    return pairs
