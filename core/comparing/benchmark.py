"""The way of the benchmark: every row by every method, measured once and remembered, then the table and the report."""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from vera.core.comparing import report, table
from vera.core.comparing.clips import Case, file_hash
from vera.core.comparing.figures import FIGURES, VERSION, copy_plate, measure, rate_of, write_posters
from vera.core.comparing.methods import Method, Renderer
from vera.core.comparing.rows import Row
from vera.core.errors import InputError, OutOfMemoryError, StoppedError
from vera.core.files import write_json
from vera.core.measure.judge import QUESTIONS, Judge, ask
from vera.core.measure.perceptual import Lpips
from vera.core.progress import ProgressLike
from vera.core.recipe import identity

SCHEMA = "vera.compare/1"


def compare(
    rows: list[Row],
    broken: list[str],
    methods: Sequence[Method],
    out: Path,
    progress: ProgressLike,
    stopping: Callable[[], bool],
    alpha_of: str = "layer",
    lpips: tuple[str, Lpips] | None = None,
    judge: tuple[str, Judge] | None = None,
) -> dict[str, Any]:
    """Everything into `out`: figures/METHOD/KEY.json, table.md, table.json and report/. Returns table.json's content.

    rows, broken: of read_rows. methods: Folder or Renderer. lpips, judge: (name, function) or None. A clip that fails
    is named in the table and the next one taken; what was rendered or measured before is not done again. Raises
    StoppedError, and InputError where nothing could be measured.
    """
    clips: list[dict[str, Any]] = []
    for row in rows:
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
                clip |= _measured(row, method, media, out, alpha_of, lpips, judge)
            except (ValueError, OutOfMemoryError) as error:  # InputError is a ValueError
                clip["error"] = " ".join(str(error).split())
                progress.warn(f"{row.key}, {method.name}: {clip['error']}")
            clips.append(clip)
    if all("error" in c for c in clips):
        raise InputError(f"no clip could be measured; the first: {clips[0]['error']}")
    result: dict[str, Any] = {
        "schema": SCHEMA,
        "published": {n: table.PUBLISHED[n] for n in ("source", "note")},
        "figures": {f.name: asdict(f) for f in FIGURES},
        "tables": table.rows_of(clips),
        "clips": clips,
        "broken": broken,
    }
    write_json(out / "table.json", result)
    (out / "table.md").write_text(table.markdown(result["tables"], broken, clips), encoding="utf-8")
    report.write(out / "report", result)
    return result


def _measured(
    row: Row,
    method: Method,
    media: Path,
    out: Path,
    alpha_of: str,
    lpips: tuple[str, Lpips] | None,
    judge: tuple[str, Judge] | None,
) -> dict[str, Any]:
    """figures, note, frames and media of a clip: remembered, where neither files nor measures have changed."""
    case = Case(row, alpha_of)
    result = method.result(case)
    of_case = case.fingerprint()
    copy_plate(case, media, identity(case=of_case))
    known = identity(version=VERSION, case=of_case, result=result.fingerprint(), lpips=lpips and lpips[0])
    path = out / "figures" / method.name / f"{row.key}.json"
    kept = _read(path)
    if kept.get("identity") != known or not all((media / name).is_file() for name in kept["clip"]["media"]):
        clip = {
            "figures": measure(case, result, media, method.name, lpips and lpips[1]),
            "note": result.note,
            "frames": [len(result.pairs), case.count],
            "fps": float(rate_of(case)),
            "has_truth": case.has_alpha,
            "media": [f"{method.name}.mp4"] + [f"{method.name}.alpha.mp4"] * (result.matte(0) is not None),
        }
        kept = {"identity": known, "clip": clip, "judged": {}}
        _write(path, kept)
    clip = kept["clip"]
    names = ["plate.mp4", *(["truth.mp4"] if clip["has_truth"] else []), *clip["media"]]
    write_posters([media / name for name in names])
    if judge:
        scores, faults = _judged(row, judge, media / "plate.mp4", media / clip["media"][0], kept["judged"])
        _write(path, kept)
        clip = {**clip, "figures": clip["figures"] | scores, "note": "; ".join([clip["note"], *faults]).strip("; ")}
    return clip


def _judged(
    row: Row, judge: tuple[str, Judge], plate: Path, result: Path, known: dict[str, float]
) -> tuple[dict[str, float], list[str]]:
    """Scores by question, and what failed. known: answers by identity, to which new ones are added; faults are not."""
    scores, faults = {}, []
    for question in QUESTIONS:
        asked = identity(judge=judge[0], question=question, prompt=row.prompt, caption=row.caption)
        try:
            if asked not in known:
                known[asked] = ask(judge[1], question, row.prompt, row.caption, plate, result)
            scores[question["id"]] = known[asked]
        except ValueError as error:
            faults.append(str(error))
    return scores, faults


def _read(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}


def _write(path: Path, data: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, data)


def named_lpips(path: str | Path, device: torch.device | str) -> tuple[str, Lpips]:
    """LPIPS by its weights' hash, for `compare`. Raises InputError."""
    lpips = Lpips(path, device)  # which refuses a file that is not there
    return file_hash(Path(path)), lpips
