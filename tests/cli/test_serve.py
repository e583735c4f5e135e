"""`vera serve`: its messages and exit codes."""

import json

import pytest

from tests.service.conftest import ENDS_WITHIN, make_service, recipe  # noqa: F401  two are fixtures
from vera.core.cli import serve
from vera.core.service import client


def test_help_names_every_option(capsys):
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
def test_wrong_arguments_give_one_line(arguments, words, capsys, tmp_path):
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
    assert service.process.wait(ENDS_WITHIN) == 0
    assert serve.main(["--allow", str(tmp_path), *folder]) == 0


def test_submit_and_open_start_the_service_where_none_runs(tmp_path, capsys, monkeypatch):
    folder, job = ["--folder", str(tmp_path / "state")], tmp_path / "job.json"
    job.write_text(json.dumps({"plate": "plate.####.exr", "prompt": "one", "out": "out"}))
    serve.main(["--allow", str(tmp_path), *folder])
    capsys.readouterr()
    try:
        assert serve.main(["--submit", str(job), *folder, "--device", "cpu", "--idle", "60"]) == 0
        entry = client.discover(tmp_path / "state")
        address = f"http://127.0.0.1:{entry['port']}/"
        said = capsys.readouterr().out
        assert said.startswith("job 1: ") and f"was started at {address}" in said
        opened = []
        monkeypatch.setattr(serve.webbrowser, "open", lambda url: opened.append(url) or True)
        assert serve.main(["--open", *folder]) == 0
        assert opened == [(tmp_path / "state/open.html").as_uri()]
        assert f"runs at {address}" in capsys.readouterr().out
        monkeypatch.setattr(serve.webbrowser, "open", lambda url: False)
        assert serve.main(["--open", *folder]) == 0
        assert f"{address}#token={entry['token']}" in capsys.readouterr().out
    finally:
        serve.main(["--stop", *folder])


def test_options_are_passed_on_to_the_service_that_is_started():
    args = serve.parser().parse_args(["--open", "--device", "cpu", "--model-idle", "7", "--memory-limit", "4"])
    words = serve.options_of(args)
    again = serve.parser().parse_args(words)
    assert (again.device, again.model_idle, again.memory_limit, again.open) == ("cpu", 7, 4, False)
