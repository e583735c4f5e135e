"""What leaves the node, computed through the gizmo's own graph."""

import os

import numpy as np
import OpenImageIO as oiio
import pytest

from tests.nuke_plugin.conftest import load
from tests.nuke_plugin.pixels import CHANNELS, Pictures, read_exr


@pytest.fixture
def pictures(nuke, edit):
    random = np.random.default_rng(3)
    plate = random.normal(0.3, 2, (48, 64, 4)).astype("float32")
    plate[0, 0] = np.nan
    plate[0, 1, 0] = np.inf
    layer = np.zeros((48, 64, 4), "float32")
    layer[3:6, 5:9] = random.uniform(0, 1, (3, 4, 4))
    layer[4, 6] = (0.5, 0.25, 2.0, 1.0)
    return plate, layer


def output(edit, which, plate, layer, shown=1):
    edit["output"].setValue(which)
    edit["result_shown"].setValue(shown)
    return Pictures(Read1=plate, Layer=layer).picture(edit, 1001)


def test_the_composite_is_the_plate_bit_for_bit_where_alpha_is_0(edit, pictures):
    plate, layer = pictures
    made = output(edit, "composite", plate, layer)
    outside = layer[..., 3] == 0
    bits = lambda picture: picture.view("uint32")  # noqa: E731  NaN too
    assert np.array_equal(bits(made)[outside], bits(plate)[outside])
    assert np.array_equal(bits(made)[..., 3], bits(plate)[..., 3])
    inside = ~outside
    over = layer[..., :3].astype(float) + plate[..., :3].astype(float) * (1 - layer[..., 3:].astype(float))
    assert np.allclose(made[inside][:, :3], over[inside], atol=1e-6)
    assert np.array_equal(made[4, 6, :3], layer[4, 6, :3])


def test_the_outputs(edit, pictures):
    plate, layer = pictures
    assert np.array_equal(output(edit, "edit layer", plate, layer), layer)
    matte = output(edit, "matte", plate, layer)
    assert all(np.array_equal(matte[..., c], layer[..., 3]) for c in range(4))
    difference = output(edit, "difference", plate, layer)[..., :3]
    assert (difference[1:][layer[1:, :, 3] == 0] == 0).all() and difference[4, 6].any()


@pytest.mark.parametrize("which", ["edit layer", "matte"])
def test_before_the_first_render_there_is_no_layer(edit, pictures, which):
    """Nor anything of the plate's NaN; and the Read, which has no file, is not asked."""
    plate, _ = pictures
    assert (output(edit, which, plate, None, shown=0) == 0).all()
    assert np.array_equal(output(edit, "composite", plate, None, shown=0), plate, equal_nan=True)


def facts_of_file(pattern):
    """What Nuke's reader says of a file."""
    file = pattern.replace("####", "1001")
    if not os.path.isfile(file):
        return {}
    spec = oiio.ImageInput.open(file).spec()
    kind = {"half": "16-bit half float", "float": "32-bit float"}[str(spec.format)]
    channels = [name for letter, name in zip("RGBA", CHANNELS) if letter in spec.channelnames]
    return {
        "input/width": spec.full_width,
        "input/height": spec.full_height,
        "input/bitsperchannel": kind,
        "channels": channels,
        "bbox": (spec.x, spec.y, spec.width, spec.height),
    }


def test_verify_holds_in_the_stand_in(nuke, built, tmp_path, capsys, monkeypatch):
    """The script for Nuke itself; what it writes and samples is made by the pictures here."""
    pictures = Pictures()
    nuke.painter = pictures.paint
    frame = [1001]
    monkeypatch.setattr(nuke, "frame", lambda number: frame.__setitem__(0, number), raising=False)

    def sample(node, channel, x, y):
        picture = pictures.picture(node, frame[0])
        return float(picture[picture.shape[0] - 1 - int(y), int(x), CHANNELS.index(channel)])

    monkeypatch.setattr(nuke, "sample", sample, raising=False)
    monkeypatch.setattr(nuke, "probe", facts_of_file)
    with nuke.headless():
        verify = load(built / "verify.py", "verify")
        failed = verify.main([str(tmp_path / "work")])
    said, errors = capsys.readouterr()
    assert not failed and said.count("ok  ") == 12, said + errors
    listed = (built / "VERIFY.md").read_text()
    assert [number for number, _, _ in verify.CHECKS] == list(range(1, 13))
    assert all(f"\n| {number} | " in listed for number in range(1, 13)) and "\n| 13 |" not in listed
    comp = read_exr(tmp_path / "work" / "comp" / "comp.1002.exr")
    assert comp.shape == (48, 64, 3)


def test_verify_fails_where_nuke_is_not_as_it_is_taken_to_be(nuke, built, tmp_path, capsys, monkeypatch):
    """A Read that does not follow its link, and a render that beforeRender cannot stop."""
    pictures = Pictures()
    nuke.painter = pictures.paint
    monkeypatch.setattr(nuke, "frame", lambda number: None, raising=False)
    monkeypatch.setattr(nuke, "sample", lambda node, channel, x, y: 0.25, raising=False)
    nuke._before_render.clear()
    with nuke.headless():
        verify = load(built / "verify.py", "verify")
        monkeypatch.setattr(nuke, "pluginAddPath", lambda path: None)
        assert verify.main([str(tmp_path / "work")]) == 1
    said = capsys.readouterr().out
    for number in (3, 4, 5, 7):
        assert f"FAILED  {number:2}" in said, said
