"""Measure the results of one clip against its plate, and write the report's preview movies in the same pass."""

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from vera.core.comparing.frame_matching import Case, Delivery
from vera.core.comparing.frame_matching import Video as EditedVideo
from vera.core.files import replacing, write_json
from vera.core.measure.matting import Matting
from vera.core.measure.measured_planes import Means
from vera.core.measure.perceptual import Lpips
from vera.core.measure.preservation import EDIT_MARGIN, Preservation
from vera.core.measure.video import Video

# Length in pixels of a poster's longer side. Raising it gives sharper posters in large players, and a larger report.
POSTER_SIDE = 640
VERSION = 1  # version of the figures, part of the cache key; raising it discards all cached figures


@dataclass(frozen=True)
class Figure:
    """A column of the report's table.

    name: key in table.json. title: heading. group: section of the report. digits: digits after the point.
    better: +1 if more is better, -1 if less is better, 0 if the figure only serves as a reference.
    what: the explanation that the report shows.
    """

    name: str
    title: str
    group: str
    better: int
    digits: int
    what: str


def _by_region(name: str, title: str, better: int, digits: int, what: str) -> list[Figure]:
    """The same figure for three regions of the frame: the whole, alpha 0, and far from any alpha."""
    regions = {
        "": "the whole frame",
        "_outside": "where alpha is 0",
        "_away": f"{EDIT_MARGIN} pixels or more from any alpha",
    }
    titles = {"": title, "_outside": f"{title} out", "_away": f"{title} away"}
    return [
        Figure(name + suffix, titles[suffix], "preservation", better, digits, f"{what}, {where}")
        for suffix, where in regions.items()
    ]


FIGURES = (
    *_by_region("psnr", "PSNR", 1, 1, "dB"),
    *_by_region("ssim", "SSIM", 1, 3, "structural similarity"),
    *_by_region("lpips", "LPIPS", -1, 3, "perceptual distance"),
    Figure("changed", "changed", "exactness", -1, 4, "share of pixels with alpha 0 that differ from the plate"),
    Figure("worst", "worst", "exactness", -1, 4, "largest difference of a value in [0, 1] where alpha is 0"),
    Figure("drift", "drift", "exactness", -1, 5, "largest change of a channel's mean where alpha is 0"),
    Figure(
        "spilled",
        "spilled",
        "exactness",
        -1,
        6,
        "share of pixels that differ in bits from the plate where the result's own alpha is 0",
    ),
    Figure("flicker", "TF", "video", 1, 4, "1 minus the mean change from frame to frame"),
    Figure("flicker_plate", "TF plate", "video", 0, 4, "the plate's own TF"),
    Figure(
        "unsteady", "unsteady", "video", -1, 3, "change over time of the difference to the plate where alpha is 0, x100"
    ),
    Figure(
        "sharpness",
        "sharp",
        "video",
        0,
        3,
        f"variance of the Laplacian {EDIT_MARGIN} pixels or more from any alpha, over the plate's",
    ),
    Figure("mad", "MAD", "matting", -1, 2, "mean absolute difference of the result's alpha from the test set's, x1000"),
    Figure("mse", "MSE", "matting", -1, 2, "mean squared difference, x1000"),
    Figure("grad", "Grad", "matting", -1, 2, "difference of gradients, /1000"),
    Figure("conn", "Conn", "matting", -1, 2, "difference of connectivity, /1000"),
    Figure("dtssd", "dtSSD", "matting", -1, 2, "difference of changes over time, x100"),
    Figure("CS", "CS", "judged", 1, 2, "integration of the edit into the picture, 1 to 5"),
    Figure("CT", "CT", "judged", 1, 2, "consistency of the edit over time, 1 to 5"),
    Figure("OSC", "OSC", "judged", 1, 3, "agreement with the caption, 0 to 1"),
    Figure("IS", "IS", "judged", 1, 2, "agreement with the instruction, 1 to 5"),
)


def measure(
    case: Case, result: Delivery | EditedVideo, media: Path, name: str, lpips: Lpips | None = None
) -> dict[str, float | None]:
    """Measure one result; returns its figures by name, None for those that were not measured.

    Each frame is decoded once. The frames also become preview movies in `media`: NAME.mp4, and NAME.alpha.mp4 if the
    result has an alpha. The figures of the group "judged" are not measured here. lpips: without it, no perceptual
    distance. Raises InputError for truncated files, ValueError for frames that cannot be measured.
    """
    preservation, video, matting, exactness = Preservation(lpips), Video(), Matting(), Means()
    rate = rate_of(case) / (result.pairs[1][0] if len(result.pairs) > 1 else 1)
    has_matte = result.matte(0) is not None
    matte_file = media / f"{name}.alpha.mp4" if has_matte else None
    with preview_movie(media / f"{name}.mp4", rate) as show, preview_movie(matte_file, rate) as show_matte:
        for index, other in result.pairs:
            pixels = case.pixels(index)
            plate, picture, region = case.show(pixels), result.picture(other), case.edit_region(index)
            preservation.add(picture, plate, region)
            video.add(picture, plate, region)
            show(picture)
            matte = result.matte(other)
            if matte is not None:
                show_matte(matte[..., None].repeat(3, -1))
                truth = case.alpha(index)
                if truth is not None:
                    matting.add(matte, truth)
            if isinstance(result, Delivery):
                exactness.add(spilled=spilled(result.pixels(other), pixels, result.layer_alpha(other)))
    figures = preservation.figures() | video.figures() | matting.figures() | exactness.figures()
    return {f.name: figures.get(f.name) for f in FIGURES if f.group != "judged"}


def spilled(composite: np.ndarray, plate: np.ndarray, alpha: np.ndarray) -> float | None:
    """Share of pixels whose bits differ from the plate's, among pixels with layer alpha 0; None without such pixels.

    composite, plate: (H, W, C) of one dtype; alpha: (H, W).
    """
    untouched = alpha == 0
    if not untouched.any():
        return None
    bits = f"u{plate.dtype.itemsize}"
    differs = (np.ascontiguousarray(composite).view(bits) != np.ascontiguousarray(plate).view(bits)).any(-1)
    return float(differs[untouched].mean())


def write_plate_movies(case: Case, media: Path, identity: str) -> None:
    """Write the preview movies of a clip: plate.mp4, and truth.mp4 of the true alpha if there is one.

    identity: hash of the clip's contents. Movies that were written for the same identity are kept.
    """
    note = media / "plate.json"  # the identity of the movies beside it
    if note.is_file() and json.loads(note.read_text(encoding="utf-8")) == identity:
        return
    truth = media / "truth.mp4" if case.has_alpha else None
    with preview_movie(media / "plate.mp4", rate_of(case)) as show, preview_movie(truth, rate_of(case)) as show_truth:
        for index in range(case.count):
            show(case.show(case.pixels(index)))
            alpha = case.alpha(index)
            if alpha is not None:
                show_truth(alpha[..., None].repeat(3, -1))
    write_json(note, identity)


def write_posters(movies: Sequence[Path]) -> None:
    """Write NAME.jpg beside each movie: its first frame, for display before the movie loads.

    A poster that is newer than its movie is kept.
    """
    for path in movies:
        poster = path.with_suffix(".jpg")
        if poster.is_file() and poster.stat().st_mtime_ns >= path.stat().st_mtime_ns:
            continue
        with av.open(str(path)) as movie, replacing(poster) as part:
            picture = next(movie.decode(video=0)).to_image()
            picture.thumbnail((POSTER_SIDE, POSTER_SIDE))
            picture.save(part, format="JPEG", quality=88)


def rate_of(case: Case) -> Fraction:
    """The plate's frames per second; 24 if it states none."""
    return case.plate.fps if case.plate.fps and case.plate.fps > 0 else Fraction(24)


@contextmanager
def preview_movie(path: Path | None, rate: Fraction) -> Iterator[Callable[[np.ndarray], None]]:
    """Write an H.264 movie; the file appears when the block ends.

    Yields a function that appends a picture, (H, W, 3) in [0, 1]. Without a path that function does nothing.
    """
    if path is None:
        yield lambda picture: None
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as part, av.open(str(part), "w", options={"movflags": "+faststart"}) as movie:
        stream = movie.add_stream("libx264", rate=rate, options={"crf": "16", "preset": "veryfast"})
        stream.pix_fmt = "yuv420p"
        context = stream.codec_context
        # 1 is BT.709 for matrix, primaries and transfer, and limited for the range.
        context.colorspace, context.color_primaries, context.color_trc, context.color_range = 1, 1, 1, 1

        def add(picture: np.ndarray) -> None:
            height, width = picture.shape[0] // 2 * 2, picture.shape[1] // 2 * 2  # 4:2:0 needs even sides
            if not stream.codec_context.is_open:
                stream.width, stream.height = width, height
            codes = np.rint(np.clip(picture[:height, :width], 0, 1) * 255).astype(np.uint8)
            frame = av.VideoFrame.from_ndarray(codes, "rgb24")
            movie.mux(stream.encode(frame.reformat(format="yuv420p", dst_colorspace="ITU709", dst_color_range="MPEG")))

        yield add
        movie.mux(stream.encode())
