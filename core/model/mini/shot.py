"""mini's conditioning on a whole shot."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from vera.core.model.interfaces import LatentsByFrame
from vera.core.model.mini.camera import Camera, follow
from vera.core.model.mini.drawing import moments


@dataclass(frozen=True)
class MiniShot:
    """Conditioning of T latent frames. The drawing uses all fields but the times.

    progress  (T, 2)        position in the shot of each latent frame's beginning and end, 0 to 1, see `moments`
    views     (T, 2, 3)     of the plate's camera, see camera.py; None: it is at rest
    path      (B, T, 2, 3)  true path of the object in training, see `Aim.path`; None: read from the words
    times     (T,)          positions in latent time of frames that are not consecutive; None: 0 .. T-1
    """

    progress: Tensor
    views: Tensor | None = None
    path: Tensor | None = None
    times: Tensor | None = None

    @classmethod
    def whole(cls, frames: int) -> MiniShot:
        """The conditioning of a shot of one window with a camera at rest."""
        return cls(moments(range(frames), frames))

    @classmethod
    def read(cls, camera: Camera | None, source: LatentsByFrame, mask: LatentsByFrame | None, window: int) -> MiniShot:
        """The conditioning of a plate and its mask. Movements are spread over one window at least.

        camera: tracks the plate's movement; None takes it as at rest. A moving mask already contains that movement.
        """
        frames = source.shape[0]
        shot = cls(moments(range(frames), max(frames, window)))
        if camera is None or not is_still(mask):
            return shot
        return replace(shot, views=follow(camera, source))

    def window(self, start: int, stop: int) -> MiniShot:
        """The conditioning of latent frames start .. stop-1."""
        part = slice(start, stop)
        views, times = (None if each is None else each[part] for each in (self.views, self.times))
        return MiniShot(self.progress[part], views, None if self.path is None else self.path[:, part], times)


def is_still(mask: LatentsByFrame | None) -> bool:
    """Whether a mask contains no movement: there is none, or all its frames are equal."""
    return mask is None or all(torch.equal(mask.read(k, k + 1), mask.read(0, 1)) for k in range(1, mask.shape[0]))
