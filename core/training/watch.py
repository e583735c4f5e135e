"""The page of a training run: the latest figures, the curve and the samples, refreshed while it is open."""

import json
import time
from pathlib import Path
from typing import Any
from urllib.parse import quote

from vera.core.files import JsonError, parse_json, write_bytes
from vera.core.training.curve import NAMES

PAGE, DATA = "watch.html", "watch.js"
TEMPLATE = Path(__file__).with_name("watch_page.html")
MAX_POINTS = 400  # points of a curve; a screen shows no more
WRITE_SECONDS = 10.0  # seconds between two writes; lowering it shows newer figures and reads the log more often
SAMPLES = ("samples-*.png", "codec-*.png", "samples/step-*.png")  # pictures in a run's folder
MAX_SAMPLES = 20  # newest pictures on the page


def write_page(run: Path) -> Path:
    """Write the page and its data from the files in the run's folder; return the page's path. Raises OSError."""
    write_bytes(run / PAGE, TEMPLATE.read_bytes())
    write_bytes(run / DATA, f"show({json.dumps(read_run(run))});\n".encode())
    return run / PAGE


def read_run(run: Path) -> dict[str, Any]:
    """The data that the page shows."""
    rows = _rows(run / "log.jsonl")
    named = [(row["step"], _figures(row)) for row in rows]
    names = list(dict.fromkeys(name for _, figures in named for name in figures))
    rows_per_point = max(1, -(-len(named) // MAX_POINTS))
    groups = [named[i : i + rows_per_point] for i in range(0, len(named), rows_per_point)]
    last = rows[-1] if rows else {}
    steps = last.get("steps")
    samples = sorted((path for pattern in SAMPLES for path in run.glob(pattern)), reverse=True)[:MAX_SAMPLES]
    return {
        "title": run.name,
        "at": time.time(),
        "step": last.get("step"),
        "steps": steps,
        "seconds": last.get("seconds"),
        "seconds_left": _seconds_left(rows, steps),
        "names": names,
        "points": [{"step": group[-1][0], "values": [_mean(group, name) for name in names]} for group in groups],
        "samples": [_sample(path, run) for path in samples],
    }


def _sample(picture: Path, run: Path) -> dict[str, Any]:
    """A picture, its time, and the movie of the same name if there is one; paths are relative to the run's folder."""
    movie = picture.with_suffix(".mp4")
    sample = {"file": quote(picture.relative_to(run).as_posix()), "at": int(picture.stat().st_mtime)}
    return sample | ({"movie": quote(movie.relative_to(run).as_posix())} if movie.is_file() else {})


def _rows(log: Path) -> list[dict[str, Any]]:
    """The readable lines of a log; the last line may be incomplete."""
    rows = []
    for line in log.read_bytes().splitlines() if log.is_file() else ():
        try:
            row = parse_json(line)
        except JsonError:
            continue
        if isinstance(row, dict) and isinstance(row.get("step"), int):
            rows.append(row)
    return rows


def _figures(row: dict[str, Any]) -> dict[str, float]:
    """Losses by name, or the codec's PSNR; logs of earlier versions have no names."""
    figures = row.get("losses") or row.get("psnr") or {}
    if isinstance(figures, list):
        figures = dict(zip(NAMES, figures)) if "losses" in row else {}
    pairs = figures.items() if isinstance(figures, dict) else [("psnr", figures)]
    return {name: float(value) for name, value in pairs if isinstance(value, (int, float))}


def _mean(group: list[tuple[int, dict[str, float]]], name: str) -> float:
    """Mean of a figure over (step, figures) pairs; 0 if none has it."""
    values = [figures[name] for _, figures in group if name in figures]
    return sum(values) / len(values) if values else 0.0


def _seconds_left(rows: list[dict[str, Any]], steps: int | None) -> float | None:
    """Estimate from the speed since the run's last start, from which `seconds` of a row counts; None if unknown."""
    if not steps or len(rows) < 2 or not rows[-1].get("seconds"):
        return None
    start = next((i for i in range(len(rows) - 1, 0, -1) if rows[i - 1].get("seconds", 0) > rows[i]["seconds"]), 0)
    done, seconds = rows[-1]["step"] - rows[start]["step"], rows[-1]["seconds"] - rows[start].get("seconds", 0)
    return seconds / done * (steps - rows[-1]["step"]) if done > 0 else None
