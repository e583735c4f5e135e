"""The farm's page: one folder that a browser opens from the disk, while the shots are rendered and afterwards."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vera.core.files import replacing, write_bytes

if TYPE_CHECKING:
    from vera.core.farm.shot_lists import Shot

PAGE = Path(__file__).with_name("page")
WRITE_SECONDS = 1.0  # between two writes while the shots are rendered: less is more current, and more writing
POSTER = 320  # pixels on a poster's longer side


@dataclass
class ShotRow:
    """A shot as the page shows it. state: waiting, running, done, whole, wrong, failed or stopped."""

    number: int
    name: str
    where: str
    prompt: str | None
    out: str | None
    state: str = "waiting"
    stage: str | None = None
    done: int = 0
    total: int = 0
    seconds: float | None = None
    host: str | None = None
    pid: int | None = None
    begun: int = 0
    said: str = ""
    todo: str = ""
    warnings: list[str] = field(default_factory=list)
    poster: str | None = None
    preview: str | None = None


class FarmPage:
    """Written into `folder`. `error` says why it could not be; the shots are rendered all the same."""

    def __init__(self, folder: Path, shots: Sequence[Shot]) -> None:
        self.folder = folder
        self.began = time.time()
        self.error: str | None = None
        self.rows = {shot.number: _row_of(shot) for shot in shots}
        self._written = 0.0

    @property
    def file(self) -> Path:
        return self.folder / "index.html"

    def begin(self) -> None:
        """The page's own files, and the shots as they wait."""
        with self._failing_softly():
            self.folder.mkdir(parents=True, exist_ok=True)
            for path in sorted(PAGE.iterdir(), reverse=True):  # index.html last
                if path.is_file():
                    write_bytes(self.folder / path.name, path.read_bytes())
        self.write()

    def show(self, number: int) -> None:
        """Where a done shot's preview is, and a picture of it."""
        row = self.rows[number]
        preview = Path(row.out or "") / "preview.mp4"
        with self._failing_softly():
            if preview.is_file():
                row.preview = preview.absolute().as_uri()
                row.poster = _write_poster(preview, self.folder / "posters", number)

    def write(self, words: str | None = None, rarely: bool = False) -> None:
        """The shots as they are. words: on how it went, at the end. rarely: not so soon after the last time."""
        if rarely and time.monotonic() - self._written < WRITE_SECONDS:
            return
        self._written = time.monotonic()
        rows = [asdict(row) for row in self.rows.values()]
        data = {"began": self.began, "at": time.time(), "ended": words is not None, "words": words, "shots": rows}
        with self._failing_softly():
            write_bytes(self.folder / "data.js", f"show({json.dumps(data)});\n".encode())

    def _failing_softly(self) -> _Softly:
        return _Softly(self)


class _Softly:
    """What cannot be written is noted, once; it is no reason to stop a farm."""

    def __init__(self, page: FarmPage) -> None:
        self.page = page

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: Any, error: Any, trace: Any) -> bool:
        if isinstance(error, OSError):
            self.page.error = self.page.error or f"{self.page.folder}: the page cannot be written ({error})"
            return True
        return False


def _row_of(shot: Shot) -> ShotRow:
    row = ShotRow(shot.number, shot.name, shot.where, None, None)
    if shot.recipe is not None:
        row.prompt, row.out = shot.recipe.prompt, shot.recipe.out
    return row


def _write_poster(preview: Path, folder: Path, number: int) -> str | None:
    """The first composite of a preview as a JPEG; its address relative to the page. None where it shows none."""
    import av

    from vera.core.layer.preview import VIEWS

    folder.mkdir(exist_ok=True)
    row, column = VIEWS["composite"]
    try:
        with av.open(str(preview)) as movie, replacing(folder / f"{number}.jpg") as part:
            picture = next(movie.decode(video=0)).to_image()
            width, height = picture.width // 2, picture.height // 2
            picture = picture.crop((column * width, row * height, (column + 1) * width, (row + 1) * height))
            picture.thumbnail((POSTER, POSTER))
            picture.save(part, format="JPEG", quality=88)
    except (av.FFmpegError, StopIteration):
        return None
    return f"posters/{number}.jpg"
