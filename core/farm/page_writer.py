"""Write the farm's web page: a folder that a browser opens from disk, during and after the run."""

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
WRITE_SECONDS = 1.0  # least time between two writes during the run; lowering it updates the page more often
POSTER_SIZE = 320  # pixels of a poster's longer side; raising it makes posters sharper and their files larger


@dataclass
class ShotRow:
    """A shot as the page shows it; core/farm/page reads these names.

    where: the list's file and the shot's position in it
    state: waiting, running, done, whole (it was complete before), wrong (its input), failed or stopped
    stage, done, total: progress of the running stage
    seconds: duration of the shot; None if it was not rendered in this run
    host, pid: of the worker
    begun: how often the shot was started
    said: message about its end, or about its worker's death
    todo: how to fix a failure; "" if there is none
    poster: path of an image relative to the page
    preview: URL of the preview movie
    """

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
    """The page in `folder`. If it cannot be written, `error` is the reason, and the run continues."""

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
        """Copy the page's static files, and write the shots, all waiting."""
        with self._noting_errors():
            self.folder.mkdir(parents=True, exist_ok=True)
            for path in sorted(PAGE.iterdir(), reverse=True):  # index.html last
                if path.is_file():
                    write_bytes(self.folder / path.name, path.read_bytes())
        self.write()

    def add_preview(self, number: int) -> None:
        """Add the preview of a finished shot, and a poster of it, to its row."""
        row = self.rows[number]
        preview = Path(row.out or "") / "preview.mp4"
        with self._noting_errors():
            if preview.is_file():
                row.preview = preview.absolute().as_uri()
                row.poster = _write_poster(preview, self.folder / "posters", number)

    def write(self, summary: str | None = None, rarely: bool = False) -> None:
        """Write the rows' present state.

        summary: one line with the totals, after the last shot
        rarely: skip it within WRITE_SECONDS of the last write
        """
        if rarely and time.monotonic() - self._written < WRITE_SECONDS:
            return
        self._written = time.monotonic()
        rows = [asdict(row) for row in self.rows.values()]
        data = {"began": self.began, "at": time.time(), "ended": summary is not None, "words": summary, "shots": rows}
        with self._noting_errors():
            write_bytes(self.folder / "data.js", f"show({json.dumps(data)});\n".encode())

    def _noting_errors(self) -> _ErrorNoter:
        return _ErrorNoter(self)


class _ErrorNoter:
    """Context that stores the first OSError in `page.error` and suppresses all, so that the run continues."""

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
    """The first composite of a preview as a JPEG; its path relative to the page. None if the preview has no frame."""
    import av

    from vera.core.layer.preview import VIEWS

    folder.mkdir(exist_ok=True)
    row, column = VIEWS["composite"]
    try:
        with av.open(str(preview)) as movie, replacing(folder / f"{number}.jpg") as part:
            picture = next(movie.decode(video=0)).to_image()
            width, height = picture.width // 2, picture.height // 2
            picture = picture.crop((column * width, row * height, (column + 1) * width, (row + 1) * height))
            picture.thumbnail((POSTER_SIZE, POSTER_SIZE))
            picture.save(part, format="JPEG", quality=88)
    except (av.FFmpegError, StopIteration):
        return None
    return f"posters/{number}.jpg"
