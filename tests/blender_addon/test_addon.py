"""The add-on in real Blender, against the real service and `mini`; see in_blender.py for what is done there.

VERA_BLENDERS=42,45,50,52 runs every case in each of those that are installed (make bpy); without it 4.5 runs
every case, and 5.0 the whole flow.
"""

import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import av
import numpy as np
import OpenImageIO as oiio
import pytest

from vera.core.service import client

ROOT = Path(__file__).parents[2]
CASES = ("flow", "refusals", "masks", "faults")
ASKED = os.environ.get("VERA_BLENDERS")
RUNS = (
    [(blender, case) for blender in ASKED.split(",") for case in CASES]
    if ASKED
    else [*(("45", case) for case in CASES), ("50", "flow")]
)


# The folder is a package for Blender only: its __init__ wants bpy.
_spec = importlib.util.spec_from_file_location("build", ROOT / "blender_addon" / "build.py")
build = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(build)


def blender_python(blender):
    folder = ROOT / f".venv-bpy{blender}"
    if not (folder / ".installed").exists():
        log = folder / "install.log"
        words = log.read_text(errors="replace").strip().splitlines()[-1:] if log.exists() else ["make bpy was not run"]
        pytest.skip(f"Blender {blender[0]}.{blender[1]} is not installed: {''.join(words)}")
    return folder / "bin" / "python"


@pytest.fixture(scope="module")
def zip_file(tmp_path_factory):
    return build.build(tmp_path_factory.mktemp("dist"))


@pytest.fixture(scope="module")
def service(tmp_path_factory):
    """A folder for the service's state. Blender starts the service; here it is ended."""
    folder = tmp_path_factory.mktemp("service")
    (folder / "roots.json").write_text(json.dumps({"folders": [str(tmp_path_factory.getbasetemp())]}))
    yield folder
    try:
        pid = client.discover(folder)["pid"]
        os.kill(pid, signal.SIGTERM)
        end = time.monotonic() + 30
        while client.discover(folder) and time.monotonic() < end:
            time.sleep(0.1)
        os.kill(pid, signal.SIGKILL)
    except (client.ServiceError, OSError):
        pass


@pytest.fixture(scope="module")
def plates(tmp_path_factory):
    """Frames of a textured gradient that moves, as PNG and as a lossless movie of 8-bit RGB; edited.####.png: with a
    red block added elsewhere."""
    folder = tmp_path_factory.mktemp("plates")
    noise = np.random.default_rng(1).integers(-8, 8, (64, 96, 3))
    y, x = np.mgrid[0:64, 0:96]
    with av.open(str(folder / "plate.mov"), "w") as movie:
        stream = movie.add_stream("qtrle", rate=24)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "rgb24"
        for number in range(1001, 1007):
            ramp = np.stack([(x * 2 + number * 3) % 256, y * 4, np.full_like(x, 90 + number % 10)], -1)
            frame = np.clip(ramp + noise, 0, 255).astype(np.uint8)
            edited = frame.copy()
            edited[20:44, 30:60] = (250, 20, 20)
            for name, picture in (("p", frame), ("edited", edited)):
                image = oiio.ImageOutput.create("x.png")
                image.open(str(folder / f"{name}.{number}.png"), oiio.ImageSpec(96, 64, 3, "uint8"))
                image.write_image(picture)
                image.close()
            movie.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        movie.mux(stream.encode())
    return folder


@pytest.fixture
def read_only(tmp_path):
    """A disk that can only be read, where the user may mount one; None elsewhere."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "ro,size=1m", "tmpfs", str(folder)]
    mounted = shutil.which("mount") and subprocess.run(command, capture_output=True).returncode == 0
    yield str(folder) if mounted else None
    if mounted:
        subprocess.run(["umount", str(folder)], check=True)


def test_zip_carries_the_shared_files_as_they_are(zip_file):
    with zipfile.ZipFile(zip_file) as archive:
        for name in ("client.py", "host_rules.py", "host_fields.py"):
            assert archive.read(name) == (ROOT / "core" / "service" / name).read_bytes()
        names = set(archive.namelist())
    assert {"blender_manifest.toml", "__init__.py", "LICENSE"} <= names
    assert "build.py" not in names and not any("/" in name for name in names)


def test_same_source_makes_the_same_zip(zip_file, tmp_path):
    assert build.build(tmp_path).read_bytes() == zip_file.read_bytes()


@pytest.mark.parametrize("blender", sorted({blender for blender, _ in RUNS}))
def test_zip_is_valid_for_blender(blender, zip_file):
    python = blender_python(blender)
    checker = next(
        (python.parents[1] / "lib").glob("python*/site-packages/bpy/*/scripts/addons_core/bl_pkg/cli/blender_ext.py")
    )
    answer = build.validate(checker, zip_file, python)
    assert answer.returncode == 0, answer.stdout + answer.stderr


def test_a_tag_that_blender_does_not_know_is_not_valid(zip_file, tmp_path):
    """Else the test above would prove nothing of the tags."""
    python = blender_python("45")
    checker = next(
        (python.parents[1] / "lib").glob("python*/site-packages/bpy/*/scripts/addons_core/bl_pkg/cli/blender_ext.py")
    )
    with zipfile.ZipFile(zip_file) as archive, zipfile.ZipFile(tmp_path / "wrong.zip", "w") as wrong:
        for name in archive.namelist():
            content = archive.read(name)
            wrong.writestr(name, content.replace(b'"Sequencer"', b'"Video"') if name.endswith(".toml") else content)
    answer = build.validate(checker, tmp_path / "wrong.zip", python)
    assert answer.returncode and 'invalid tag "Video"' in answer.stdout + answer.stderr, answer.stdout + answer.stderr


@pytest.mark.parametrize("blender, case", RUNS)
def test_in_blender(blender, case, zip_file, service, plates, read_only, tmp_path):
    told = {
        "zip": str(zip_file),
        "work": str(tmp_path),
        "plate": str(plates / "p.####.png"),
        "movie": str(plates / "plate.mov"),
        "edited": str(plates / "edited.####.png"),
        "python": sys.executable,
        "root": str(ROOT),
        "bare_python": sys._base_executable,
        "read_only": read_only,
        "seed": int(blender),
    }
    environment = {
        **os.environ,
        "VERA_SERVICE_DIR": str(service),
        "BLENDER_USER_RESOURCES": str(tmp_path / "user"),
        "OMP_NUM_THREADS": "1",
    }
    environment.pop("PYTHONPATH", None)
    script = Path(__file__).with_name("in_blender.py")
    answer = subprocess.run(
        [blender_python(blender), script, case, json.dumps(told)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert answer.returncode == 0 and "case passed" in answer.stdout, (answer.stdout + answer.stderr)[-6000:]
