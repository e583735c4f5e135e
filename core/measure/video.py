"""Quality of a result as a video, where no weights are needed.

`flicker` alone cannot tell movement from flicker, nor `sharpness` detail from noise; both are to be read beside the
plate's own, which is measured along.
"""

import torch

from vera.core.measure.planes import Means, Pixels, filtered, picture, same_size
from vera.core.measure.preservation import MARGIN, outside

_LUMA = (0.299, 0.587, 0.114)


def flicker(image: Pixels, before: Pixels) -> float:
    """1 minus the mean absolute difference of two frames: VBench's temporal flickering (Huang et al., CVPR 2024)."""
    return 1 - float((picture(image) - picture(before)).abs().mean())


def sharpness(image: Pixels, where: Pixels | None = None) -> float | None:
    """Variance of the 4-neighbour Laplacian of luma (Pech-Pacheco et al., ICPR 2000), of values in [0, 1]; `where`
    (H, W) of bools: centred on those pixels, None if there are none."""
    luma = picture(image) @ torch.tensor(_LUMA, dtype=torch.float64)
    second = [1.0, -2.0, 1.0]
    values = filtered(luma, [0.0, 1.0, 0.0], second) + filtered(luma, second, [0.0, 1.0, 0.0])
    if where is not None:
        values = values[where[1:-1, 1:-1]]
    return float(values.var(correction=0)) if values.numel() else None


class Video:
    """A clip's figures. flicker: see above, in [0, 1], 1 is still. flicker_plate: the plate's. sharpness: the result's
    over the plate's, MARGIN pixels from any alpha, so that no edit's own detail counts; 1 is as sharp. unsteady:
    root mean square of the change from frame to frame of what was added to
    the plate, where alpha is 0 in both, times 100: dtSSD's form, on colour; what swims where nothing should.
    """

    def __init__(self) -> None:
        self.means = Means()
        self.before: tuple[torch.Tensor, torch.Tensor, torch.Tensor | None] | None = None

    def add(self, image: Pixels, plate: Pixels, alpha: Pixels | None = None) -> None:
        image, plate = picture(image), picture(plate)
        same_size(image, plate)
        away = None if alpha is None else outside(alpha, MARGIN)
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
