"""The table: mean figures of the measured clips, beside the published rows."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vera.core.comparing.benchmark_rows import EDIT_TYPES
from vera.core.comparing.figures import FIGURES
from vera.core.measure.measured_planes import mean

PUBLISHED = json.loads(Path(__file__).with_name("published.json").read_text(encoding="utf-8"))
TITLES = {"obj_add": "Object addition", "background_replace": "Background change"}
# The figures of each table in table.md.
TABLES = (
    ("psnr", "ssim", "lpips", "psnr_outside", "ssim_outside", "lpips_outside", "psnr_away", "ssim_away", "lpips_away"),
    ("changed", "worst", "drift", "spilled", "flicker", "flicker_plate", "unsteady", "sharpness"),
    ("mad", "mse", "grad", "conn", "dtssd", "CS", "CT", "OSC", "IS"),
)
BY_NAME = {f.name: f for f in FIGURES}


def rows_of(clips: list[dict[str, Any]]) -> dict[str, Any]:
    """Edit type -> one row per method, {"method", "published", "clips", "failed", figures...}, published rows last.

    clips: {"method", "edit_type", "figures"} each, or "error" instead of "figures" if the clip failed. A mean covers
    the clips that have the figure; "measured" holds their number by figure. None means not measured.
    """
    tables = {}
    for kind in EDIT_TYPES:
        chosen = [c for c in clips if c["edit_type"] == kind]
        rows = [_row([c for c in chosen if c["method"] == m]) for m in dict.fromkeys(c["method"] for c in chosen)]
        published = [{**r, "published": True, "clips": PUBLISHED["clips"][kind]} for r in PUBLISHED["rows"][kind]]
        tables[kind] = rows + published if rows else []
    return {kind: rows for kind, rows in tables.items() if rows}


def _row(clips: list[dict[str, Any]]) -> dict[str, Any]:
    done = [c["figures"] for c in clips if "figures" in c]
    counts = {f.name: sum(d.get(f.name) is not None for d in done) for f in FIGURES}
    return {
        "method": clips[0]["method"],
        "published": False,
        "clips": len(done),
        "failed": len(clips) - len(done),
        "measured": counts,
        **{f.name: mean([d.get(f.name) for d in done]) for f in FIGURES},
    }


def markdown(tables: dict[str, Any], broken: list[str], clips: list[dict[str, Any]]) -> str:
    """The tables as Markdown; published figures are in italics, with a note."""
    lines = [
        "# Comparison",
        "",
        f"*Italics: published, not measured here. {PUBLISHED['source']}. {PUBLISHED['note']}*",
        "",
    ]
    for kind, rows in tables.items():
        lines += [f"## {TITLES[kind]}", ""]
        for names in TABLES:
            lines += _table([r for r in rows if not r["published"] or any(n in r for n in names)], names) + [""]
    notes = [f"- {c['key']}, {c['method']}: {note}" for c in clips if (note := c.get("error") or c["note"])]
    if notes:
        lines += ["## Failed or matched", "", *notes, ""]
    if broken:
        lines += [f"## Rows that cannot be used: {len(broken)}", "", *(f"- {b}" for b in broken), ""]
    lines += ["Means over clips; a dash means not measured.", ""]
    better = {1: "; more is better", -1: "; less is better", 0: ""}
    lines += [f"- {f.title}: {f.what}{better[f.better]}" for f in FIGURES]
    return "\n".join(lines) + "\n"


def _table(rows: list[dict[str, Any]], names: Sequence[str]) -> list[str]:
    titles = ["method", "clips", *(BY_NAME[n].title for n in names)]
    lines = ["| " + " | ".join(titles) + " |", "|---|" + "---:|" * (len(titles) - 1)]
    for row in rows:
        failed = f" of {row['clips'] + row['failed']}" if row.get("failed") else ""
        cells = [row["method"], f"{row['clips']}{failed}", *(shown(row, n) for n in names)]
        lines.append("| " + " | ".join(f"*{c}*" if row["published"] and c != "-" else c for c in cells) + " |")
    return lines


def shown(row: dict[str, Any], name: str) -> str:
    """A figure as text, with the number of clips if not all have it; "-" if it was not measured."""
    value = row.get(name)
    if value is None:
        return "-"
    count = row.get("measured", {}).get(name, row["clips"])
    of = f" ({count})" if count != row["clips"] else ""
    return f"{value:.{BY_NAME[name].digits}f}{of}"
