"""Select the rows of each training step, and read them ahead.

The draw number, step * batch + position, alone determines the row, for any number of ranks and after any resume. An
epoch is a permutation of all rows. The draw number also determines the substitute of a broken row.
"""

import hashlib
from collections.abc import Iterable, Iterator, Set
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from vera.core.data.datasets.layered import BrokenRowError, Row
from vera.core.data.datasets.layered_cache import Cache, Encoders, fetch, finish
from vera.core.errors import InputError
from vera.core.training.stop_signals import block_stop_signals, ignore_stop_signals

MAX_SUBSTITUTES = 100  # substitutes tried for a broken row before training gives up


class Order:
    """Maps draw numbers to rows: one seeded permutation of all rows per epoch."""

    def __init__(self, rows: list[Row], seed: int) -> None:
        self.rows, self.seed = rows, seed

    def row(self, draw: int, broken: Set[str]) -> Row:
        """The row of this draw, or its first substitute whose name is not in `broken`."""
        epoch, place = divmod(draw, len(self.rows))
        row = self.rows[permutation(self.seed, epoch, len(self.rows))[place]]
        substitutes = np.random.default_rng([self.seed, draw, 1])
        for _ in range(MAX_SUBSTITUTES):
            if row.name not in broken:
                return row
            row = self.rows[substitutes.integers(len(self.rows))]
        raise InputError(f"no usable row in {MAX_SUBSTITUTES} tries; check the dataset with `vera data check`")


@lru_cache(4)
def permutation(seed: int, epoch: int, count: int) -> np.ndarray:
    """The order of `count` rows in an epoch."""
    return np.random.default_rng([seed, epoch]).permutation(count)


def split(rows: list[Row], held_out: int, root: Path) -> tuple[list[Row], list[Row]]:
    """Split rows into (training rows, held-out rows).

    All edits of one plate stay on one side, so a few more than `held_out` rows may be held out. The choice depends only
    on the paths of the plates in the dataset `root`.
    """
    plates: dict[Path, list[Row]] = {}
    for row in rows:
        plates.setdefault(row.files["source"], []).append(row)

    def digest(plate: Path) -> bytes:
        return hashlib.sha256(plate.relative_to(root).as_posix().encode("utf-8", "surrogatepass")).digest()

    held_rows: list[Row] = []
    for plate in sorted(plates, key=digest):
        if len(held_rows) >= held_out:
            break
        held_rows += plates.pop(plate)
    return [row for row in rows if row.files["source"] in plates], held_rows


class FetchedDraws(Dataset):
    """For a loader's workers: draw number -> (draw number, the Fetched row or its BrokenRowError)."""

    def __init__(self, order: Order, cache: Cache, broken: set[str], fill_only: bool) -> None:
        self.order, self.cache, self.broken, self.fill_only = order, cache, frozenset(broken), fill_only

    def __getitem__(self, draw: int) -> tuple[int, Any]:
        row = self.order.row(draw, self.broken)
        try:
            return draw, fetch(row, self.cache, self.fill_only)
        except BrokenRowError as error:
            return draw, error


class SequentialOrder(Order):
    """Each row once, in order; broken rows have no substitute."""

    def __init__(self, rows: list[Row]) -> None:
        super().__init__(rows, 0)

    def row(self, draw: int, broken: Set[str]) -> Row:
        return self.rows[draw]


class SampleSource:
    """Samples by draw number: worker processes read ahead, and this process encodes rows that are not cached.

    broken: names of the rows known to be broken. new_broken: rows found broken since the list was last cleared.
    """

    def __init__(
        self, order: Order, cache: Cache, encoders: Encoders, broken: set[str], workers: int, fill_only: bool = False
    ) -> None:
        """fill_only: only fill the cache; rows that are cached already are not read and yield None."""
        self.order, self.cache, self.encoders = order, cache, encoders
        self.broken, self.workers = broken, workers
        self.fill_only = fill_only
        self.new_broken: list[BrokenRowError] = []

    def samples(self, draws: Iterable[int]) -> Iterator[Any]:
        """Yield a Sample (or None, see fill_only) per draw.

        Broken rows are noted. They are replaced, except in a SequentialOrder.
        """
        for draw, fetched in self._loader(draws):
            while True:
                row = self.order.row(draw, self.broken)
                try:
                    if isinstance(fetched, BrokenRowError):
                        raise fetched
                    if fetched is None or fetched.row.name != row.name:
                        fetched = fetch(row, self.cache, self.fill_only)
                    sample = finish(fetched, self.cache, self.encoders)
                except BrokenRowError as error:
                    if error.row not in self.broken:
                        self.broken.add(error.row)
                        self.new_broken.append(error)
                    if isinstance(self.order, SequentialOrder):
                        break
                    fetched = None
                else:
                    yield sample
                    break

    def _loader(self, draws: Iterable[int]) -> Iterator[Any]:
        """The items of FetchedDraws, read ahead by worker processes."""
        options: dict[str, Any] = {"multiprocessing_context": "spawn", "prefetch_factor": 4} if self.workers else {}
        dataset = FetchedDraws(self.order, self.cache, self.broken, self.fill_only)
        loader = DataLoader(
            dataset, batch_size=None, sampler=draws, num_workers=self.workers, worker_init_fn=begin_worker, **options
        )
        with block_stop_signals():
            return iter(loader)


def begin_worker(worker: int) -> None:
    """Set up a worker: one thread, and no reaction to stop signals, which reach the whole process group."""
    torch.set_num_threads(1)
    ignore_stop_signals()
