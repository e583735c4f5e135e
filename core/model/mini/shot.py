"""What mini knows of a whole shot beside the window that it looks at."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from vera.core.model.interfaces import LatentsByFrame
from vera.core.model.mini.camera import Camera, follow
from vera.core.model.mini.drawing import moments


@dataclass(frozen=True)
class MiniShot:
    """Of T latent frames; the drawing asks for all of it but the times.

    progress  (T, 2)        how far through the shot each latent frame begins and ends, 0 to 1, see `moments`
    views     (T, 2, 3)     how the plate's camera moved, see camera.py; None: it is at rest
    path      (B, T, 2, 3)  where an object goes, see `Aim.path`, where training knows it; None: the words tell
    times     (T,)          positions in latent time, where frames are not consecutive; None: 0 .. T-1
    """

    progress: Tensor
    views: Tensor | None = None
    path: Tensor | None = None
    times: Tensor | None = None

    @classmethod
    def whole(cls, frames: int) -> MiniShot:
        """Of a shot that is no longer than its window, by a camera at rest."""
        return cls(moments(range(frames), frames))

    @classmethod
    def read(cls, camera: Camera | None, source: LatentsByFrame, mask: LatentsByFrame | None, window: int) -> MiniShot:
        """Of a plate and its mask. What moves is laid out over a window at least.

        camera: what reads the plate's moves; None does not. A mask that moves says by itself how the plate does.
        """
        frames = source.shape[0]
        shot = cls(moments(range(frames), max(frames, window)))
        if camera is None or not is_still(mask):
            return shot
        return replace(shot, views=follow(camera, source))

    def window(self, start: int, stop: int) -> MiniShot:
        """Latent frames start .. stop-1."""
        part = slice(start, stop)
        views, times = (None if each is None else each[part] for each in (self.views, self.times))
        return MiniShot(self.progress[part], views, None if self.path is None else self.path[:, part], times)


def is_still(mask: LatentsByFrame | None) -> bool:
    """Whether a mask says nothing of how the plate moves: there is none, or all its frames are alike."""
    return mask is None or all(torch.equal(mask.read(k, k + 1), mask.read(0, 1)) for k in range(1, mask.shape[0]))
