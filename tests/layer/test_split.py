"""A layer as gain, shadow, veil and object: each holds what was planted, and laid in order they are the whole."""

import numpy as np
import OpenImageIO as oiio
import pytest

from vera.core.layer.outputs.split import SPLIT_LAYERS
from vera.core.layer.split import Kinds, split_layer

SIZE = (40, 60)
HALF_A_CODE = 0.5 / 255


def ramp(start, stop):
    """0 before column `start`, 1 from `stop` on, (H, W) float32."""
    return np.clip((np.arange(SIZE[1]) - start) / (stop - start), 0, 1).astype(np.float32)[None].repeat(SIZE[0], 0)


def band(start, stop, soft=3):
    return ramp(start, start + soft) * (1 - ramp(stop - soft, stop))


@pytest.fixture
def plate():
    return np.random.default_rng(1).uniform(0.05, 0.9, (*SIZE, 3)).astype(np.float32)


def planted(plate, gain_color=(0.4, 0.6, 1.5), object_alpha=band(42, 56)):
    """A layer with a gain left, a shadow and a veil in the middle, an object with soft edges right, over both."""
    gain, shadow, veil = band(2, 24), 0.5 * band(20, 40), 0.4 * band(36, 50)
    image = plate * (1 + gain[..., None] * (np.array(gain_color, np.float32) - 1))
    thin = np.maximum(shadow, veil)
    dark = (shadow >= veil).astype(np.float32)
    veil_color = np.array([0.7, 0.75, 0.8], np.float32) * (1 - dark[..., None])
    image = (1 - thin[..., None]) * image + thin[..., None] * veil_color
    image = (1 - object_alpha[..., None]) * image + object_alpha[..., None] * np.array([0.9, 0.1, 0.1], np.float32)
    over = 1 - (1 - thin) * (1 - object_alpha)
    alpha = 1 - (1 - over) * (1 - gain)
    layer = np.concatenate([image - (1 - alpha[..., None]) * plate, alpha[..., None]], -1).astype(np.float32)
    solid = np.divide(object_alpha, over, out=np.zeros_like(over), where=over > 0)
    share = np.divide((1 - over) * gain, alpha, out=np.zeros_like(alpha), where=alpha > 0)
    return layer, Kinds(solid, dark, share), image


def laid(layers, plate):
    """The layers on the plate in the order of the table, by OpenImageIO."""
    image = oiio.ImageBuf(np.ascontiguousarray(np.concatenate([plate, np.ones((*plate.shape[:2], 1))], -1), np.float32))
    for name, channels in SPLIT_LAYERS.items():
        pixels = np.ascontiguousarray(layers[name], np.float32)
        if channels == "RGB":
            pixels = np.concatenate([pixels, np.ones((*pixels.shape[:2], 1), np.float32)], -1)
            image = oiio.ImageBufAlgo.mul(image, oiio.ImageBuf(pixels))
        else:
            image = oiio.ImageBufAlgo.over(oiio.ImageBuf(pixels), image)
    return image.get_pixels(oiio.FLOAT)[..., :3]


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_the_layers_laid_in_order_are_the_composite(plate, dtype):
    layer, kinds, image = planted(plate)
    assert np.abs(laid(split_layer(layer, plate, kinds, dtype), plate) - image).max() < HALF_A_CODE


def test_wrong_shares_move_light_between_layers_and_change_no_pixel(plate):
    """Shares are a guess; the sum is none."""
    layer, _, image = planted(plate)
    guess = np.random.default_rng(2).uniform(0, 1, (3, *SIZE)).astype(np.float32)
    assert np.abs(laid(split_layer(layer, plate, Kinds(*guess)), plate) - image).max() < HALF_A_CODE


def test_a_black_plate_under_a_gain_is_laid_over(plate):
    """What is black cannot be multiplied into light."""
    plate = plate * (np.arange(SIZE[1]) % 7 > 0)[None, :, None]
    layer, kinds, image = planted(plate)
    layer[..., :3] += 0.05 * kinds.gain[..., None]
    layers = split_layer(layer, plate, kinds)
    assert np.abs(laid(layers, plate) - (image + 0.05 * kinds.gain[..., None])).max() < HALF_A_CODE


def test_each_layer_holds_what_was_planted(plate):
    layer, kinds, _ = planted(plate)
    layers = split_layer(layer, plate, kinds, np.float32)
    assert np.allclose(layers["gain"][:, 8:18], (0.4, 0.6, 1.5), atol=1e-3)
    assert np.allclose(layers["shadow"][:, 26:34, 3], 0.5, atol=1e-3) and layers["shadow"][..., :3].max() < 1e-3
    assert np.allclose(layers["veil"][:, 40:42, :3], 0.4 * np.array([0.7, 0.75, 0.8]), atol=2e-3)
    assert (layers["object"][:, 46:52, 3] > 0.999).all() and (layers["object"][:, :40] == 0).all()


def test_an_objects_edge_over_a_shadow_is_the_objects_alone(plate):
    """Without the shadow, no dark line is left round the object."""
    alpha = band(24, 36)
    layer, kinds, _ = planted(plate, object_alpha=alpha)
    edge = (alpha > 0.2) & (alpha < 0.9)
    color = split_layer(layer, plate, kinds, np.float32)["object"]
    straight = color[edge][:, :3] / color[edge][:, 3:]
    assert np.allclose(straight, (0.9, 0.1, 0.1), atol=0.02)


def test_where_the_layer_is_empty_every_layer_is(plate):
    layer, kinds, _ = planted(plate)
    layers = split_layer(layer, plate, kinds)
    empty = layer[..., 3] == 0
    assert empty.any() and (layers["gain"][empty] == 1).all()
    assert all((layers[name][empty] == 0).all() for name in ("shadow", "veil", "object"))
