"""Changes that multiply the plate: found as a gain, made of the plate's own detail; veils and objects are none."""

from dataclasses import replace

import pytest
import torch

from vera.core.lifting.gain import LIMITS, Comparison, find_gain
from vera.core.lifting.layers import VeilFit, hides_texture, transmission
from vera.core.lifting.lift_window import lift_clip, plate_sized
from vera.core.lifting.matching import same_size
from vera.core.lifting.smooth import blur

WIDTH, HEIGHT = 160, 100


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def plate():
    """Three frames of texture of every size, (3, 3, 100, 160)."""
    gen = torch.Generator().manual_seed(4)
    video = sum(s * blur(torch.randn(1, 3, HEIGHT, WIDTH, generator=gen), s) for s in (0.8, 2.0, 6.0, 15.0))
    return (0.45 + 0.13 * video / video.std()).clamp(0.03, 1).repeat(3, 1, 1, 1)


def as_returned(video, seed=1):
    """Softer, and noisy as a light codec leaves it."""
    noise = 0.008 * torch.randn(video.shape, generator=torch.Generator().manual_seed(seed))
    return (blur(video, 0.6) + noise).clamp(0, 1)


def disc(radius, soft=1.0):
    y, x = torch.meshgrid(torch.arange(HEIGHT), torch.arange(WIDTH), indexing="ij")
    return ((radius - ((x - 80) ** 2 + (y - 50) ** 2).float().sqrt()) / soft + 0.5).clamp(0, 1)


def everywhere(seen, clean):
    """A comparison of a plate and an edited video that has changed everywhere."""
    region = torch.ones_like(seen[:, :1])
    return Comparison(seen, clean, region, 1e-4 * region)


def composite(lifted, plate):
    return lifted.alpha * lifted.color + (1 - lifted.alpha) * plate


def psnr(a, b):
    return -10 * float((a - b).square().mean().log10())


NIGHT = torch.tensor([0.25, 0.3, 0.5])[:, None, None]
WARM = torch.tensor([1.25, 1.0, 0.7])[:, None, None]


def test_day_to_night_is_the_plates_detail_in_other_light(plate):
    night = plate * NIGHT + plate * 0.5 * torch.exp(-(((disc(200, 200) - 1) / 0.15) ** 2))
    edited = as_returned(night)
    lifted = lift_clip(plate, edited)
    assert (lifted.alpha > 0.99).float().mean() > 0.97
    assert psnr(composite(lifted, plate), night) > psnr(edited, night) + 5


def test_a_patch_of_warm_light_has_a_solid_matte_and_nothing_beside(plate):
    lit = torch.lerp(plate, (plate * WARM).clamp(0, 1), disc(30))
    edited = as_returned(lit)
    lifted = lift_clip(plate, edited)
    assert (lifted.alpha[..., disc(26) == 1] > 0.99).float().mean() > 0.97
    assert (lifted.alpha[..., disc(36) == 0] == 0).float().mean() > 0.99
    assert psnr(composite(lifted, plate), lit) > psnr(edited, lit) + 4


def test_a_light_that_clips_is_a_gain_where_the_rest_tells_it(plate):
    """A third of the picture becomes white: what is no longer told there is carried on from beside it."""
    bright = (plate + 0.25).clamp(0, 1)
    lit = (bright * 1.6).clamp(0, 1)
    assert 0.3 < float((lit == 1).float().mean()) < 0.8
    edited = as_returned(lit)
    gain = find_gain(everywhere(bright, edited), edited)
    assert gain is not None and float((gain.lit(bright) - lit).abs().mean()) < 0.02


def test_a_grades_curve_is_found(plate):
    """Colours to a power, darker by a factor: both are separated, and detail follows the curve's slope."""
    graded = 0.6 * plate**1.4
    gain = find_gain(everywhere(plate, as_returned(graded)), graded)
    assert gain is not None and (gain.curve - 1.4).abs().max() < 0.15
    assert float((gain.lit(plate) - graded).abs().mean()) < 0.01
    step = (gain.lit(plate + 0.01) - gain.lit(plate)) / 0.01
    assert float((gain.slope(plate) - step).abs().mean()) < 0.03


def test_a_light_on_most_of_the_frame_takes_the_rest_with_it(plate):
    """It fades to a change as small as drift: a layer that ended there would show its edge."""
    light = torch.linspace(1.8, 0.96, WIDTH)
    edited = as_returned((plate * light).clamp(0, 1))
    lifted = lift_clip(plate, edited)
    assert lifted.alpha.min() > 0.9
    assert psnr(composite(lifted, plate), (plate * light).clamp(0, 1)) > psnr(edited, (plate * light).clamp(0, 1)) + 3


def test_a_faint_gain_is_followed_to_where_it_ends(plate):
    """What was found ends where a tenth more light is half of it; the matte goes on, ever thinner, and no further."""
    y, x = torch.meshgrid(torch.arange(HEIGHT), torch.arange(WIDTH), indexing="ij")
    strength = torch.exp(-((((x - 80.0) ** 2 + (y - 50.0) ** 2) / 30**2) ** 3)).expand(3, 1, -1, -1)
    lit = torch.lerp(plate, plate * 1.1, strength)
    clean, found = as_returned(lit), (strength > 0.6).float()
    seen = blur(plate, 0.6)
    gain = find_gain(Comparison(seen, clean, found, torch.full_like(found, 1e-4)), clean - seen)
    assert gain is not None
    rim, far = (strength > 0.35) & (strength < 0.6), strength < 0.01
    assert float((gain.matte - strength)[rim].abs().mean()) < 0.2 and float((gain.matte[rim] > 0).float().mean()) > 0.9
    assert float((gain.matte[far] > 0).float().mean()) < 0.02


@pytest.mark.parametrize("kind", ["veil", "object", "shadow"])
def test_what_is_no_gain_is_none(plate, kind):
    color = torch.tensor([0.8, 0.8, 0.85])[:, None, None]
    gen = torch.Generator().manual_seed(2)
    solid = (0.5 + 0.1 * torch.randn(1, 3, HEIGHT, WIDTH, generator=gen)).clamp(0, 1)
    over = {
        "veil": torch.lerp(plate, color.expand_as(plate), 0.5 * disc(30, 20)),
        "object": torch.lerp(plate, solid, disc(25)),
        "shadow": plate * (1 - 0.5 * disc(25, 6)),
    }[kind]
    assert not lift_clip(plate, as_returned(over)).detail.any()


@pytest.mark.parametrize("own, found", [(0.0, True), (0.01, True), (0.1, False), (0.15, False)])
def test_a_change_that_a_gain_explains_in_part_is_no_gain(plate, own, found):
    """A light of a tenth, with texture of its own as a codec makes where something moves."""
    texture = blur(torch.randn(plate.shape, generator=torch.Generator().manual_seed(2)), 1.5)
    region = disc(30).round().expand(3, 1, -1, -1)
    lit = (plate * 1.1 + own * texture / texture.std()).clamp(0, 1)
    clean = torch.lerp(plate, lit, region)
    compared = Comparison(plate, clean, region, 1e-4 * torch.ones_like(region))
    assert (find_gain(compared, clean - plate) is not None) == found
    assert find_gain(compared, clean - plate, replace(LIMITS, explains=-9.0)) is not None


def test_a_gains_colour_has_the_large_plates_detail(plate):
    """Lifted at half the size, laid over at the whole: sharper than what was lifted."""
    lit = (plate * WARM).clamp(0, 1)
    half = (HEIGHT // 2, WIDTH // 2)
    small = same_size(plate, half)
    color, detail = (small * WARM).clamp(0, 1)[0], WARM.expand(3, *half)
    large, alpha = plate_sized(color, torch.ones(1, *half), plate[0].movedim(0, -1), detail)
    assert alpha.min() == 1 and psnr(large, lit[0]) > 33
    without, _ = plate_sized(color, torch.ones(1, *half), plate[0].movedim(0, -1))
    assert psnr(large, lit[0]) > psnr(without, lit[0]) + 8


def test_a_kept_subjects_edge_leaves_nothing_faint_beside_it():
    """The plate's colours explain the edge; its grain beside the edge would be explained as a little of the layer."""
    alpha, gen = disc(20)[None], torch.Generator().manual_seed(4)
    picture = 0.5 - 0.4 * alpha + 0.04 * torch.randn(3, HEIGHT, WIDTH, generator=gen)
    large = plate_sized(picture, alpha, picture.movedim(0, -1))[1]
    assert not ((large > 0) & (large < 0.1) & (alpha == 0)).any()


def test_a_garment_in_another_colour_is_opaque_not_a_veil(plate):
    """Purple to green: the texture is the plate's, in a channel that hardly had any. A matte that can be graded."""
    garment = torch.lerp(plate * 0.5, plate * torch.tensor([0.55, 0.16, 0.45])[:, None, None], disc(30))
    green = plate * torch.tensor([0.0, 0.7, 0.2])[:, None, None]
    edited = as_returned(torch.lerp(garment, green, disc(30)))
    lifted = lift_clip(garment, edited)
    assert (lifted.alpha[..., disc(25) == 1] > 0.95).float().mean() > 0.95


@pytest.mark.parametrize("contrast, is_veil", [(0.5, True), (1.2, False)])
def test_more_contrast_than_a_veil_leaves_is_no_veils(plate, contrast, is_veil):
    """Half of a colour over the plate: with half of its texture a veil, with all of it the plate recoloured."""
    seen = 0.1 + 0.4 * plate
    thin, nothing = torch.full_like(seen[:, :1], 0.5), torch.zeros_like(seen[:, :1])
    color = torch.tensor([0.1, 0.7, 0.3])[:, None, None].expand_as(seen)
    smooth = blur(seen, 12.0)
    clean = as_returned(torch.lerp(smooth, color, 0.5) + contrast * (seen - smooth))
    nats = transmission(everywhere(seen, clean), VeilFit(thin, color, nothing), nothing, nothing)
    assert ((nats > 0) == is_veil).float().mean() > 0.95


def test_a_flat_sky_over_a_white_one_is_opaque():
    """Nothing shows through that could tell: what is without evidence is no veil."""
    gen = torch.Generator().manual_seed(1)
    plate = torch.full((3, 3, HEIGHT, WIDTH), 0.93)
    plate[..., 60:, :] = 0.35 + 0.45 * blur(torch.randn(1, 3, HEIGHT - 60, WIDTH, generator=gen), 1.5)
    plate = (plate + 0.006 * torch.randn(plate.shape, generator=gen)).clamp(0, 1)
    composed = plate.clone()
    composed[..., :58, :] = torch.tensor([0.62, 0.8, 0.95])[:, None, None]
    lifted = lift_clip(plate, as_returned(composed))
    assert lifted.alpha[..., 4:54, 4:-4].min() > 0.98 and (lifted.alpha[..., 64:, :] == 0).float().mean() > 0.99


def test_a_new_background_has_no_shadows_of_the_old_one(plate):
    """Dark parts of it could be shadows on the plate, whose texture does not show."""
    gen = torch.Generator().manual_seed(9)
    new = (0.75 + 0.1 * blur(torch.randn(1, 3, HEIGHT, WIDTH, generator=gen), 1.0)).clamp(0, 1).repeat(3, 1, 1, 1)
    dark = 0.3 + 0.25 * blur(torch.randn(1, 1, 14, WIDTH, generator=gen), 2.0)
    new[..., 84:98, :] = dark.clamp(0.05, 1)
    lifted = lift_clip(plate, as_returned(torch.lerp(new, plate, disc(20))))
    assert float((lifted.alpha[..., 88:94, :] > 0.9).float().mean()) > 0.98


@pytest.mark.parametrize("shown, hidden", [(0.0, 1.0), (0.8, 0.0), (1.0, 0.0)])
def test_faint_texture_that_does_not_show_is_hidden(shown, hidden):
    """A new background as bright as the old one, whose texture is fainter than the noise of one pixel."""
    gen = torch.Generator().manual_seed(6)
    texture = blur(torch.randn(1, 3, HEIGHT, WIDTH, generator=gen), 1.5)
    seen = (0.3 + 0.012 * texture / texture.std()).repeat(3, 1, 1, 1)
    clean = 0.4 + shown * (seen - 0.3) + 0.012 * torch.randn(seen.shape, generator=gen)
    thin = torch.full_like(seen[:, :1], 0.15)
    assert float(hides_texture(seen, clean, thin, torch.ones_like(thin)).float().mean()) == pytest.approx(
        hidden, abs=0.02
    )
