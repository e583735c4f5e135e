"""The door: what it says, and with which exit code."""

import json

import pytest

from tests.service.conftest import make_service, recipe  # noqa: F401  fixtures
from vera.core.cli import serve


def test_help_is_enough(capsys):
    with pytest.raises(SystemExit) as end:
        serve.main(["--help"])
    assert end.value.code == 0
    said = capsys.readouterr().out
    for word in (
        "--open",
        "--submit job.json",
        "--allow",
        "--status",
        "--unload",
        "--stop",
        "exit codes",
        "VERA_SERVICE_DIR",
    ):
        assert word in said


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["--status"], "start it with vera serve"),
        (["--idle", "0"], "--idle"),
        (["--idle", "nan"], "--idle"),
        (["--port", "80"], "unrecognized"),
        (["--open", "--stop"], "not allowed with"),
        (["--allow", "/no/such/folder"], "no such folder"),
        (["--submit", "/no/such/job.json"], "no such job file"),
    ],
)
def test_wrong_input_is_one_line(arguments, words, capsys, tmp_path):
    assert serve.main([*arguments, "--folder", str(tmp_path)]) == 2
    said = capsys.readouterr()
    assert said.out == "" and said.err.count("\n") == 1 and words in said.err


def test_a_job_file_goes_into_the_queue(make_service, recipe, tmp_path, capsys):  # noqa: F811
    service = make_service().start()
    folder = ["--folder", str(service.folder)]
    (tmp_path / "job.json").write_text(json.dumps({"plate": "plate.####.exr", "prompt": "one", "out": "out"}))
    assert serve.main(["--submit", str(tmp_path / "job.json"), *folder]) == 0
    assert capsys.readouterr().out.startswith("job 1: ")
    job = service.client.wait(1, 60)
    assert job["state"] == "done" and job["recipe"]["plate"] == str(tmp_path / "plate.####.exr")
    assert serve.main(["--status", *folder]) == 0
    assert "1 done" in capsys.readouterr().out
    assert serve.main(["--unload", *folder]) == 0
    assert serve.main(["--stop", *folder]) == 0
    assert service.process.wait(20) == 0
    assert serve.main(["--allow", str(tmp_path), *folder]) == 0
