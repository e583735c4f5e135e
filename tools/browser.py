"""A real browser for tests and for pictures in docs: Chromium, driven through chromedriver's own HTTP interface."""

from __future__ import annotations

import base64
import http.client
import json
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
DRIVER = shutil.which("chromedriver")
AXE = Path(__file__).parent / "axe/node_modules/axe-core/axe.min.js"
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
    "--hide-scrollbars",
    "--force-color-profile=srgb",
    "--autoplay-policy=no-user-gesture-required",
    "--window-size=1280,800",
]
ANSWER_SECONDS = 90  # more only lets a browser that hangs hold up the tests for longer


def at_hand() -> bool:
    """Whether a browser and its driver are installed."""
    return bool(BROWSER and DRIVER)


class Browser:
    """The part of WebDriver (W3C) that tests and pictures need."""

    def __init__(self, profile: Path) -> None:
        assert BROWSER and DRIVER  # see at_hand
        self.driver = subprocess.Popen(
            [DRIVER, "--port=0"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        assert self.driver.stdout is not None
        for line in self.driver.stdout:
            if "started successfully on port" in line:
                self.port = int(line.rstrip(".\n").rsplit(" ", 1)[1])
                break
        options = {"binary": BROWSER, "args": [*FLAGS, f"--user-data-dir={profile}"]}
        wanted = {"goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL"}}
        answer = self._ask("POST", "/session", {"capabilities": {"alwaysMatch": wanted}})
        self.session = f"/session/{answer['sessionId']}"

    def open(self, url: str) -> None:
        """Leave the page that is open, forget its errors, and open another."""
        # A page that polls a server which has ended goes on failing until it is left.
        self._ask("POST", f"{self.session}/url", {"url": "about:blank"})
        self.errors()
        self._ask("POST", f"{self.session}/url", {"url": url})

    def run(self, script: str, *arguments: Any) -> Any:
        """Run a function's body in the page and return its value; `arguments` is available in it."""
        return self._ask("POST", f"{self.session}/execute/sync", {"script": script, "args": list(arguments)})

    def wait_for(self, script: str, *arguments: Any, seconds: float = 30) -> Any:
        """Run the script until it returns a true value, and return that. Raises AssertionError."""
        return until(lambda: self.run(script, *arguments), seconds, script)

    def wait_until(self, condition: Callable[[], Any], seconds: float = 60) -> Any:
        """The condition's value once that is true. Raises AssertionError."""
        return until(condition, seconds, "a condition")

    def settle(self, seconds: float) -> None:
        """Wait for the page to draw, where it gives no sign that it has."""
        time.sleep(seconds)

    def press(self, selector: str) -> None:
        """Click an element as a person would, so that the page takes it for a gesture."""
        found = self._ask("POST", f"{self.session}/element", {"using": "css selector", "value": selector})
        self._ask("POST", f"{self.session}/element/{next(iter(found.values()))}/click", {})

    def keys(self, text: str) -> None:
        """Type into what has the focus. WebDriver's code points stand for keys without a character."""
        pressed = [{"type": kind, "value": key} for key in text for kind in ("keyDown", "keyUp")]
        body = {"actions": [{"type": "key", "id": "keyboard", "actions": pressed}]}
        self._ask("POST", f"{self.session}/actions", body)

    def look(self, width: int = 1280, height: int = 800, scheme: str = "dark", scale: float = 1) -> None:
        """The window's size in CSS pixels, the system's colour scheme, and device pixels for one of CSS."""
        size = {"width": width, "height": height, "deviceScaleFactor": scale, "mobile": False}
        self.devtools("Emulation.setDeviceMetricsOverride", **size)
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.devtools("Emulation.setEmulatedMedia", features=features)

    def devtools(self, command: str, **values: Any) -> Any:
        return self._ask("POST", f"{self.session}/goog/cdp/execute", {"cmd": command, "params": values})

    def errors(self) -> list[str]:
        """Errors that the console has shown since the last call or the last `open`."""
        entries = self._ask("POST", f"{self.session}/se/log", {"type": "browser"})
        return [entry["message"] for entry in entries if entry["level"] == "SEVERE"]

    def screenshot(self) -> bytes:
        """PNG, in true colour."""
        return base64.b64decode(self.devtools("Page.captureScreenshot", format="png")["data"])

    def axe(self) -> list[str]:
        """Findings of axe-core on the page as it is, a line each."""
        self.run(f"if (!window.axe) {{ {AXE.read_text(encoding='utf-8')}\nwindow.axe = axe; }}")
        self.run("window.found = null; axe.run({preload: false}).then(r => { window.found = [r.violations]; });")
        (found,) = self.wait_for("return window.found")
        return [f"{one['id']}: {node['html'][:200]}" for one in found for node in one["nodes"]]

    @contextmanager
    def second_window(self) -> Iterator[Callable[[], None]]:
        """Open a second window for the `with` block; the yielded function switches back to the first one."""
        first = self._ask("GET", f"{self.session}/window")
        second = self._ask("POST", f"{self.session}/window/new", {"type": "tab"})["handle"]

        def switch(to: str = first) -> None:
            self._ask("POST", f"{self.session}/window", {"handle": to})

        switch(second)
        try:
            yield switch
        finally:
            switch(second)
            self._ask("DELETE", f"{self.session}/window")
            switch()

    def close(self) -> None:
        try:
            self._ask("DELETE", self.session)
        finally:
            self.driver.terminate()
            self.driver.wait(20)

    def _ask(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=ANSWER_SECONDS)
        content = None if body is None else json.dumps(body)
        connection.request(method, path, content, {"Content-Type": "application/json"})
        answer = json.loads(connection.getresponse().read())["value"]
        connection.close()
        if isinstance(answer, dict) and "error" in answer:
            raise RuntimeError(answer["message"])
        return answer


def until(condition: Callable[[], Any], seconds: float, what: str) -> Any:
    """The condition's value once that is true. Raises AssertionError."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        value = condition()
        if value:
            return value
        time.sleep(0.05)
    raise AssertionError(f"waited {seconds:g} s for: {what}")
