"""A run's folder as a page that refreshes itself: its last figures, its curve and its samples."""

import html
import json
from pathlib import Path

PAGE = "watch.html"
REFRESH_SECONDS = 10  # between two readings of the page; fewer make it flicker

_TEMPLATE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title><meta http-equiv="refresh" content="{seconds}">
<style>
:root {{ color-scheme: light dark }}
body {{ font: 15px/1.5 system-ui, sans-serif; max-width: 70rem; margin: 2rem auto; padding: 0 1rem }}
img {{ max-width: 100%; image-rendering: pixelated; background: #fff }}
</style></head><body><h1>{title}</h1><p>{last}</p>{pictures}</body></html>
"""


def write_page(run: Path) -> Path:
    """Write the run's page, of what is in its folder now; returns its path."""
    samples = sorted([*run.glob("samples-*.png"), *run.glob("codec-*.png")], reverse=True)
    pictures = [path for path in (run / "curve.png", *samples) if path.is_file()]
    shown = "".join(
        f'<figure><img src="{html.escape(path.name)}" alt="{html.escape(path.stem)}">'
        f"<figcaption>{html.escape(path.stem)}</figcaption></figure>"
        for path in pictures
    )
    page = _TEMPLATE.format(
        title=html.escape(str(run)), seconds=REFRESH_SECONDS, last=html.escape(_last_line(run)), pictures=shown
    )
    (run / PAGE).write_text(page, encoding="utf-8")
    return run / PAGE


def _last_line(run: Path) -> str:
    """The newest line of the log, in words."""
    log = run / "log.jsonl"
    lines = log.read_text(encoding="utf-8").splitlines() if log.is_file() else []
    if not lines:
        return "nothing logged yet"
    row = json.loads(lines[-1])
    losses = row.get("losses") or row.get("psnr") or {}
    named = ", ".join(f"{name} {value:.4f}" for name, value in losses.items()) if isinstance(losses, dict) else ""
    return f"step {row.get('step', 0):,}; {named}; {row.get('seconds', 0):,.0f} s of this start"
