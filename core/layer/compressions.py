"""Check the compression of a job's EXR files: the installed OpenEXR must write it, and lossy ones have conditions."""

import functools
import tempfile
from pathlib import Path

import numpy as np
import OpenImageIO as oiio

from vera.core.errors import InputError
from vera.core.layer.outputs.composite import composite_extension
from vera.core.layer.outputs.output import Formats
from vera.core.plate.source import Plate

_DWA = ("dwaa", "dwab")
NOTE = (
    "the composite is compressed with loss (DWA), as its plate is: where the layer's alpha is 0 its pixels are near the"
    " plate's, not the plate's bits; the layer is lossless"
)


def compression_notes(formats: Formats, plate: Plate) -> tuple[str, ...]:
    """Warnings about the compression. Raises InputError for one that this job cannot have."""
    name = formats.compression
    if name.startswith("htj2k") and not is_written(name):
        raise InputError(f"--compression {name}: the installed OpenEXR cannot write it; choose zip or piz")
    if not formats.is_lossy:
        return ()
    spec = plate.spec(plate.frames[0])
    stored = spec.get_string_attribute("compression") if spec else ""
    if composite_extension(plate) != "exr" or stored not in _DWA:
        raise InputError(
            f"--compression {name}: serves the composite of a DWA plate, and this plate is"
            f" {f'an EXR of {stored}' if stored else 'no EXR'}; choose a lossless one, such as zip (a layer is never"
            " lossy)"
        )
    return (NOTE,)


@functools.cache
def is_written(name: str) -> bool:
    """Whether EXR files of this compression can be written; OpenImageIO silently replaces an unknown one by zip."""
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "probe.exr")
        spec = oiio.ImageSpec(8, 8, 3, "half")
        spec.attribute("compression", name)
        out = oiio.ImageOutput.create(path)
        if out is None or not (
            out.open(path, spec) and out.write_image(np.zeros((8, 8, 3), np.float16)) and out.close()
        ):
            return False
        read = oiio.ImageInput.open(path)
        return read is not None and read.spec().get_string_attribute("compression") == name
