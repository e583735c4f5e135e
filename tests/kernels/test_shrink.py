import numpy as np
import pytest
import torch
import torch.nn.functional as F

from vera.kernels.part import Part
from vera.kernels.shrink import alpha_box, reference, reference_box, shrunk

KINDS = (np.uint8, np.uint16, np.uint32, np.float16, np.float32)


def image_of(kind, shape=(41, 60, 3)):
    values = np.random.default_rng(0).random(shape)
    return (values * (1 if np.dtype(kind).kind == "f" else np.iinfo(kind).max)).astype(kind)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [(20, 30), (7, 11), (41, 60), (90, 61)])
@pytest.mark.parametrize("channels", [3, 4])
def test_it_is_a_triangular_filter(kind, size, channels):
    image = image_of(kind, (41, 60, channels))
    whole = Part(0, size[0], 0, size[1])
    planes = torch.from_numpy(image.astype(np.float64)).permute(2, 0, 1)[None]
    truth = F.interpolate(planes, size=size, mode="bilinear", antialias=True)[0].permute(1, 2, 0).numpy()
    for made in (shrunk(image, size, whole, np.inf), reference(image, size, whole, np.inf)):
        assert np.abs(made - truth).max() < 4e-6 * image.max()


@pytest.mark.parametrize("step", [(1, 1), (2, 3)])
def test_a_part_has_the_bits_of_the_whole(step):
    image = image_of(np.float16)[:: step[0], :: step[1]]
    whole = shrunk(image, (15, 13), Part(0, 15, 0, 13), np.inf)
    assert np.array_equal(whole, shrunk(np.ascontiguousarray(image), (15, 13), Part(0, 15, 0, 13), np.inf))
    for part in (Part(0, 15, 0, 13), Part(3, 4, 12, 13), Part(7, 15, 0, 5)):
        assert np.array_equal(shrunk(image, (15, 13), part, np.inf), whole[part.slices])


@pytest.mark.parametrize("kind", [np.float16, np.float32])
def test_values_are_bounded_and_a_nan_is_0(kind):
    image = np.zeros((2, 4, 3), kind)
    image[0, :, 0] = [np.nan, np.inf, -np.inf, 3]
    image[1, :, 0] = [-np.nan, 0.25, -0.0, -(2.0**-24)]
    made = shrunk(image, (2, 4), Part(0, 2, 0, 4), 2.0)[..., 0]
    assert made.tolist() == [[0, 2, -2, 2], [0, 0.25, 0, -(2.0**-24) if kind is np.float16 else made[1, 3]]]


def test_every_half_is_itself():
    bits = np.arange(65536, dtype=np.uint16)
    halves = bits[(bits & 0x7C00) != 0x7C00].view(np.float16)[: 3 * 21160].reshape(40, -1, 3)
    made = shrunk(halves, halves.shape[:2], Part(0, 40, 0, halves.shape[1]), np.inf)
    assert np.array_equal(made, halves.astype(np.float32))


@pytest.mark.parametrize("kind", [np.float16, np.float32])
@pytest.mark.parametrize(
    "there", [[], [(0, 0)], [(4, 6)], [(1, 5), (3, 2)], [(y, x) for y in range(5) for x in range(7)]]
)
def test_the_box_holds_every_pixel_with_alpha(kind, there):
    layer = np.zeros((5, 7, 4), kind)
    layer[2, 2, :3] = 1  # colour alone
    layer[0, 1, 3] = -0.0
    for y, x in there:
        layer[y, x, 3] = np.finfo(kind).smallest_subnormal
    count, part = alpha_box(layer)
    assert (count, part) == reference_box(layer) and count == len(there)
    if there:
        rows, columns = zip(*there)
        assert part == (min(rows), max(rows) + 1, min(columns), max(columns) + 1)
