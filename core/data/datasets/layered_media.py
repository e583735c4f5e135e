"""Read a row's layers as pixels and check them."""

import numpy as np
import torch

from vera.core.data.datasets.layered import BrokenRowError, Row, check_files
from vera.core.data.datasets.own_clips import read_segment
from vera.core.data.engine.random_fields import extend_color
from vera.core.plate.movie import Movie

# Mean difference between the channels of an alpha or mask (full scale 1) above which it is refused as not grey.
# Codecs cause less than 0.01. Raising it accepts more strongly tinted files.
MAX_CHANNEL_DIFFERENCE = 0.03
# PSNR (dB) of the composite against edit over source. Below, the layers are taken for those of different clips.
# Raising it refuses more strongly compressed clips.
MIN_COMPOSITE_PSNR = 15.0
NO_EDIT = "the alpha is 0 everywhere: there is no edit"


def read_layers(row: Row) -> dict[str, torch.Tensor]:
    """Decode every frame of a row's movies: layer -> (T, H, W, 3), uint8 or uint16. Raises BrokenRowError."""
    if row.segment is not None:
        try:
            layers = read_segment(row.files, row.segment)
        except Exception as error:  # a damaged file can make the decoder raise anything
            raise BrokenRowError(row.name, "", str(error)) from None
        if not layers["alpha"].numpy().any():
            raise BrokenRowError(row.name, "", NO_EDIT)
        return layers
    check_files(row)
    layers = {}
    for layer, file in row.files.items():
        try:
            movie = Movie(file, None)
            frames = np.stack([movie.read(f) for f in movie.frames])
            movie.close()
        except Exception as error:  # a damaged file can make the decoder raise anything
            raise BrokenRowError(row.name, file, str(error).removeprefix(f"{file}: ")) from None
        if len(frames) not in row.frames:
            raise BrokenRowError(
                row.name, file, f"{len(frames)} frames can be decoded, not {' or '.join(map(str, row.frames))}"
            )
        if layer in ("alpha", "mask"):
            full = np.iinfo(frames.dtype).max
            apart = float((frames.max(-1).astype(np.float32) - frames.min(-1)).mean() / full)
            if apart > MAX_CHANNEL_DIFFERENCE:
                raise BrokenRowError(row.name, file, f"the {layer} is colourful (channels {apart:.2f} apart), not grey")
        if layer == "alpha" and not row.test and not frames.any():
            raise BrokenRowError(row.name, file, NO_EDIT)
        layers[layer] = torch.from_numpy(frames)
    return layers


def model_layers(
    row: Row, layers: dict[str, torch.Tensor], device: torch.device | str = "cpu"
) -> dict[str, torch.Tensor]:
    """Training targets: source, edit, alpha, composite (and mask), each (3, T, H, W) fp32 in [0, 1].

    The edit's colour is straight and is extended outward where alpha is 0. The dataset does not say whether it stores
    straight or premultiplied colour, so the reading that agrees better with the composite is used. Raises
    BrokenRowError if neither reading agrees.
    """
    unit = {k: v.to(device, torch.float32).movedim(-1, 1) / torch.iinfo(v.dtype).max for k, v in layers.items()}
    source, edit, alpha = unit["source"], unit["edit"], unit["alpha"].mean(1, keepdim=True)
    over = {"straight": alpha * edit + (1 - alpha) * source, "premultiplied": edit + (1 - alpha) * source}
    stored = "straight"
    if "composite" in unit:
        errors = {k: float((unit["composite"] - v).pow(2).mean()) for k, v in over.items()}
        stored = min(errors, key=lambda way: errors[way])
        decibels = -10 * np.log10(max(errors[stored], 1e-10))
        if decibels < MIN_COMPOSITE_PSNR:
            reason = f"the layers laid over the source agree with it to {decibels:.1f} dB only"
            raise BrokenRowError(row.name, row.files.get("composite", ""), reason)
    unit["composite"] = unit.get("composite", over["straight"])
    unit["edit"] = extend_color(edit if stored == "premultiplied" else alpha * edit, alpha)
    unit["alpha"] = alpha.expand(-1, 3, -1, -1)
    return {k: v.transpose(0, 1) for k, v in unit.items()}
