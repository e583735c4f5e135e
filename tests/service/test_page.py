"""The page in a real browser, driven through chromedriver's own HTTP interface."""

import http.client
import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.service.conftest import until

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
DRIVER = shutil.which("chromedriver")
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--window-size=1040,720",
]

pytestmark = pytest.mark.skipif(not (BROWSER and DRIVER), reason="needs chromium and chromedriver")


class Browser:
    """As much of WebDriver (W3C) as these tests need."""

    def __init__(self, profile):
        self.driver = subprocess.Popen(
            [DRIVER, "--port=0"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        for line in self.driver.stdout:
            if "started successfully on port" in line:
                self.port = int(line.rstrip(".\n").rsplit(" ", 1)[1])
                break
        options = {"binary": BROWSER, "args": [*FLAGS, f"--user-data-dir={profile}"]}
        logs = {"browser": "ALL"}
        wanted = {"capabilities": {"alwaysMatch": {"goog:chromeOptions": options, "goog:loggingPrefs": logs}}}
        self.session = self.ask("POST", "/session", wanted)["sessionId"]

    def ask(self, method, path, body=None):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=90)
        connection.request(
            method, path, None if body is None else json.dumps(body), {"Content-Type": "application/json"}
        )
        answer = json.loads(connection.getresponse().read())["value"]
        connection.close()
        if isinstance(answer, dict) and "error" in answer:
            raise RuntimeError(answer["message"])
        return answer

    def open(self, url):
        self.ask("POST", f"/session/{self.session}/url", {"url": url})

    def run(self, script):
        return self.ask("POST", f"/session/{self.session}/execute/sync", {"script": script, "args": []})

    def errors(self):
        entries = self.ask("POST", f"/session/{self.session}/se/log", {"type": "browser"})
        return [entry["message"] for entry in entries if entry["level"] == "SEVERE"]

    def screenshot(self):
        import base64

        return base64.b64decode(self.ask("GET", f"/session/{self.session}/screenshot"))

    def close(self):
        try:
            self.ask("DELETE", f"/session/{self.session}")
        finally:
            self.driver.terminate()
            self.driver.wait(20)


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    browser = Browser(tmp_path_factory.mktemp("profile"))
    yield browser
    browser.close()


def page_of(service):
    return f"http://127.0.0.1:{service.entry['port']}/"


def jobs_on(browser):
    return browser.run(
        "return [...document.querySelectorAll('.job')].map(j => ({state: j.querySelector('.badge').textContent,"
        " prompt: j.querySelector('.prompt').textContent, now: j.querySelector('.now').textContent,"
        " reason: j.querySelector('.reason').textContent,"
        " pictures: [...j.querySelectorAll('img')].filter(i => i.complete && i.naturalWidth > 0).length,"
        " buttons: [...j.querySelectorAll('button')].filter(b => !b.hidden).map(b => b.textContent)}))"
    )


def press(browser, prompt, button):
    browser.run(
        "const job = [...document.querySelectorAll('.job')].find(j => j.querySelector('.prompt').textContent "
        f"=== {json.dumps(prompt)});"
        f"[...job.querySelectorAll('button')].find(b => b.textContent === {json.dumps(button)}).click()"
    )


def test_a_queue_is_watched_and_worked_with(browser, service, recipe):
    client = service.client
    client.submit(recipe("input", "failed"))
    client.submit(recipe("picture", "done"))
    client.submit(recipe("steps=400 pause=0.1", "running"))
    client.submit(recipe("picture second", "second"))
    client.submit(recipe("<img src=x onerror=alert(1)>", "markup"))
    # As `--open` does it: the file takes the browser to the page, with the token.
    browser.open((service.folder / "open.html").as_uri())
    until(lambda: len(jobs_on(browser)) == 5, 30, "five jobs on the page")
    assert browser.run("return location.href") == page_of(service)

    seen = until(
        lambda: (s := {j["prompt"]: j for j in jobs_on(browser)}) and s["picture"]["pictures"] == 3 and s,
        30,
        "pictures",
    )
    assert seen["input"]["state"] == "failed" and "mend it" in seen["input"]["reason"]
    assert seen["picture"]["buttons"] == [] and seen["input"]["buttons"] == ["Retry"]
    assert seen["<img src=x onerror=alert(1)>"]["buttons"] == ["Cancel", "Next"]
    until(lambda: "of 400" in jobs_on(browser)[0]["now"], 30, "progress")
    first = jobs_on(browser)[0]["now"]
    until(lambda: jobs_on(browser)[0]["now"] != first, 30, "progress that moves")

    if os.environ.get("VERA_SCREENSHOT"):
        Path(os.environ["VERA_SCREENSHOT"]).write_bytes(browser.screenshot())

    press(browser, "<img src=x onerror=alert(1)>", "Next")
    until(lambda: jobs_on(browser)[1]["prompt"].startswith("<img"), 30, "the order to change")
    press(browser, "steps=400 pause=0.1", "Cancel")
    until(lambda: [j["state"] for j in jobs_on(browser)].count("done") == 3, 60, "the rest to be done")
    press(browser, "steps=400 pause=0.1", "Retry")
    until(
        lambda: jobs_on(browser)[0]["prompt"].startswith("steps=400") and jobs_on(browser)[0]["state"] == "running",
        30,
        "the retry",
    )
    assert browser.errors() == []


def test_without_the_key_it_says_what_to_do(browser, make_service):
    service = make_service().start()
    browser.open(page_of(service))
    until(
        lambda: "vera serve --open" in browser.run("return document.querySelector('#trouble').textContent"), 30, "words"
    )
    assert jobs_on(browser) == []


def test_it_comes_back_when_the_service_does(browser, service, recipe):
    browser.open((service.folder / "open.html").as_uri())
    until(lambda: browser.run("return document.querySelector('#empty').hidden === false"), 30, "the empty queue")
    service.kill()
    until(lambda: "not answer" in browser.run("return document.querySelector('#state').textContent"), 60, "words")


def test_other_sites_get_nothing(browser, service, tmp_path):
    """A page of another origin in the same browser: neither reads nor does."""
    (tmp_path / "evil.html").write_text("<!doctype html><title>evil</title>")
    browser.open((tmp_path / "evil.html").as_uri())
    target, bearer = json.dumps(page_of(service) + "v1/shutdown"), service.entry["token"]
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
