"""Alpha, colour and subject at plate size, and specks: the native kernels against their references, and truths."""

import numpy as np
import pytest
import torch

from tests.layer import scenes
from vera.core.layer.matte import plate_fit
from vera.core.layer.outline import outline
from vera.core.plate.fit import shrink
from vera.kernels import area_means, plate_size, specks, subject
from vera.kernels.part import Part, Window
from vera.kernels.planes import pull_push

needs_native = pytest.mark.skipif(plate_size.outlined_alpha is None, reason="kernels._native is not built")


def mixed_scene(size=scenes.PLATE, new=(0.2, 0.35, 0.2)):
    """matte, subject, plate, new background (H, W, 3): all float32 tensors."""
    m = scenes.subject(size=size)
    own, old = scenes.texture((0.35, 0.2, 0.15), 1, size=size), scenes.texture((0.5, 0.6, 0.7), 2, size=size)
    plate = m[..., None] * own + (1 - m[..., None]) * old
    return tuple(map(torch.from_numpy, (m, own, plate.astype(np.float32), scenes.texture(new, 6, size=size))))


@needs_native
@pytest.mark.parametrize("size", [scenes.PLATE, (81, 97), (40, 50), (1, 7)])
def test_plate_alpha_is_its_reference(size):
    m, _, plate, _ = mixed_scene()
    plate = plate_size.resize(plate, size).clamp(0, 1).contiguous()
    alpha = torch.from_numpy(scenes.decoded(1 - m.numpy()))
    fit, edge = plate_fit(alpha, shrink(mixed_scene()[2], alpha.shape[1], alpha.shape[0])), outline(alpha)
    fit[:, 50:, 4] = 0  # where the edge is new
    found, meant = (
        plate_size.plate_alpha(alpha, fit, edge, plate, 3.6),
        plate_size.reference_alpha(alpha, fit, edge, plate, 3.6),
    )
    for f, r in zip(found, meant):
        assert f.shape == r.shape == size and (f - r).abs().max() < 1e-4
    color = torch.from_numpy(scenes.decoded(mixed_scene()[2].numpy()))
    hole = found[0] * (torch.arange(size[1]) > 3)
    assert (plate_size.plate_color(color, hole) - plate_size.reference_color(color, hole)).abs().max() < 1e-5
    assert not plate_size.plate_color(color, hole)[:, :4].any()


@pytest.mark.parametrize("part", [Part(0, 1, 0, 1), Part(3, 50, 20, 41), Part(31, 81, 0, 97)])
def test_a_part_is_that_of_the_whole(part):
    size, here = (81, 97), part.slices
    plate = plate_size.resize(mixed_scene()[2], size).clamp(0, 1).contiguous()
    alpha = torch.from_numpy(scenes.decoded(1 - mixed_scene()[0].numpy()))
    fit, edge = plate_fit(alpha, shrink(mixed_scene()[2], alpha.shape[1], alpha.shape[0])), outline(alpha)
    color, window = torch.from_numpy(scenes.decoded(mixed_scene()[2].numpy())), Window(size, part)
    for alpha_of in (plate_size.plate_alpha, plate_size.reference_alpha):
        whole = alpha_of(alpha, fit, edge, plate, 3.6)
        found = alpha_of(alpha, fit, edge, plate[here], 3.6, window)
        assert all(torch.equal(f, w[here]) for f, w in zip(found, whole))
    for color_of in (plate_size.plate_color, plate_size.reference_color):
        assert torch.equal(color_of(color, whole[0][here], window), color_of(color, whole[0])[here])


@needs_native
@pytest.mark.parametrize("kind, channels", [(np.uint8, 3), (np.uint16, 4), (np.float16, 3)])
@pytest.mark.parametrize("size", [(2, 3), (7, 11), (20, 31), (41, 60)])
def test_area_means_are_their_reference(kind, channels, size):
    bits = np.dtype(f"u{np.dtype(kind).itemsize}")
    codes = np.random.default_rng(0).integers(0, np.iinfo(bits).max, (41, 70, channels), bits, endpoint=True)
    table = np.random.default_rng(1).random(256**bits.itemsize, np.float32)
    pixels = codes.view(kind)[:, 4:64]
    found = area_means.area_means(pixels, table, size)
    assert torch.equal(found, area_means.reference(codes[:, 4:64], table, size))


@needs_native
@pytest.mark.parametrize("size", [(90, 110), (61, 77), (1, 9)])
def test_free_subject_is_its_reference(size):
    m, _, plate, new = mixed_scene(size)
    kept = torch.rand(size, generator=torch.Generator().manual_seed(0))
    kept[:, : size[1] // 4] = 0
    found = subject.free_subject(new, 1 - m, kept, plate)
    meant = subject.reference(new, 1 - m, kept, plate)
    # Colour divides by alpha: what counts is their product.
    assert (found[0] * found[1][..., None] - meant[0] * meant[1][..., None]).abs().max() < 1e-5
    assert (found[1] - meant[1]).abs().max() < 1e-5


def test_the_old_background_is_gone_from_a_kept_subject():
    """Residue against the layer as the model gives it (the paper's way), matte known: 0.06 to 0.1."""
    m, own, plate, _ = mixed_scene()
    clear = (m > 0.02) & (m < 0.98)
    for new in ((0.2, 0.35, 0.2), (0.02, 0.02, 0.03), (0.95, 0.9, 0.9)):  # alpha must rise, most over black
        back = torch.tensor(new).expand_as(plate)
        wanted = m[..., None] * own + (1 - m[..., None]) * back
        left = []
        for edit, alpha in (subject.free_subject(back, 1 - m, torch.ones_like(m), plate), (back, 1 - m)):
            laid = alpha[..., None] * edit + (1 - alpha[..., None]) * plate
            left.append((laid - wanted).abs()[clear].mean().item())
        print(f"residue {1e3 * left[1]:.1f}e-3 -> {1e3 * left[0]:.1f}e-3: {left[0] / left[1]:.2f}")
        assert left[0] < 0.2 * left[1]


def test_only_the_translucent_kept_part_changes_and_alpha_only_rises():
    m, _, plate, new = mixed_scene()
    alpha, kept = 1 - m, (torch.arange(m.shape[1]) > m.shape[1] // 2).float().expand_as(m).contiguous()
    edit, raised = subject.free_subject(new, alpha, kept, plate)
    same = (alpha == 0) | (alpha == 1) | (kept == 0)
    assert torch.equal(edit[same], new[same]) and torch.equal(raised[same], alpha[same])
    assert (raised >= alpha).all() and (raised > alpha).any() and raised.max() <= 1
    assert edit.min() >= 0 and edit.max() <= 1
    for still in (torch.zeros_like(m), torch.ones_like(m)):  # nothing translucent: nothing done, nothing copied
        assert subject.free_subject(new, still, kept, plate)[0] is new


@needs_native
def test_remove_specks_is_its_reference():
    rng = np.random.default_rng(0)
    for share in (0.2, 0.4):
        alpha = (rng.random((60, 70)) * (rng.random((60, 70)) < share) * 0.1).astype(np.float32)
        found = specks.remove_specks(alpha, 0.02, 0.08, 6)
        assert np.array_equal(found, specks.reference(alpha, 0.02, 0.08, 6))
        assert 0 < np.count_nonzero(found) < np.count_nonzero(alpha)


def test_pull_push_keeps_what_is_trusted_and_fills_the_rest_between():
    planes = torch.rand(1, 2, 23, 31, generator=torch.Generator().manual_seed(0))
    trust = (torch.rand(1, 1, 23, 31, generator=torch.Generator().manual_seed(1)) < 0.1).float()
    filled = pull_push(planes, trust)
    sure = trust.expand_as(planes) > 0
    assert (filled - planes)[sure].abs().max() < 1e-6
    assert filled.min() >= planes[sure].min() - 1e-6 and filled.max() <= planes[sure].max() + 1e-6


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_cuda_it_is_as_on_the_cpu():
    m, _, plate, new = mixed_scene()
    alpha = torch.from_numpy(scenes.decoded(1 - m.numpy()))
    small = shrink(plate, alpha.shape[1], alpha.shape[0])
    made = []
    for device in ("cpu", "cuda"):
        a, p = alpha.to(device), plate.to(device)
        found, kept = plate_size.plate_alpha(a, plate_fit(a, small.to(device)), outline(a), p, 3.6)
        edit = plate_size.plate_color(small.to(device).movedim(0, -1), found)
        freed = subject.free_subject(new.to(device), found, kept, p)
        made.append([x.cpu() for x in (found, kept, edit, freed[0] * freed[1][..., None], freed[1])])
    for on_cpu, on_cuda in zip(*made):
        assert (on_cpu - on_cuda).abs().max() < 1e-3


@pytest.mark.parametrize("size", [(31, 50), (30, 37), (16, 25), (7, 3), (1, 2)])
@pytest.mark.parametrize("layout", ["planes", "channels side by side", "a part"])
def test_shrunk_planes_are_their_reference(size, layout):
    noise = torch.Generator().manual_seed(4)
    planes = {
        "planes": torch.rand(2, 3, 31, 50, generator=noise),
        "channels side by side": torch.rand(1, 31, 50, 3, generator=noise).movedim(-1, 1),
        "a part": torch.rand(2, 3, 40, 60, generator=noise)[:, :, 5:36, 4:54],
    }[layout]
    found = area_means.shrunk_planes(planes, size)
    assert found.shape == (*planes.shape[:2], *size)
    assert torch.equal(found[0], area_means.reference_planes(planes[0], size))
    assert torch.equal(found[-1], area_means.reference_planes(planes[-1], size))


def test_shrunk_planes_keep_their_type():
    planes = torch.rand(3, 12, 20, generator=torch.Generator().manual_seed(4)).double()
    found = area_means.shrunk_planes(planes, (6, 10))
    assert found.dtype == torch.float64
    assert torch.allclose(found, planes.unflatten(2, (10, 2)).unflatten(1, (6, 2)).mean((2, 4)), atol=1e-15)
