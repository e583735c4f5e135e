"""Temporal figures of a result that need no model weights.

`flicker` does not distinguish movement from flicker, and `sharpness` does not distinguish detail from noise. So both
are reported beside the plate's own values.
"""

import torch

from vera.core.measure.measured_planes import Means, Pixels, filtered, picture, same_size
from vera.core.measure.preservation import EDIT_MARGIN, outside

_LUMA = (0.299, 0.587, 0.114)  # weights of red, green and blue (BT.601)


def flicker(image: Pixels, before: Pixels) -> float:
    """1 minus the mean absolute difference of two frames: VBench's temporal flickering (Huang et al., CVPR 2024)."""
    return 1 - float((picture(image) - picture(before)).abs().mean())


def sharpness(image: Pixels, where: Pixels | None = None) -> float | None:
    """Variance of the 4-neighbour Laplacian of luma (Pech-Pacheco et al., ICPR 2000), for values in [0, 1].

    where: (H, W) of bools, the pixels to measure; None is returned if there are none.
    """
    luma = picture(image) @ torch.tensor(_LUMA, dtype=torch.float64)
    second = [1.0, -2.0, 1.0]
    values = filtered(luma, [0.0, 1.0, 0.0], second) + filtered(luma, second, [0.0, 1.0, 0.0])
    if where is not None:
        values = values[where[1:-1, 1:-1]]
    return float(values.var(correction=0)) if values.numel() else None


class Video:
    """The temporal figures of a clip.

    flicker: see `flicker`; 1 is a still picture. flicker_plate: the plate's own value.
    sharpness: the result's over the plate's, at least MARGIN pixels from any alpha; 1 is equally sharp.
    unsteady: root mean square change between frames of (result - plate), where alpha is 0 in both frames, times 100.
        This is dtSSD applied to colour; it finds pixels that move outside of the edit.
    """

    def __init__(self) -> None:
        self.means = Means()
        self.before: tuple[torch.Tensor, torch.Tensor, torch.Tensor | None] | None = None

    def add(self, image: Pixels, plate: Pixels, alpha: Pixels | None = None) -> None:
        image, plate = picture(image), picture(plate)
        same_size(image, plate)
        away = None if alpha is None else outside(alpha, EDIT_MARGIN)
        detail = sharpness(plate, away)
        own = sharpness(image, away)
        self.means.add(sharpness=own / detail if own is not None and detail else None)
        where = None if alpha is None else outside(alpha)
        now = (image, plate, where)
        if self.before is None:
            self.means.add(flicker=None, flicker_plate=None, unsteady=None)
        else:
            image_before, plate_before, where_before = self.before
            self.means.add(flicker=flicker(image, image_before), flicker_plate=flicker(plate, plate_before))
            change = (image - plate) - (image_before - plate_before)
            unsteady = None
            if where is not None and where_before is not None:
                change = change[where & where_before]
                unsteady = 100 * float(change.square().mean().sqrt()) if change.numel() else None
            self.means.add(unsteady=unsteady)
        self.before = now

    def figures(self) -> dict[str, float | None]:
        return self.means.figures()
