"""Errors in a recipe's files or words are reported before torch is imported."""

import json
import subprocess
import sys
from pathlib import Path

from tests.plate.media import write_sequence

ROOT = Path(__file__).parents[2]
PROGRAM = """
import json, sys
from vera.core.cli import inspect, lift, render
for command, words in json.loads(sys.argv[1]):
    assert {"render": render, "lift": lift}[command].main([*words, "--progress", "none"]) == 2, words
assert inspect.main(sys.argv[2:]) == 0
print("torch" in sys.modules)
"""


def test_wrong_paths_and_prompts_are_refused_without_torch(tmp_path):
    plate = str(write_sequence(tmp_path, [1, 2], size=(48, 64, 3)))
    (tmp_path / "file").write_text("in the way")
    good = ["--plate", plate, "--prompt", "Add a red ball", "--out", str(tmp_path / "out")]
    cases = {
        "no file fits this pattern": ("render", [*good, "--plate", str(tmp_path / "none.####.exr")]),
        "no such file": ("render", [*good, "--plate", str(tmp_path / "none.mov")]),
        "mask: ": ("render", [*good, "--mask", str(tmp_path / "none.png")]),
        "neither 'mini' nor a directory": ("render", [*good, "--model", "nowhere"]),
        "is not inside the plate": ("render", [*good, "--region", "0,0,999,999"]),
        "mini does not know 'apple tree'": ("render", [*good, "--prompt", "Add an apple tree"]),
        "it reads English": ("render", [*good, "--prompt", "添加一个红色气球", "--dry-run"]),
        "negative prompt: mini knows nothing": ("render", [*good, "--negative-prompt", "xyzzy"]),
        "not frame numbers": ("render", [*good, "--cuts", "here"]),
        "remove": ("render", [*good, "--prompt", "Remove the car"]),
        "not a directory": ("render", [*good, "--out", str(tmp_path / "file")]),
        "none_edited.mov": (
            "lift",
            ["--plate", plate, "--edited", str(tmp_path / "none_edited.mov"), "--out", str(tmp_path / "out")],
        ),
    }
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, json.dumps(list(cases.values())), plate, "--json"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.stdout.endswith("}\nFalse\n"), done.stderr
    lines = done.stderr.splitlines()
    assert len(lines) == len(cases) and all(words in line for words, line in zip(cases, lines)), done.stderr
    assert not (tmp_path / "out").exists()
