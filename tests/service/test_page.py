"""The service's page in a real browser. One service serves all tests but those that end it."""

import json
import sys
from contextlib import suppress
from fractions import Fraction

import numpy as np
import pytest

from tests.layer.stand_in import StandInPlate
from tests.service.conftest import STAND_IN, Running, until
from tools import browser as tools
from vera.core.layer import preview
from vera.core.service import client

COLOURS = {"composite": (200, 40, 40), "plate": (40, 200, 40), "layer": (40, 40, 200), "alpha": (230, 230, 230)}


@pytest.fixture(scope="module")
def browser(chromium):
    chromium.look()
    return chromium


@pytest.fixture(scope="module")
def movie(tmp_path_factory):
    """A preview of 25 frames whose four pictures are of one colour each."""
    plate = StandInPlate(size=(72, 128), frames=tuple(range(1001, 1026)), fps=Fraction(24))
    picture = np.zeros((144, 256, 3), np.uint8)
    for name, (row, column) in preview.VIEWS.items():
        picture[72 * row :, 128 * column :][:72, :128] = COLOURS[name]
    path = tmp_path_factory.mktemp("movie") / "preview.mp4"
    preview.write_movie(path, [picture] * 25, plate)
    return path


def begun(folder, movie):
    (folder / "root").mkdir(parents=True)
    service = Running(folder / "state", [folder / "root"], worker=[sys.executable, str(STAND_IN)])
    (service.folder / "preview.mp4").write_bytes(movie.read_bytes())
    service.home = folder / "root"
    return service.start()


@pytest.fixture(scope="module")
def service(tmp_path_factory, movie):
    service = begun(tmp_path_factory.mktemp("service"), movie)
    yield service
    service.stop()


@pytest.fixture
def page(browser, service):
    """The page of the service, without a job; the former test's jobs are gone."""
    for job in service.client.jobs():
        if job["state"] in ("queued", "running"):
            with suppress(client.ServiceError):  # it has ended meanwhile
                service.client.cancel(job["id"])
    until(
        lambda: all(j["state"] in ("done", "failed", "cancelled") for j in service.client.jobs()), 90, "the end of all"
    )
    from tests.service.test_security import ask

    ask(service, "POST", "/v1/jobs/clear", {"jobs": [job["id"] for job in service.client.jobs()]})
    browser.look(1280, 800, "dark")
    opened(browser, service)
    browser.wait_for("return !document.querySelector('#empty').hidden")
    return browser


def opened(browser, service):
    # As `--open` does it: the file takes the browser to the page, with the token.
    browser.open((service.folder / "open.html").as_uri())
    browser.wait_for(
        "return location.protocol === 'http:' && document.querySelector('#state')?.textContent !== 'connecting'"
    )


def submit(service, prompt, name="out", **values):
    recipe = {"plate": str(service.home / "p.####.exr"), "prompt": prompt, "out": str(service.home / name)}
    return service.client.submit({**recipe, **values})


def rows(browser):
    return browser.run(
        "return [...document.querySelectorAll('.row')].map(r => ({state: r.querySelector('.badge').textContent,"
        " prompt: r.querySelector('.prompt').textContent, meta: r.querySelector('.meta').textContent,"
        " now: r.querySelector('.now').textContent,"
        " buttons: [...r.querySelectorAll('.act button')].map(b => b.dataset.action)}))"
    )


def row(browser, prompt):
    return next((each for each in rows(browser) if each["prompt"] == prompt), None)


def wait_for_state(browser, prompt, state):
    return until(lambda: (r := row(browser, prompt)) and r["state"] == state and r, 30, f"{prompt}: {state}")


ROW = "[...document.querySelectorAll('.row')].find(r => r.querySelector('.prompt').textContent === arguments[0])"


def press(browser, prompt, action):
    found = f"{ROW}?.querySelector('[data-action=' + JSON.stringify(arguments[1]) + ']')"
    until(lambda: browser.run(f"const b = {found}; if (b) b.click(); return Boolean(b)", prompt, action), 10, action)


def pick(browser, prompt):
    browser.run(f"{ROW}.querySelector('.pick').click()", prompt)


def seen(browser):
    """The colour in the middle of what the viewer shows, and at its right border."""
    script = (
        "const c = document.querySelector('#screen canvas'); if (c.hidden) return null;"
        " const of = x => [...c.getContext('2d').getImageData(x, 20, 1, 1).data].slice(0, 3);"
        " return [of(Math.round(c.width * .25)), of(c.width - 4)]"
    )
    return browser.run(script)


def nearly(colour, name):
    return all(abs(a - b) < 12 for a, b in zip(colour, COLOURS[name]))


def test_a_queue_is_watched_and_worked_with(page, service):
    submit(service, "input", "failed")
    submit(service, "steps=400 pause=0.1", "running")
    submit(service, "second", "second")
    submit(service, "<img src=x onerror=alert(1)>", "markup")
    wait_for_state(page, "input", "Failed")
    assert "fix it" in (pick(page, "input") or page.wait_for("return document.querySelector('#reason').textContent"))
    assert wait_for_state(page, "second", "Waiting")["buttons"] == ["Cancel"]
    assert row(page, "<img src=x onerror=alert(1)>")["buttons"] == ["To front", "Cancel"]
    now = until(lambda: "of 400" in (n := row(page, "steps=400 pause=0.1")["now"]) and n, 30, "progress")
    assert " 0 s left" not in now, "the worker says that nothing is left, which tells nobody anything"
    press(page, "<img src=x onerror=alert(1)>", "To front")
    until(lambda: rows(page)[1]["prompt"].startswith("<img"), 30, "the order to change")
    press(page, "steps=400 pause=0.1", "Cancel")
    wait_for_state(page, "second", "Done")
    press(page, "steps=400 pause=0.1", "Retry")
    wait_for_state(page, "steps=400 pause=0.1", "Running")
    assert page.errors() == []


def test_a_waiting_job_is_moved_by_one_place(page, service):
    submit(service, "steps=400 pause=0.1", "running")
    for name in "abc":
        submit(service, name, name)
    waiting = lambda: "".join(r["prompt"] for r in rows(page) if r["state"] == "Waiting")
    until(lambda: waiting() == "abc", 30, "three to wait")
    for name, action, order in (("a", "Later", "bac"), ("c", "Earlier", "bca"), ("b", "Later", "cba")):
        pick(page, name)
        page.press(f"#actions [data-action='{action}']")
        until(lambda: waiting() == order, 30, order)


def test_from_a_finished_job_to_its_preview_one_click(page, service):
    submit(service, "movie", "played")
    wait_for_state(page, "movie", "Done")
    press(page, "movie", "Play")
    both = until(lambda: seen(page), 20, "a picture")
    assert nearly(both[0], "composite")
    assert page.run("return document.querySelector('#play').textContent") == "Pause"
    for view in ("layer", "alpha", "plate"):
        page.press(f"[data-view={view}]")
        until(lambda: nearly(seen(page)[0], view), 10, view)
    page.press("[data-view=wipe]")
    until(lambda: nearly(seen(page)[0], "composite") and nearly(seen(page)[1], "plate"), 10, "the wipe")
    page.run("const w = document.querySelector('#wipe input'); w.value = 100; w.dispatchEvent(new Event('input'))")
    until(lambda: nearly(seen(page)[0], "plate"), 10, "the wipe to move")
    assert page.errors() == []


def test_the_preview_is_stepped_by_keys(page, service):
    submit(service, "movie", "stepped")
    wait_for_state(page, "movie", "Done")
    pick(page, "movie")  # a click on the job plays as well
    until(lambda: seen(page), 20, "a picture")
    page.run("document.querySelector('#viewer').focus()")
    frame = "return document.querySelector('#transport output').textContent === arguments[0]"
    for key, shown in (
        ("\ue011", "1001"),
        ("\ue014", "1002"),
        ("\ue014", "1003"),
        ("\ue012", "1002"),
        ("\ue010", "1025"),
    ):
        page.keys(key)
        page.wait_for(frame, shown)
    page.keys(" ")
    page.wait_for("return document.querySelector('#play').textContent === 'Pause'")


def test_a_folder_with_another_jobs_results_is_reported(page, service):
    submit(service, "movie one", "same")
    wait_for_state(page, "movie one", "Done")
    submit(service, "movie two", "same")
    wait_for_state(page, "movie two", "Done")
    press(page, "movie one", "Play")
    page.wait_for("return document.querySelector('#screen p').textContent.includes('another job')")


def test_folder_and_recipe_are_copied(page, service):
    submit(service, "movie", "copied", seed=3)
    wait_for_state(page, "movie", "Done")
    pick(page, "movie")
    page.devtools("Browser.grantPermissions", permissions=["clipboardReadWrite", "clipboardSanitizedWrite"])
    read = "window.read = null; navigator.clipboard.readText().then(t => { window.read = t; })"
    for action, found in (
        ("Copy path", lambda text: text == str(service.home / "copied")),
        ("Copy recipe", lambda text: json.loads(text)["seed"] == 3 and json.loads(text)["schema"] == "vera.recipe/1"),
    ):
        page.press(f"#actions [data-action='{action}']")
        page.wait_for("return document.querySelector('#actions').textContent.includes('Copied')")
        page.run(read)
        assert found(page.wait_for("return window.read"))
        page.wait_for("return !document.querySelector('#actions').textContent.includes('Copied')")


def test_again_makes_the_next_version_at_one_click(page, service):
    submit(service, "movie", "version")
    wait_for_state(page, "movie", "Done")
    press(page, "movie", "Again")
    until(lambda: len(rows(page)) == 2 and {r["state"] for r in rows(page)} == {"Done"}, 30, "two takes")
    metas = sorted(r["meta"] for r in rows(page))
    assert "take 1 of 2" in metas[0] and "version" in metas[0] and "seed 0" in metas[0]
    assert "take 2 of 2" in metas[1] and "version_v002" in metas[1] and "seed 1" in metas[1]
    pick(page, "movie")
    assert page.run("return document.querySelectorAll('#takes button').length") == 2


def test_a_changed_prompt_becomes_a_new_version(page, service):
    submit(service, "movie", "changed")
    wait_for_state(page, "movie", "Done")
    pick(page, "movie")
    page.press("#actions [data-action='Change…']")
    page.run("document.querySelector('#change textarea').value = 'movie snow'")
    page.press("#change .primary")
    assert "changed_v002" in wait_for_state(page, "movie snow", "Done")["meta"]
    page.press("#actions [data-action='Change…']")
    page.run("document.querySelector('#change [name=out]').value = '/etc/x'")
    page.press("#change .primary")
    page.wait_for("return document.querySelector('#change .wrong').textContent.includes('outside')")
    page.press("#change .cancel")


def test_what_was_kept_is_delivered_again_in_another_way(page, service):
    submit(service, "movie", "kept", keep=True)
    submit(service, "picture", "not_kept")
    wait_for_state(page, "picture", "Done")
    pick(page, "picture")
    assert page.run("return document.querySelector('#actions [data-action=\"Deliver again…\"]')") is None
    pick(page, "movie")
    page.press("#actions [data-action='Deliver again…']")
    page.wait_for("return document.querySelector('#change').open")
    page.run("document.querySelector('#change [name=blend_space]').value = 'encoded'")
    page.press("#change .primary")
    until(lambda: any(j["recipe"].get("blend_space") == "encoded" for j in service.client.jobs()), 10, "the job")
    assert {j["recipe"]["out"] for j in service.client.jobs() if j["recipe"]["prompt"] == "movie"} == {
        str(service.home / "kept")
    }


def test_jobs_are_cleared_after_a_question_and_files_stay(page, service):
    submit(service, "movie", "cleared")
    submit(service, "input", "cleared too")
    wait_for_state(page, "input", "Failed")
    page.press("#clear")
    assert "2 finished" in page.run("return document.querySelector('#sure h2').textContent")
    page.press("#sure .cancel")
    assert len(rows(page)) == 2
    page.press("#clear")
    page.press("#sure .primary")
    page.wait_for("return !document.querySelector('#empty').hidden")
    assert (service.home / "cleared" / "preview.mp4").exists()


def test_warnings_are_amber_and_failures_red(page, service):
    submit(service, "movie warned", "warned")
    submit(service, "input", "wrong")
    submit(service, "picture", "fine")
    wait_for_state(page, "movie warned", "Done, look")
    wait_for_state(page, "picture", "Done")
    colour = f"return getComputedStyle({ROW}.querySelector('.badge')).color"
    amber, red, green = (page.run(colour, prompt) for prompt in ("movie warned", "input", "picture"))
    assert amber == "rgb(227, 174, 78)" and red == "rgb(240, 138, 122)" and green == "rgb(123, 191, 140)"
    pick(page, "movie warned")
    page.wait_for("return document.querySelector('#warnings').textContent.includes('does not know')")


def test_a_long_queue_is_folded_searched_and_filtered(page, service):
    submit(service, "picture", "finished")
    wait_for_state(page, "picture", "Done")
    submit(service, "steps=4000 pause=0.1", "running")
    for number in range(40):
        submit(service, f"Add bird number {number} " + "very " * 60 * (number == 0), f"bird_{number}")
    page.wait_for("return document.querySelector('#more').textContent === 'Show all 40 waiting'")
    assert len(rows(page)) == 5
    finished = "return document.querySelector('[data-part=ended] .row').getBoundingClientRect().bottom < innerHeight"
    assert page.run(finished), "the finished job is not on the screen"
    assert page.run("return document.querySelector('[data-part=waiting] .prompt').getBoundingClientRect().height") < 40
    page.press("#more")
    assert len(rows(page)) == 42
    search = "const s = document.querySelector('#search'); s.value = arguments[0]; s.dispatchEvent(new Event('input'))"
    page.run(search, "bird_39")
    assert [each["prompt"] for each in rows(page)] == ["Add bird number 39 "]
    page.run(search, "")
    page.press("[data-filter=done]")
    assert [each["prompt"] for each in rows(page)] == ["picture"]
    page.press("[data-filter=all]")
    page.press("#more")


def test_focus_stays_when_a_job_ends_and_when_it_is_the_one_that_ends(page, service):
    submit(service, "steps=10 pause=0.1", "ends")
    submit(service, "steps=400 pause=0.1", "waits")
    submit(service, "third", "third")
    wait_for_state(page, "third", "Waiting")
    page.run(f"{ROW}.querySelector('[data-action=Cancel]').focus()", "third")
    focused = (
        "const a = document.activeElement;"
        " return [a.closest('.row')?.querySelector('.prompt').textContent, a.dataset.action || a.className]"
    )
    wait_for_state(page, "steps=10 pause=0.1", "Done")
    wait_for_state(page, "steps=400 pause=0.1", "Running")
    assert page.run(focused) == ["third", "Cancel"]
    page.run(f"{ROW}.querySelector('[data-action=Cancel]').click()", "steps=400 pause=0.1")
    wait_for_state(page, "third", "Done")
    assert page.run(focused) == ["third", "pick"], "its button has gone; its row has the focus"


def test_no_text_turns_a_line_round_or_hides(page, service):
    submit(service, "Add \u202egnp.exe\u2066 x\u200by", "bidi")
    wait_for_state(page, "Add ‹202e›gnp.exe‹2066› x‹200b›y", "Done")
    submit(service, "أضف قاربا", "arabic")
    wait_for_state(page, "أضف قاربا", "Done")  # a language from right to left stays as it is written


@pytest.mark.skipif(not tools.AXE.is_file(), reason="needs axe-core: npm ci --prefix tools/axe")
@pytest.mark.parametrize("scheme", ["dark", "light"])
def test_axe_finds_nothing(page, service, scheme):
    page.look(1280, 800, scheme)
    assert page.axe() == []
    submit(service, "movie warned", "warned")
    submit(service, "input", "wrong")
    submit(service, "picture movie", "fine", keep=True)
    submit(service, "steps=400 pause=0.1", "running")
    cancelled = submit(service, "cancelled", "cancelled")
    service.client.cancel(cancelled["id"])
    submit(service, "waiting", "waiting")
    wait_for_state(page, "steps=400 pause=0.1", "Running")
    wait_for_state(page, "waiting", "Waiting")
    for prompt in ("input", "steps=400 pause=0.1", "picture movie"):
        pick(page, prompt)
        assert page.axe() == [], prompt
    until(lambda: seen(page), 20, "the preview")
    page.press("[data-view=wipe]")
    assert page.axe() == []
    page.press("#actions [data-action='Deliver again…']")
    page.wait_for("return document.querySelector('#change').open")
    assert page.axe() == []
    page.press("#change .cancel")
    page.look(390, 844, scheme)
    assert page.axe() == []
    page.press("#back")
    assert page.axe() == []
    assert page.run("return document.documentElement.scrollWidth") <= 390


def test_the_system_says_light_or_dark(page):
    ground = "return getComputedStyle(document.body).backgroundColor"
    dark = page.run(ground)
    page.look(1280, 800, "light")
    assert dark == "rgb(22, 23, 24)" and page.run(ground) == "rgb(238, 240, 241)"


def test_two_pages_show_the_same(page, service):
    with page.second_window() as switch:
        opened(page, service)
        submit(service, "steps=400 pause=0.1", "both")
        wait_for_state(page, "steps=400 pause=0.1", "Running")
        press(page, "steps=400 pause=0.1", "Cancel")
        wait_for_state(page, "steps=400 pause=0.1", "Cancelled")
        switch()
        wait_for_state(page, "steps=400 pause=0.1", "Cancelled")


def test_it_comes_back_when_the_service_does(browser, tmp_path, movie):
    service = begun(tmp_path, movie)
    try:
        opened(browser, service)
        submit(service, "steps=4000 pause=0.1", "running")
        submit(service, "waiting", "waiting")
        wait_for_state(browser, "steps=4000 pause=0.1", "Running")
        wait_for_state(browser, "waiting", "Waiting")
        former = service.entry
        service.kill()
        browser.wait_for("return !document.querySelector('#lost').hidden")
        told = browser.run("return document.querySelector('#lost').textContent")
        assert "queue is kept" in told and "vera serve" in told
        assert [r["state"] for r in rows(browser)] == ["Was running", "Kept"]
        assert browser.run("return [...document.querySelectorAll('.act button')].every(b => b.disabled)")
        service.start()
        assert service.entry["port"] == former["port"] and service.entry["token"] != former["token"]
        browser.wait_for("return document.querySelector('#lost').hidden")
        wait_for_state(browser, "steps=4000 pause=0.1", "Running")
        press(browser, "waiting", "Cancel")
        wait_for_state(browser, "waiting", "Cancelled")
    finally:
        service.stop()


def test_without_the_key_it_says_what_to_do(browser, service):
    browser.open(f"http://127.0.0.1:{service.entry['port']}/")
    browser.run("sessionStorage.clear(); location.reload()")
    browser.wait_for("return document.querySelector('#trouble')?.textContent.includes('vera serve --open')")
    assert rows(browser) == []


def test_other_sites_get_nothing(browser, service, tmp_path):
    """A page of another origin in the same browser: neither reads nor does."""
    (tmp_path / "evil.html").write_text("<!doctype html><title>evil</title>")
    browser.open((tmp_path / "evil.html").as_uri())
    target, bearer = json.dumps(f"http://127.0.0.1:{service.entry['port']}/v1/shutdown"), service.entry["token"]
    script = (
        f"window.outcome = []; const to = {target}; const options = [{{}}, {{mode: 'no-cors'}},"
        f" {{method: 'POST', mode: 'no-cors', body: '{{}}'}}, {{headers: {{Authorization: 'Bearer {bearer}'}}}}];"
        "options.forEach(o => fetch(to, o)"
        ".then(r => outcome.push(r.type === 'opaque' ? 'opaque' : 'read'), () => outcome.push('refused')));"
    )
    browser.run(script)
    outcome = until(lambda: (o := browser.run("return outcome")) and len(o) == 4 and o, 30, "four answers")
    assert "read" not in outcome
    assert service.process.poll() is None and service.client.health()
