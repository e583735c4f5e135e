"""Curves of a full-size run outside its log: TensorBoard and Weights & Biases, each where it is installed."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

PROJECT = "vera"  # project at Weights & Biases, unless WANDB_PROJECT names another


class Board(Protocol):
    """A place for curves."""

    def add_scalar(self, name: str, value: float, step: int) -> object:
        """A point of the curve `name`, such as "losses/edit"."""


class WandbBoard:
    """A run of Weights & Biases. A resumed run continues its curves, because the id is derived from the folder."""

    def __init__(self, wandb: Any, folder: Path, settings: dict[str, Any]) -> None:
        online = "online" if os.environ.get("WANDB_API_KEY") else "offline"  # without a key, init would ask for one
        self.run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", PROJECT),
            name=folder.name,
            id=hashlib.sha256(str(folder.resolve()).encode("utf-8", "surrogatepass")).hexdigest()[:16],
            dir=str(folder),
            config=settings,
            resume="allow",
            mode=os.environ.get("WANDB_MODE", online),
        )

    def add_scalar(self, name: str, value: float, step: int) -> None:
        self.run.log({name: value}, step=step)


def boards(folder: Path, settings: dict[str, Any], say: Callable[[str], object]) -> list[Board]:
    """The boards that are installed. One that cannot start is left out, and `say` is called with a line about it."""
    folder.mkdir(parents=True, exist_ok=True)
    makers = {"TensorBoard": lambda: tensorboard(folder), "Weights & Biases": lambda: wandb_board(folder, settings)}
    found: list[Board] = []
    for name, make in makers.items():
        try:
            found.append(make())
        except ImportError:
            continue
        except Exception as error:  # of any kind: a service that cannot be reached, a folder that cannot be written
            say(f"{name}: no curves there ({' '.join(str(error).split())[:200]}); the log has the same numbers")
    return found


def tensorboard(folder: Path) -> Board:
    """TensorBoard's writer. Raises ImportError where it is not installed."""
    from torch.utils.tensorboard import SummaryWriter

    return SummaryWriter(str(folder / "tensorboard"))


def wandb_board(folder: Path, settings: dict[str, Any]) -> Board:
    """A run of Weights & Biases, offline unless its key is set. Raises ImportError where it is not installed."""
    import wandb

    return WandbBoard(wandb, folder, settings)
