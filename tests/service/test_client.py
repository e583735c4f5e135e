"""The client as hosts carry it: one file, any Python from 3.9, many at once."""

import ast
import json
import os
import shutil
import subprocess
import sys
import threading
from dataclasses import fields
from pathlib import Path

import pytest

from tests.service.conftest import ROOT, until
from vera.core.recipe import EditRecipe
from vera.core.service import client
from vera.core.service.client import Client, NotRunningError, PathMap, ServiceError, connect

FILE = Path(client.__file__)


def test_it_is_one_file_of_the_standard_library():
    names = set()
    for node in ast.walk(ast.parse(FILE.read_text(encoding="utf-8"), feature_version=(3, 9))):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        if isinstance(node, ast.ImportFrom):
            names.add(node.module.split(".")[0])
    assert names <= set(sys.stdlib_module_names)


def oldest_python():
    found = [shutil.which("python3.9"), *map(str, Path.home().glob(".pyenv/versions/3.9.*/bin/python"))]
    for python in filter(None, found):
        if subprocess.run([python, "-c", ""], capture_output=True).returncode == 0:
            return python
    return None


@pytest.mark.skipif(oldest_python() is None, reason="no Python 3.9 here")
def test_a_copy_works_in_python_3_9(service, recipe, tmp_path):
    shutil.copy(FILE, tmp_path / "vera_client.py")
    script = (
        "import json, sys, vera_client\n"
        "client = vera_client.connect()\n"
        "job = client.wait(client.submit(json.loads(sys.argv[1]))['id'], 60)\n"
        "print(sys.version_info[:2], job['state'])\n"
    )
    done = subprocess.run(
        [oldest_python(), "-c", script, json.dumps(recipe("one"))],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "VERA_SERVICE_DIR": str(service.folder)},
    )
    assert done.stdout.strip() == "(3, 9) done", done.stderr


def test_clients_that_start_it_at_once_find_one_service(tmp_path):
    """8 hosts whose buttons are pressed in the same second."""
    folder = tmp_path / "state"
    pids, errors = [], []

    def press():
        try:
            pids.append(connect(sys.executable, ROOT, folder, wait=90).health()["pid"])
        except ServiceError as error:
            errors.append(error)

    threads = [threading.Thread(target=press) for _ in range(8)]
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not errors and len(set(pids)) == 1 and len(pids) == 8
    finally:
        Client(folder).shutdown()
        until(lambda: not (folder / "service.json").exists(), 20, "the service to end")


def test_a_service_that_cannot_start_is_one_line(tmp_path):
    with pytest.raises(ServiceError, match="name the Python that has torch"):
        connect(tmp_path / "no-python", folder=tmp_path)
    with pytest.raises(ServiceError, match="ended at once"):
        connect("/bin/false", folder=tmp_path)
    with pytest.raises(NotRunningError, match="vera serve"):
        connect(folder=tmp_path)


@pytest.mark.skipif(os.name != "posix", reason="the stand-in for Python is a shell script")
def test_options_go_to_the_service_that_is_started(tmp_path):
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\necho "$@" > "{tmp_path}/asked"\nexit 1\n')
    python.chmod(0o700)
    with pytest.raises(ServiceError, match="ended at once"):
        connect(python, folder=tmp_path, options=("--device", "cpu"))
    assert (tmp_path / "asked").read_text() == "-m vera serve --device cpu\n"


def test_it_tells_which_fields_a_recipe_may_have(service):
    assert service.client.recipe_fields() == {f.name for f in fields(EditRecipe)}


def test_a_service_that_ended_is_started_again_for_the_next_request(make_service, recipe):
    service = make_service().start()
    again = Client(service.folder, starter=service.start)
    job = again.submit(recipe("one"))["id"]
    again.wait(job, 60)
    service.kill()
    assert again.job(job)["state"] == "done"


def test_500_jobs_by_8_clients_are_accepted_once_and_in_order(make_service, recipe):
    """Every fifth is sent twice, as by a client whose answer was lost."""
    service = make_service().start()
    service.client.submit(recipe("steps=100000 pause=0.2", "running"))
    accepted, errors = [[] for _ in range(8)], []

    def submit(n):
        own = Client(service.folder)
        try:
            for i in range(n, 500, 8):
                jobs = [own.submit(recipe(f"job {i}", str(i)), f"request-{i}") for _ in range(2 if i % 5 == 0 else 1)]
                assert jobs[0]["id"] == jobs[-1]["id"]
                accepted[n].append(jobs[0]["id"])
        except Exception as error:
            errors.append(error)

    until(lambda: service.client.jobs()[0]["done"], 60, "the first to run")
    memory = resident(service.process.pid)
    threads = [threading.Thread(target=submit, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    waiting = [job for job in service.client.jobs() if job["state"] == "queued"]
    assert len(waiting) == 500 == len({job["recipe"]["out"] for job in waiting})
    ids = [job["id"] for job in waiting]
    assert ids == sorted(ids) and [job["position"] for job in waiting] == list(range(1, 501))
    assert all(own == sorted(own) for own in accepted) and sorted(sum(accepted, [])) == ids
    for _ in range(5):
        service.client.jobs()
    assert resident(service.process.pid) - memory < 40 * 2**20
    service.kill()
    service.start()
    assert [job["id"] for job in service.client.jobs()][1:] == ids


def resident(pid):
    with open(f"/proc/{pid}/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.parametrize(
    "pairs, here, there",
    [
        ([("Z:\\proj", "/mnt/proj")], "Z:\\proj\\shot\\a.####.exr", "/mnt/proj/shot/a.####.exr"),
        ([("Z:/proj", "/mnt/proj")], "Z:/proj/shot", "/mnt/proj/shot"),
        ([("/Volumes/proj", "/mnt/proj")], "/Volumes/proj", "/mnt/proj"),
        ([("/mnt", "D:\\data")], "/mnt/a/b.exr", "D:\\data\\a\\b.exr"),
        ([("/a", "/x"), ("/a/b", "/y")], "/a/b/c", "/y/c"),
        ([("Z:\\", "/mnt/z")], "Z:\\shot\\a.%04d.exr", "/mnt/z/shot/a.%04d.exr"),
        ([("\\\\nas\\proj", "/mnt/proj")], "\\\\nas\\proj\\a.mov", "/mnt/proj/a.mov"),
    ],
)
def test_paths_go_to_the_service_and_come_back(pairs, here, there):
    paths = PathMap(pairs)
    assert paths.to_service(here) == there
    assert paths.to_host(there).replace("\\", "/") == here.replace("\\", "/")


def test_paths_are_mapped_at_whole_names():
    paths = PathMap([("/mnt/proj", "/x"), ("Z:\\Proj", "/z")])
    assert paths.to_service("/mnt/project/a") == "/mnt/project/a"
    assert paths.to_service("z:\\proj\\a") == "/z/a"
    assert paths.to_service("/other/a") == "/other/a"


def test_recipes_and_results_are_mapped(service, tmp_path):
    (tmp_path / "there").mkdir()
    mapped = Client(service.folder, [("/here", tmp_path / "there")])
    job = mapped.submit({"plate": "/here/p.exr", "prompt": "one", "out": "/here/out", "mask": None})
    assert job["recipe"]["out"] == str(tmp_path / "there" / "out")
    lifted = mapped.submit(
        {"plate": "/here/p.exr", "prompt": "one", "out": "/here/lifted", "model": "lift:/here/e.mp4"}
    )
    assert lifted["recipe"]["model"] == f"lift:{tmp_path / 'there' / 'e.mp4'}"
    with pytest.raises(ServiceError, match="/here/out"):
        mapped.results(mapped.wait(job["id"], 60))


def test_the_command_line(service, recipe, capsys, monkeypatch):
    monkeypatch.setenv("VERA_SERVICE_DIR", str(service.folder))
    values = [f"{k}={v}" for k, v in recipe("one", "a", seed=3).items()]
    assert client.main(["submit", *values]) == 0
    number = capsys.readouterr().out.strip()
    assert client.main(["watch", number]) == 0
    assert '"state": "done"' in capsys.readouterr().out.splitlines()[-1]
    assert service.client.job(number)["recipe"]["seed"] == 3
    assert client.main(["list"]) == 0 and "done" in capsys.readouterr().out
    assert client.main(["retry", number]) == 1 and "only a failed" in capsys.readouterr().err
    assert client.main([]) == 2
