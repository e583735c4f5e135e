"""Make the pictures of README and docs, and know which are older than what they show.

    python -m tools.pictures                 those that are stale
    python -m tools.pictures service mini    these
    python -m tools.pictures --list          what is stale, and why

docs/pictures.json holds, for each picture, a fingerprint of what it shows: the weights, the number PIXELS of the
pipeline, the sources of a page. tests/test_pictures.py compares it with what is there now.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import hashlib
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
RECORD = DOCS / "pictures.json"
WEIGHTS = ("core/weights/mini/SHA256SUMS", "core/weights/mini/model.json", "core/weights/mini/config.json")
PIXELS = "PIXELS"  # the number of the pipeline's pixels, in place of a file
SETTLE_SECONDS = 1.0  # for a page to draw before its picture is taken


@dataclass(frozen=True)
class Picture:
    """files: in docs. make(folder): write them into that folder. shows: files and patterns under the root, or PIXELS:
    a change of these makes the pictures old."""

    files: tuple[str, ...]
    make: Callable[[Path], None]
    shows: tuple[str, ...]

    def fingerprints(self) -> dict[str, str]:
        """Of each thing that it shows, as that is now."""
        return {name: fingerprint(name) for name in self.shows}


def fingerprint(name: str) -> str:
    """Of the files that a pattern names, or the number PIXELS. Raises FileNotFoundError."""
    if name == PIXELS:
        from vera.core.backends.base import PIXELS as number

        return str(number)
    files = sorted(ROOT.glob(name))
    if not files:
        raise FileNotFoundError(f"{name}: shown by a picture, and not there")
    found = hashlib.sha256()
    for path in files:
        found.update(path.relative_to(ROOT).as_posix().encode() + meaning(path))
    return found.hexdigest()[:16]


def meaning(path: Path) -> bytes:
    """The content of a file; of Python's the syntax tree without docstrings, so that other words make nothing old."""
    if path.suffix != ".py":
        return path.read_bytes()
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        documented = isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef))
        if documented and ast.get_docstring(node, clean=False) is not None:
            node.body = node.body[1:]
    return _dumped(tree).encode()


def _dumped(value: object) -> str:
    """A syntax tree as text that every version of Python gives alike. `ast.dump` is not: fields come and go, empty."""
    if isinstance(value, ast.AST):
        fields = [(name, field) for name, field in ast.iter_fields(value) if field is not None and field != []]
        return f"{type(value).__name__}({', '.join(f'{name}={_dumped(field)}' for name, field in fields)})"
    if isinstance(value, list):
        return f"[{', '.join(map(_dumped, value))}]"
    return repr(value)


# ---- Makers ---------------------------------------------------------------------------


def module(*words: str) -> None:
    """Run a module in this environment, at the root. Raises subprocess.CalledProcessError."""
    subprocess.run([sys.executable, "-m", *words], cwd=ROOT, check=True, env=os.environ | {"OMP_NUM_THREADS": "1"})


def demo(folder: Path) -> None:
    job = json.loads((ROOT / "demo/job.json").read_text(encoding="utf-8"))
    job |= {"plate": str(ROOT / "demo" / job["plate"]), "out": str(folder / "delivery")}
    (folder / "job.json").write_text(json.dumps(job))
    module("vera", "render", str(folder / "job.json"), "--progress", "none")
    shutil.copy(folder / "delivery/contact_sheet.png", folder / "demo.png")


def mini(folder: Path) -> None:
    module("vera", "model", "sheet", str(folder / "mini.png"))


# Of the sheet of deliveries: what is added to the demo's plate, seed 0, nothing chosen.
DELIVERED = (
    "Add a yellow star on the left",
    "Add a red bird at the top",
    "Add a blue butterfly on the right",
    "Add a large red apple in the middle",
    "Add a large blue metallic ball on the right",
    "Add a large orange fish in the middle",
    "Add a green kite at the top",
    "Add a large red balloon on the right",
    "Add a large pink heart on the right",
    "Add a large pink flower on the right",
    "Add a large blue rocket on the left",
    "Add bubbles",
)
DELIVERED_FRAME, DELIVERED_WIDTH, DELIVERED_COLUMNS = 25, 480, 3


def delivered(folder: Path) -> None:
    from PIL import Image

    pictures = []
    for number, prompt in enumerate(DELIVERED):
        out = folder / f"delivery{number}"
        options = ["--frames", f"{DELIVERED_FRAME}", "--prompt", prompt, "--out", str(out), "--progress", "none"]
        module("vera", "render", "--plate", str(ROOT / "demo" / "plate.mp4"), *options)
        picture = Image.open(next((out / "composite").glob("*.png"))).convert("RGB")
        pictures.append(picture.resize((DELIVERED_WIDTH, round(DELIVERED_WIDTH * picture.height / picture.width))))
    width, height = pictures[0].size
    sheet = Image.new("RGB", (DELIVERED_COLUMNS * width, -(-len(pictures) // DELIVERED_COLUMNS) * height))
    for number, picture in enumerate(pictures):
        row, column = divmod(number, DELIVERED_COLUMNS)
        sheet.paste(picture, (column * width, row * height))
    sheet.save(folder / "mini-delivered.jpg", quality=88)


BACKDROPS = ("a stormy sea", "a city at night", "a misty forest", "snowy mountains")


def backdrops(folder: Path) -> None:
    """Whole frames behind a real person, kept without a mask, each as large as it was delivered."""
    from PIL import Image
    from skimage.data import astronaut

    Image.fromarray(astronaut()).save(folder / "plate.png")
    pictures = []
    for number, background in enumerate(BACKDROPS):
        out = folder / f"backdrop{number}"
        prompt = f"Change the background to {background}. Keep the woman intact."
        options = ("--prompt", prompt, "--out", str(out), "--progress", "none")
        module("vera", "render", "--plate", str(folder / "plate.png"), *options)
        pictures.append(Image.open(next((out / "composite").glob("*.png"))).convert("RGB"))
    width, height = pictures[0].size
    sheet = Image.new("RGB", (2 * width, 2 * height))
    for number, picture in enumerate(pictures):
        sheet.paste(picture, (number % 2 * width, number // 2 * height))
    sheet.save(folder / "backdrops.jpg", quality=88)


def data(folder: Path) -> None:
    module("vera", "data", "sheet", str(folder / "data.png"))


def edges(folder: Path) -> None:
    module("benchmarks.edges", str(folder / "edges.png"))


def compositing(folder: Path) -> None:
    module("benchmarks.compositing_pictures", str(folder))


def seams(folder: Path) -> None:
    words = ("--model", "stand-in", "--frames", "60", "--picture", str(folder / "long-shots.png"))
    module("benchmarks.seams", *words)


LIFT_FRAMES = "10-14"  # of the demo's plate: enough for the report's five columns


def lift(folder: Path) -> None:
    """The balloon that `mini` makes, as some service would return it, lifted again."""
    plate = ("--plate", str(ROOT / "demo/plate.mp4"), "--frames", LIFT_FRAMES)
    prompt = ("--prompt", "Add a large red balloon rising on the right")
    module("vera", "render", *plate, *prompt, "--seed", "1", "--out", str(folder / "edit"), "--progress", "none")
    write_movie(sorted((folder / "edit/composite").glob("*.png")), folder / "edited.mp4")
    edited = ("--edited", str(folder / "edited.mp4"), "--out", str(folder / "lift"), "--progress", "none")
    module("vera", "lift", *plate, *edited)
    shutil.copy(folder / "lift/report.png", folder / "lift.png")


def write_movie(
    frames: Sequence[Path], path: Path, size: tuple[int, int] = (1280, 720), drift: int = 0, rate: int = 24
) -> None:
    """H.264 of PNG files as an editor returns it. drift: of 255, added to the red. rate: frames a second."""
    import av
    import numpy as np
    from PIL import Image

    with av.open(str(path), "w") as movie:
        stream = movie.add_stream("libx264", rate=rate, options={"crf": "20"})
        stream.width, stream.height = size
        stream.pix_fmt = "yuv420p"
        for file in frames:
            picture = np.asarray(Image.open(file).convert("RGB").resize(size)).astype(np.int16)
            picture[..., 0] += drift
            frame = av.VideoFrame.from_ndarray(picture.clip(0, 255).astype(np.uint8), "rgb24")
            movie.mux(stream.encode(frame))
        movie.mux(stream.encode())


SHOT_FRAMES = "1-9"
WIPE = 775  # of 1000: through the balloon


def service(folder: Path) -> None:
    """The page with real jobs: two takes, one with a warning, one that failed, one at work, two that wait."""
    from vera.core.service.client import Client

    shots = folder / "shots"
    for name in ("sh010", "sh020"):
        (shots / name).mkdir(parents=True)
        shutil.copy(ROOT / "demo/plate.mp4", shots / name / "plate.mp4")
    state = folder / "state"
    words = [sys.executable, "-m", "vera", "serve", "--folder", str(state)]
    subprocess.run([*words, "--allow", str(shots)], check=True, cwd=ROOT, capture_output=True)
    client = Client(state)
    with running(words), chromium(folder) as browser:
        browser.wait_until(lambda: (state / "service.json").exists())

        def submit(shot: str, prompt: str, name: str, **values: Any) -> int:
            recipe = {"plate": str(shots / shot / "plate.mp4"), "prompt": prompt, "out": str(shots / shot / name)}
            return client.submit({**recipe, "frames": SHOT_FRAMES, **values})["id"]

        balloon = "Add a large red balloon rising on the right"
        done = [
            submit("sh010", balloon, "balloon", seed=1, keep=True),
            submit("sh010", balloon, "balloon_v002", seed=2, keep=True),
            submit("sh020", "Add a glorious purple balloon", "purple", anyway=True),
            submit("sh020", "Add falling snow", "snow"),
        ]
        submit("sh030", "Add heavy rain", "rain")  # whose plate is not there
        submit("sh020", "Add a plume of smoke", "smoke", frames="1-49")
        for prompt, name in (("Add confetti", "confetti"), ("Add sun rays", "rays")):
            submit("sh010", prompt, name, frames="1-49")
        for number in done:
            client.wait(number, 1800)
        browser.look(1440, 900, "dark")
        browser.open((state / "open.html").as_uri())
        browser.wait_for("return document.querySelectorAll('.row').length >= 8")
        script = "document.querySelector('.row[data-id=\"' + arguments[0] + '\"] .pick').click()"
        browser.run(script, done[1])
        browser.wait_for("return !document.querySelector('#screen canvas').hidden")
        browser.run("document.querySelector('[data-view=wipe]').click(); document.querySelector('#play').click()")
        browser.run(f"const w = document.querySelector('#wipe input'); w.value = {WIPE}; w.oninput({{target: w}})")
        browser.settle(SETTLE_SECONDS)
        for name, scheme in (("service.png", "dark"), ("service-light.png", "light")):
            browser.look(1440, 900, scheme)
            browser.settle(SETTLE_SECONDS)
            (folder / name).write_bytes(browser.screenshot())


CLIPS, CLIP_FRAMES, CLIP_SIZE = 3, 17, (144, 256)
CLIP_SEED = 5_950_000


def comparison(folder: Path) -> None:
    """Three clips of the data engine; `mini`, and two stand-ins for other editors made of the true composite."""
    write_test_set(folder)
    methods = [word for name in ("regenerated", "slow") for word in ("--results", f"{name}={folder / name}")]
    rows = str(folder / "set/test.jsonl")
    module("vera", "compare", rows, "--out", str(folder / "out"), "--model", "mini", *methods, "--progress", "none")
    with chromium(folder) as browser:
        browser.look(1280, 1400, "dark")
        browser.open((folder / "out/report/index.html").as_uri())
        first = "players.get(document.querySelector('.clip').dataset.key)"
        browser.run(f"{first}.seek(8)")
        browser.wait_for(f"return {first}.videos.every(v => v.readyState >= 2 && !v.seeking)")
        browser.settle(SETTLE_SECONDS)
        (folder / "comparison.png").write_bytes(browser.screenshot())


def write_test_set(folder: Path) -> None:
    """Rows of the published shape, with the plates, alphas and two stand-ins for editors' results."""
    import numpy as np
    import torch
    from PIL import Image

    from vera.core.data.engine.clips import draw_object, make_clip

    wanted = [
        ("obj_add", draw_object(random.Random(CLIP_SEED)) | {"object": "balloon", "color": "red", "size": "large"}),
        ("obj_add", draw_object(random.Random(CLIP_SEED)) | {"object": "star", "color": "yellow", "size": "large"}),
        ("background_replace", {"edit": "background", "background": "sea"}),
    ]
    lines = []
    for number, (kind, labels) in enumerate(wanted):
        clip = make_clip(CLIP_SEED + number, *CLIP_SIZE, torch.arange(CLIP_FRAMES), labels, held_out=True)
        grey = {name: getattr(clip, name).expand(-1, 3, -1, -1) for name in ("alpha", "mask")}
        frames = {"videos": clip.source, "alphas": grey["alpha"], "masks": grey["mask"], "true": clip.composite}
        size = CLIP_SIZE[::-1]
        for name, pictures in frames.items():
            files = []
            for index, picture in enumerate(pictures):
                file = folder / "frames" / name / f"{number}.{index}.png"
                file.parent.mkdir(parents=True, exist_ok=True)
                codes = (picture.permute(1, 2, 0) * 255).round().clamp(0, 255).byte().numpy()
                Image.fromarray(np.ascontiguousarray(codes)).save(file)
                files.append(file)
            if name != "true":
                (folder / "set" / name).mkdir(parents=True, exist_ok=True)
                write_movie(files, folder / "set" / name / f"v{number}.mp4", size)
                continue
            for method in ("regenerated", "slow"):
                (folder / method).mkdir(exist_ok=True)
            write_movie(files, folder / "regenerated" / f"v{number}.mp4", size, drift=6)
            write_movie(files[::2], folder / "slow" / f"v{number}.mp4", (size[0] // 2, size[1] // 2), rate=12)
        row = {"video_id": f"v{number}", "input_path": f"videos/v{number}.mp4", "alpha_path": f"alphas/v{number}.mp4"}
        if kind == "background_replace":
            row["mask_path"] = f"masks/v{number}.mp4"
        lines.append(json.dumps(row | {"edit_type": kind, "prompt": clip.instruction}))
    (folder / "set/test.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")


@contextlib.contextmanager
def running(words: list[str]) -> Iterator[None]:
    process = subprocess.Popen(words, cwd=ROOT, stdout=subprocess.DEVNULL, env=os.environ | {"OMP_NUM_THREADS": "1"})
    try:
        yield
    finally:
        process.terminate()
        process.wait(30)


@contextlib.contextmanager
def chromium(folder: Path) -> Iterator[Any]:
    from tools.browser import Browser, at_hand

    if not at_hand():
        raise SystemExit("error: a page's picture needs chromium and chromedriver")
    browser = Browser(folder / "profile")
    try:
        yield browser
    finally:
        browser.close()


PICTURES = {
    "demo": Picture(("demo.png",), demo, (*WEIGHTS, PIXELS, "demo/job.json", "demo/plate.mp4")),
    "mini": Picture(("mini.png",), mini, (*WEIGHTS, "core/evaluation/edition_sheet.py")),
    "backdrops": Picture(("backdrops.jpg",), backdrops, (*WEIGHTS, PIXELS, "core/layer/backdrop/*.py")),
    "delivered": Picture(("mini-delivered.jpg",), delivered, (*WEIGHTS, PIXELS, "demo/plate.mp4")),
    "service": Picture(("service.png", "service-light.png"), service, (*WEIGHTS, PIXELS, "core/service/page/*")),
    "comparison": Picture(
        ("comparison.png",), comparison, (*WEIGHTS, PIXELS, "core/comparing/page/*", "core/comparing/published.json")
    ),
    "data": Picture(("data.png",), data, ("core/data/engine/*.py",)),
    "edges": Picture(("edges.png",), edges, ("benchmarks/edges.py", "core/layer/matte.py", "core/layer/outline.py")),
    "compositing": Picture(
        tuple(f"compositing-{name}.png" for name in ("space", "highlights", "relative")),
        compositing,
        ("benchmarks/compositing_pictures.py", "core/layer/blend_space.py", "core/layer/relative.py"),
    ),
    "seams": Picture(("long-shots.png",), seams, ("benchmarks/seams.py", "core/sampling/time_windows.py")),
    "lift": Picture(
        ("lift.png",), lift, (*WEIGHTS, "core/weights/lift/*.safetensors", PIXELS, "core/lifting/report_picture.py")
    ),
}
# Pictures of one run, not of the present state: of a training of hours, or of a program that is not at hand everywhere.
OF_A_RUN = {
    "mini-36.jpg": "prompts over plates that are not in the repository, by python -m benchmarks.prompt_sheet",
    "blender.png": "a window of Debian's Blender 4.3.2, by python -m tools.blender_picture",
    "codec.png": "five clips through a codec that was trained for 44 minutes; it is not shipped",
    "mini-curve.png": "the losses of the run that made the shipped weights",
    "notes/ablation.png": "the losses of five small trainings",
}


# ---- The record -----------------------------------------------------------------------


def recorded() -> dict[str, Any]:
    return json.loads(RECORD.read_text(encoding="utf-8")) if RECORD.is_file() else {}


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16]


def stale() -> dict[str, str]:
    """The names of pictures that are to be made again, and why."""
    known, found = recorded(), {}
    for name, picture in PICTURES.items():
        note = known.get(name)
        if note is None:
            found[name] = "was never made by its command"
        elif changed := [show for show, now in picture.fingerprints().items() if note["shows"].get(show) != now]:
            found[name] = f"what it shows has changed since: {', '.join(changed)}"
        elif note["files"] != {
            file: digest(DOCS / file) if (DOCS / file).is_file() else None for file in picture.files
        }:
            found[name] = "the file is another one than its command made"
    return found


def make(name: str) -> None:
    """Make a picture, put it into docs and note what it shows."""
    picture = PICTURES[name]
    with tempfile.TemporaryDirectory(prefix="vera-") as made:
        before = picture.fingerprints()
        picture.make(Path(made))
        for file in picture.files:
            shutil.copy(Path(made, file), DOCS / file)
    note = {"command": f"python -m tools.pictures {name}", "shows": before}
    notes = recorded() | {name: note | {"files": {file: digest(DOCS / file) for file in picture.files}}}
    RECORD.write_text(json.dumps(dict(sorted(notes.items())), indent=2) + "\n", encoding="utf-8")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tools.pictures", description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(PICTURES)}; without one, the stale")
    parser.add_argument("--list", action="store_true", help="say what is stale, and why, and make nothing")
    args = parser.parse_args()
    unknown = [name for name in args.names if name not in PICTURES]
    if unknown:
        parser.error(f"{unknown[0]}: no picture of that name; known are {', '.join(PICTURES)}")
    if args.list:
        for name, why in stale().items():
            print(f"{name}: {why}")
        return 0
    for name in args.names or stale():
        print(f"{name}: {', '.join(PICTURES[name].files)}", flush=True)
        make(name)
    return 0


if __name__ == "__main__":
    sys.exit(main())
