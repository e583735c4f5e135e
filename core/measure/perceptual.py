"""LPIPS, the perceptual distance of Zhang et al., "The Unreasonable Effectiveness of Deep Features", CVPR 2018.

Version 0.1, AlexNet or VGG16. No package that works offline contains the weights; the user provides them as one
safetensors file, see docs/evaluation.md.
"""

from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file

from vera.core.errors import InputError
from vera.core.measure.measured_planes import Pixels, picture

# Per stage: indices of the convolutions in torchvision's `features`, with the pooling before them.
_ALEX = ((0,), ("pool", 3), ("pool", 6), (8,), (10,))
_VGG = ((0, 2), ("pool", 5, 7), ("pool", 10, 12, 14), ("pool", 17, 19, 21), ("pool", 24, 26, 28))
# ImageNet's mean and deviation of each channel, for values in [-1, 1].
_SHIFT, _SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)
_FIX = "docs/evaluation.md explains how to make the file"
MIN_SIDE = 64  # pixels: smallest side of a picture that the networks accept


class Lpips:
    """lpips(a, b): the distance of two pictures (H, W, 3) in [0, 1], 0 for equal ones; in fp32 on `device`.

    path: a safetensors file with the names of `LPIPS(net="alex" or "vgg").state_dict()` of the package lpips. Raises
    InputError for any other file, and ValueError for pictures with a side below MIN_SIDE.
    """

    def __init__(self, path: str | Path, device: torch.device | str = "cpu") -> None:
        try:
            weights = load_file(path, device=str(device))
        except Exception as error:  # safetensors raises several kinds of exceptions
            raise InputError(f"--lpips {path}: not a readable safetensors file ({error}); {_FIX}") from None
        self.is_vgg = "net.slice1.2.weight" in weights
        self.device = device
        try:
            self.stages = [
                [step if step == "pool" else _convolution(weights, f"net.slice{n}.{step}") for step in stage]
                for n, stage in enumerate(_VGG if self.is_vgg else _ALEX, 1)
            ]
            self.heads = [weights[f"lin{n}.model.1.weight"] for n in range(len(self.stages))]
        except KeyError as error:
            raise InputError(f"--lpips {path}: lacks {error}; {_FIX}") from None

    @torch.inference_mode()
    def __call__(self, image: Pixels, plate: Pixels) -> float:
        values = torch.stack([picture(image), picture(plate)]).to(self.device, torch.float32).movedim(-1, 1)
        if min(values.shape[2:]) < MIN_SIDE:
            size = f"{values.shape[3]}x{values.shape[2]}"
            raise ValueError(f"a frame of {size} is too small for LPIPS, {MIN_SIDE}x{MIN_SIDE}")
        shift, scale = (torch.tensor(v, device=values.device)[:, None, None] for v in (_SHIFT, _SCALE))
        values, distance = (2 * values - 1 - shift) / scale, 0.0
        for number, (stage, head) in enumerate(zip(self.stages, self.heads)):
            for step in stage:
                values = self._pool(values) if step == "pool" else self._convolved(values, number, *step)
            directions = values / (values.square().sum(1, keepdim=True).sqrt() + 1e-10)
            distance += float(F.conv2d((directions[:1] - directions[1:]).square(), head).mean())
        return distance

    def _pool(self, values: torch.Tensor) -> torch.Tensor:
        return F.max_pool2d(values, 2 if self.is_vgg else 3, 2)

    def _convolved(self, values: torch.Tensor, stage: int, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        first = stage == 0 and not self.is_vgg
        padding = 2 if first else weight.shape[-1] // 2
        return F.conv2d(values, weight, bias, stride=4 if first else 1, padding=padding).relu()


def _convolution(weights: dict[str, torch.Tensor], name: str) -> tuple[torch.Tensor, torch.Tensor]:
    return weights[f"{name}.weight"], weights[f"{name}.bias"]
