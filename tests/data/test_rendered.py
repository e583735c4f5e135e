"""The clips that Cycles rendered ahead are exact layers too, of what their labels say."""

import pytest

from core.data import words
from core.data.rendered import folders, read_clip
from core.evaluation.figures import centres, nearest_color

HELD_OUT = folders()


def test_there_are_some():
    assert len(HELD_OUT) >= 4 and len({read_clip(f).labels["object"] for f in HELD_OUT}) >= 3


@pytest.mark.parametrize("folder", HELD_OUT, ids=lambda f: f.name)
def test_a_rendered_clip(folder):
    clip = read_clip(folder)
    assert clip.source.shape == clip.edit.shape == (9, 3, 80, 144) and clip.alpha.shape == clip.mask.shape == (9, 1, 80, 144)
    again = clip.alpha.double() * clip.edit.double() + (1 - clip.alpha.double()) * clip.source.double()
    assert (clip.composite - again).abs().max() < 1e-6
    assert (clip.alpha == 0).float().mean() > 0.5 and clip.alpha.max() > 0.99 and (clip.mask[clip.alpha > 0.05] == 1).all()
    assert nearest_color(clip.edit.transpose(0, 1), clip.alpha[:, 0]) == clip.labels["color"]
    middle = centres(clip.alpha[:, 0])[:, 0] * 2 / (144 / 80) - 1
    if clip.labels["motion"] in ("still", "rising", "falling"):
        assert (middle - words.PLACES[clip.labels["place"]][0]).abs().max() < 0.12
