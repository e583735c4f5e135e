"""Find people in a picture: MediaPipe's selfie segmentation as plain layers.

The network and its weights are Google's (Apache-2.0, see core/weights/people/README.md): a MobileNetV3-like encoder
down to 16x16, and a decoder that gates each finer feature map by the mean of the map joined to it. It was trained on
people near a camera and does not find distant people, animals or puppets.
"""

from functools import cache
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import nn

WEIGHTS = Path(__file__).parents[1] / "weights/people/selfie_segmentation.safetensors"
SIZE = 256  # side in pixels of its input; pictures of any shape are resized to it


@cache
def load_people() -> "People":
    """The network with its weights, on the CPU in fp32."""
    people = People()
    people.load_state_dict({name: value.float() for name, value in load_file(WEIGHTS).items()})
    return people.eval().requires_grad_(False)


class People(nn.Module):
    """Maps pictures (N, 3, H, W), encoded, in [0, 1], to the confidence that a pixel shows a person, (N, 1, H, W)."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = SameConv2d(3, 16, 3, stride=2)
        self.near = InvertedResidual(16, 16, 16, 3, nn.ReLU(), squeeze=8, stride=2)
        self.wide = InvertedResidual(16, 72, 24, 3, nn.ReLU(), stride=2)
        self.middle = InvertedResidual(24, 88, 24, 3, nn.ReLU())
        widths = ((24, 96, 24, 2), (32, 128, 32, 1), (32, 128, 32, 1), (32, 96, 24, 1), (32, 96, 24, 1))
        self.far = nn.Sequential(*(InvertedResidual(i, w, 32, 5, nn.Hardswish(), q, s) for i, w, q, s in widths))
        self.whole = nn.Conv2d(32, 128, 1)
        self.whole_gate = nn.Conv2d(32, 128, 1)
        self.joins = nn.ModuleList((Join(128, 24), Join(24, 16), Join(16, 16)))
        self.out = nn.ConvTranspose2d(16, 1, 2, 2)

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        """(N, 3, H, W) -> (N, 1, H, W)."""
        size = pictures.shape[2:]
        resized = F.interpolate(pictures, (SIZE, SIZE), mode="bilinear", antialias=True)
        half = F.hardswish(self.stem(resized))
        quarter = self.near(half)
        eighth = self.middle(self.wide(quarter))
        deep = self.far(eighth)
        x = F.relu(self.whole(deep)) * self.whole_gate(mean(deep)).sigmoid()
        for join, finer in zip(self.joins, (eighth, quarter, half)):
            x = join(x, finer)
        return F.interpolate(self.out(x).sigmoid(), size, mode="bilinear", antialias=True)


class SameConv2d(nn.Conv2d):
    """A convolution padded as TensorFlow's "same": with a stride, one pixel less before than after."""

    def __init__(self, channels: int, out: int, kernel: int, stride: int = 1, groups: int = 1) -> None:
        super().__init__(channels, out, kernel, stride, groups=groups)
        self.before, self.after = (kernel - stride) // 2, kernel - stride - (kernel - stride) // 2

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(F.pad(x, (self.before, self.after) * 2))


class InvertedResidual(nn.Module):
    """An inverted residual block, (N, channels, H, W) -> (N, out, H / stride, W / stride).

    squeeze: channels of a squeeze-and-excitation gate; 0: no gate
    """

    def __init__(
        self, channels: int, width: int, out: int, kernel: int, act: nn.Module, squeeze: int = 0, stride: int = 1
    ):
        super().__init__()
        self.act, self.residual = act, channels == out and stride == 1
        self.expand = nn.Conv2d(channels, width, 1)
        self.spatial = SameConv2d(width, width, kernel, stride, groups=width)
        self.gate = Gate(width, squeeze) if squeeze else None
        self.project = nn.Conv2d(width, out, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.act(self.spatial(self.act(self.expand(x))))
        y = self.project(y if self.gate is None else y * self.gate(y))
        return x + y if self.residual else y


class Gate(nn.Module):
    """One factor per channel, (N, C, 1, 1), computed from the mean of (N, C, H, W) over all pixels."""

    def __init__(self, width: int, squeeze: int) -> None:
        super().__init__()
        self.inner, self.outer = nn.Conv2d(width, squeeze, 1), nn.Conv2d(squeeze, width, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.outer(F.relu(self.inner(mean(x)))).sigmoid()


class Join(nn.Module):
    """Coarse features (N, coarse, H, W), enlarged and joined with finer ones (N, fine, 2 H, 2 W)."""

    def __init__(self, coarse: int, fine: int) -> None:
        super().__init__()
        self.narrow = nn.Conv2d(coarse, fine, 1)
        self.gate = Gate(fine, fine)
        self.mix = nn.Conv2d(fine, fine, 1)
        self.spatial = SameConv2d(fine, fine, 3, groups=fine)

    def forward(self, coarse: torch.Tensor, fine: torch.Tensor) -> torch.Tensor:
        enlarged = self.narrow(F.interpolate(coarse, scale_factor=2, mode="bilinear"))
        x = F.relu(self.mix(fine * self.gate(fine + enlarged) + enlarged))
        return x + F.relu(self.spatial(x))


def mean(x: torch.Tensor) -> torch.Tensor:
    """Mean over all pixels, (N, C, 1, 1)."""
    return x.mean((2, 3), keepdim=True)
