"""The whole benchmark on a small test set: figures, caching, failures, the command."""

import json
import sys

import numpy as np
import pytest
from skimage import metrics

from tests.comparing.media import FRAMES, edited, make_set, movie
from tests.tiny import tiny_model
from vera.core.cli import compare as compare_command
from vera.core.comparing import benchmark, figure_table, methods
from vera.core.comparing.benchmark_rows import BenchmarkRows, read_rows
from vera.core.comparing.methods import Folder, Renderer
from vera.core.errors import InputError, StoppedError
from vera.core.job.run import DONE, WRONG_INPUT
from vera.core.measure.judge import find_judge
from vera.core.progress import Progress


@pytest.fixture
def made(tmp_path):
    """A test set and results with a known error: 8 codes inside the edit, one code outside."""
    file, truth = make_set(tmp_path / "set")
    pictures = {}
    for key, (plates, alphas) in truth.items():
        off = [e + np.where(a[..., None] > 0, 8, 1) / 255 for e, a in zip(edited(plates, alphas), alphas)]
        pictures[key] = [np.rint(np.clip(p, 0, 1) * 255) / 255 for p in off]
        movie(tmp_path / "off" / f"{key}.mp4", pictures[key])
        movie(tmp_path / "off" / f"{key}_alpha.mp4", [np.clip(a - 2 / 255, 0, 1) for a in alphas])
    return file, truth, pictures


def run(rows, broken, found, out, stopping=lambda: False, **options):
    test, measures = BenchmarkRows(rows, broken), benchmark.Measures(**options)
    return benchmark.compare(test, found, out, Progress("none"), stopping, measures)


def of_folder(made, tmp_path, **options):
    rows, broken = read_rows([made[0]])
    return run(rows, broken, [Folder("off", tmp_path / "off", tuple(rows))], tmp_path / "out", **options)


def test_figures_equal_plain_references_over_the_frames(made, tmp_path):
    _, truth, pictures = made
    result = of_folder(made, tmp_path)
    for clip in result["clips"]:
        (plates, alphas), shown = truth[clip["key"]], pictures[clip["key"]]
        whole = [metrics.peak_signal_noise_ratio(p, s, data_range=1) for p, s in zip(plates, shown)]
        beside = [-10 * np.log10(np.mean((p - s)[a == 0] ** 2)) for p, s, a in zip(plates, shown, alphas)]
        mattes = [np.clip(a - 2 / 255, 0, 1) for a in alphas]
        expected = {
            "psnr": np.mean(whole),
            "psnr_outside": np.mean(beside),
            "worst": 1 / 255,
            "mad": 1000 * np.mean([np.abs(m - a).mean() for m, a in zip(mattes, alphas)]),
        }
        assert {n: clip["figures"][n] for n in expected} == pytest.approx(expected, abs=1e-4)
        assert 0.9 < clip["figures"]["changed"] <= 1  # white cannot rise by a code
        assert clip["figures"]["spilled"] is None and clip["figures"]["lpips"] is None
    row = result["tables"]["obj_add"][0]
    assert row["psnr"] == result["clips"][0]["figures"]["psnr"] and row["clips"] == 1


def test_a_measured_clip_is_measured_again_only_after_a_change(made, tmp_path, monkeypatch):
    first, measured = of_folder(made, tmp_path), []
    real = benchmark.measure
    monkeypatch.setattr(benchmark, "measure", lambda case, *rest: measured.append(case.row.key) or real(case, *rest))
    assert of_folder(made, tmp_path) == first and measured == []
    movie(tmp_path / "off/v1_p1.mp4", made[1]["v1_p1"][0])  # replace the result
    again = of_folder(made, tmp_path)
    assert measured == ["v1_p1"] and again["clips"][1]["figures"]["psnr"] == 100
    measured.clear()
    of_folder(made, tmp_path, lpips=("weights", lambda image, plate: 0.25))  # a figure more
    assert measured == ["v0_p0", "v1_p1"]
    of_folder(made, tmp_path)
    measured.clear()
    (tmp_path / "out/report/media/v0_p0/off.alpha.mp4").unlink()
    of_folder(made, tmp_path)
    assert measured == ["v0_p0"]


def test_a_model_is_rendered_once_and_its_layer_is_exact(made, tmp_path):
    rows, broken = read_rows([made[0]])
    model = tiny_model(48 * 64)
    renderer = Renderer("tiny", "mini", tmp_path / "out/results/tiny", {"seed": 1}, True, "cpu", lambda *_, **__: model)
    with pytest.raises(StoppedError):
        asked = iter([False, True])
        run(rows, broken, [renderer], tmp_path / "out", lambda: next(asked, True))
    result = run(rows, broken, [renderer], tmp_path / "out")
    written = {p: p.stat().st_mtime_ns for p in (tmp_path / "out/results").rglob("*.exr")}
    assert len(written) == 2 * FRAMES
    for clip in result["clips"]:
        assert clip["figures"]["spilled"] in (None, 0) and clip["figures"]["mad"] is not None
        assert clip["media"] == ["tiny.mp4", "tiny.alpha.mp4"] and clip["frames"] == [FRAMES, FRAMES]
    assert run(rows, broken, [renderer], tmp_path / "out") == result
    assert written == {p: p.stat().st_mtime_ns for p in (tmp_path / "out/results").rglob("*.exr")}
    # The folder of deliveries can be read as a folder of results.
    folder = Folder("tiny", tmp_path / "out/results/tiny", tuple(rows))
    assert run(rows, broken, [folder], tmp_path / "other")["clips"] == result["clips"]


def test_a_pixel_with_other_bits_counts_as_spilled():
    from vera.core.comparing.figures import spilled

    plate = np.random.default_rng(0).random((6, 7, 3)).astype(np.float16)
    laid, composite = np.zeros((6, 7), np.float16), plate.copy()
    laid[0] = 1
    composite[0] = 0
    assert spilled(composite, plate, laid) == 0
    composite[3, 3, 1] = np.nextafter(composite[3, 3, 1], np.float16(2))
    assert spilled(composite, plate, laid) == pytest.approx(1 / 35)
    assert spilled(composite, plate, laid + 1) is None
    plate[2, 2], composite[2, 2] = 0.0, -0.0  # equal numbers, other bits
    assert spilled(composite, plate, laid) == pytest.approx(2 / 35)


def test_a_failing_clip_is_listed_and_the_others_are_measured(made, tmp_path):
    (tmp_path / "off/v0_p0.mp4").unlink()
    result = of_folder(made, tmp_path)
    assert "no movie named v0_p0" in result["clips"][0]["error"] and "figures" in result["clips"][1]
    assert result["tables"]["obj_add"][0]["failed"] == 1 and result["tables"]["obj_add"][0]["psnr"] is None
    text = (tmp_path / "out/table.md").read_text()
    assert "| off | 0 of 1 | - |" in text and "v0_p0, off: " in text
    (tmp_path / "off/v1_p1.mp4").unlink()
    with pytest.raises(InputError, match="no clip could be measured; the first: .*no movie named v0_p0"):
        of_folder(made, tmp_path)


ASKED = []


def judge_by_name(asked):
    """A judge for the tests of --judge."""
    ASKED.append(asked["id"])
    assert asked["plate"].endswith("plate.mp4") and asked["result"].endswith("off.mp4")
    if asked["id"] == "CT":
        raise RuntimeError("no memory")
    if asked["id"] == "OSC":
        return 7
    return 4.5 if asked["prompt"] in asked["question"] else 2


def test_judge_answers_are_cached_and_its_failures_are_notes(made, tmp_path):
    judge = ("x", find_judge(f"{__name__}:judge_by_name"))
    result = of_folder(made, tmp_path, judge=judge)
    figures, note = result["clips"][0]["figures"], result["clips"][0]["note"]
    assert (figures["IS"], figures["CS"]) == (4.5, 2) and "CT" not in figures and "OSC" not in figures
    assert "CT not judged: no memory" in note and "OSC not judged: 7 is not from 0 to 1" in note
    del ASKED[:]
    assert of_folder(made, tmp_path, judge=judge) == result
    assert ASKED == ["CT", "OSC"] * 2  # answers are cached, failures are asked again
    assert "IS" not in of_folder(made, tmp_path)["clips"][0]["figures"]


def test_a_judge_can_be_a_command(tmp_path):
    script = tmp_path / "judge.py"
    script.write_text(
        "import json, sys\nasked = json.load(sys.stdin)\nprint('thinking')\nprint(len(asked['id']) + 0.5)\n"
    )
    asked = {"id": "IS"}
    assert float(find_judge(f"'{sys.executable}' '{script}'")(asked)) == 2.5
    script.write_text("raise SystemExit('out of words')")
    with pytest.raises(ValueError, match="ended with 1: out of words"):
        find_judge(f"'{sys.executable}' '{script}'")(asked)
    with pytest.raises(InputError, match="give a function as module:function"):
        find_judge("no_module_here:judge")


def test_published_rows_are_marked_and_not_averaged_with_ours(made, tmp_path):
    result = of_folder(made, tmp_path)
    rows = result["tables"]["background_replace"]
    assert [r["method"] for r in rows if r["published"]] == ["VACE-14B", "Vera-1.3B", "Vera-14B"]
    assert rows[-1]["psnr_outside"] == 36.2 and "psnr" not in rows[-1] and rows[0]["published"] is False
    text = (tmp_path / "out/table.md").read_text()
    assert "| *Vera-14B* | *69* | - | - | - | *36.2* | *0.993* | *0.010* | - |" in text and "not measured here" in text
    assert f"| off | 1 | {rows[0]['psnr']:.1f} |" in text


def test_means_cover_only_measured_clips():
    clips = [
        {"method": "m", "edit_type": "obj_add", "figures": {"psnr": v, "mad": m}}
        for v, m in ((20, 1), (30, None), (40, 5))
    ]
    row = figure_table.rows_of(clips)["obj_add"][0]
    assert row["psnr"] == 30 and row["mad"] == 3 and row["measured"]["mad"] == 2 and row["ssim"] is None
    assert (
        figure_table.shown(row, "mad") == "3.00 (2)"
        and figure_table.shown(row, "psnr") == "30.0"
        and figure_table.shown(row, "ssim") == "-"
    )


def test_the_model_is_loaded_once_for_all_clips(monkeypatch):
    loaded = []
    monkeypatch.setattr(methods, "load_model", lambda *asked, **options: loaded.append((asked, options)) or object())
    load = methods.caching_loader()
    assert load("a", "cpu") is load("a", "cpu") and len(loaded) == 1
    load("a", "cpu", offload=True), load("b", "cpu")
    assert len(loaded) == 3


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ([], "nothing to compare"),
        (["--results", "gone"], "gone: no such folder"),
        (["--results", "a=off", "--results", "a=off"], "'a' is named twice"),
        (["--results", "plate=off"], "'plate' is named twice, or is a word of the report"),
        (["--results", "../off/.."], "cannot name a method"),
        (["--results", "off", "--lpips", "gone.safetensors"], "--lpips gone.safetensors: not a readable"),
        (["--results", "off", "--judge", "nowhere:judge"], "--judge nowhere:judge"),
        (["--results", "off", "--clips", "0"], "--clips 0: give 1 or more"),
        (["--nonsense"], "see vera compare --help"),
        (["--results", "off", "--model", "nosuch"], "model 'nosuch': neither 'mini' nor a directory"),
        (["--results", "off", "--model", "mini", "--steps", "0"], "steps"),
        (["--model", "x=lift:off", "--steps", "2"], "takes no denoising steps"),
        (["--model", "x=lift:gone.mp4"], "gone.mp4 is not there"),
        (["--results", "empty=."], "holds no movie and no delivery of any row, such as v0_p0.mp4"),
    ],
)
def test_wrong_input_is_one_line_and_writes_nothing(made, tmp_path, monkeypatch, capsys, more, words):
    monkeypatch.chdir(tmp_path)
    assert compare_command.main([str(made[0]), "--out", "out", "--progress", "none", *more]) == WRONG_INPUT
    said = capsys.readouterr().err
    assert said.startswith("error: ") and words in said and said.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_the_command_measures_and_writes_the_report(made, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for name in ("v0_p0.mp4", "v0_p0_alpha.mp4"):
        (tmp_path / "off" / name).rename(tmp_path / "off" / name.replace("_p0", "", 1))
    assert (
        compare_command.main(
            [str(made[0]), "--out", "out", "--results", "x=off", "--clips", "1", "--progress", "jsonl"]
        )
        == DONE
    )
    events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert events[-1]["event"] == "done" and "1 results measured, 0 failed" in events[-1]["text"]
    assert json.loads((tmp_path / "out/table.json").read_text())["schema"] == "vera.compare/1"


def test_limiting_the_clips_keeps_ambiguous_names_ambiguous(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    file, truth = make_set(tmp_path / "set", video_id="same")
    movie(tmp_path / "off/same.mp4", truth["v0_p0"][0])
    assert (
        compare_command.main([str(file), "--out", "out", "--results", "off", "--clips", "1", "--progress", "none"])
        == WRONG_INPUT
    )
    assert "no movie and no delivery of any row, such as same_p0" in capsys.readouterr().err


def test_published_figures_stand_under_columns_that_are_measured_the_same_way():
    """A changed background cannot keep the whole frame: what was published of it is of what stays."""
    of = {kind: {name for row in rows for name in row} for kind, rows in figure_table.PUBLISHED["rows"].items()}
    judged = {"method", "CS", "CT", "IS"}
    assert of["obj_add"] == judged | {"psnr", "ssim", "lpips", "OSC"}
    assert of["background_replace"] == judged | {"psnr_outside", "ssim_outside", "lpips_outside"}
    assert all(name in figure_table.BY_NAME for names in of.values() for name in names - {"method"})
