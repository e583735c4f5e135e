"""LPIPS with random weights against a plain reference; not tested with the published weights."""

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from vera.core.errors import InputError
from vera.core.measure.perceptual import Lpips

ALEX = [(3, 64, 11, 4, 2), "p", (64, 192, 5, 1, 2), "p", (192, 384, 3, 1, 1), (384, 256, 3, 1, 1), (256, 256, 3, 1, 1)]
VGG = [(3, 8), (8, 8), "p", (8, 12), (12, 12), "p", (12, 16), (16, 16), (16, 16), "p"]
VGG += [(16, 20), (20, 20), (20, 20), "p", (20, 20), (20, 20), (20, 20)]  # narrower than the real one


def network(kind):
    """torchvision's `features`, and the index after which each stage of LPIPS ends."""
    layers = []
    for step in ALEX if kind == "alex" else VGG:
        if step == "p":
            layers.append(nn.MaxPool2d(3, 2) if kind == "alex" else nn.MaxPool2d(2, 2))
        else:
            layers += [nn.Conv2d(*(step if kind == "alex" else (*step, 3, 1, 1))), nn.ReLU()]
    return nn.Sequential(*layers).double(), ([1, 4, 7, 9, 11] if kind == "alex" else [3, 8, 15, 22, 29])


def saved(kind, path):
    torch.manual_seed(3)
    net, taps = network(kind)
    heads = [
        torch.rand(1, net[max(i for i in range(t) if isinstance(net[i], nn.Conv2d))].out_channels, 1, 1) for t in taps
    ]
    names = {f"lin{n}.model.1.weight": h for n, h in enumerate(heads)}
    for index, layer in enumerate(net):
        stage = 1 + sum(index > t for t in taps)
        for part in ("weight", "bias") if isinstance(layer, nn.Conv2d) else ():
            names[f"net.slice{stage}.{index}.{part}"] = getattr(layer, part).detach().float()
    save_file(names, path)
    return net, taps, heads


def reference(net, taps, heads, a, b):
    shift, scale = np.array([-0.030, -0.088, -0.188]), np.array([0.458, 0.448, 0.450])
    total, values = 0.0, [torch.from_numpy(((v * 2 - 1 - shift) / scale).transpose(2, 0, 1))[None] for v in (a, b)]
    for index, layer in enumerate(net):
        values = [layer(v) for v in values]
        if index in taps:
            x, y = (v[0].detach().numpy() for v in values)
            x, y = (v / (np.sqrt((v**2).sum(0)) + 1e-10) for v in (x, y))
            weight = heads[taps.index(index)].double().numpy().ravel()
            total += np.einsum("c,chw->hw", weight, (x - y) ** 2).mean()
    return total


@pytest.mark.parametrize("kind", ("alex", "vgg"))
def test_lpips_equals_a_reference_of_the_published_formula(kind, tmp_path):
    parts = saved(kind, tmp_path / "w.safetensors")
    lpips = Lpips(tmp_path / "w.safetensors")
    rng = np.random.default_rng(1)
    for size in ((64, 65), (71, 90)):
        a, b = rng.random((*size, 3)), rng.random((*size, 3))
        expected = reference(*parts, a, b)
        assert expected > 0.1 and lpips(a, b) == pytest.approx(expected, abs=1e-4)
        assert lpips(a, a) == 0


def test_a_file_that_is_not_lpips_weights_is_refused(tmp_path):
    (tmp_path / "bad").write_bytes(b"\x80\x04pickle")
    with pytest.raises(InputError, match="not a readable safetensors file"):
        Lpips(tmp_path / "bad")
    save_file({"lin0.model.1.weight": torch.zeros(1)}, tmp_path / "few.safetensors")
    with pytest.raises(InputError, match="lacks 'net.slice1.0.weight'"):
        Lpips(tmp_path / "few.safetensors")


def test_pictures_below_64_pixels_are_refused(tmp_path):
    saved("vgg", tmp_path / "w.safetensors")
    with pytest.raises(ValueError, match="80x63 is too small"):
        Lpips(tmp_path / "w.safetensors")(np.zeros((63, 80, 3)), np.zeros((63, 80, 3)))
