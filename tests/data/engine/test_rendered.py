"""The clips rendered by Cycles compose exactly and match their labels."""

import pytest

from vera.core.data.engine.rendered import folders, read_clip
from vera.core.evaluation.labelled_figures import centres, nearest_color
from vera.core.model.mini import words

HELD_OUT = folders()


def test_at_least_four_rendered_clips_are_shipped():
    assert len(HELD_OUT) >= 4 and len({read_clip(f).labels["object"] for f in HELD_OUT}) >= 3


@pytest.mark.parametrize("folder", HELD_OUT, ids=lambda f: f.name)
def test_a_rendered_clip_composes_exactly_and_matches_its_labels(folder):
    clip = read_clip(folder)
    assert clip.source.shape == clip.edit.shape == (9, 3, 80, 144) and clip.alpha.shape == clip.mask.shape == (
        9,
        1,
        80,
        144,
    )
    again = clip.alpha.double() * clip.edit.double() + (1 - clip.alpha.double()) * clip.source.double()
    assert (clip.composite - again).abs().max() < 1e-6
    assert (
        (clip.alpha == 0).float().mean() > 0.5 and clip.alpha.max() > 0.99 and (clip.mask[clip.alpha > 0.05] == 1).all()
    )
    assert nearest_color(clip.edit.transpose(0, 1), clip.alpha[:, 0]) == clip.labels["color"]
    middle = centres(clip.alpha[:, 0])[:, 0] * 2 / (144 / 80) - 1
    if clip.labels["motion"] in ("still", "rising", "falling"):
        assert (middle - words.PLACES[clip.labels["place"]][0]).abs().max() < 0.12


@pytest.mark.parametrize("folder", HELD_OUT, ids=lambda f: f.name)
def test_the_path_matches_the_object_s_box_in_alpha(folder):
    """The box of alpha above a shadow's has the path's centre and the labelled height."""
    clip = read_clip(folder)
    for alpha, (x, y, size) in zip(clip.alpha[:, 0], clip.path):
        rows, columns = ((alpha > 0.75).any(d).nonzero().flatten().float() for d in (1, 0))
        middle = (columns[0] + columns[-1] + 1) / 144 - 1, (rows[0] + rows[-1] + 1) / 80 - 1
        assert abs(middle[0] - x) < 0.08 and abs(middle[1] - y) < 0.12
        assert 0.55 < (rows[-1] + 1 - rows[0]) / 80 / size.exp() < 1.15
