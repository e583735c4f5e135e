"""What the client reads is a stranger's: whatever it is, ServiceError, in time, in little memory.

The client runs inside Nuke and Blender: another exception would be a traceback there, an endless answer a frozen host.
"""

import json
import os
import socket
import threading
import time
import tracemalloc

import pytest

from vera.core.service import client
from vera.core.service.client import Client, ServiceError

SECONDS = 0.4  # for one answer, in place of 30
MEMORY = 50 * 2**20

JOB = {
    "id": 1,
    "state": "running",
    "revision": "7",
    "position": None,
    "cancelling": False,
    "stage": "denoise",
    "done": 1,
    "total": 8,
    "frame": 1001,
    "seconds_left": 2.5,
    "thumbnails": [1001],
    "identity": None,
    "kind": None,
    "reason": None,
    "warnings": [],
    "report": None,
    "submitted": 1.0,
    "started": 2.0,
    "ended": None,
    "recipe": {"plate": "/p.####.exr", "prompt": "Add snow", "out": "/out"},
}
HEALTH = {
    "contract": 1,
    "version": "0",
    "pid": 5,
    "device": "cpu",
    "model": None,
    "recipe": ["plate", "prompt"],
    "roots": ["/"],
    "trouble": None,
    "memory": {},
    "jobs": {},
    "worker": "off",
    "worker_pid": None,
}
PNG = b"\x89PNG\r\n\x1a\n" + b"\x00\x00\x00\rIHDR" + (16).to_bytes(4, "big") + (9).to_bytes(4, "big") + b"rest"


def http(body, status="200 OK", kind="application/json", length=None, extra=""):
    length = len(body) if length is None else length
    return f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n{extra}\r\n".encode() + body


def answer(value):
    return http(json.dumps(value).encode())


def endless(start, part, pause=0.0):
    """An answer that never ends: the parts until the client has gone."""

    def send(link):
        link.sendall(start)
        end = time.monotonic() + 30
        while time.monotonic() < end:
            link.sendall(part)
            time.sleep(pause)

    return send


def silent(link):
    link.settimeout(30)
    while link.recv(4096):  # until the client goes
        pass


def chunked(*parts):
    return b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n" + b"".join(parts)


OPEN_BODY = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n"
TRANSPORT = {
    "closed at once": b"",
    "one byte": b"H",
    "half a status line": b"HTTP/1.1 20",
    "no HTTP": b"SSH-2.0-OpenSSH_9.2\r\n",
    "HTTP/0.9": b"{}",
    "HTTP/9.9": b"HTTP/9.9 200 OK\r\n\r\n{}",
    "a status of letters": b"HTTP/1.1 abc OK\r\n\r\n",
    "a status below 100": b"HTTP/1.1 -20 OK\r\n\r\n",
    "a status of 5000 digits": b"HTTP/1.1 " + b"2" * 5000 + b" OK\r\n\r\n",
    "an endless status line": endless(b"", b"H" * 4096),
    "an endless header": endless(b"HTTP/1.1 200 OK\r\nA: ", b"x" * 4096),
    "endless headers": endless(b"HTTP/1.1 200 OK\r\n", b"A: b\r\n" * 100),
    "a thousand headers": b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 1000 + b"\r\n{}",
    "a header without colon": b"HTTP/1.1 200 OK\r\nnothing\r\n\r\n",
    "headers in another coding": b"HTTP/1.1 200 OK\r\n\xff\xfe: \xff\r\n\r\n\xff",
    "endless go-on": endless(b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
    "a negative length": http(b"", length=-5),
    "a length of letters": http(b"{", length="many"),
    "a length of 5000 digits": http(b"{", length="9" * 5000),
    "a length of a terabyte": http(b"{", length=10**12),
    "shorter than it says": http(b'{"contract": 1', length=500),
    "a chunk of letters": chunked(b"zz\r\n{}\r\n"),
    "a negative chunk": chunked(b"-2\r\n{}\r\n"),
    "a chunk of a terabyte": chunked(b"FFFFFFFFFF\r\n{}"),
    "a chunk's size without end": endless(chunked(), b"0" * 4096),
    "endless chunks": endless(chunked(), b"1000\r\n" + b"x" * 4096 + b"\r\n"),
    "endless trailers": endless(chunked(b"0\r\n"), b"A: b\r\n" * 100),
    "no last chunk": chunked(b"2\r\n{}\r\n"),
    "a redirection": http(b"", "302 Found", extra="Location: http://example.com/\r\n"),
    "no content": b"HTTP/1.1 204 No Content\r\n\r\n",
    "not modified": b"HTTP/1.1 304 Not Modified\r\n\r\n",
    "refused without words": http(b"", "401 Unauthorized"),
    "refused in a list": http(b"[1]", "403 Forbidden"),
    "refused with a number": http(b'{"error": 5}', "403 Forbidden"),
    "refused in a megabyte": http(json.dumps({"error": "x" * 10**6}).encode(), "400 Bad"),
    "refused in many lines": http(json.dumps({"error": "a\nb\x1b[31m\x00" * 99}).encode(), "400 Bad"),
    "a page": http(b"<html>It works!</html>", "500 Internal Server Error", "text/html"),
    "always busy": http(b'{"error": "busy"}', "503 Service Unavailable"),
    "an endless body": endless(OPEN_BODY, b" " * 65536),
    "an endless list": endless(OPEN_BODY + b'{"a": [', b"[]," * 20000),
    "an endless picture": endless(OPEN_BODY.replace(b"application/json", b"image/png"), b"\x89PNG" * 16384),
    "drops of a body": endless(OPEN_BODY + b"{", b" ", 0.05),
    "drops of a header": endless(b"HTTP/1.1 200 OK\r\nA: ", b"b", 0.05),
    "drops of a status": endless(b"", b"H", 0.05),
    "drops of chunks": endless(chunked(), b"1\r\n \r\n", 0.05),
    "never a word": silent,
    "compressed": http(b"\x1f\x8b\x08" + bytes(100)),
}
DEEP = 200_000
BODIES = {
    "nothing": b"",
    "null": b"null",
    "true": b"true",
    "a number": b"17",
    "a text": b'"contract"',
    "a list": b'[{"contract": 1}]',
    "zeros": bytes(1000),
    "other coding": '{"contract": 1}'.encode("utf-16"),
    "half a character": b'{"contract": "\xc3"}',
    "cut": b'{"contract": 1, "vers',
    "two objects": b'{"contract": 1}{}',
    "a comment": b'{"contract": 1} // yes',
    "NaN": b'{"contract": NaN}',
    "infinity": b'{"contract": -Infinity}',
    "over all floats": b'{"contract": 1e999}',
    "5000 digits": b'{"contract": ' + b"1" * 5000 + b"}",
    "a megabyte of digits": b'{"contract": ' + b"1" * 10**6 + b"}",
    "a megabyte of decimals": b'{"contract": 0.' + b"1" * 10**6 + b"}",
    "lists in lists": b"[" * DEEP + b"]" * DEEP,
    "objects in objects": b'{"a":' * DEEP + b"1" + b"}" * DEEP,
    "a million lists": b'{"a": [' + b"[]," * 900_000 + b"1]}",
    "a million objects": b'{"a": [' + b'{"":1},' * 400_000 + b"1]}",
    "as many objects as may be": b'{"a": [' + b'{"":1},' * 99_000 + b"1]}",
    "a text of many bytes": b'{"contract": "' + b"x" * (4 * 2**20) + b'"}',
    "a text of wide characters": b'{"contract": "' + "\U0001f388x".encode() * 600_000 + b'"}',
    "contract 2": json.dumps({**HEALTH, "contract": 2}).encode(),
    "contract true": json.dumps({**HEALTH, "contract": True}).encode(),
    "contract missing": json.dumps({k: v for k, v in HEALTH.items() if k != "contract"}).encode(),
    "contract in a megabyte": json.dumps({**HEALTH, "contract": "1" * 10**6}).encode(),
}
NOT_WHOLE = [1.5, "1", [1], {}, True]
NOT_TEXT = [5, ["a"], {}, True]
FIELDS = {
    "id": [None, 0, -1, 10**19, *NOT_WHOLE],
    "state": [None, "", "sleeping", "DONE", *NOT_TEXT],
    "revision": [None, "x" * 1000, *NOT_TEXT],
    "position": NOT_WHOLE,
    "cancelling": [1, "no", []],
    "recipe": [None, 5, "x", [], {"out": 5}, {"out": None}, {"prompt": []}, {"model": {}}, {"plate": 1.0}],
    "stage": ["x" * 100, *NOT_TEXT],
    "done": [10**19, *NOT_WHOLE],
    "total": [-(10**19), *NOT_WHOLE],
    "frame": NOT_WHOLE,
    "seconds_left": ["soon", [], {}, True],
    "thumbnails": [5, "1", {}, [None], ["1001"], [1.5], list(range(2000))],
    "identity": NOT_TEXT,
    "kind": NOT_TEXT,
    "reason": NOT_TEXT,
    "warnings": ["none", 5, {}, [None], [[]], ["x"] * 2000],
    "report": [5, "x", []],
    "submitted": ["x", [], True],
    "started": ["x", {}],
    "ended": ["x", False],
}
HEALTH_FIELDS = {
    "version": [None, *NOT_TEXT],
    "pid": [None, 0, 10**19, *NOT_WHOLE],
    "device": [None, *NOT_TEXT],
    "model": NOT_TEXT,
    "recipe": [None, "plate", 5, {}, [5], [None]],
    "roots": ["/", 5, [5]],
    "trouble": NOT_TEXT,
}
PICTURES = {
    "empty": http(b"", kind="image/png"),
    "no PNG": http(b"GIF89a" + bytes(50), kind="image/png"),
    "cut": http(PNG[:12], kind="image/png"),
    "a bomb": http(PNG[:16] + (10**6).to_bytes(4, "big") + PNG[20:], kind="image/png"),
    "of no width": http(PNG[:16] + bytes(4) + PNG[20:], kind="image/png"),
    "JSON": answer({"picture": 1}),
    "a page": http(PNG, kind="text/html"),
    "too long": http(PNG + bytes(4 * 2**20), kind="image/png"),
}


def health(service):
    return service.health()


def job(service):
    return service.job(1)


def preview(service):
    return service.preview(1, 1001)


CASES = [
    *((f"health: {name}", content, health) for name, content in TRANSPORT.items()),
    *((f"health: {name}", http(content), health) for name, content in BODIES.items()),
    *((f"{n}: {v!r:.30}", answer({**HEALTH, n: v}), health) for n, values in HEALTH_FIELDS.items() for v in values),
    *((f"job {n}: {v!r:.30}", answer({**JOB, n: v}), job) for n, values in FIELDS.items() for v in values),
    *((f"picture: {name}", content, preview) for name, content in PICTURES.items()),
    ("jobs missing", answer({}), lambda service: service.jobs()),
    ("jobs null", answer({"jobs": None}), lambda service: service.jobs()),
    ("jobs an object", answer({"jobs": {"id": 1}}), lambda service: service.jobs()),
    ("jobs of numbers", answer({"jobs": [1]}), lambda service: service.jobs()),
    ("one bad among jobs", answer({"jobs": [JOB, {**JOB, "id": "x"}]}), lambda service: service.jobs()),
    ("watching a bad job", answer({**JOB, "revision": 5}), lambda service: list(service.watch(1, 1))),
    (
        "a list for a submission",
        answer([JOB]),
        lambda service: service.submit({"plate": "/p", "prompt": "x", "out": "/o"}),
    ),
    ("a word for a cancellation", answer("done"), lambda service: service.cancel(1)),
    ("cut at a retry", http(b'{"id":'), lambda service: service.retry(1)),
]


class StandIn:
    """Listens as the service does; `content` is what it answers: bytes, or a function of the connection."""

    def __init__(self, folder):
        self.content, self.asked = b"", 0
        self.listener = socket.create_server(("127.0.0.1", 0))
        entry = {"port": self.listener.getsockname()[1], "pid": os.getpid(), "token": "t" * 32, "contract": 1}
        write_private(folder / "service.json", json.dumps(entry).encode())
        threading.Thread(target=self.run, daemon=True).start()

    def run(self):
        while True:
            try:
                link, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self.serve, args=(link,), daemon=True).start()

    def serve(self, link):
        self.asked += 1
        try:
            with link:
                link.settimeout(30)
                link.recv(65536)
                self.content(link) if callable(self.content) else link.sendall(self.content)
        except OSError:
            pass


def write_private(path, content):
    path.write_bytes(content)
    path.chmod(0o600)


@pytest.fixture(scope="module")
def stand_in(tmp_path_factory):
    folder = tmp_path_factory.mktemp("state")
    service = StandIn(folder)
    service.folder = folder
    yield service
    service.listener.close()


@pytest.fixture
def hurried(monkeypatch):
    monkeypatch.setattr(client, "ANSWER_SECONDS", SECONDS)
    monkeypatch.setattr(client, "BUSY_SECONDS", 0.01)


def test_there_are_two_hundred_of_them():
    assert len(CASES) >= 200 and len({name for name, *_ in CASES}) == len(CASES)


@pytest.mark.parametrize("content, call", [pytest.param(*rest, id=name) for name, *rest in CASES])
def test_a_hostile_answer_is_one_line_in_time_and_in_little_memory(stand_in, hurried, content, call):
    stand_in.content = content
    tracemalloc.start()
    try:
        with pytest.raises(ServiceError) as caught:
            call(Client(stand_in.folder))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < MEMORY
    assert "\n" not in str(caught.value) and 5 < len(str(caught.value)) < 1000


@pytest.mark.parametrize("name", [n for n, content in TRANSPORT.items() if callable(content)])
def test_it_waits_no_longer_than_it_may(stand_in, hurried, name):
    """The whole of an answer counts, not each part of it. (Twice: an answer that never began is asked for again.)"""
    stand_in.content = TRANSPORT[name]
    begun = time.monotonic()
    with pytest.raises(ServiceError):
        Client(stand_in.folder).health()
    assert time.monotonic() - begun < 20  # it would go on for 30 seconds


def test_what_is_right_is_taken(stand_in):
    """The table proves nothing if everything is refused."""
    service = Client(stand_in.folder)
    stand_in.content = answer({**HEALTH, "later": [1]})
    assert service.health()["roots"] == ["/"] and service.recipe_fields() == {"plate", "prompt"}
    stand_in.content = answer({**JOB, "reason": "a\nb", "later": {}})
    assert service.job(1)["reason"] == "a b" and service.job(1)["recipe"]["prompt"] == "Add snow"
    stand_in.content = answer({"jobs": [JOB] * 1000})
    assert len(service.jobs()) == 1000
    stand_in.content = http(PNG, kind="image/png")
    assert service.preview(1) == PNG
    short = {name: JOB[name] for name in ("id", "state", "revision", "recipe")}
    stand_in.content = answer({**short, "state": "done"})
    assert service.wait(1)["warnings"] == []
    stand_in.content = http(b'{"error": "the plate is not there"}', "400 Bad Request")
    with pytest.raises(ServiceError, match="^the plate is not there$") as caught:
        service.job(1)
    assert caught.value.status == 400
    stand_in.content = http(b'{"error": "no picture"}', "404 Not Found")
    assert service.preview(1) is None


def test_a_service_that_does_not_wait_is_not_asked_without_end(stand_in):
    """It answers at once that nothing is new, again and again."""
    stand_in.content = answer(JOB)
    before = stand_in.asked
    assert list(Client(stand_in.folder).watch(1, 1.0))[0]["state"] == "running"
    assert stand_in.asked - before <= 12


ENTRY = {"port": 5000, "pid": 1, "token": "t" * 32, "contract": 1}
DISCOVERED = {
    "empty": b"",
    "zeros": bytes(100),
    "no JSON": b"port=5000",
    "a list": b"[5000]",
    "null": b"null",
    "a number": b"5000",
    "deep": b'{"port":' * DEEP + b"1" + b"}" * DEEP,
    "deep but short": b'{"port":' * 1500 + b"1" + b"}" * 1500,
    "long": json.dumps({**ENTRY, "more": "x" * 10**6}).encode(),
    "another coding": json.dumps(ENTRY).encode("utf-16"),
    "half a character": b'{"port": "\xc3"}',
    "cut": json.dumps(ENTRY).encode()[:-5],
    "NaN": b'{"port": NaN, "pid": 1, "token": "t"}',
    "digits": b'{"port": ' + b"5" * 5000 + b', "pid": 1, "token": "t"}',
    **{
        f"without {name}": json.dumps({k: v for k, v in ENTRY.items() if k != name}).encode()
        for name in ("port", "pid", "token")
    },
    **{
        f"{name} {value!r:.20}": json.dumps({**ENTRY, name: value}).encode()
        for name, values in {
            "port": [None, 0, -1, 65536, 10**19, *NOT_WHOLE, ""],
            "pid": [None, 0, -1, 10**19, *NOT_WHOLE],
            "token": [None, "", "a b", "a\r\nX: y", "ü", "t" * 10_000, "\x00", *NOT_TEXT],
        }.items()
        for value in values
    },
}


@pytest.mark.parametrize("name", DISCOVERED)
def test_a_hostile_discovery_file_is_no_service(tmp_path, name):
    write_private(tmp_path / "service.json", DISCOVERED[name])
    for call in (lambda: client.discover(tmp_path), Client(tmp_path).health):
        with pytest.raises(client.NotRunningError) as caught:
            call()
        assert "\n" not in str(caught.value) and "vera serve" in str(caught.value)


@pytest.mark.skipif(os.name != "posix", reason="links and pipes of POSIX")
@pytest.mark.parametrize("kind", ["folder", "pipe", "device", "link", "circle", "a file as folder"])
def test_what_is_no_file_is_no_discovery_file(tmp_path, kind):
    path = tmp_path / "service.json"
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path, 0o600)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    elif kind == "link":
        write_private(tmp_path / "other.json", json.dumps(ENTRY).encode())
        path.symlink_to(tmp_path / "other.json")
    elif kind == "circle":
        path.symlink_to(path)
    folder = tmp_path if kind != "a file as folder" else tmp_path / "file"
    (tmp_path / "file").write_text("")
    with pytest.raises(client.NotRunningError):
        client.discover(folder)


@pytest.mark.skipif(os.name != "posix", reason="rights of POSIX")
@pytest.mark.parametrize("rights", [0o644, 0o640, 0o620, 0o604, 0o602])
def test_a_discovery_file_that_others_can_read_is_refused(tmp_path, rights):
    path = tmp_path / "service.json"
    write_private(path, json.dumps(ENTRY).encode())
    assert client.discover(tmp_path) == ENTRY
    path.chmod(rights)
    with pytest.raises(ServiceError, match="others can read or write it"):
        client.discover(tmp_path)


MANIFESTS = {
    "missing": None,
    "empty": b"",
    "a list": b"[]",
    "deep": b'{"composite":' * DEEP,
    "no composite": b"{}",
    "composite null": b'{"composite": null}',
    "composite a text": b'{"composite": "exr"}',
    "format a number": b'{"composite": {"format": 5}}',
    "format a path": b'{"composite": {"format": "../../x"}}',
    "format empty": b'{"composite": {"format": ""}}',
    "format with a pattern": b'{"composite": {"format": "#"}}',
    "NaN": b'{"composite": {"format": "exr"}, "x": NaN}',
    "too many parts": b'{"composite": {"format": "exr"}, "x": [' + b"1," * 1_000_001 + b"1]}",
    "too long": b'{"composite": {"format": "exr"}}' + b" " * (33 * 2**20),
}


@pytest.mark.parametrize("name", MANIFESTS)
def test_a_hostile_manifest_is_no_delivery(tmp_path, name):
    if MANIFESTS[name] is not None:
        (tmp_path / "manifest.json").write_bytes(MANIFESTS[name])
    with pytest.raises(ServiceError):
        Client(tmp_path).results({"recipe": {"out": str(tmp_path)}})
    (tmp_path / "manifest.json").write_bytes(b'{"composite": {"format": "exr"}}')
    assert Client(tmp_path).results({"recipe": {"out": str(tmp_path)}})["edit"].endswith("edit.####.exr")
