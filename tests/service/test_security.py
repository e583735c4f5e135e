"""Hostile requests to a running service: each is refused, and nothing reaches the queue."""

import http.client
import json
import os
import socket
import stat

import pytest

from vera.core.errors import InputError
from vera.core.service import security
from vera.core.service.client import NotRunningError, ServiceError, discover

OVER = security.MAX_BODY + 1


def ask(service, method="GET", path="/v1/health", body=None, raw=None, **headers):
    """(status, answer). Headers in snake case; None takes a standard one away."""
    entry = service.entry
    standard = {"host": f"127.0.0.1:{entry['port']}", "authorization": f"Bearer {entry['token']}"}
    if method != "GET":
        standard["content-type"] = "application/json"
    given = {**standard, **{name.replace("_", "-"): value for name, value in headers.items()}}
    connection = http.client.HTTPConnection("127.0.0.1", entry["port"], timeout=60)
    try:
        connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
        content = raw if raw is not None else b"" if body is None else json.dumps(body).encode()
        for name, value in given.items():
            if value is not None:
                connection.putheader(name, value)
        if method != "GET" and "content-length" not in given and "transfer-encoding" not in given:
            connection.putheader("content-length", str(len(content)))
        try:
            connection.endheaders(content)
        except OSError:
            pass  # refused before all was sent
        response = connection.getresponse()
        try:
            return response.status, response.read()
        except ConnectionResetError:  # what was sent beyond the refusal resets the connection
            return response.status, b'{"error": "closed"}'
    finally:
        connection.close()


def good_recipe(service, **changes):
    home = str(service.home)
    return {"plate": f"{home}/plate.####.exr", "prompt": "input", "out": f"{home}/out", **changes}


def refused(service, wanted, *args, **kwargs):
    before = len(service.client.jobs())
    status, answer = ask(service, *args, **kwargs)
    assert status == wanted, answer
    assert status in (405, 404) or json.loads(answer)["error"]
    assert len(service.client.jobs()) == before
    assert service.client.health()["contract"] == 1


WHO = {
    "no token": (401, {"authorization": None}),
    "wrong token": (401, {"authorization": "Bearer x"}),
    "empty token": (401, {"authorization": "Bearer "}),
    "basic": (401, {"authorization": "Basic eDp5"}),
    "token beyond ASCII": (401, {"authorization": "Bearer \xff\xfe"}),
    "no host": (400, {"host": None}),  # HTTP/1.1 asks for one
    "foreign host": (403, {"host": "evil.example"}),
    "rebound host": (403, {"host": "evil.example:80"}),
    "other port": (403, {"host": "127.0.0.1:1"}),
    "host without port": (403, {"host": "127.0.0.1"}),
    "all interfaces": (403, {"host": "0.0.0.0:80"}),
    "foreign origin": (403, {"origin": "http://evil.example"}),
    "null origin": (403, {"origin": "null"}),
    "https origin": (403, {"origin": "https://127.0.0.1"}),
    "cross-site": (403, {"sec_fetch_site": "cross-site"}),
    "same-site": (403, {"sec_fetch_site": "same-site"}),
    "cross-site navigation": (
        403,
        {"sec_fetch_site": "cross-site", "sec_fetch_mode": "navigate", "sec_fetch_dest": "document"},
    ),
}


@pytest.mark.parametrize("name", WHO)
@pytest.mark.parametrize("method, path", [("GET", "/v1/health"), ("POST", "/v1/jobs")])
def test_strangers_are_refused(shared, name, method, path):
    status, headers = WHO[name]
    body = {"recipe": good_recipe(shared)} if method == "POST" else None
    before = len(shared.client.jobs())
    assert ask(shared, method, path, body, **headers)[0] == status
    assert len(shared.client.jobs()) == before


KINDS = ("application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "text/plain", "", "text/json")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("path", ["/v1/jobs", "/v1/shutdown"])
def test_forms_and_plain_text_are_refused(shared, kind, path):
    refused(shared, 415, "POST", path, {}, content_type=kind)


BODIES = {
    "empty": b"",
    "no json": b"plate=/etc/passwd",
    "half": b'{"recipe": {',
    "list": b"[]",
    "text": b'"x"',
    "null": b"null",
    "NaN": b'{"recipe": {"plate": "/a", "prompt": "p", "out": "/o", "guidance": NaN}}',
    "Infinity": b'{"recipe": {"plate": "/a", "prompt": "p", "out": "/o", "guidance": -Infinity}}',
    "infinite by size": b'{"recipe": {"plate": "/a", "prompt": "p", "out": "/o", "guidance": 1e999}}',
    "huge number": b'{"recipe": {"plate": "/a", "prompt": "p", "out": "/o", "seed": ' + b"9" * 5000 + b"}}",
    "deep": b'{"recipe": ' + b"[" * 20 + b"]" * 20 + b"}",
    "deepest": b"[" * 60000,
    "deep objects": b'{"a":' * 5000 + b"1" + b"}" * 5000,
    "twice": b'{"recipe": {}, "recipe": {"plate": "/a", "prompt": "p", "out": "/o"}}',
    "not utf-8": b'{"recipe": "\xff\xfe"}',
    "utf-16": '{"recipe": {}}'.encode("utf-16"),
    "surrogate": b'{"recipe": {"plate": "/a", "prompt": "\\ud800", "out": "/o"}}',
    "pickle": b"\x80\x04\x95\x10\x00\x00\x00\x00\x00\x00\x00\x8c\x05posix\x8c\x06system\x93.",
}


@pytest.mark.parametrize("name", BODIES)
def test_bodies_that_are_no_plain_json_are_refused(shared, name):
    refused(shared, 400, "POST", "/v1/jobs", raw=BODIES[name])


@pytest.mark.parametrize("headers", [{}, {"content_length": str(10**12)}])
def test_a_large_body_is_refused(shared, headers):
    refused(shared, 413, "POST", "/v1/jobs", raw=b'{"recipe": "' + b"x" * OVER + b'"}', **headers)


def test_a_large_body_in_chunks_is_refused(shared):
    chunk = b"1000\r\n" + b"x" * 4096 + b"\r\n"
    refused(shared, 413, "POST", "/v1/jobs", raw=chunk * 20 + b"0\r\n\r\n", transfer_encoding="chunked")


CHANGES = {
    "unknown field": {"command": "rm -rf /"},
    "unknown schema": {"schema": "vera.recipe/99"},
    "plate as list": {"plate": ["/a"]},
    "plate as number": {"plate": 7},
    "plate null": {"plate": None},
    "empty plate": {"plate": ""},
    "long plate": {"plate": "/" + "a" * 5000},
    "NUL in plate": {"plate": "/a\0b.exr"},
    "newline in plate": {"plate": "/a\nb.exr"},
    "relative plate": {"plate": "plate.exr"},
    "relative out": {"out": "../out"},
    "plate elsewhere": {"plate": "/etc/passwd"},
    "plate in proc": {"plate": "/proc/self/environ"},
    "out elsewhere": {"out": "/etc/vera"},
    "mask elsewhere": {"mask": "/etc/shadow"},
    "model elsewhere": {"model": "/etc"},
    "model by relative path": {"model": "../../weights"},
    "edited video elsewhere": {"model": "lift:/etc/passwd"},
    "edited video by relative path": {"model": "lift:edited.mp4"},
    "VACE elsewhere": {"model": "vace:/etc"},
    "LoRA elsewhere": {"lora": ["/etc/passwd:0.5"]},
    "LoRA by relative path": {"lora": ["lora.safetensors"]},
    "LoRA as text": {"lora": "/etc/passwd"},
    "LoRA as numbers": {"lora": [1]},
    "weights of another kind": {"weights": "evil"},
    "url as plate": {"plate": "http://169.254.169.254/latest/plate.mp4"},
    "long prompt": {"prompt": "x" * 5000},
    "blank prompt": {"prompt": "  "},
    "seed as text": {"seed": "1"},
    "seed as bool": {"seed": True},
    "seed negative": {"seed": -1},
    "seed as fraction": {"seed": 1.5},
    "seed too large": {"seed": 2**63},
    "no steps": {"steps": 0},
    "a million steps": {"steps": 10**6},
    "guidance as text": {"guidance": "5"},
    "guidance too large": {"guidance": 31},
    "blend space": {"blend_space": "evil"},
    "frames as list": {"frames": [1, 2]},
    "cache as text": {"cache": "0.1"},
    "cache below zero": {"cache": -0.1},
    "compile as number": {"compile": 1},
    "one batch as text": {"one_batch": "yes"},
    "attention of another kind": {"attention": "evil"},
    "prototype": {"__proto__": {"x": 1}},
}


@pytest.mark.parametrize("name", CHANGES)
def test_wrong_recipes_are_refused(shared, name):
    refused(shared, 400, "POST", "/v1/jobs", {"recipe": good_recipe(shared, **CHANGES[name])})


@pytest.mark.parametrize("name", ["plate", "mask", "out"])
@pytest.mark.parametrize(
    "way", ["{home}/../../etc/{leaf}", "{home}/a/../../../b/{leaf}", "{home}x/{leaf}", "{link}/{leaf}"]
)
def test_traversal_and_links_are_refused(shared, name, way):
    link = shared.home / "link"
    if not link.is_symlink():
        link.symlink_to("/etc")
    path = way.format(home=shared.home, link=link, leaf="x" if name == "out" else "x.####.exr")
    refused(shared, 400, "POST", "/v1/jobs", {"recipe": good_recipe(shared, **{name: path})})


@pytest.mark.parametrize(
    "status, method, path",
    [
        (404, "GET", "/../../etc/passwd"),
        (404, "GET", "/..%2f..%2fetc/passwd"),
        (404, "GET", "/page.js/../../security.py"),
        (404, "GET", "/%2e%2e/service.json"),
        (404, "GET", "/v1/../service.json"),
        (404, "GET", "/v2/health"),
        (404, "GET", "/v1/jobs/-1"),
        (404, "GET", "/v1/jobs/0"),
        (404, "GET", "/v1/jobs/999999999999999999999999999999"),
        (404, "GET", "/v1/jobs/1%20OR%201=1"),
        (404, "GET", "/v1/jobs/1'--"),
        (404, "GET", "/v1/jobs/99/preview?frame=1"),
        (400, "GET", "/v1/jobs/1/preview?frame=../../x"),
        (400, "GET", "/v1/jobs?wait=nan"),
        (400, "GET", "/v1/jobs?wait=1e999"),
        (400, "GET", "/v1/jobs?wait=99999"),
        (400, "GET", "/v1/jobs?wait=1&wait=2"),
        (400, "GET", "/v1/jobs?ended=-1"),
        (400, "GET", "/v1/jobs?after=" + "a" * 100),
        (400, "GET", "/v1/jobs?drop=table"),
        (405, "DELETE", "/v1/jobs"),
        (405, "PUT", "/v1/health"),
        (404, "POST", "/v1/jobs/99/cancel"),
    ],
)
def test_odd_addresses_are_refused(shared, status, method, path):
    refused(shared, status, method, path, {} if method != "GET" else None)


def test_a_repeated_header_is_refused(shared):
    entry = shared.entry
    lines = [
        "GET /v1/health HTTP/1.1",
        f"Host: 127.0.0.1:{entry['port']}",
        f"Authorization: Bearer {entry['token']}",
        "Origin: http://evil.example",
        f"Origin: http://127.0.0.1:{entry['port']}",
        "",
        "",
    ]
    assert b" 400 " in spoken(entry, "\r\n".join(lines).encode()).split(b"\r\n")[0]


@pytest.mark.parametrize(
    "bytes_", [b"\x00" * 100, b"GET / HTTP/9.9\r\n\r\n", b"GET /" + b"a" * 200_000, b"X: " + b"b\r\n" * 50_000]
)
def test_what_is_no_http_is_refused(shared, bytes_):
    answer = spoken(shared.entry, bytes_)
    assert answer == b"" or answer.startswith(b"HTTP/1.1 4")
    assert shared.client.health()


def test_a_header_bomb_is_refused(shared):
    assert ask(shared, x_bomb="b" * 100_000)[0] in (400, 431)


def test_many_idle_connections_do_not_shut_the_user_out_for_good(shared):
    sockets = [socket.create_connection(("127.0.0.1", shared.entry["port"])) for _ in range(300)]
    for each in sockets:
        each.close()
    assert shared.client.health()


def spoken(entry, content):
    with socket.create_connection(("127.0.0.1", entry["port"]), timeout=60) as connection:
        try:
            connection.sendall(content)
            connection.shutdown(socket.SHUT_WR)
            return connection.recv(65536)
        except OSError:
            return b""


def test_it_listens_on_loopback_only(shared):
    port = f"{shared.entry['port']:04X}"
    with open("/proc/net/tcp") as file:
        listening = [
            line.split()[1] for line in file if line.split()[3] == "0A" and line.split()[1].endswith(f":{port}")
        ]
    assert listening == [f"0100007F:{port}"]


def test_the_page_needs_no_token_and_the_description_does(shared):
    assert ask(shared, path="/", authorization=None)[0] == 200
    link = {"sec_fetch_site": "cross-site", "sec_fetch_mode": "navigate", "sec_fetch_dest": "document"}
    assert ask(shared, path="/", authorization=None, **link)[0] == 200
    assert ask(shared, path="/", authorization=None, sec_fetch_site="cross-site", sec_fetch_mode="no-cors")[0] == 403
    assert ask(shared, path="/v1/openapi.json", authorization=None)[0] == 401


def test_the_own_page_is_no_stranger(shared):
    origin = f"http://127.0.0.1:{shared.entry['port']}"
    assert ask(shared, origin=origin, sec_fetch_site="same-origin")[0] == 200


def test_only_the_user_reads_the_token(shared):
    for name in ("service.json", "open.html"):
        assert stat.S_IMODE((shared.folder / name).stat().st_mode) == 0o600
    assert stat.S_IMODE(shared.folder.stat().st_mode) == 0o700
    assert len(shared.entry["token"]) >= 40


def test_a_discovery_file_that_others_can_write_is_not_believed(tmp_path):
    with pytest.raises(NotRunningError):
        discover(tmp_path)
    path = tmp_path / "service.json"
    path.write_text('{"port": 1, "token": "x", "pid": 1}')
    path.chmod(0o622)
    with pytest.raises(ServiceError, match="others"):
        discover(tmp_path)


def test_private_files_are_private_from_the_first_byte(tmp_path):
    old = os.umask(0)
    try:
        security.write_private(tmp_path / "secret", "x")
    finally:
        os.umask(old)
    assert stat.S_IMODE((tmp_path / "secret").stat().st_mode) == 0o600
    assert os.listdir(tmp_path) == ["secret"]


class TestFiles:
    """What the worker checks before it opens anything."""

    @pytest.fixture
    def root(self, tmp_path):
        (tmp_path / "root").mkdir()
        (tmp_path / "outside.exr").write_bytes(b"secret")
        return tmp_path / "root"

    def recipe(self, root, **changes):
        return {"plate": str(root / "plate.####.exr"), "prompt": "p", "out": str(root / "out"), **changes}

    def check(self, root, **changes):
        security.check_files(self.recipe(root, **changes), [str(root)])

    def test_real_files_inside_pass(self, root):
        (root / "plate.0001.exr").write_bytes(b"x")
        self.check(root)

    def test_one_linked_frame_among_many_is_refused(self, root):
        for n in range(1, 5):
            (root / f"plate.{n:04d}.exr").write_bytes(b"x")
        (root / "plate.0005.exr").symlink_to(root.parent / "outside.exr")
        with pytest.raises(InputError, match="plate.0005.exr: outside"):
            self.check(root)

    def test_one_linked_frame_of_an_edited_video_is_refused(self, root):
        for n in (1, 2):
            (root / f"plate.{n:04d}.exr").write_bytes(b"x")
            (root / f"edited.{n:04d}.exr").write_bytes(b"x")
        self.check(root, model=f"lift:{root / 'edited.####.exr'}")
        (root / "edited.0003.exr").symlink_to(root.parent / "outside.exr")
        with pytest.raises(InputError, match="edited.0003.exr: outside"):
            self.check(root, model=f"lift:{root / 'edited.####.exr'}")

    def test_a_link_that_stays_inside_passes(self, root):
        (root / "plate.0001.exr").write_bytes(b"x")
        (root / "linked.exr").symlink_to(root / "plate.0001.exr")
        self.check(root, plate=str(root / "linked.exr"))

    def test_a_linked_result_folder_is_refused(self, root):
        (root / "out").mkdir()
        (root / "out" / "edit").symlink_to(root.parent)
        with pytest.raises(InputError, match="edit: outside"):
            self.check(root)

    def test_pipes_are_refused(self, root):
        os.mkfifo(root / "plate.0001.exr")
        with pytest.raises(InputError, match="not a regular file"):
            self.check(root)

    def test_a_folder_with_the_same_beginning_is_outside(self, root):
        with pytest.raises(InputError, match="outside"):
            self.check(root, out=str(root) + "-2")

    @pytest.mark.parametrize("own, named", [("", ""), ("/var/vera two", " --folder '/var/vera two'")])
    def test_a_refusal_names_the_command_for_this_service(self, root, monkeypatch, own, named):
        monkeypatch.setenv("VERA_SERVICE_DIR", own)
        with pytest.raises(InputError, match=f"allow one with vera serve{named} --allow FOLDER$"):
            self.check(root, out=str(root) + "-2")

    def test_allowing_adds_real_folders(self, root, tmp_path):
        roots = security.Roots(tmp_path / "roots.json")
        home = roots.folders()
        link = tmp_path / "link"
        link.symlink_to(root)
        assert roots.folders() == home
        assert roots.allow(link) == [str(root.resolve())] == roots.folders(), (
            "only what is named, and no longer the home"
        )
        assert roots.allow(tmp_path) == [str(root.resolve()), str(tmp_path.resolve())] == roots.folders()
        with pytest.raises(InputError, match="no such folder"):
            roots.allow(tmp_path / "nowhere")
        (tmp_path / "roots.json").write_text("[")
        with pytest.raises(InputError, match="damaged"):
            roots.folders()


BREAKS = "a\r\nX-Evil: 1\r\n\r\n{}"


@pytest.mark.parametrize("name", ["plate", "out", "mask", "model"])
def test_line_breaks_in_a_path_are_refused(shared, name):
    recipe = {"plate": str(shared.home / "p.exr"), "prompt": "a", "out": str(shared.home / "o")}
    with pytest.raises(ServiceError, match="control characters") as refused:
        shared.client.submit({**recipe, name: str(shared.home / BREAKS)})
    assert refused.value.status == 400


def test_line_breaks_do_not_get_into_a_request_of_the_client(shared):
    for call in (shared.client.job, shared.client.cancel, shared.client.preview):
        with pytest.raises(ValueError, match="invalid literal"):
            call(BREAKS)
    with pytest.raises(ServiceError, match="does not fit"):
        shared.client.submit({"plate": "/p.exr", "prompt": "a", "out": "/o"}, request=BREAKS)


def test_a_folder_whose_name_has_line_breaks_allows_itself_alone(tmp_path):
    folder = tmp_path / 'a\r\n", "/etc'
    folder.mkdir(parents=True)
    roots = security.Roots(tmp_path / "roots.json")
    assert roots.allow(folder) == roots.folders() == [str(folder)]
