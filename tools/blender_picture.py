"""Make docs/blender.png: the add-on in a real window of Blender, with a layer that follows its strip through a cut.

    python -m tools.blender_picture [--blender COMMAND] [--folder FOLDER]

Needs Blender 4.2 or newer with a window, Xvfb and FFmpeg. --blender: the command of Blender, such as one in another
root; then FOLDER must be at the same path there. The job is a real one, of the service and `mini`.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
TARGET = ROOT / "docs" / "blender.png"
SCRIPT = Path(__file__).with_name("in_blender_window.py")
DISPLAY, SIZE = ":87", (1600, 900)
PATIENCE_SECONDS = 900  # for the job and a window that is drawn by the CPU; a longer one helps on busy machines only


@contextlib.contextmanager
def started(command: list[str], **options: object) -> Iterator[subprocess.Popen[bytes]]:
    """A process that runs for the while."""
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, **options)  # type: ignore[call-overload]
    try:
        yield process
    finally:
        process.terminate()
        process.wait()


def prepare(folder: Path) -> None:
    """The add-on's zip, the demo's plate and the script, where Blender finds them."""
    build = [sys.executable, str(ROOT / "blender_addon/build.py"), str(folder / "dist")]
    subprocess.run(build, check=True, capture_output=True)
    shutil.copy(next((folder / "dist").glob("*.zip")), folder / "vera.zip")
    shutil.copy(ROOT / "demo/plate.mp4", folder / "plate.mp4")
    shutil.copy(SCRIPT, folder / SCRIPT.name)


def make(blender: list[str], folder: Path, target: Path) -> None:
    """Write the picture. Raises RuntimeError where Blender ends or says nothing in time."""
    prepare(folder)
    state = folder / "state"
    serve = [sys.executable, "-m", "vera", "serve", "--folder", str(state)]
    subprocess.run([*serve, "--allow", str(folder)], check=True, cwd=ROOT, capture_output=True)
    environment = os.environ | {
        "DISPLAY": DISPLAY,
        "LIBGL_ALWAYS_SOFTWARE": "1",
        "VERA_SERVICE_DIR": str(state),
        "BLENDER_USER_RESOURCES": str(folder / "user"),
    }
    window = ["--app-template", "Video_Editing", "--window-geometry", "0", "0", *map(str, SIZE)]
    screen = f"{SIZE[0]}x{SIZE[1]}x24"
    with (
        open(folder / "blender.log", "wb") as log,
        started(["Xvfb", DISPLAY, "-ac", "-screen", "0", screen, "-nolisten", "tcp"], stderr=subprocess.DEVNULL),
        started(serve, cwd=ROOT, stdout=subprocess.DEVNULL, env=os.environ | {"OMP_NUM_THREADS": "1"}),
        started(
            [*blender, *window, "--python", str(folder / SCRIPT.name), "--", str(folder)],
            env=environment,
            stdout=log,
            stderr=log,
        ) as process,
    ):
        end = time.monotonic() + PATIENCE_SECONDS
        while not (folder / "ready").exists():
            if process.poll() is not None or time.monotonic() > end:
                raise RuntimeError(f"Blender did not come to the picture; see {folder / 'blender.log'}")
            time.sleep(0.5)
        grab = [
            "-f",
            "x11grab",
            "-draw_mouse",
            "0",
            "-video_size",
            f"{SIZE[0]}x{SIZE[1]}",
            "-i",
            DISPLAY,
            "-frames:v",
            "1",
        ]
        subprocess.run(["ffmpeg", "-y", "-loglevel", "error", *grab, "-pix_fmt", "rgb24", str(target)], check=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--blender", default="blender", metavar="COMMAND")
    parser.add_argument("--folder", type=Path, help="an empty folder to work in; a temporary one without it")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="vera-") as temporary:
        folder = args.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        make(shlex.split(args.blender), folder, TARGET)


if __name__ == "__main__":
    main()
