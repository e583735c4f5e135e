"""Which rows a step of full-size training sees, and how they come.

Draw number step * batch + position fixes its row, whatever the number of ranks and wherever a run is resumed: an
epoch is a permutation of all rows. A row that turns out broken, early or late, gives its place to the same other one.
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
from vera.core.training.undisturbed import ignore_stopping, starting_workers

TRIES = 100


class Order:
    """Draws rows by number."""

    def __init__(self, rows: list[Row], seed: int) -> None:
        self.rows, self.seed = rows, seed

    def row(self, draw: int, broken: Set[str]) -> Row:
        """The row of this draw, or its first substitute that is not among the broken ones."""
        epoch, place = divmod(draw, len(self.rows))
        row = self.rows[permutation(self.seed, epoch, len(self.rows))[place]]
        others = np.random.default_rng([self.seed, draw, 1])
        for _ in range(TRIES):
            if row.name not in broken:
                return row
            row = self.rows[others.integers(len(self.rows))]
        raise InputError(f"no usable row in {TRIES} tries; see `vera data check` on the dataset")


@lru_cache(4)
def permutation(seed: int, epoch: int, count: int) -> np.ndarray:
    return np.random.default_rng([seed, epoch]).permutation(count)


def split(rows: list[Row], held_out: int, root: Path) -> tuple[list[Row], list[Row]]:
    """(rows to train on, `held_out` rows or a few more never trained on). Edits of one plate stay together; which are
    held out hangs on the plates' names in the dataset `root` alone."""
    plates: dict[Path, list[Row]] = {}
    for row in rows:
        plates.setdefault(row.files["source"], []).append(row)

    def lot(plate):
        return hashlib.sha256(plate.relative_to(root).as_posix().encode("utf-8", "surrogatepass")).digest()

    held: list[Row] = []
    for plate in sorted(plates, key=lot):
        if len(held) >= held_out:
            break
        held += plates.pop(plate)
    return [row for row in rows if row.files["source"] in plates], held


class Draws(Dataset):
    """By number of the draw: what a worker process can have ready of it, or what is wrong with its row."""

    def __init__(self, order: Order, cache: Cache, broken: set[str], only_make: bool) -> None:
        self.order, self.cache, self.broken, self.only_make = order, cache, frozenset(broken), only_make

    def __getitem__(self, draw: int) -> tuple[int, Any]:
        row = self.order.row(draw, self.broken)
        try:
            return draw, fetch(row, self.cache, self.only_make)
        except BrokenRowError as fault:
            return draw, fault


class Straight(Order):
    """Each row once, in order; nothing takes a broken one's place."""

    def __init__(self, rows: list[Row]) -> None:
        super().__init__(rows, 0)

    def row(self, draw: int, broken: Set[str]) -> Row:
        return self.rows[draw]


class Source:
    """Draws on their way: read ahead by worker processes, encoded here where nothing is kept."""

    def __init__(
        self, order: Order, cache: Cache, encoders: Encoders, broken: set[str], workers: int, only_make: bool = False
    ) -> None:
        """only_make: entries that are there are not read, and no Sample comes of them but None."""
        self.order, self.cache, self.encoders, self.broken, self.workers = order, cache, encoders, broken, workers
        self.only_make = only_make
        self.faults: list[BrokenRowError] = []  # found since somebody last looked

    def samples(self, draws: Iterable[int]) -> Iterator[Any]:
        """Yield a Sample (or None, see only_make) for each of the draws; broken rows are replaced and noted."""
        for draw, got in self._loader(draws):
            while True:
                row = self.order.row(draw, self.broken)
                try:
                    if isinstance(got, BrokenRowError):
                        raise got
                    if got is None or got.row.name != row.name:
                        got = fetch(row, self.cache, self.only_make)
                    sample = finish(got, self.cache, self.encoders)
                except BrokenRowError as fault:
                    if fault.row not in self.broken:
                        self.broken.add(fault.row)
                        self.faults.append(fault)
                    if isinstance(self.order, Straight):
                        break
                    got = None
                else:
                    yield sample
                    break

    def _loader(self, draws):
        ahead = {"multiprocessing_context": "spawn", "prefetch_factor": 4} if self.workers else {}
        draws_of = Draws(self.order, self.cache, self.broken, self.only_make)
        loader = DataLoader(
            draws_of, batch_size=None, sampler=draws, num_workers=self.workers, worker_init_fn=begin_worker, **ahead
        )
        with starting_workers():
            return iter(loader)


def begin_worker(worker: int) -> None:
    """One thread, and deaf to the signals that stop the run: they reach the whole process group."""
    torch.set_num_threads(1)
    ignore_stopping()
