"""One clip's figures: every frame of plate and result is decoded once, measured, and copied to look at."""

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from vera.core.comparing.clips import Case, Delivery
from vera.core.comparing.clips import Video as EditedVideo
from vera.core.files import replacing, write_json
from vera.core.measure.matting import Matting
from vera.core.measure.perceptual import Lpips
from vera.core.measure.planes import Means
from vera.core.measure.preservation import MARGIN, Preservation
from vera.core.measure.video import Video

POSTER = 640  # pixels on a poster's longer side: more is sharper where players are large, and a larger report
VERSION = 1  # of what is measured: another one measures again


@dataclass(frozen=True)
class Figure:
    """A column. better: +1 where more is better, -1 where less is, 0 where it is there for comparison."""

    name: str
    title: str
    group: str
    better: int
    digits: int
    what: str


def _three(name: str, title: str, better: int, digits: int, what: str) -> list[Figure]:
    places = {"": "the whole frame", "_outside": "where the alpha is 0", "_away": f"{MARGIN} pixels from any alpha"}
    titles = {"": title, "_outside": f"{title} out", "_away": f"{title} away"}
    return [Figure(name + p, titles[p], "preservation", better, digits, f"{what}, {w}") for p, w in places.items()]


FIGURES = (
    *_three("psnr", "PSNR", 1, 1, "dB"),
    *_three("ssim", "SSIM", 1, 3, "structural similarity"),
    *_three("lpips", "LPIPS", -1, 3, "perceptual distance"),
    Figure("changed", "changed", "exactness", -1, 4, "share of pixels with alpha 0 that differ from the plate"),
    Figure("worst", "worst", "exactness", -1, 4, "largest difference there, of a value in [0, 1]"),
    Figure("drift", "drift", "exactness", -1, 5, "of the mean colour there, the channel that moved most"),
    Figure(
        "spilled",
        "spilled",
        "exactness",
        -1,
        6,
        "share of pixels that are not the plate's bits under the result's own alpha 0",
    ),
    Figure("flicker", "TF", "video", 1, 4, "1 minus the mean change from frame to frame"),
    Figure("flicker_plate", "TF plate", "video", 0, 4, "the plate's own TF"),
    Figure("unsteady", "unsteady", "video", -1, 3, "change in time of what was added where the alpha is 0, x100"),
    Figure(
        "sharpness",
        "sharp",
        "video",
        0,
        3,
        f"variance of the Laplacian {MARGIN} pixels from any alpha, over the plate's",
    ),
    Figure("mad", "MAD", "matting", -1, 2, "mean absolute difference of the result's alpha from the test set's, x1000"),
    Figure("mse", "MSE", "matting", -1, 2, "mean squared difference, x1000"),
    Figure("grad", "Grad", "matting", -1, 2, "difference of gradients, /1000"),
    Figure("conn", "Conn", "matting", -1, 2, "difference of connectivity, /1000"),
    Figure("dtssd", "dtSSD", "matting", -1, 2, "difference of changes in time, x100"),
    Figure("CS", "CS", "judged", 1, 2, "how what was changed sits in the picture, 1 to 5"),
    Figure("CT", "CT", "judged", 1, 2, "how it behaves in time, 1 to 5"),
    Figure("OSC", "OSC", "judged", 1, 3, "how well the caption fits, 0 to 1"),
    Figure("IS", "IS", "judged", 1, 2, "whether the instruction was followed, 1 to 5"),
)


def measure(
    case: Case, result: Delivery | EditedVideo, media: Path, name: str, lpips: Lpips | None = None
) -> dict[str, float | None]:
    """The figures of one result by name; None is not measured. result: a Delivery or Video of the case.

    Copies of what was measured go to `media`: NAME.mp4, and NAME.alpha.mp4 where the result has an alpha.
    Raises InputError for files that break off, ValueError for frames that cannot be measured.
    """
    kept, video, matting, own = Preservation(lpips), Video(), Matting(), Means()
    rate = rate_of(case) / (result.pairs[1][0] if len(result.pairs) > 1 else 1)
    has_matte = result.matte(0) is not None
    of_matte = media / f"{name}.alpha.mp4" if has_matte else None
    with copy(media / f"{name}.mp4", rate) as show, copy(of_matte, rate) as show_matte:
        for index, other in result.pairs:
            pixels = case.pixels(index)
            plate, picture, untouched = case.show(pixels), result.picture(other), case.untouched(index)
            kept.add(picture, plate, untouched)
            video.add(picture, plate, untouched)
            show(picture)
            matte = result.matte(other)
            if matte is not None:
                show_matte(matte[..., None].repeat(3, -1))
                truth = case.alpha(index)
                if truth is not None:
                    matting.add(matte, truth)
            if isinstance(result, Delivery):
                own.add(spilled=spilled(result.pixels(other), pixels, result.laid(other)))
    figures = kept.figures() | video.figures() | matting.figures() | own.figures()
    return {f.name: figures.get(f.name) for f in FIGURES if f.group != "judged"}


def spilled(composite: np.ndarray, plate: np.ndarray, laid: np.ndarray) -> float | None:
    """Of the pixels where the layer's alpha is 0, the share whose bits are not the plate's; of one type, (H, W, C)."""
    untouched = laid == 0
    if not untouched.any():
        return None
    bits = f"u{plate.dtype.itemsize}"
    differs = (np.ascontiguousarray(composite).view(bits) != np.ascontiguousarray(plate).view(bits)).any(-1)
    return float(differs[untouched].mean())


def copy_plate(case: Case, media: Path, identity: str) -> None:
    """plate.mp4, and truth.mp4 of the row's alpha, unless those of this identity are there."""
    note = media / "plate.json"
    if note.is_file() and json.loads(note.read_text(encoding="utf-8")) == identity:
        return
    truth = media / "truth.mp4" if case.has_alpha else None
    with copy(media / "plate.mp4", rate_of(case)) as show, copy(truth, rate_of(case)) as show_truth:
        for index in range(case.count):
            show(case.show(case.pixels(index)))
            alpha = case.alpha(index)
            if alpha is not None:
                show_truth(alpha[..., None].repeat(3, -1))
    write_json(note, identity)


def write_posters(movies: Sequence[Path]) -> None:
    """Beside each movie a JPEG of its first frame, NAME.jpg, to show before the movie is loaded; none that is newer."""
    for path in movies:
        poster = path.with_suffix(".jpg")
        if poster.is_file() and poster.stat().st_mtime_ns >= path.stat().st_mtime_ns:
            continue
        with av.open(str(path)) as movie, replacing(poster) as part:
            picture = next(movie.decode(video=0)).to_image()
            picture.thumbnail((POSTER, POSTER))
            picture.save(part, format="JPEG", quality=88)


def rate_of(case: Case) -> Fraction:
    return case.plate.fps if case.plate.fps and case.plate.fps > 0 else Fraction(24)


@contextmanager
def copy(path: Path | None, rate: Fraction) -> Iterator[Callable[[np.ndarray], None]]:
    """Yields add(picture (H, W, 3) in [0, 1]), for an H.264 movie to look at, there only once it is whole; without a
    path add does nothing."""
    if path is None:
        yield lambda picture: None
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as part, av.open(str(part), "w", options={"movflags": "+faststart"}) as movie:
        stream = movie.add_stream("libx264", rate=rate, options={"crf": "16", "preset": "veryfast"})
        stream.pix_fmt = "yuv420p"
        context = stream.codec_context
        context.colorspace, context.color_primaries, context.color_trc, context.color_range = 1, 1, 1, 1

        def add(picture: np.ndarray) -> None:
            height, width = picture.shape[0] // 2 * 2, picture.shape[1] // 2 * 2  # what 4:2:0 can hold
            if not stream.codec_context.is_open:
                stream.width, stream.height = width, height
            codes = np.rint(np.clip(picture[:height, :width], 0, 1) * 255).astype(np.uint8)
            frame = av.VideoFrame.from_ndarray(codes, "rgb24")
            movie.mux(stream.encode(frame.reformat(format="yuv420p", dst_colorspace="ITU709", dst_color_range="MPEG")))

        yield add
        movie.mux(stream.encode())
