"""Mini's sense of the plate's camera: what is added to a scene moves with it.

A place p of the scene, in halves of the frame's height from the middle, is seen at exp(z) p + (a, b): (a, b, z) is a
view. The camera reads how the view changes from one latent frame of the plate to the next.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vera.core.model.codec import TIME_STRIDE
from vera.core.model.functional import cell_centres, zero_init
from vera.core.model.interfaces import LatentsByFrame

FIT_ROUNDS = 6  # of reweighting; more follows the scene closer where much moves by itself
# How strongly a view without evidence is held at rest (right, down, zoom), of the evidence; higher: calmer views.
REST_PRIOR = (1e-4, 1e-4, 1e-3)
RIDGE = 1e-3  # of the mean square of what is fitted with, added to each; higher: smaller weights
MAX_DISTANCE = 1.0  # halves of the frame's height; a camera that goes farther from its mean is not followed
MAX_LOG_SIZE = -0.478  # of the largest object, see data/engine/clips.py; what is larger fills the frame
MIN_CELLS = 3  # latent cells a side: the slopes of `Camera` need a cell on either side


class Camera(nn.Module):
    """forward(before, now): latents (B, C, H, W) of frames next to each other -> the view of the second one, where the
    first one's is (0, 0, 0), (B, 3) fp32.

    Lucas and Kanade's method on latents: how they change with a move of a cell's width is linear in what lies about
    the cell (`along`, see `fit`), and the view is the least squares' of all cells, with Geman and McClure's weights
    so that what moves by itself counts little.
    """

    def __init__(self, channels: int):
        super().__init__()
        self.along = zero_init(nn.Conv2d(channels, 2 * channels, 3, bias=False))
        self.trust = nn.Parameter(torch.ones(channels))

    def forward(self, before: Tensor, now: Tensor) -> Tensor:
        before, now = before.float(), now.float()
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
            # What changes all over alike is light, not a move.
            uneven, moves = (v - _mean(v, weight) for v in (change, columns))
            weighed = moves * (trust * weight[:, None])[:, None]
            left = torch.einsum("bichw,bjchw->bij", weighed, moves) + prior
            view = torch.linalg.solve(left, torch.einsum("bichw,bchw->bi", weighed, uneven))
            error = (trust * (uneven - torch.einsum("bichw,bi->bchw", moves, view)) ** 2).sum(1)
            weight = (1 + error / error.flatten(1).median(1).values[:, None, None].clamp_min(1e-8)) ** -2
        return torch.cat([view[:, :2], view[:, 2:].clamp(-0.5, 0.5).log1p()], dim=1)

    def slopes(self, latents: Tensor) -> Tensor:
        """(B, C, H, W) -> how they change as the picture moves a cell to the right, and down, (B, 2, C, H - 2,
        W - 2)."""
        return F.conv2d(latents, self.along.weight.float()).unflatten(1, (2, -1))

    @torch.no_grad()
    def fit(self, latents: Tensor, right: Tensor, down: Tensor) -> None:
        """Closed form, from latents (N, C, H, W) and how each changed by a cell's move right and down, of that
        shape."""
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
    """Of (B, ..., h, w) over the cells, weights (B, h, w) -> (B, ..., 1, 1)."""
    weight = weight.view(len(weight), *[1] * (values.ndim - 3), *weight.shape[1:])
    return (values * weight).sum((-2, -1), keepdim=True) / weight.sum((-2, -1), keepdim=True)


@torch.inference_mode()
def follow(camera: Camera, source: LatentsByFrame) -> Tensor:
    """The views of a plate's latents by frame (T, C, H, W), read as sampling/latents.py does: (T, 2, 3) fp32 as each
    latent frame begins and ends, of no shift and no zoom in the mean of the shot.

    At rest throughout where the camera goes far: what is added is to be seen all through the shot. At rest, too, in
    strips of fewer than MIN_CELLS latent cells, which have no inner cell to tell a move by.
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
    # A latent frame's picture is in the middle of its four: it begins and ends beside it.
    change = views.diff(dim=0, prepend=views[:1]) * (TIME_STRIDE - 1) / (2 * TIME_STRIDE)
    return torch.stack([views - change, views + change], dim=1)


def seen(path: Tensor, views: Tensor, aspect: float) -> Tensor:
    """A path (B, T, 2, 3), see `Aim.path`, under views (T, 2, 3), in a frame of that width over its height. What fills
    the frame has no place in the scene and does not move with it."""
    views = views * (path[..., 2:] / MAX_LOG_SIZE).clamp(0, 1)
    shape = path.new_tensor([aspect, 1.0])
    places = path[..., :2] * views[..., 2:].exp() + views[..., :2] / shape
    return torch.cat([places, path[..., 2:] + views[..., 2:]], dim=-1)
