"""The report in a real browser, opened from disk."""

import io
import json

import numpy as np
import pytest
from PIL import Image

from tests.comparing.media import FPS, FRAMES, make_set, movie
from tests.service.conftest import until
from vera.core.comparing import benchmark
from vera.core.comparing.benchmark_rows import BenchmarkRows, read_rows
from vera.core.comparing.methods import Folder
from vera.core.progress import Progress

SIZE = (48, 64)


def level(frame):
    """The grey level of a frame, by which a screenshot identifies it."""
    return 0.1 + 0.09 * frame


def flats(frames, off=0.0):
    return [np.full((*SIZE, 3), level(k) + off) for k in frames]


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """A report of three rows (unchanged, changed by 0.1, failed) and a method at half the frame rate."""
    folder = tmp_path_factory.mktemp("a report #1")  # a name that a URL has to quote
    file, _ = make_set(folder / "set", 3, kinds=("obj_add",), prompt="<img src=x onerror=alert(1)>")
    for n in range(3):
        movie(folder / f"set/videos/v{n}.mp4", flats(range(FRAMES)))
    movie(folder / "whole/v0.mp4", flats(range(FRAMES)))
    movie(folder / "whole/v0_alpha.mp4", flats(range(FRAMES)))
    movie(folder / "whole/v1.mp4", flats(range(FRAMES), off=0.1))
    for n in range(2):
        movie(folder / f"half/v{n}.mp4", flats(range(0, FRAMES, 2)), fps=FPS // 2)
    rows, _ = read_rows([file])
    found = [Folder(name, folder / name, tuple(rows)) for name in ("whole", "half")]
    test = BenchmarkRows(rows, ["test.jsonl line 4: <b>not JSON</b>"])
    benchmark.compare(test, found, folder / "out", Progress("none"), lambda: False)
    return folder / "out" / "report" / "index.html"


@pytest.fixture(scope="module")
def browser(chromium, report):
    chromium.look(1700, 1200)
    chromium.open(report.as_uri())
    return chromium


def clips(browser):
    return browser.run("return [...document.querySelectorAll('.clip')].map(c => c.dataset.key)")


def ready(browser, key):
    script = f"return players.get({json.dumps(key)}).videos.map(v => v.readyState >= 2 && !v.seeking)"
    return until(lambda: (s := browser.run(script)) and all(s) and s, 60, "videos that are loaded")


def greys(browser, key):
    """The grey level in the middle of each video of a clip, from a screenshot, in [0, 1]."""
    browser.run(f"players.get({json.dumps(key)}).element.scrollIntoView()")
    places = browser.run(
        f"return players.get({json.dumps(key)}).videos.map(v => v.getBoundingClientRect())"
        ".map(r => [r.x + r.width / 2, r.y + r.height / 2])"
    )
    screen = np.asarray(Image.open(io.BytesIO(browser.screenshot())).convert("L")) / 255
    return [screen[round(y), round(x)] for x, y in places]


def test_clips_are_sorted_worst_first_by_the_chosen_method(browser):
    assert clips(browser) == ["v2_p2", "v1_p1", "v0_p0"]  # failed, changed, unchanged
    browser.run("const s = document.querySelector('#method'); s.value = 'half'; s.dispatchEvent(new Event('change'))")
    assert clips(browser) == ["v2_p2", "v0_p0", "v1_p1"]  # equal figures: in the order of the test set
    browser.run("const s = document.querySelector('#method'); s.value = 'whole'; s.dispatchEvent(new Event('change'))")
    assert clips(browser) == ["v2_p2", "v1_p1", "v0_p0"]


def test_measured_and_published_rows_are_marked_on_the_page(browser):
    rows = browser.run("return [...document.querySelectorAll('tr')].map(r => [r.className, r.innerText.split('\\t')])")
    assert ["measured", "whole", "2 of 3"] in [[kind, *cells[:2]] for kind, cells in rows]
    published = [cells for kind, cells in rows if kind == "published"]
    assert any(c[0] == "Vera-14B, published" and "26.1" in c and "4.13" in c for c in published)
    assert "not measured here" in browser.run("return document.querySelector('#published').textContent")
    failed = browser.run("return [...document.querySelectorAll('.failed')].map(e => e.textContent)")
    assert len(failed) == 2 and "no movie named v2_p2" in failed[0]
    # Markup in texts is escaped.
    assert browser.run("return document.querySelectorAll('img, .prompt *, #broken b').length") == 0
    assert "<img" in browser.run("return document.querySelector('.prompt').textContent")


@pytest.mark.parametrize("frame", (0, 5, FRAMES - 1))
def test_all_videos_show_the_requested_frame(browser, frame):
    browser.run(f"players.get('v0_p0').seek({frame})")
    ready(browser, "v0_p0")
    names = browser.run(
        "return players.get('v0_p0').videos.map(v => decodeURIComponent(v.dataset.src.split('/').pop()))"
    )
    assert names == ["plate.mp4", "truth.mp4", "whole.mp4", "whole.alpha.mp4", "half.mp4"]
    expected = dict.fromkeys(names, level(frame)) | {"half.mp4": level(frame // 2 * 2)}
    del expected["truth.mp4"]  # a disc

    def right():
        seen = dict(zip(names, greys(browser, "v0_p0")))
        return all(abs(seen[n] - expected[n]) < 0.03 for n in expected) and seen

    until(right, 30, f"frame {frame} in every video")
    assert (
        browser.run("return players.get('v0_p0').element.querySelector('output').textContent")
        == f"{frame + 1} of {FRAMES}"
    )


def test_videos_play_together_and_pause_on_one_frame(browser):
    browser.run(
        "players.get('v1_p1').element.scrollIntoView(); players.get('v1_p1').element.querySelector('.play').click()"
    )
    until(lambda: browser.run("return players.get('v1_p1').frame") > 1, 60, "frames that pass")
    browser.run("players.get('v1_p1').element.querySelector('.play').click()")
    ready(browser, "v1_p1")
    frame, times = browser.run("const p = players.get('v1_p1'); return [p.frame, p.videos.map(v => v.currentTime)]")
    assert times == pytest.approx([(frame + 0.5) / FPS] * len(times), abs=0.01)
    assert browser.run("return players.get('v1_p1').videos.every(v => v.paused)")
    assert browser.errors() == []


def test_the_report_contains_no_path_outside_its_folder(report):
    """So the folder can be moved."""
    page, data = report.read_text(), (report.parent / "data.js").read_text()
    assert "http" not in page.replace("http-equiv", "") and 'src="/' not in page and str(report.parent) not in page
    result = json.loads(data.removeprefix("const REPORT = ").rstrip().rstrip(";"))
    media = [report.parent / "media" / c["key"] / m for c in result["clips"] for m in c.get("media", ())]
    assert len(media) == 5 and all(m.is_file() for m in media)


def test_a_player_is_enlarged_with_wipe_and_difference(browser):
    """Of the plate and the result that is a tenth lighter, as the screen shows them."""
    browser.run("players.get('v1_p1').seek(4); players.get('v1_p1').element.scrollIntoView()")
    ready(browser, "v1_p1")
    browser.run("players.get('v1_p1').element.querySelectorAll('.enlarge')[2].click()")
    browser.wait_for("return document.querySelector('#large').open")
    assert browser.run("return document.querySelector('#large .a').selectedOptions[0].textContent") == "whole"

    def shown(across):
        box = browser.run(
            "const r = document.querySelector('#large canvas').getBoundingClientRect();"
            " return [r.x, r.y, r.width, r.height]"
        )
        screen = np.asarray(Image.open(io.BytesIO(browser.screenshot())).convert("L")) / 255
        width = min(box[2], box[3] * SIZE[1] / SIZE[0])
        return screen[round(box[1] + box[3] / 2), round(box[0] + (box[2] - width) / 2 + across * width)]

    def looks(across, value, what):
        until(lambda: abs(shown(across) - value) < 0.03, 20, what)

    looks(0.5, level(4) + 0.1, "the result alone")
    browser.press("[data-mode=wipe]")
    looks(0.25, level(4) + 0.1, "the result on the left")
    looks(0.75, level(4), "the plate on the right")
    browser.press("[data-mode=difference]")
    looks(0.5, 0.4, "the difference, four times")
    browser.run("document.querySelector('#large canvas').focus()")
    browser.keys("\ue014")
    browser.wait_for("return players.get('v1_p1').frame === 5")
    browser.press("#large .close")
    browser.wait_for("return !document.querySelector('#large').open")
    assert browser.errors() == []


def test_posters_stand_where_no_video_is_loaded_yet(browser, report):
    posters = browser.run("return [...document.querySelectorAll('video')].map(v => v.getAttribute('poster'))")
    assert "media/v0_p0/whole.jpg" in posters
    for name in ("plate", "truth", "whole", "whole.alpha", "half"):
        with Image.open(report.parent / f"media/v0_p0/{name}.jpg") as poster:
            assert poster.size == SIZE[::-1]


def test_light_and_dark_are_the_systems_and_axe_finds_nothing(browser):
    from tools.browser import AXE

    if not AXE.is_file():
        pytest.skip("needs axe-core: npm ci --prefix tools/axe")
    for scheme in ("light", "dark"):
        browser.look(1700, 1200, scheme)
        assert browser.axe() == []
