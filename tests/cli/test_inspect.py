"""Ways to look before the work: `vera inspect`, `--dry-run`, and errors as events."""

import json

import numpy as np
import pytest

from tests.plate.media import grey_levels, write_image, write_movie, write_noise
from vera.core import cli


@pytest.fixture
def plate(tmp_path):
    return str(write_noise(tmp_path / "in", (1001, 1002, 1003), size=(48, 64)))


@pytest.fixture
def mask(tmp_path):
    white = np.full((48, 64, 3), 255, np.uint8)
    white[:4] = 0
    return str(write_image(tmp_path / "mask.png", white) or tmp_path / "mask.png")


def test_a_sequence_is_reported_as_it_is_read(plate, mask, capsys):
    assert cli.main(["inspect", plate, "--frames", "1001-1002", "--mask", mask, "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    told = report["plate"]
    assert (told["kind"], told["width"], told["height"], told["pixel_type"]) == ("sequence", 64, 48, "half")
    assert told["frames"] == {"first": 1001, "last": 1002, "count": 2} and told["first_file"].endswith("plate.1001.exr")
    assert told["color_space"]["name"] == "linear" and "float" in told["color_space"]["why"]
    assert report["mask"]["frames"]["count"] == 2 and report["mask"]["read_from"] == "luminance"


def test_the_word_none_is_no_mask_as_in_a_render(plate, capsys):
    assert cli.main(["inspect", plate, "--mask", "none", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["mask"] is None


def test_a_movie_is_reported_with_its_rate_and_codes(tmp_path, capsys):
    path = str(write_movie(tmp_path / "in.mp4", grey_levels(3)))
    assert cli.main(["inspect", path]) == 0
    page = capsys.readouterr().out
    assert "(movie," in page and "1-3 (3), " in page and "frames a second" in page and "H.273" in page


def test_an_explicit_space_is_reported_as_explicit(plate, capsys):
    assert cli.main(["inspect", plate, "--color-space", "acescg", "--json"]) == 0
    space = json.loads(capsys.readouterr().out)["plate"]["color_space"]
    assert (space["name"], space["why"]) == ("ACEScg", "as asked for")


def test_channels_that_are_left_out_are_named(tmp_path, capsys):
    write_image(tmp_path / "p.exr", np.zeros((8, 8, 4), np.float16), names=("R", "G", "B", "depth.Z"))
    assert cli.main(["inspect", str(tmp_path / "p.exr")]) == 0
    assert "left out: depth.Z" in capsys.readouterr().out


def test_colour_spaces_are_listed_and_taken(plate, capsys):
    assert cli.main(["inspect", "--color-spaces", "acesc", "--json"]) == 0
    names = json.loads(capsys.readouterr().out)
    assert "ACEScg" in names and "ACEScct" in names and "srgb" not in names
    for name in names:
        assert cli.main(["inspect", plate, "--color-space", name]) == 0


@pytest.mark.parametrize(
    "given, words", [([], "name a plate"), (["away.####.exr"], "away"), (["--colour"], "--colour")]
)
def test_what_cannot_be_inspected_is_one_line(given, words, capsys):
    assert cli.main(["inspect", *given]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert words in line


def test_a_dry_run_tells_the_job_that_follows_and_writes_nothing(plate, mask, tmp_path, capsys):
    out = tmp_path / "out"
    job = [
        "render",
        "--plate",
        plate,
        "--prompt",
        "Add 2 wooden balls",
        "--mask",
        mask,
        "--out",
        str(out),
        "--steps",
        "1",
    ]
    assert cli.main([*job, "--dry-run", "--json", "--device", "cpu"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert not out.exists()
    assert report["prompt"]["read"] == ["add", "an", "orange", "ball"] and len(report["warnings"]) == 1
    taken = report["estimate"]
    assert all(taken[name]["value"] > 0 and taken[name]["basis"] for name in ("memory", "disk", "time"))
    assert report["model"]["steps"] == 1 and report["disk_bytes"] > 3 * 64 * 48 * 4
    assert cli.main([*job, "--progress", "none", "--device", "cpu"]) == 0
    manifest = json.loads((out / "manifest.json").read_text())
    assert manifest["recipe_hash"] == report["hash"] and manifest["extra"]["warnings"] == report["warnings"]
    assert manifest["extra"]["model_size"] == [report["model"]["width"], report["model"]["height"]]


def test_a_dry_run_of_a_lift_is_a_page(plate, tmp_path, capsys):
    assert cli.main(["lift", "--plate", plate, "--edited", plate, "--out", str(tmp_path / "out"), "--dry-run"]) == 0
    page = capsys.readouterr().out
    assert "model         lift at 64x48" in page and not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "given, words",
    [(["--prompt", "Remove the rabbit"], "'remove'"), (["--seed", "x"], "--seed"), (["--seed", "-1"], "seed -1")],
)
def test_errors_are_events_too(given, words, plate, tmp_path, capsys):
    job = ["render", "--plate", plate, "--prompt", "Add fog", "--out", str(tmp_path / "out")]
    assert cli.main([*job, *given, "--progress", "jsonl"]) == 2
    said = capsys.readouterr()
    event = json.loads(said.out.splitlines()[-1])
    assert event["event"] == "error" and event["code"] == 2 and words in event["text"]
    assert said.err.splitlines()[-1] == event["text"]
