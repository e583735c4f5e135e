"""Run the benchmark: measure every row of every method, cache the figures, write the table and the report."""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from vera.core.comparing import figure_table, report_folder
from vera.core.comparing.benchmark_rows import BenchmarkRows, Row
from vera.core.comparing.figures import FIGURES, VERSION, measure, rate_of, write_plate_movies, write_posters
from vera.core.comparing.frame_matching import Case, file_hash
from vera.core.comparing.methods import Method, Renderer
from vera.core.errors import InputError, OutOfMemoryError, StoppedError
from vera.core.files import write_json
from vera.core.measure.judge import QUESTIONS, Judge, ask
from vera.core.measure.perceptual import Lpips
from vera.core.progress import ProgressLike
from vera.core.recipe import identity

SCHEMA = "vera.compare/1"


@dataclass(frozen=True)
class Measures:
    """Options of the measurement.

    alpha_of: what alpha 1 marks in the test set, "layer" or "subject", see clips.Case.
    lpips, judge: (name, function), or None to leave these figures out.
    """

    alpha_of: str = "layer"
    lpips: tuple[str, Lpips] | None = None
    judge: tuple[str, Judge] | None = None


def compare(
    test: BenchmarkRows,
    methods: Sequence[Method],
    out: Path,
    progress: ProgressLike,
    stopping: Callable[[], bool],
    measures: Measures = Measures(),
) -> dict[str, Any]:
    """Write figures/METHOD/KEY.json, table.md, table.json and report/ into `out`; return the content of table.json.

    A clip that fails is listed in the table, and the others are still measured. Clips
    that were rendered or measured before are not repeated. Raises StoppedError if stopping() returns True, and
    InputError if no clip could be measured.
    """
    clips: list[dict[str, Any]] = []
    for row in test.rows:
        media = out / "report" / "media" / row.key
        for method in methods:
            if stopping():
                raise StoppedError(f"stopped before {row.key} of {method.name}")
            clip: dict[str, Any] = {
                "key": row.key,
                "method": method.name,
                "edit_type": row.edit_type,
                "prompt": row.prompt,
            }
            progress.say(f"{row.key}: {method.name}", event="clip", key=row.key, method=method.name)
            try:
                if isinstance(method, Renderer):
                    method.make(row, progress, stopping)
                clip |= _measured(row, method, media, out, measures)
            except (ValueError, OutOfMemoryError) as error:  # InputError is a ValueError
                clip["error"] = " ".join(str(error).split())
                progress.warn(f"{row.key}, {method.name}: {clip['error']}")
            clips.append(clip)
    if all("error" in c for c in clips):
        raise InputError(f"no clip could be measured; the first: {clips[0]['error']}")
    result: dict[str, Any] = {
        "schema": SCHEMA,
        "published": {n: figure_table.PUBLISHED[n] for n in ("source", "note")},
        "figures": {f.name: asdict(f) for f in FIGURES},
        "tables": figure_table.rows_of(clips),
        "clips": clips,
        "broken": test.broken,
    }
    write_json(out / "table.json", result)
    (out / "table.md").write_text(figure_table.markdown(result["tables"], test.broken, clips), encoding="utf-8")
    report_folder.write(out / "report", result)
    return result


def _measured(row: Row, method: Method, media: Path, out: Path, measures: Measures) -> dict[str, Any]:
    """Figures, note, frames and media of a clip; cached as long as files and measures do not change."""
    case, lpips = Case(row, measures.alpha_of), measures.lpips
    result = method.result(case)
    case_hashes = case.fingerprint()
    write_plate_movies(case, media, identity(case=case_hashes))
    key = identity(version=VERSION, case=case_hashes, result=result.fingerprint(), lpips=lpips and lpips[0])
    path = out / "figures" / method.name / f"{row.key}.json"
    cached = _read(path)
    if cached.get("identity") != key or not all((media / name).is_file() for name in cached["clip"]["media"]):
        clip = {
            "figures": measure(case, result, media, method.name, lpips and lpips[1]),
            "note": result.note,
            "frames": [len(result.pairs), case.count],
            "fps": float(rate_of(case)),
            "has_truth": case.has_alpha,
            "media": [f"{method.name}.mp4"] + [f"{method.name}.alpha.mp4"] * (result.matte(0) is not None),
        }
        cached = {"identity": key, "clip": clip, "judged": {}}
        _write(path, cached)
    clip = cached["clip"]
    names = ["plate.mp4", *(["truth.mp4"] if clip["has_truth"] else []), *clip["media"]]
    write_posters([media / name for name in names])
    if measures.judge:
        scores, failures = _judged(row, measures.judge, media / "plate.mp4", media / clip["media"][0], cached["judged"])
        _write(path, cached)
        clip = {**clip, "figures": clip["figures"] | scores, "note": "; ".join([clip["note"], *failures]).strip("; ")}
    return clip


def _judged(
    row: Row, judge: tuple[str, Judge], plate: Path, result: Path, cached: dict[str, float]
) -> tuple[dict[str, float], list[str]]:
    """(scores by question, messages of failures). New answers are added to `cached`, failures are not."""
    scores, failures = {}, []
    for question in QUESTIONS:
        key = identity(judge=judge[0], question=question, prompt=row.prompt, caption=row.caption)
        try:
            if key not in cached:
                cached[key] = ask(judge[1], question, row.prompt, row.caption, plate, result)
            scores[question["id"]] = cached[key]
        except ValueError as error:
            failures.append(str(error))
    return scores, failures


def _read(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}


def _write(path: Path, data: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, data)


def named_lpips(path: str | Path, device: torch.device | str) -> tuple[str, Lpips]:
    """(hash of the weights, LPIPS function), for `Measures`. Raises InputError."""
    lpips = Lpips(path, device)
    return file_hash(Path(path)), lpips
