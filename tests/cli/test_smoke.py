"""The shortest way through both pipelines: a render and a lift of two frames."""

import json

import numpy as np

from tests.plate.media import write_noise
from vera.core import cli


def test_a_render_delivers_every_frame(tmp_path):
    plate = write_noise(tmp_path / "in", (1001, 1002), size=(48, 64))
    done = cli.main(
        [
            "render",
            "--plate",
            str(plate),
            "--prompt",
            "Add a red ball",
            "--out",
            str(tmp_path / "out"),
            "--steps",
            "1",
            "--progress",
            "none",
            "--device",
            "cpu",
        ]
    )
    assert done == 0
    manifest = json.loads((tmp_path / "out/manifest.json").read_text())
    assert [entry["frame"] for entry in manifest["frames"]] == [1001, 1002]


def test_a_lift_delivers_every_frame(tmp_path):
    plate = write_noise(tmp_path / "in", (1, 2), np.uint8, "png", size=(48, 64))
    done = cli.main(
        ["lift", "--plate", str(plate), "--edited", str(plate), "--out", str(tmp_path / "out"), "--progress", "none"]
    )
    assert done == 0
    manifest = json.loads((tmp_path / "out/manifest.json").read_text())
    assert [entry["frame"] for entry in manifest["frames"]] == [1, 2]


def test_an_unknown_command_is_refused(capsys):
    assert cli.main(["rendre"]) == 2
    assert "no command 'rendre'" in capsys.readouterr().err
