import os
import random
import re
from pathlib import Path

import pytest

from vera.core.errors import InputError
from vera.core.plate.named_files import refuse_absent, refuse_unnameable, refuse_wrong_name
from vera.core.plate.pattern import choose_frames, find_pattern, frame_in_name, hint, parse_frames, show_frames


def test_every_range_reads_back():
    rng = random.Random(1)
    for _ in range(2000):
        first = rng.randint(-3000, 3000)
        last = first + rng.choice([0, 1, rng.randint(0, 5000)])
        frames = parse_frames(f"{first}-{last}")
        assert (frames[0], frames[-1], len(frames)) == (first, last, last - first + 1)
        assert parse_frames(show_frames(frames)) == frames
        assert parse_frames(f" {first} ") == range(first, first + 1)


@pytest.mark.parametrize(
    "text, frames",
    [
        ("-5-10", range(-5, 11)),
        ("-10--5", range(-10, -4)),
        ("-3", range(-3, -2)),
        ("0001-0003", range(1, 4)),
        ("0-0", range(0, 1)),
    ],
)
def test_signs_and_zeros(text, frames):
    assert parse_frames(text) == frames


@pytest.mark.parametrize(
    "text",
    ["", "-", "1-", "a", "1-b", "1001-1049x2", "1,3", "1-2-3", "--5", "1..5", "1.5", "1:5", "١", "1-9999999999"],
)
def test_other_text_is_refused(text):
    with pytest.raises(InputError) as error:
        parse_frames(text)
    assert repr(text) in str(error.value) and "\n" not in str(error.value)


def test_a_reversed_range_is_refused_with_the_fix():
    with pytest.raises(InputError, match="backwards; write 5-10"):
        parse_frames("10-5")


@pytest.mark.parametrize(
    "name, frame, file",
    [
        ("p.####.exr", 7, "p.0007.exr"),
        ("p.####.exr", -5, "p.-005.exr"),
        ("p.####.exr", 12345, "p.12345.exr"),
        ("p.#.exr", 7, "p.7.exr"),
        ("p_%04d.exr", 7, "p_0007.exr"),
        ("p.%04d.exr", -5, "p.-005.exr"),
        ("p.%d.exr", 7, "p.7.exr"),
        ("p%012d.exr", 7, "p000000000007.exr"),
        ("p.@@@.exr", 7, "p.007.exr"),
        ("v01.@.tif", 10, "v01.10.tif"),
        ("####.dpx", 1001, "1001.dpx"),
    ],
)
def test_padding_forms(name, frame, file):
    assert find_pattern(Path("shots") / name).file(frame) == Path("shots") / file


def test_padding_agrees_with_printf():
    for width in range(1, 7):
        pattern = find_pattern(Path(f"a.%0{width}d.exr"))
        assert pattern == find_pattern(Path(f"a.{'#' * width}.exr")) or pattern.width == width
        for frame in (-12345, -100, -7, 0, 1, 99, 1001, 1234567):
            assert pattern.file(frame).name == f"a.%0{width}d.exr" % frame
            assert find_pattern(Path(f"a.{'#' * width}.exr")).file(frame) == pattern.file(frame)
            assert find_pattern(Path(f"a.{'@' * width}.exr")).file(frame) == pattern.file(frame)


@pytest.mark.parametrize(
    "name, words",
    [
        ("p.$F4.exr", "as ####"),
        ("p.$F.exr", "as ####"),
        ("p.<frame04>.exr", "as ####"),
        ("p.<F>.exr", "as ####"),
        ("p.[0001-0100].exr", "as ####"),
        ("p.%V.exr", "the view's name"),
        ("p.exr 1-10", "--frames"),
        ("p.exr", ""),
        ("p1-10.exr", ""),
    ],
)
def test_another_programs_notation_is_named(name, words):
    assert words in hint(Path(name)) and bool(words) == bool(hint(Path(name)))


@pytest.mark.skipif(os.path.normcase("A") == "a", reason="capitals are no difference here")
@pytest.mark.parametrize(
    "name, fits",
    [("p.0002.EXR", True), ("P.-5.exr", True), ("p.0002.exr", False), ("P.000a.exr", False), ("xP.0002.EXR", False)],
)
def test_a_file_in_other_case_is_named(tmp_path, name, fits):
    for file in ("p.0001.exr", name):
        (tmp_path / file).touch()
    assert find_pattern(tmp_path / "p.####.exr").in_other_case() == (name if fits else None)


@pytest.mark.parametrize(
    "there, asked, fix",
    [
        ("p.0001.EXR", "p.####.exr", "p.0001.EXR is written with other capitals"),
        ("P.0001.exr", "p.0001.exr", "P.0001.exr is written with other capitals; copy its name from the folder"),
        ("e\u0301.0001.exr", "\u00e9.####.exr", "is written in another Unicode form; copy its name from the folder"),
        ("\u00e9.0001.exr", "e\u0301.####.exr", "is written in another Unicode form; copy its name from the folder"),
        ("e\u0301.exr", "\u00e9.exr", "is written in another Unicode form; copy its name from the folder"),
        ("e\u0301.mov", "\u00e9.mov", "is written in another Unicode form; copy its name from the folder"),
        ("p.001.exr", "p.####.exr", "p.001.exr is padded otherwise"),
        ("a.exr", "b.exr", "check the name"),
    ],
)
def test_a_file_of_nearly_this_name_is_named(tmp_path, there, asked, fix):
    (tmp_path / there).touch()
    if (tmp_path / asked).exists():
        pytest.skip("this file system takes the two names for one")
    with pytest.raises(InputError, match=fix):
        refuse_wrong_name(tmp_path / asked)


@pytest.mark.parametrize("refuse", [refuse_absent, refuse_wrong_name])
def test_a_directory_is_called_one(tmp_path, refuse):
    with pytest.raises(InputError, match=f"a directory; name its files, such as {tmp_path.name}/plate.####.exr"):
        refuse(tmp_path)


@pytest.mark.parametrize("path", ["~/p.exr", "$HOME/p.exr", "~someone/p.mov"])
def test_names_that_a_shell_replaces_are_named(path):
    with pytest.raises(InputError, match="write the whole path"):
        refuse_wrong_name(Path(path))


@pytest.mark.parametrize("name", ["p\udcff.exr", "p\udcff.####.exr", "a\udcff/p.exr", "a\udcff/../p.exr"])
def test_a_name_that_is_no_utf8_is_refused(tmp_path, name):
    with pytest.raises(InputError, match="not UTF-8; rename it"):
        refuse_wrong_name(tmp_path / name)


def test_a_working_folder_that_is_no_utf8_or_gone_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "getcwd", lambda: "/work\udcff")
    with pytest.raises(InputError, match="not UTF-8; rename it"):
        refuse_unnameable(Path("out"))

    def gone():
        raise FileNotFoundError(2, "No such file or directory")

    monkeypatch.setattr(os, "getcwd", gone)
    with pytest.raises(InputError, match="the working folder is gone"):
        refuse_unnameable(Path("out"))


@pytest.mark.parametrize("name", ["me@home.####.exr", "cam#2.%04d.exr", "#1.@@@@.exr", "####.take#3.exr"])
def test_of_several_patterns_the_one_that_fits_a_file_counts(tmp_path, name):
    token = "%04d" if "%04d" in name else "@@@@" if "@@@@" in name else "####"
    (tmp_path / name.replace(token, "0007")).touch()
    assert find_pattern(tmp_path / name).frames() == [7]


def test_no_pattern_and_too_many():
    assert find_pattern(Path("shot#1/plate.exr")) is None
    with pytest.raises(InputError, match="several frame patterns"):
        find_pattern(Path("a.####.%04d.exr"))


def test_listing_takes_only_exact_padding(tmp_path):
    for name in (
        "p.0001.exr",
        "p.0002.exr",
        "p.-001.exr",
        "p.003.exr",
        "p.00004.exr",
        "p.12345.exr",
        "p.0005.tif",
        "xp.0006.exr",
        "p.0007.exr.bak",
        "p.-0001.exr",
    ):
        (tmp_path / name).touch()
    pattern = find_pattern(tmp_path / "p.####.exr")
    assert pattern.frames() == [-1, 1, 2, 12345]
    assert pattern.badly_padded() == "p.-0001.exr"


def test_names_with_special_characters_are_literal(tmp_path):
    (tmp_path / "a+(1).0001.exr").touch()
    (tmp_path / "aa1.0002.exr").touch()
    assert find_pattern(tmp_path / "a+(1).####.exr").frames() == [1]


@pytest.mark.parametrize(
    "name, frame",
    [
        ("plate.1001.exr", 1001),
        ("plate_-5.png", -5),
        ("plate.exr", None),
        ("still.v002.png", None),
        ("a.20240101123000.jpg", None),
        ("1001.exr", None),
        ("shot-7.exr", None),
    ],
)
def test_frame_in_name(name, frame):
    assert frame_in_name(Path(name)) == frame


def test_choice_against_a_set():
    rng = random.Random(2)
    for _ in range(500):
        there = sorted(rng.sample(range(-20, 20), rng.randint(1, 20)))
        first = rng.randint(-25, 20)
        asked = rng.choice([None, range(first, first + rng.randint(1, 10))])
        wanted = set(range(there[0], there[-1] + 1) if asked is None else asked)
        if wanted <= set(there):
            assert set(choose_frames(asked, there, "p")) == wanted
        else:
            with pytest.raises(InputError) as error:
                choose_frames(asked, there, "p")
            gone = sorted(wanted - set(there))
            assert "only" in str(error.value) or f"frame {gone[0]}" in str(error.value)


def test_a_gap_of_a_billion_frames_is_reported_quickly():
    with pytest.raises(InputError, match=r"frame 2, 3, 4, 5, 6, \.\.\. missing \(999999997 in"):
        choose_frames(None, [1, 999_999_999], "p")


@pytest.mark.parametrize("gap, named", [(1, "1"), (5, "1, 2, 3, 4, 5"), (6, "1, 2, 3, 4, 5, ...")])
def test_at_most_five_missing_frames_are_named(gap, named):
    with pytest.raises(InputError, match=rf"^p: frame {re.escape(named)} missing \({gap} in 0-{gap + 1}\)"):
        choose_frames(None, [0, gap + 1], "p")
