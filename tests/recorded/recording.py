"""Records: results of public functions on tiny inputs, kept as readable JSON beside this file, one file a package.

A record says that something has changed, not that it is right: the tests of truth say what is right. CONTRIBUTING.md
says when to write records again; `make records` does it.
"""

import contextlib
import dataclasses
import enum
import io
import json
import math
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

HERE = Path(__file__).parent
CHECKOUT = HERE.parents[1]
DIGITS = 4  # significant digits of a stored figure
RELATIVE = 1e-3  # tolerance, relative to the largest figure of a list; other processors round by less
PATTERN_TOLERANCE = 4e-3  # of a product with a pattern; 1 wrong pixel of 3,000 changes it by .01
LARGE = 300_000  # values of an array above which its shape, range and mean are stored, and no means of regions
GRID = 3  # an array's means are taken of 3x3 regions
# Entries that differ between two runs of one state: times, processes, digests of generated pixels, sizes of files.
VARYING = re.compile(
    r"^(created|date|time|started|ended|finished|seconds|seconds_.*|.*_seconds|.*_at|elapsed|pid|host|hostname|token|port"
    r"|version|vera|torch|python|.*sha256|digest|fingerprint|.*_hash|hash|generation|bytes|mtime.*|eta|left|took|cpu|user|id)$"
)
NUMBER = re.compile(r"(\d+\.\d+(?:e[-+]?\d+)?|\d+)")
HEX = re.compile(r"\b(?:[0-9a-f]{16,64}|[0-9a-f]{12}|[0-9a-f]{8})\b")
TOOK = re.compile(r"\b\d+(\.\d+)? (s|ms|seconds|minutes|min|h)\b")

THREADS = re.compile(r"\b\d+ CPU threads")

Record = Callable[[Path], Any]
RECORDS: dict[str, dict[str, Record]] = {}  # package -> name -> what makes the result in an empty folder


def record(made: Record) -> Record:
    """Register a record; its package is the name of the module without `of_`."""
    package = made.__module__.rpartition("of_")[2]
    RECORDS.setdefault(package, {})[made.__name__] = made
    return made


def figures(array: Any) -> dict[str, Any]:
    """Shape, range, means by region and channel, and products with two fixed waves, which a moved pixel changes.

    A product is divided by the array's length (root of the sum of squares): in [-1, 1].
    """
    values = array.detach().float().cpu().numpy() if isinstance(array, torch.Tensor) else np.asarray(array)
    found: dict[str, Any] = {"shape": list(values.shape)}
    if not values.size:
        return found
    values = values.astype(np.float64)
    wrong = ~np.isfinite(values)
    if wrong.any():
        found["not finite"] = int(wrong.sum())
        values = np.where(wrong, 0, values)
    found["range"] = [values.min(), values.max()]
    flat = values.ravel()
    if flat.size > LARGE:  # a sheet of pictures and words
        return found | {"mean": flat.mean()}
    at = np.arange(flat.size)
    length = math.sqrt(flat @ flat) or 1.0
    found["patterns"] = [round(float(flat @ np.cos(k * at + k)) / length, DIGITS) for k in (0.73, 1.91)]
    if values.ndim in (2, 3, 4) and min(values.shape) >= 1 and flat.size >= GRID * GRID * 4:
        y, x = sorted(np.argsort(values.shape, kind="stable")[-2:])
        moved = np.moveaxis(values, (y, x), (-2, -1))
        rows, columns = (np.array_split(np.arange(n), min(GRID, n)) for n in moved.shape[-2:])
        regions = [[moved[..., r[0] : r[-1] + 1, c[0] : c[-1] + 1].mean((-2, -1)) for c in columns] for r in rows]
        by_channel = np.moveaxis(np.array(regions), (0, 1), (-2, -1)).reshape(-1, len(rows) * len(columns))
        found["regions"] = by_channel[:8].tolist()
    return found


def plain(value: Any, folder: Path | None = None) -> Any:
    """What JSON can hold: dataclasses as objects, arrays as `figures`, paths below TMP or VERA, numbers of 4 digits."""
    scalar = _plain_scalar(value, folder)
    if scalar is not _NOT_SCALAR:
        return scalar

    def again(each: Any) -> Any:
        return plain(each, folder)

    if isinstance(value, (torch.Tensor, np.ndarray)):
        return again(figures(value) if math.prod(value.shape) > 24 else value.tolist())
    if isinstance(value, Mapping):
        pairs = {text(str(key), folder): entry for key, entry in value.items()}
        return {k: "VARIES" if VARYING.match(k) and entry is not None else again(entry) for k, entry in pairs.items()}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {each.name: again(getattr(value, each.name)) for each in dataclasses.fields(value)}
    if hasattr(value, "_asdict"):
        return again(value._asdict())
    if isinstance(value, (set, frozenset)):
        return sorted((again(each) for each in value), key=json.dumps)
    if isinstance(value, (list, tuple, range)) or hasattr(value, "__next__"):
        return [again(each) for each in value]
    return getattr(value, "__name__", type(value).__name__)


_NOT_SCALAR = object()


def _plain_scalar(value: Any, folder: Path | None) -> Any:
    """A number, word, path, or error; _NOT_SCALAR for anything else."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, enum.Enum):
        return value.name
    if isinstance(value, (int, np.integer)):
        return int(value)
    if isinstance(value, (float, np.floating)):
        return rounded(float(value))
    if isinstance(value, (str, Path)):
        return text(str(value), folder)
    if isinstance(value, bytes):
        return text(value.decode("latin-1"), folder)
    if isinstance(value, BaseException):
        return f"{type(value).__name__}: {text(str(value), folder)}"
    return _NOT_SCALAR


def rounded(number: float) -> float | str:
    if not math.isfinite(number):
        return str(number)
    if number == 0 or abs(number) < 1e-9:
        return 0.0
    return round(number, DIGITS - 1 - math.floor(math.log10(abs(number))))


def text(words: str, folder: Path | None) -> str:
    """Without this machine's folders, digests and durations."""
    for place, name in ((folder, "TMP"), (CHECKOUT, "VERA")):
        if place is not None:
            words = words.replace(str(place), name)
    if folder is not None:
        words = words.replace(folder.name, "TMP")
    return THREADS.sub("N CPU threads", TOOK.sub("N s", HEX.sub("DIGEST", words)))


def differences(stored: Any, found: Any, where: str = "", scale: float = 0.0) -> list[str]:
    """What differs, one sentence each. scale: largest figure of the lists around these two."""
    if isinstance(stored, dict) and isinstance(found, dict):
        result = [f"{where or 'the result'}: {key!r} is new" for key in found if key not in stored]
        result += [f"{where or 'the result'}: {key!r} is missing" for key in stored if key not in found]
        return result + [
            line for key in stored if key in found for line in differences(stored[key], found[key], f"{where}/{key}")
        ]
    if isinstance(stored, list) and isinstance(found, list):
        if len(stored) != len(found):
            return [f"{where}: has {len(found)} entries, was {len(stored)}: {_short(found)}, was {_short(stored)}"]
        largest = max((abs(each) for each in _numbers(stored)), default=0.0)
        pairs = enumerate(zip(stored, found, strict=True))
        return [line for n, (a, b) in pairs for line in differences(a, b, f"{where}/{n}", max(scale, largest))]
    if _is_number(stored) and _is_number(found):
        whole = isinstance(stored, int) and isinstance(found, int)
        if "/patterns/" in where:
            return [] if abs(stored - found) <= PATTERN_TOLERANCE else [f"{where}: is {found}, was {stored}"]
        allowed = 0 if whole else RELATIVE * max(abs(stored), abs(found), scale) + 1e-6
        return [] if abs(stored - found) <= allowed else [f"{where}: is {found}, was {stored}"]
    if isinstance(stored, str) and isinstance(found, str):
        return [] if _same_words(stored, found) else [f"{where}: reads {found!r}, was {stored!r}"]
    return [] if type(stored) is type(found) and stored == found else [f"{where}: is {found!r}, was {stored!r}"]


def _short(values: list) -> str:
    return json.dumps(values)[:200]


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _numbers(value: Any) -> Iterator[float]:
    if isinstance(value, list):
        for each in value:
            yield from _numbers(each)
    elif _is_number(value):
        yield float(value)


def _same_words(stored: str, found: str) -> bool:
    """Equal but for decimal fractions, which may differ by one unit of the last digit."""

    def unit(number: str) -> float:
        digits, _, exponent = number.partition("e")
        return 10.0 ** (int(exponent or 0) - len(digits.partition(".")[2]))

    if stored == found:
        return True
    a, b = NUMBER.split(stored), NUMBER.split(found)
    if len(a) != len(b) or a[::2] != b[::2]:
        return False
    return all(
        x == y or ("." in x and "." in y and abs(float(x) - float(y)) <= 1.01 * unit(x))
        for x, y in zip(a[1::2], b[1::2], strict=True)
    )


def of_command(folder: Path, *arguments: str | Path) -> dict[str, Any]:
    """Runs `vera ARGUMENTS`: its exit code, and what it prints."""
    from vera.core import cli

    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            code: Any = cli.main([str(each) for each in arguments])
        except SystemExit as end:
            code = end.code
    return {"exit": code, "prints": printed(out.getvalue(), folder), "says": printed(err.getvalue(), folder)}


def printed(output: str, folder: Path) -> Any:
    """Lines; those that are JSON as objects. Of a stage's progress the end alone: its events come by the clock.

    Lines of libraries, which name their files, are left out.
    """
    found = []
    for line in output.splitlines():
        each = json.loads(line) if line.startswith("{") and line.endswith("}") else line
        if isinstance(each, dict) and each.get("event") == "progress" and each.get("done") != each.get("total"):
            continue
        if isinstance(each, str) and "site-packages" in each:
            continue
        found.append(each)
    return plain(found, folder)


def attempt(function: Callable[..., Any], *given: Any, **named: Any) -> Any:
    """The result, or the error as words."""
    try:
        return function(*given, **named)
    except Exception as error:
        return error


def files(out: Path, folder: Path, images: bool = True) -> dict[str, Any]:
    """Every file below `out`: JSON and text by content, images by `figures`, others by name.

    A picture's headers are left out if they are those of the picture before.
    """
    found: dict[str, Any] = {}
    headers: list[Any] = []
    for path in sorted(out.rglob("*")):
        if path.is_dir():
            continue
        name = HEX.sub("DIGEST", str(path.relative_to(out)))
        if path.suffix == ".json":
            found[name] = plain(json.loads(path.read_text()), folder)
        elif path.suffix == ".jsonl":
            found[name] = printed(path.read_text(), folder)
        elif path.suffix in (".txt", ".md", ".py", ".nk", ".yaml", ".csv"):
            found[name] = plain(path.read_text().splitlines(), folder)
        elif path.suffix in (".exr", ".png", ".tif", ".dpx") and images:
            found[name] = plain(image(path), folder)
            own = [part.pop("headers") for part in found[name]]
            if own != headers:
                found[name][0]["headers"] = own[0] if len(own) == 1 else own
            headers = own
        elif path.suffix in (".mov", ".mp4"):
            found[name] = plain(movie(path))
        else:
            found[name] = "a file"
    return found


def image(path: Path) -> list[dict[str, Any]]:
    """Pixels, channels and headers of a picture file's parts."""
    import OpenImageIO as oiio

    source = oiio.ImageInput.open(str(path))
    parts = []
    while source.seek_subimage(len(parts), 0):
        spec = source.spec()
        headers = {each.name: each.value for each in spec.extra_attribs if "date" not in each.name.lower()}
        pixels = np.asarray(source.read_image(len(parts), 0, 0, spec.nchannels, "float"))
        kind = f"{','.join(spec.channelnames)} {spec.format}"
        parts.append({"is": kind, "headers": headers} | figures(pixels))
    source.close()
    return parts


def movie(path: Path) -> dict[str, Any]:
    """Stream and frames of a movie; means allow for what encoders of other versions do."""
    import av

    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        frames = list(container.decode(stream))
        return {
            "codec": stream.codec_context.name,
            "format": stream.codec_context.pix_fmt,
            "rate": str(stream.average_rate),
            "size": [stream.width, stream.height],
            "times": [float(frame.time) for frame in frames],
            "means": [[round(float(m)) for m in frame.to_ndarray(format="rgb24").mean((0, 1))] for frame in frames],
        }


def stored(package: str) -> dict[str, Any]:
    path = HERE / f"{package}.json"
    return json.loads(path.read_text()) if path.is_file() else {}


def save(package: str, results: dict[str, Any]) -> None:
    """One JSON file, indented where a list holds more than numbers and short words."""
    (HERE / f"{package}.json").write_text(_indented(dict(sorted(results.items()))) + "\n", encoding="utf-8")


def _indented(value: Any, depth: int = 0) -> str:
    line = json.dumps(value, ensure_ascii=False)
    if len(line) + depth <= 120 or not isinstance(value, (dict, list)):
        return line
    margin = " " * (depth + 1)
    if isinstance(value, dict):
        inside = [f"{margin}{json.dumps(k, ensure_ascii=False)}: {_indented(v, depth + 1)}" for k, v in value.items()]
        return "{\n" + ",\n".join(inside) + "\n" + " " * depth + "}"
    return "[\n" + ",\n".join(margin + _indented(v, depth + 1) for v in value) + "\n" + " " * depth + "]"
