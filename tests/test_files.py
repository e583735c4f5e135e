import json
import os
import sys

import pytest

from vera.core import files
from vera.core.files import Either, FileLock, JsonError, JsonLimits, LockHeldError


def names(folder):
    return sorted(path.name for path in folder.iterdir())


# ---- Writing --------------------------------------------------------------------------


def test_json_is_whole_or_absent(tmp_path):
    path = tmp_path / "a.json"
    files.write_json(path, {"größe": [1, 2]})
    with pytest.raises(TypeError):
        files.write_json(path, {"no JSON": object()})
    assert json.loads(path.read_text(encoding="utf-8")) == {"größe": [1, 2]}
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]


def test_a_file_is_flushed_to_the_disk_before_it_takes_its_name(tmp_path, monkeypatch):
    path, seen = tmp_path / "a.json", []
    monkeypatch.setattr(os, "fsync", lambda descriptor: seen.append((os.fstat(descriptor).st_ino, path.exists())))
    files.write_json(path, [1])
    assert seen == [(path.stat().st_ino, False)]


@pytest.fixture
def precious(tmp_path):
    """A file outside, which no link may let a write reach."""
    (tmp_path / "out").mkdir()
    file = tmp_path / "precious.txt"
    file.write_text("precious")
    return file


@pytest.mark.parametrize("name", ["a.json", "a.part.json"])
@pytest.mark.parametrize("link", [os.symlink, os.link])
def test_a_link_in_the_place_of_a_file_is_replaced_and_never_followed(tmp_path, precious, name, link):
    link(precious, tmp_path / "out" / name)
    files.write_json(tmp_path / "out/a.json", [1])
    assert precious.read_text() == "precious" and names(tmp_path / "out") == ["a.json"]
    assert not (tmp_path / "out/a.json").is_symlink() and json.loads((tmp_path / "out/a.json").read_text()) == [1]


def test_a_part_file_replaced_by_a_link_is_not_used(tmp_path, precious):
    with pytest.raises(OSError, match="link"):
        with files.replacing(tmp_path / "out/a.json") as part:
            part.unlink()
            part.symlink_to(precious)
    assert precious.read_text() == "precious" and names(tmp_path / "out") == []


@pytest.mark.parametrize("place", ["png", "png/deeper"])
@pytest.mark.parametrize("kind", ["link", "file"])
def test_a_folder_is_not_made_through_a_link_or_a_file(tmp_path, place, kind):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "out" / place).parent.mkdir(parents=True)
    if kind == "link":
        (tmp_path / "out" / place).symlink_to(tmp_path / "elsewhere")
    else:
        (tmp_path / "out" / place).write_text("")
    with pytest.raises(NotADirectoryError):
        files.make_folder(tmp_path / "out", "png/deeper/still")
    assert names(tmp_path / "elsewhere") == []


def test_a_folder_that_is_reached_through_a_link_is_the_users_own_choice(tmp_path):
    (tmp_path / "disk").mkdir()
    (tmp_path / "out").symlink_to(tmp_path / "disk")
    files.make_folder(tmp_path / "out", "png")
    assert names(tmp_path / "disk") == ["png"]


# ---- Reading --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text, problem",
    [
        (b"", "not JSON"),
        (b"{", "not JSON"),
        (b"\xff{}", "not UTF-8"),
        (b'"\\ud800"', "not UTF-8"),
        (b'{"a": 1, "a": 2}', "'a' is there twice"),
        (b"[" * 50 + b"]" * 50, "deeper than 32"),
        (b"[" * 100_000, "deeper than 32"),
        (b'{"a":' * 100_000, "deeper than 32"),
        (b"9" * 5000, "5000 digits"),
        (b"0." + b"9" * 5000, "5002 digits"),
        (b"NaN", "NaN"),
        (b"[-Infinity]", "Infinity"),
        (b"1e999", "not a finite number"),
        (b'"' + b"x" * 200 + b'"', "larger than 150 bytes"),
    ],
)
def test_json_that_no_good_file_holds_is_refused_in_one_short_line(tmp_path, text, problem):
    (tmp_path / "a.json").write_bytes(text)
    limits = JsonLimits(bytes=150) if len(text) < 250 else JsonLimits()
    with pytest.raises(JsonError, match=problem) as refused:
        files.read_json(tmp_path / "a.json", limits=limits)
    assert len(str(refused.value)) < 120 and "\n" not in str(refused.value)


@pytest.mark.parametrize("text", [b"[" * 32 + b"]" * 32, b"9" * 40, b'{"a": {"a": 1}}', '"ü"'.encode()])
def test_json_within_the_limits_is_read(tmp_path, text):
    (tmp_path / "a.json").write_bytes(text)
    assert files.read_json(tmp_path / "a.json") == json.loads(text)


SHAPE = {"n": int, "x?": float, "names": [str], "who?": Either(str, type(None)), "deep?": {"b": bool}}


@pytest.mark.parametrize(
    "value, problem",
    [
        ([], "it is not an object"),
        ({"names": []}, "n is missing"),
        ({"n": True, "names": []}, "n is not a whole number: True"),
        ({"n": 1.0, "names": []}, "n is not a whole number: 1.0"),
        ({"n": "../../pwned", "names": []}, "n is not a whole number"),
        ({"n": 1, "names": "ab"}, "names is not an array"),
        ({"n": 1, "names": ["a", 2]}, r"names\[1\] is not text: 2"),
        ({"n": 1, "names": [], "x": "1"}, "x is not a number"),
        ({"n": 1, "names": [], "who": 3}, "who is not text or null"),
        ({"n": 1, "names": [], "deep": {}}, "deep.b is missing"),
        ({"n": "x" * 10**7, "names": []}, "n is not a whole number: 'xxx"),
    ],
)
def test_a_value_of_another_shape_is_refused_by_its_place(value, problem):
    with pytest.raises(JsonError, match=problem) as refused:
        files.check_shape(value, SHAPE)
    assert len(str(refused.value)) < 120


@pytest.mark.parametrize("more", [{}, {"x": 1}, {"x": 0.5}, {"who": None}, {"who": "me"}, {"unknown": []}])
def test_a_value_of_the_shape_is_taken(more):
    files.check_shape({"n": 1, "names": ["a"], **more}, SHAPE)


@pytest.mark.parametrize("kind", ["link", "folder", "fifo", "absent"])
def test_only_regular_files_are_read(tmp_path, kind):
    place = tmp_path / "a.json"
    if kind == "link":
        (tmp_path / "other.json").write_text("[]")
        place.symlink_to(tmp_path / "other.json")
    elif kind == "folder":
        place.mkdir()
    elif kind == "fifo":
        os.mkfifo(place)
    assert not files.is_regular(place)
    for read in (files.read_json, files.read_sealed_json, files.file_digest):
        with pytest.raises(OSError):
            read(place)
    assert files.read_json_or(place, 7) == 7


def test_a_link_is_read_where_the_user_named_it(tmp_path):
    (tmp_path / "other.json").write_text("[]")
    (tmp_path / "a.json").symlink_to(tmp_path / "other.json")
    assert files.read_json(tmp_path / "a.json", follow_links=True) == []


def test_sealed_json_notices_every_changed_byte(tmp_path):
    path = tmp_path / "a.json"
    files.write_sealed_json(path, {"frame": 1001, "mean": 0.1, "words": "grün", "none": None})
    whole = path.read_bytes()
    assert files.read_sealed_json(path)["frame"] == 1001
    for place in range(len(whole)):
        for change in (1, 0x20):
            path.write_bytes(whole[:place] + bytes([whole[place] ^ change]) + whole[place + 1 :])
            with pytest.raises(JsonError):
                files.read_sealed_json(path)
    for damaged in (whole[:-1], whole + b" ", b"", whole.replace(b"1001", b"1002")):
        path.write_bytes(damaged)
        with pytest.raises(JsonError):
            files.read_sealed_json(path)


def test_sealed_json_holds_no_nan(tmp_path):
    with pytest.raises(ValueError):
        files.write_sealed_json(tmp_path / "a.json", {"mean": float("nan")})
    assert names(tmp_path) == []


# ---- Locks ------------------------------------------------------------------------------


def test_a_lock_has_one_holder_and_says_who(tmp_path):
    lock = FileLock(tmp_path / "lock", "process 7 on here")
    with pytest.raises(LockHeldError, match="process 7 on here") as held:
        FileLock(tmp_path / "lock")
    assert held.value.holder == "process 7 on here"
    lock.release(remove=True)
    assert names(tmp_path) == []
    FileLock(tmp_path / "lock").release()


def test_a_lock_whose_file_was_removed_is_not_taken(tmp_path, monkeypatch):
    """Between opening and locking, its holder ended and removed it: the file that others see is another."""
    first, lock = FileLock(tmp_path / "lock"), files._lock

    def removed_meanwhile(descriptor):
        monkeypatch.setattr(files, "_lock", lock)
        first.release(remove=True)
        lock(descriptor)

    monkeypatch.setattr(files, "_lock", removed_meanwhile)
    second = FileLock(tmp_path / "lock")
    assert names(tmp_path) == ["lock"]
    with pytest.raises(LockHeldError):
        FileLock(tmp_path / "lock")
    second.release()


@pytest.mark.skipif(sys.platform == "win32", reason="links need rights there")
def test_a_lock_is_not_taken_through_a_link(tmp_path, precious):
    (tmp_path / "out/.lock").symlink_to(precious)
    with pytest.raises(OSError):
        FileLock(tmp_path / "out/.lock", "me")
    assert precious.read_text() == "precious"
