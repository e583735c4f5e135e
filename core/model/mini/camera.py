"""Track the plate's camera on its latents, so that added objects move with the scene.

A scene point p, in half frame heights from the middle, appears at exp(z) p + (a, b); (a, b, z) is a view. `Camera`
estimates the change of the view from one latent frame of the plate to the next.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vera.core.model.codec import TIME_STRIDE
from vera.core.model.functional import cell_centres, zero_init
from vera.core.model.interfaces import LatentsByFrame

FIT_ROUNDS = 6  # rounds of reweighting; raising it follows the scene better where many things move by themselves
# Precision of the prior "no movement" (right, down, zoom), relative to the evidence. Raising it gives calmer views.
REST_PRIOR = (1e-4, 1e-4, 1e-3)
RIDGE = 1e-3  # ridge of the fit, relative to the inputs' mean square; raising it gives smaller weights
MAX_DISTANCE = 1.0  # half frame heights; a camera that moves farther from its mean is not followed
MAX_LOG_SIZE = -0.478  # log size of the largest object, see data/engine/clips.py; larger ones fill the frame
MIN_CELLS = 3  # latent cells a side: the slopes of `Camera` need a cell on either side


class Camera(nn.Module):
    """forward(before, now): the view (B, 3), fp32, of the second of two adjacent latent frames (B, C, H, W), if the
    view of the first is (0, 0, 0).

    This is Lucas and Kanade's method on latents. The change of a cell's latents under a move by one cell is a linear
    function of its 3x3 neighbourhood (`along`, see `fit`). The view is the least-squares solution over all cells, with
    Geman and McClure's weights, so that independently moving things count little. Of latents with more channels than
    it was made for, the first ones are used.
    """

    def __init__(self, channels: int):
        super().__init__()
        self.along = zero_init(nn.Conv2d(channels, 2 * channels, 3, bias=False))
        self.trust = nn.Parameter(torch.ones(channels))

    def forward(self, before: Tensor, now: Tensor) -> Tensor:
        before, now = (latents[:, : len(self.trust)].float() for latents in (before, now))
        height, width = before.shape[2:]
        slopes = self.slopes((before + now) / 2)  # (B, 2, C, h, w), without the outermost cells
        change = (now - before)[:, :, 1:-1, 1:-1]
        y, x = (
            cell_centres(height, now.device)[1:-1, None],
            cell_centres(width, now.device)[None, 1:-1] * (width / height),
        )
        columns = torch.cat([slopes, (slopes[:, 0] * x + slopes[:, 1] * y)[:, None]], dim=1) * (height / 2)
        trust = self.trust.float().view(1, -1, 1, 1)
        weight = torch.ones_like(change[:, 0])
        prior = torch.diag(change.new_tensor(REST_PRIOR)) * columns.pow(2).mul(trust).sum((1, 2, 3, 4))[
            :, None, None
        ].clamp_min(1e-6)
        for _ in range(FIT_ROUNDS):
            # A change that is equal everywhere is a change of light, not a movement.
            uneven, moves = (v - _mean(v, weight) for v in (change, columns))
            weighed = moves * (trust * weight[:, None])[:, None]
            left = torch.einsum("bichw,bjchw->bij", weighed, moves) + prior
            view = torch.linalg.solve(left, torch.einsum("bichw,bchw->bi", weighed, uneven))
            error = (trust * (uneven - torch.einsum("bichw,bi->bchw", moves, view)) ** 2).sum(1)
            weight = (1 + error / error.flatten(1).median(1).values[:, None, None].clamp_min(1e-8)) ** -2
        return torch.cat([view[:, :2], view[:, 2:].clamp(-0.5, 0.5).log1p()], dim=1)

    def slopes(self, latents: Tensor) -> Tensor:
        """Changes (B, 2, C, H - 2, W - 2) of latents (B, C, H, W) as the picture moves one cell right, and one down."""
        return F.conv2d(latents, self.along.weight.float()).unflatten(1, (2, -1))

    @torch.no_grad()
    def fit(self, latents: Tensor, right: Tensor, down: Tensor) -> None:
        """Fit in closed form, from latents (N, C, H, W) and their changes by a move of one cell right and down, each
        (N, C, H, W)."""
        latents, right, down = (each[:, : len(self.trust)] for each in (latents, right, down))
        about = F.unfold(latents.double(), 3).transpose(1, 2).flatten(0, 1)  # (cells, 9 C)
        wanted = torch.cat([right, down], dim=1)[:, :, 1:-1, 1:-1].double().movedim(1, -1).flatten(0, 2)
        square = about.T @ about
        weight = torch.linalg.solve(
            square + RIDGE * square.diagonal().mean() * torch.eye(len(square), dtype=square.dtype), about.T @ wanted
        )
        self.along.weight.copy_(weight.T.unflatten(1, (-1, 3, 3)))
        off = (wanted - about @ weight).pow(2).mean(0).unflatten(0, (2, -1)).mean(0)
        self.trust.copy_(off.mean() / off)


def _mean(values: Tensor, weight: Tensor) -> Tensor:
    """Weighted mean of (B, ..., h, w) over the cells, weights (B, h, w) -> (B, ..., 1, 1)."""
    weight = weight.view(len(weight), *[1] * (values.ndim - 3), *weight.shape[1:])
    return (values * weight).sum((-2, -1), keepdim=True) / weight.sum((-2, -1), keepdim=True)


@torch.inference_mode()
def follow(camera: Camera, source: LatentsByFrame) -> Tensor:
    """The views at the beginning and end of each latent frame of a plate (T, C, H, W), (T, 2, 3) fp32.

    Their mean over the shot is (0, 0, 0). All views are zero if the camera moves farther than MAX_DISTANCE, because
    added objects must stay visible for the whole shot. They are also zero in strips of fewer than MIN_CELLS latent
    cells, where movement cannot be measured.
    """
    device = camera.trust.device
    if min(source.shape[-2:]) < MIN_CELLS:
        return torch.zeros(source.shape[0], 2, 3)
    steps = [camera(*source.read(k - 1, k + 1)[:, None].to(device))[0].cpu() for k in range(1, source.shape[0])]
    views = [torch.zeros(3, dtype=torch.float64)]
    for a, b, zoom in (step.double().tolist() for step in steps):
        x, y, z = views[-1].tolist()
        views.append(torch.tensor([x * math.exp(zoom) + a, y * math.exp(zoom) + b, z + zoom], dtype=torch.float64))
    views = torch.stack(views)
    scales = (views[:, 2] - views[:, 2].mean()).exp()
    shifts = views[:, :2] - scales[:, None] * views[:, :2].mean(0) / scales.mean()
    views = torch.cat([shifts, scales.log()[:, None]], dim=1).float()
    views = views * (views.abs().max() <= MAX_DISTANCE)
    # The picture of a latent frame is in the middle of its four frames, between their beginning and end.
    change = views.diff(dim=0, prepend=views[:1]) * (TIME_STRIDE - 1) / (2 * TIME_STRIDE)
    return torch.stack([views - change, views + change], dim=1)


def seen(path: Tensor, views: Tensor, aspect: float) -> Tensor:
    """A path (B, T, 2, 3), see `Aim.path`, moved by views (T, 2, 3). aspect: the frame's width over its height.

    Objects that fill the frame have no position in the scene and are not moved.
    """
    views = views * (path[..., 2:] / MAX_LOG_SIZE).clamp(0, 1)
    shape = path.new_tensor([aspect, 1.0])
    places = path[..., :2] * views[..., 2:].exp() + views[..., :2] / shape
    return torch.cat([places, path[..., 2:] + views[..., 2:]], dim=-1)
