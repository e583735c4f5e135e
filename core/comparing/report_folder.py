"""The report: a folder that a browser opens from disk, without a server."""

import json
from pathlib import Path
from typing import Any

from vera.core.files import replacing

PAGE = Path(__file__).with_name("page")


def write(folder: Path, result: dict[str, Any]) -> None:
    """Write index.html with its style and script, and data.js with the content of table.json."""
    folder.mkdir(parents=True, exist_ok=True)
    texts = {file.name: file.read_text(encoding="utf-8") for file in PAGE.iterdir() if file.is_file()}
    # The data is a script, because a page on disk may not fetch files. index.html is written last.
    texts = {"data.js": f"const REPORT = {json.dumps(result)};\n", **dict(sorted(texts.items(), reverse=True))}
    for name, text in texts.items():
        with replacing(folder / name) as part:
            part.write_text(text, encoding="utf-8")
