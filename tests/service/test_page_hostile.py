"""What strangers write into prompts, paths, warnings and reasons is text on the page, in a real browser."""

import json

import pytest

from tests.service.conftest import until
from tests.service.test_page import begun, movie, opened, pick, rows, submit  # noqa: F401  one is a fixture

MARK = "window.pwned = 1"
MARKUP = [
    f"<img src=x onerror='{MARK}'>",
    f'"><script>{MARK}</script>',
    f"</li></template></script><svg onload='{MARK}'>",
    f"' onmouseover='{MARK}' autofocus onfocus='{MARK}",
    f"javascript:{MARK}",
    f'<iframe srcdoc="<script>parent.{MARK.removeprefix("window.")}</script>"></iframe>',
    f"<a href=javascript:{MARK}>x</a><base href=//evil.example/><meta http-equiv=refresh content=0;url=//evil.example>",
    f"${{{MARK}}} {{{{constructor.constructor('{MARK}')()}}}}",
    "<style>*{display:none}</style><form action=//evil.example><input name=a>",
    "__proto__",
]
TURNED = "Add \u202egnp.exe\u2066 \u2028x\x1b[2J"
PLANTED = "img[src='x'], svg[onload], iframe, base, meta[http-equiv], main style, main script, form[action]"


@pytest.fixture(scope="module")
def service(tmp_path_factory, movie):  # noqa: F811
    service = begun(tmp_path_factory.mktemp("hostile"), movie)
    yield service
    service.stop()


@pytest.fixture(scope="module")
def page(chromium, service):
    """The page with a job of each kind of markup, delivered and refused."""
    service.ids = []
    for number, text in enumerate(MARKUP):
        for words in ("echo picture", "echo refused"):
            name = f"{number} {words} {text}".replace("/", "|")
            plate = str(service.home / f"{name}.####.exr")
            recipe = {"plate": plate, "prompt": f"{text} {words}", "out": str(service.home / name), "model": "mini"}
            service.ids.append(service.client.submit(recipe)["id"])
    jobs = [service.client.wait(number, 60) for number in service.ids]
    assert {job["state"] for job in jobs} == {"done", "failed"}
    chromium.look()
    opened(chromium, service)
    until(lambda: len(rows(chromium)) == len(jobs), 30, "all rows")
    return chromium


def test_markup_is_shown_as_it_was_written(page, service):
    shown = {each["prompt"] for each in rows(page)}
    assert shown == {job["recipe"]["prompt"] for job in service.client.jobs()}


def test_nothing_of_it_runs_or_becomes_part_of_the_page(page):
    for each in rows(page):
        pick(page, each["prompt"])
        page.run("document.querySelectorAll('main *').forEach(e => e.dispatchEvent(new Event('mouseover')))")
        assert page.run(f"return document.querySelectorAll({json.dumps(PLANTED)}).length") == 0, each["prompt"]
    assert page.run("return [window.pwned ?? null, document.title, location.pathname]") == [None, "Vera", "/"]
    assert page.run("return document.scripts.length + document.styleSheets.length") == 2
    assert [error for error in page.errors() if "preview.mp4" not in error] == []  # the stand-in delivers none


def test_no_text_turns_a_line_round_in_any_place(page, service):
    turned = str(service.home / TURNED.replace("\x1b", "").replace("/", "|"))
    recipe = {"plate": f"{turned}.####.exr", "prompt": f"{TURNED} echo refused", "out": turned}
    job = service.client.wait(service.client.submit(recipe)["id"], 60)
    until(lambda: any("202e" in each["prompt"] for each in rows(page)), 30, "the row")
    pick(page, next(each["prompt"] for each in rows(page) if "202e" in each["prompt"]))
    words = "return document.body.innerText + [...document.querySelectorAll('[title]')].map(e => e.title)"
    assert job["state"] == "failed"
    text = until(lambda: "‹202e›" in (text := page.run(words)) and "fix it" in text and text, 30, "the reason")
    assert not any(c in text for c in "\u202e\u2066\u2028\x1b")
