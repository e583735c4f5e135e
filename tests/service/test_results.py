"""What of a finished job's folder can be fetched, how, and which folder its next version takes."""

import os
import stat

import pytest

from vera.core.errors import InputError
from vera.core.service import results
from vera.core.service.security import RequestError


@pytest.fixture
def root(tmp_path):
    root = tmp_path / "root"
    (root / "out").mkdir(parents=True)
    (root / "out" / "recipe.json").write_text('{"recipe_hash": "abc"}')
    (root / "out" / "preview.mp4").write_bytes(bytes(range(100)))
    return root


def opened(root, out=None, name="preview.mp4", identity="abc"):
    return results.open_result(str(out or root / "out"), name, identity, [str(root)])


def status(root, **values):
    with pytest.raises(RequestError) as refused:
        opened(root, **values)
    return refused.value.status


def body(result, asked=None):
    response = results.response(result, asked)
    return response.status_code, dict(response.headers), b"".join(result_chunks(response))


def result_chunks(response):
    import asyncio

    async def read():
        return [chunk async for chunk in response.body_iterator]

    return asyncio.run(read())


def test_a_file_of_the_job_is_sent_whole(root):
    code, headers, content = body(opened(root))
    assert code == 200 and content == bytes(range(100))
    assert headers["content-type"] == "video/mp4" and headers["content-length"] == "100"


@pytest.mark.parametrize(
    "asked, first, last",
    [
        ("bytes=0-9", 0, 9),
        ("bytes=90-", 90, 99),
        ("bytes=-10", 90, 99),
        ("bytes=-999", 0, 99),
        ("bytes=95-999999999999999", 95, 99),
    ],
)
def test_one_range_is_sent(root, asked, first, last):
    code, headers, content = body(opened(root), asked)
    assert code == 206 and content == bytes(range(first, last + 1))
    assert headers["content-range"] == f"bytes {first}-{last}/100"


@pytest.mark.parametrize(
    "asked",
    [
        "bytes=0-1,5-6",
        "bytes=" + "0-,",
        "bytes=-",
        "bytes=-0",
        "bytes=100-",
        "bytes=5-4",
        "lines=0-1",
        "bytes=0-" + "9" * 99,
    ],
)
def test_what_is_not_one_range_of_the_file_is_refused_and_the_file_closed(root, asked):
    result = opened(root)
    with pytest.raises(RequestError) as refused:
        results.response(result, asked)
    assert refused.value.status == 416 and result.file.closed


def test_a_link_in_place_of_a_file_is_not_followed(root, tmp_path):
    (tmp_path / "secret").write_text("secret")
    (root / "out" / "contact_sheet.png").symlink_to(tmp_path / "secret")
    assert status(root, name="contact_sheet.png") == 404


def test_a_folder_that_leads_outside_is_refused(root, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "recipe.json").write_text('{"recipe_hash": "abc"}')
    (root / "link").symlink_to(tmp_path / "elsewhere")
    assert status(root, out=root / "link") == 403
    assert status(root, out=tmp_path / "elsewhere") == 403
    assert status(root, out=str(root) + "-2") == 403


def test_a_folder_reached_by_a_link_inside_is_taken(root):
    (root / "link").symlink_to(root / "out")
    assert opened(root, out=root / "link").size == 100


def test_pipes_and_folders_are_no_files(root):
    os.mkfifo(root / "out" / "report.png")
    (root / "out" / "contact_sheet.png").mkdir()
    assert status(root, name="report.png") == status(root, name="contact_sheet.png") == 404


@pytest.mark.parametrize("content", ['{"recipe_hash": "other"}', "[]", "{", '{"recipe_hash": 1}', "x" * 300_000])
def test_a_folder_that_holds_another_jobs_results_by_now_is_refused(root, content):
    (root / "out" / "recipe.json").write_text(content)
    assert status(root) == 409
    assert status(root, identity=None) == 409


def test_the_next_version_is_one_that_nobody_has(tmp_path):
    def following(name, *taken):
        return os.path.basename(results.next_version(str(tmp_path / name), {str(tmp_path / each) for each in taken}))

    assert following("balloon") == "balloon_v002"
    assert following("balloon", "balloon_v002") == "balloon_v003"
    assert following("balloon_v007") == "balloon_v008"
    assert following("balloon_v0099") == "balloon_v0100"
    assert following("balloon_v9") == "balloon_v010"
    (tmp_path / "balloon_v002").mkdir()
    (tmp_path / "balloon_v003").symlink_to(tmp_path / "nowhere")
    assert following("balloon") == "balloon_v004"


def test_versions_end_somewhere(tmp_path, monkeypatch):
    monkeypatch.setattr(results, "MAX_VERSIONS", 2)
    with pytest.raises(InputError, match="name another folder"):
        results.next_version(str(tmp_path / "a"), {str(tmp_path / "a_v002"), str(tmp_path / "a_v003")})


@pytest.fixture
def file_manager(tmp_path, monkeypatch):
    """A stand-in for xdg-open, which notes what it is given."""
    program, note = tmp_path / "bin" / "xdg-open", tmp_path / "note"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nprintf %s "$1" > {note}.part && mv {note}.part {note}\n')
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setattr(results.sys, "platform", "linux")
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    monkeypatch.setenv("DISPLAY", ":0")
    return note


def test_a_folder_is_shown_in_the_file_manager(root, file_manager):
    from tests.service.conftest import until

    results.show_folder(str(root / "out"), [str(root)])
    assert until(lambda: file_manager.exists() and file_manager.read_text(), 10, "the folder") == str(root / "out")


def test_only_folders_that_are_allowed_are_shown(root, file_manager):
    for out, code in ((root.parent, 403), (root / "gone", 404), (root / "out" / "preview.mp4", 404)):
        with pytest.raises(RequestError) as refused:
            results.show_folder(str(out), [str(root)])
        assert refused.value.status == code
    assert not file_manager.exists()


def test_without_a_screen_there_is_no_file_manager(root, monkeypatch):
    monkeypatch.setattr(results.sys, "platform", "linux")
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    assert not results.can_show_folders()
    with pytest.raises(RequestError, match="copy the folder's path"):
        results.show_folder(str(root / "out"), [str(root)])
