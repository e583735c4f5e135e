"""Deliveries as the core writes them, without a model: the plate's green disc becomes a red one, all else is clear.

python stand_in_delivery.py ORDERS.json: [{"plate": pattern, "movie": frames of a movie by number or "", "out",
"numbers", "space": "linear" or "encoded", "opaque": whether the disc is at its full brightness}]
"""

import json
import sys
from pathlib import Path

import numpy as np
import OpenImageIO as oiio

OPAQUE = 0.45  # the disc's green is 0.72 in linear light, half of that at an opacity of one half
RED = (0.9, 0.05, 0.05)  # encoded


def disc_of(picture):
    """Where the green disc is, in whatever brightness and space."""
    excess = picture[..., 1] - np.maximum(picture[..., 0], picture[..., 2])
    return excess > 0.5 * max(excess.max(), 0.05)


def deliver(order):
    out = Path(order["out"])
    (out / "edit").mkdir(parents=True, exist_ok=True)
    color = np.array(RED) if order["space"] == "encoded" else ((np.array(RED) + 0.055) / 1.055) ** 2.4
    frames = []
    for number in sorted(set(order["numbers"])):
        pattern = order["movie"] or order["plate"]
        buffer = oiio.ImageBuf(pattern.replace("####", f"{number:04d}"))
        assert not buffer.has_error, buffer.geterror()
        picture = buffer.get_pixels("float")
        assert not order["opaque"] or picture[..., 1].max() > OPAQUE, (
            f"{pattern}, frame {number}: rendered with its opacity"
        )
        alpha = disc_of(picture).astype("float32")
        assert alpha.any(), f"no disc in {pattern}, frame {number}"
        layer = np.concatenate([alpha[..., None] * color, alpha[..., None]], -1).astype("float32")
        spec = oiio.ImageSpec(layer.shape[1], layer.shape[0], 4, "half")
        image = oiio.ImageOutput.create("x.exr")
        assert image.open(str(out / "edit" / f"edit.{number:04d}.exr"), spec) and image.write_image(layer)
        image.close()
        frames.append({"frame": number, "edit": {"file": f"edit/edit.{number:04d}.exr"}})
    (out / "manifest.json").write_text(json.dumps({"frames": frames, "composite": {"format": "png"}, "extra": {}}))


if __name__ == "__main__":
    for each in json.loads(Path(sys.argv[1]).read_text()):
        deliver(each)
