"""`python -m benchmarks.grain PLATE ...`: compare a layer's grain with the plate's, by level and by spectrum.

The grain of the first half of each plate is measured, added to a layer with all levels, and measured there again. Both
are also compared with the grain of the plate's second half. The results are ratios of standard deviations, by level and
by frequency band.
"""

import argparse
import json

import numpy as np
from scipy import fft

from vera.core.layer.match import LaidLayer, Matching
from vera.core.layer.regrain import GrainMaker
from vera.core.plate.color import PlateColor
from vera.core.plate.color_space import resolve_space
from vera.core.plate.grain import BLOCK, LEVELS, Grain, measure_grain
from vera.core.plate.sharpness import sharpness_of
from vera.core.plate.source import Plate, open_plate

FRAMES = 100  # largest number of frames of a plate that are measured
SIZE = (512, 768)  # of the layer
BANDS = ((0, 0.06), (0.06, 0.12), (0.12, 0.25), (0.25, 0.5))  # edges of the frequency bands, in cycles per pixel
FAINT = 0.3 / 255  # standard deviation of rounding to 8 bits; levels with less grain are not compared
LEAST_POWER = 0.05  # smallest share of the grain in a band that is compared
LUMA = np.array([0.2126, 0.7152, 0.0722], np.float32)


def main() -> None:
    parser = argparse.ArgumentParser(prog="benchmarks.grain", description=__doc__.splitlines()[0])
    parser.add_argument("plates", nargs="+", metavar="PLATE")
    for path in parser.parse_args().plates:
        print(json.dumps({"plate": path, **figures(open_plate(path))}))


def figures(plate: Plate) -> dict:
    """Figures of one plate; standard deviations in 8-bit codes."""
    color = PlateColor(resolve_space(None, plate), plate.pixel_type)

    def picture(frame: int) -> np.ndarray:
        return color.to_model(plate.read(frame))

    frames = plate.frames[:FRAMES]
    halves = [measure_grain(part, picture) for part in (frames[: len(frames) // 2], frames[len(frames) // 2 :])]
    found: dict = {"edge blur": sharpness_of(picture(f) @ LUMA for f in frames[:: max(1, len(frames) // 4)])}
    if any(half is None for half in halves):
        return found | {"grain": None}
    first, second = (half for half in halves if half is not None)
    layer = Matching(("grain",), None, GrainMaker(first, 0))
    frames_made = {frame: layer.grained(ramp(frame)) for frame in range(8)}
    made = measure_grain(range(8), frames_made.get)
    assert made is not None
    noise = np.stack([frames_made[frame] - ramp(frame).edit for frame in range(8)])
    by_level = noise.reshape(8, SIZE[0], LEVELS, -1, 3).std((0, 1, 3)).T
    told = (first.deviations > FAINT) & (np.abs(np.arange(LEVELS) - (LEVELS - 1) / 2) < LEVELS / 2 - 1)
    return found | {
        "deviation": round(float(first.deviations.mean() * 255), 2),
        "size": round(first.size(), 2),
        "made / first half, worst level": worst((by_level / first.deviations)[told]),
        "made / first half, worst band": worst(bands(made) / bands(first)),
        "second / first half, by level": np.round(
            (second.deviations.mean(0) / first.deviations.mean(0))[told.any(0)], 2
        ).tolist(),
        "second / first half, worst band": worst(bands(second) / bands(first)),
    }


def ramp(frame: int) -> LaidLayer:
    """An opaque layer with all levels."""
    codes = np.broadcast_to(np.linspace(0, 1, SIZE[1], dtype=np.float32)[:, None], (*SIZE, 3))
    return LaidLayer(codes, np.ones(SIZE, np.float32), codes, None, frame, (0, 0))


def bands(grain: Grain) -> np.ndarray:
    """Standard deviation of each channel's grain in each band, (3, bands); NaN for bands with almost none."""
    radius = np.hypot(*np.meshgrid(*2 * [fft.fftfreq(BLOCK)]))
    power = grain.spectrum[range(3), range(3)] / BLOCK**2
    held = np.stack([power[:, (radius >= low) & (radius < high)].sum(1) for low, high in BANDS], 1)
    return np.sqrt(np.where(held > LEAST_POWER, held, np.nan))


def worst(ratios: np.ndarray) -> float:
    """The ratio that is farthest from 1."""
    flat = ratios[np.isfinite(ratios)]
    return round(float(flat[np.abs(np.log(flat)).argmax()]), 3) if len(flat) else float("nan")


if __name__ == "__main__":
    main()
