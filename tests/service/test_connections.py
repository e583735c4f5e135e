"""Strangers who open connections and send nothing, or half a request, keep nobody out."""

import http.client
import socket

import pytest

from tests.service.conftest import until

STRANGERS = 1000


def connect(port, content):
    stranger = socket.create_connection(("127.0.0.1", port), timeout=60)
    stranger.sendall(content)
    return stranger


@pytest.fixture
def port(service):
    return service.entry["port"]


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"GET / HTTP/1.1\r\nHost: ",
        b"POST /v1/jobs HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 9\r\n\r\n{",
        b"GET /v1/health HTTP/1.1\r\nAuthorization: Bearer wrong\r\n",
    ],
)
def test_the_owner_is_answered_while_a_thousand_strangers_hold_connections(service, port, content):
    strangers = []
    try:
        for number in range(STRANGERS):
            strangers.append(connect(port, content))
            if number % 250 == 0:
                assert service.client.health()["contract"]
        assert service.client.health()["contract"]
    finally:
        for stranger in strangers:
            stranger.close()
    assert service.client.health()["contract"]


def test_a_strangers_connection_times_out(service, port):
    stranger = connect(port, b"GET / HTTP/1.1\r\nHost: ")
    stranger.settimeout(60)
    try:
        assert stranger.recv(1) == b""
    except ConnectionResetError:
        pass


def test_a_connection_that_has_shown_the_token_is_kept(service, port):
    """Also when it is the oldest of many."""
    entry = service.entry
    owner = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    ask = {"Authorization": f"Bearer {entry['token']}"}

    def health():
        owner.request("GET", "/v1/health", headers=ask)
        answer = owner.getresponse()
        answer.read()
        return answer.status

    assert health() == 200
    kept = owner.sock
    strangers = [connect(port, b"GET") for _ in range(300)]
    assert health() == 200 and owner.sock is kept
    for stranger in strangers:
        stranger.close()


@pytest.mark.parametrize("job", ["9" * 5000, "0x1", "1.5", "-1", "99999999999999999"])
def test_a_job_that_is_no_number_of_a_job_is_not_there(service, port, job):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request("GET", f"/v1/jobs/{job}", headers={"Authorization": f"Bearer {service.entry['token']}"})
    answer = connection.getresponse()
    assert answer.status == 404 and len(answer.read()) < 300


@pytest.mark.parametrize(
    "path", ["/../../etc/passwd", "/%2e%2e/%2e%2e/etc/passwd", "//etc/passwd", "/page.js/../../api.py", "/service.json"]
)
def test_no_file_but_the_pages_own_is_served(service, port, path):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request("GET", path)
    assert connection.getresponse().status in (400, 403, 404)


@pytest.mark.parametrize(
    "ranges", ["bytes=" + ",".join(f"{i}-" for i in range(2500)), "bytes=" + "0-," * 3000, "bytes=0-" + "9" * 9000]
)
def test_ranges_without_number_do_not_hold_the_server(service, port, ranges):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request("GET", "/page.js", headers={"Range": ranges})
    answer = connection.getresponse()
    assert answer.status < 500 and len(answer.read()) < 2**20
    assert service.client.health()["contract"]


def test_the_log_is_moved_aside_while_its_writer_goes_on(tmp_path, monkeypatch):
    from vera.core.service import server

    monkeypatch.setattr(server, "MAX_LOG", 100)
    path = tmp_path / "service.log"
    with open(path, "ab", buffering=0) as log:
        log.write(b"x" * 99)
        server.rotate_log(path)
        assert path.stat().st_size == 99
        log.write(b"y" * 99)
        server.rotate_log(path)
        log.write(b"z")
    assert path.read_bytes() == b"z" and (tmp_path / "service.log.1").read_bytes() == b"x" * 99 + b"y" * 99


def test_a_queue_goes_on_beside_a_row_that_cannot_be_read(make_service, recipe):
    import sqlite3

    service = make_service().start()
    first = service.client.wait(service.client.submit(recipe("one", "a"))["id"], 60)
    service.stop()
    for column, value in (("recipe", "{no json"), ("warnings", "7"), ("report", "[" * 5000)):
        with sqlite3.connect(service.folder / "queue.sqlite") as queue:
            queue.execute(f"UPDATE jobs SET {column} = ?, state = 'queued' WHERE id = ?", (value, first["id"]))
        queue.close()
        service.start()
        second = service.client.submit(recipe("two", f"b-{column}"))["id"]
        assert service.client.wait(second, 60)["state"] == "done"
        assert {job["id"] for job in service.client.jobs()} >= {first["id"], second}
        until(lambda: service.client.job(first["id"])["state"] in ("failed", "done"), 60, "the damaged job's end")
        service.stop()


@pytest.mark.parametrize("kind", ["another table", "another version", "text", "folder", "cut"])
def test_a_file_that_is_no_queue_is_one_line_with_the_fix(tmp_path, kind):
    import sqlite3

    from vera.core.errors import InputError
    from vera.core.service.jobs import Queue

    path = tmp_path / "queue.sqlite"
    if kind == "another table":
        db = sqlite3.connect(path)
        db.execute("CREATE TABLE jobs (id INTEGER, state TEXT, place INTEGER, identity TEXT)")
        db.commit()
        db.close()
    elif kind == "another version":
        db = sqlite3.connect(path)
        db.execute("PRAGMA user_version=99")
        db.close()
    elif kind == "text":
        path.write_text("not a database, " * 100)
    elif kind == "folder":
        path.mkdir()
    else:
        queue = Queue(path)
        for number in range(300):
            queue.submit({"plate": "x" * 300, "number": number}, f"r{number}")
        queue.close()
        path.write_bytes(path.read_bytes()[:-8192])
    with pytest.raises(InputError, match="move (it|the file) away") as refused:
        Queue(path)
    assert "\n" not in str(refused.value) and len(str(refused.value)) < 300
