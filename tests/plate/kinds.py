"""Twenty kinds of plate that come through a studio's door."""

from dataclasses import dataclass, field

import numpy as np

from vera.core.plate.color import PlateColor
from vera.core.plate.color_space import ColorSpace, find_space

BITS = {"uint8": 8, "uint10": 10, "uint12": 12, "uint16": 16, "uint32": 32}
DTYPES = {
    "uint8": np.uint8,
    "uint10": np.uint16,
    "uint12": np.uint16,
    "uint16": np.uint16,
    "uint32": np.uint32,
    "half": np.float16,
    "float": np.float32,
}


@dataclass(frozen=True)
class Kind:
    """space: as the file states it, or as --color-space says (named). stops: how far from a shot that is
    exposed like a display's its light is. overscan: pixels of the data window beyond the display window.
    region: as the recipe asks for it. frames: how many; more than a tiny model's window make it two."""

    name: str
    space: str
    pixel_type: str
    extension: str
    named: bool = True
    size: tuple[int, int] = (48, 64)
    pixel_aspect: float = 1.0
    channels: int = 3
    stops: float = 0.0
    overscan: int = 0
    region: str | None = None
    frames: int = 1
    metadata: dict = field(default_factory=dict, hash=False)

    def found(self) -> ColorSpace:
        return find_space(self.space)

    def numbers(self, light: np.ndarray) -> np.ndarray:
        """Linear Rec.709 light (H, W, 3) as this plate's pixels, quantised to its type."""
        light = (light * 2.0**self.stops).astype(np.float32)
        return quantised(self.found().from_rec709(light), self.pixel_type)


def quantised(numbers: np.ndarray, pixel_type: str) -> np.ndarray:
    """Numbers (integers' in [0, 1]) in the type that a reader hands over."""
    if pixel_type in ("half", "float"):
        return numbers.astype(DTYPES[pixel_type])
    bits = BITS[pixel_type]
    codes = np.rint(np.clip(numbers.astype(np.float64), 0, 1) * (2**bits - 1)).astype(np.uint64)
    if bits in (10, 12):
        codes = codes << np.uint64(16 - bits) | codes >> np.uint64(2 * bits - 16)
    return codes.astype(DTYPES[pixel_type])


KINDS = [
    Kind("8-bit sRGB PNG", "srgb", "uint8", "png", named=False),
    Kind("16-bit sRGB TIFF, odd size", "srgb", "uint16", "tif", named=False, size=(47, 61), frames=11),
    Kind("sRGB PNG with alpha", "srgb", "uint8", "png", named=False, channels=4),
    Kind(
        "Rec.709 video levels, 10-bit DPX, a region", "Rec.1886 Rec.709 - Display", "uint10", "dpx", region="0,5,47,38"
    ),
    Kind("Display P3 TIFF", "Display P3 - Display", "uint16", "tif"),
    Kind("gamma 2.2 TIFF, 32 bit", "g22_rec709_scene", "uint32", "tif"),
    Kind("linear Rec.709 half", "linear", "half", "exr", named=False),
    Kind(
        "linear Rec.709 float, portrait, a region",
        "linear",
        "float",
        "exr",
        named=False,
        size=(64, 36),
        region="3,9,33,40",
    ),
    Kind("linear Rec.709 half with alpha", "linear", "half", "exr", named=False, channels=4),
    Kind("ACEScg half", "ACEScg", "half", "exr", named=False, metadata={"chromaticities": "AP1"}),
    Kind(
        "ACEScg float, anamorphic, a region",
        "ACEScg",
        "float",
        "exr",
        size=(60, 36),
        pixel_aspect=2.0,
        region="0,0,30,41",
    ),
    Kind("ACEScg half, three stops under", "ACEScg", "half", "exr", stops=-3.0),
    Kind(
        "ACES2065-1 half, two stops over, overscan and a region in it",
        "ACES2065-1",
        "half",
        "exr",
        stops=2.0,
        overscan=4,
        region="-4,-4,50,37",
    ),
    Kind("ACES container", "ACES2065-1", "half", "exr", named=False, metadata={"acesImageContainerFlag": 1}),
    Kind("linear Rec.2020 half", "Linear Rec.2020", "half", "exr", named=False, metadata={"chromaticities": "REC2020"}),
    Kind("ACEScct half", "ACEScct", "half", "exr"),
    Kind("ARRI LogC3 12-bit DPX", "ARRI LogC3 (EI800)", "uint12", "dpx"),
    Kind("ARRI LogC4 float, two windows in time", "ARRI LogC4", "float", "exr", frames=11),
    Kind("S-Log3 16-bit TIFF", "S-Log3 S-Gamut3.Cine", "uint16", "tif"),
    Kind("Cineon 10-bit DPX", "Cineon", "uint10", "dpx", named=False, metadata={"dpx:Transfer": "Logarithmic"}),
]


def color_of(kind: Kind) -> PlateColor:
    """With the exposure that undoes the kind's."""
    return PlateColor(kind.found(), kind.pixel_type, -kind.stops)
