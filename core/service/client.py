"""The client of Vera's service, in one file of the standard library (Python >= 3.9).

Hosts carry a copy of this file and nothing else of Vera:

    client = connect(python="/opt/vera/.venv/bin/python")   # finds the service, or starts it
    job = client.submit({"plate": "/shots/a.####.exr", "prompt": "Add falling snow", "out": "/shots/a_snow"})
    for job in client.watch(job["id"]):                     # a new state, a new frame, a new step
        print(job["state"], job["stage"], job["done"], job["total"])
    print(client.results(job)["edit"])

As a command: python client.py health | list | submit KEY=VALUE ... | watch ID | cancel ID | retry ID
"""

import http.client
import json
import os
import subprocess
import sys
import time
import uuid
from pathlib import Path

CONTRACT = 1  # of the requests and answers below; the service says its own in `health`
OPEN_STATES = ("queued", "running")
ENDED_STATES = ("done", "failed", "cancelled")
START_SECONDS, ANSWER_SECONDS, POLL_SECONDS = 60, 30, 25
BUSY, BUSY_TRIES = 503, 20  # the service has too many connections


class ServiceError(Exception):
    """The service refused or could not be reached: one line. `status` is HTTP's, or 0."""

    def __init__(self, text, status=0):
        super().__init__(text)
        self.status = status


class NotRunning(ServiceError):
    """There is no service to talk to."""


def state_folder():
    """Where the user's service keeps its queue and its token; VERA_SERVICE_DIR names another."""
    if os.environ.get("VERA_SERVICE_DIR"):
        return Path(os.environ["VERA_SERVICE_DIR"])
    home = Path.home()
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or home / "AppData" / "Local") / "vera"
    if sys.platform == "darwin":
        return home / "Library" / "Application Support" / "vera"
    return Path(os.environ.get("XDG_STATE_HOME") or home / ".local" / "state") / "vera"


def discover(folder=None):
    """The running service's entry: {"port", "pid", "token", "contract"}. Raises NotRunning.

    A file that another user wrote, or can read, is not believed.
    """
    path = Path(folder or state_folder()) / "service.json"
    try:
        if os.name == "posix":
            status = os.stat(path)
            if status.st_uid != os.getuid() or status.st_mode & 0o077:
                raise ServiceError(f"{path}: others can read or write it; delete it and start the service again")
        entry = json.loads(path.read_text(encoding="utf-8"))
        return {"port": int(entry["port"]), "token": str(entry["token"]), **entry}
    except (OSError, ValueError, KeyError, TypeError):
        raise NotRunning(f"no service: {path} is not there; start it with vera serve") from None


def connect(python=None, root=None, folder=None, path_map=(), wait=START_SECONDS, options=()):
    """A Client of the running service; starts one if `python` names an interpreter that has torch.

    root: the folder that holds Vera's `core`, where it is not installed in that environment.
    folder: the service's state folder. path_map: see PathMap. options: of vera.core.cli.serve, for a service
    that is started, such as ("--device", "cpu"). Raises ServiceError.
    """
    client = Client(folder, path_map, python and (lambda: start(python, root, folder, wait, options)))
    client.health()
    return client


def start(python, root=None, folder=None, wait=START_SECONDS, options=()):
    """Start the service apart from this process and wait until it answers. Raises ServiceError.

    Several clients may do so at once: one service stays, and all find it.
    """
    environment = dict(os.environ)
    # A host's own Python settings are not for the other interpreter.
    for name in ("PYTHONHOME", "PYTHONPATH", "PYTHONSTARTUP"):
        environment.pop(name, None)
    if folder:
        environment["VERA_SERVICE_DIR"] = str(folder)
    apart = {"start_new_session": True}
    if sys.platform == "win32":
        apart = {"creationflags": subprocess.CREATE_NO_WINDOW | subprocess.CREATE_NEW_PROCESS_GROUP}
    try:
        process = subprocess.Popen(
            [str(python), "-m", "vera", "serve", *options], cwd=root, env=environment, stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **apart,
        )  # fmt: skip
    except OSError as error:
        raise ServiceError(f"{python}: cannot be started ({error.strerror}); name the Python that has torch") from None
    end = time.monotonic() + wait
    while time.monotonic() < end:
        try:
            entry = discover(folder)
            Client(folder)._exchange(entry, "GET", "/v1/health", None, ANSWER_SECONDS)
            if os.name == "posix" and entry["pid"] != process.pid:
                process.terminate()  # another one was first: ours must not come up after that one ends
            return
        except (NotRunning, OSError, http.client.HTTPException):
            pass
        except ServiceError as error:
            if not error.status:
                raise
            # Something else answers at the port of a service that has gone.
        if process.poll() not in (None, 3):  # 3: another one was there first
            raise ServiceError(
                f"the service ended at once (exit code {process.returncode});"
                f" see {Path(folder or state_folder()) / 'service.log'}, or run {python} -m vera.core.cli.serve"
            )
        time.sleep(0.1)
    raise ServiceError(f"the service did not answer within {wait} s")


class PathMap:
    """Paths as this machine and as the service's machine write them: [(here, there), ...].

    The longest fitting prefix counts, at whole folder names; backslashes become slashes when
    the other side writes slashes, and the other way about.
    """

    def __init__(self, pairs=()):
        self.pairs = [(str(here).rstrip("/\\"), str(there).rstrip("/\\")) for here, there in pairs]

    def to_service(self, path):
        return self._mapped(path, self.pairs)

    def to_host(self, path):
        return self._mapped(path, [(there, here) for here, there in self.pairs])

    @staticmethod
    def _mapped(path, pairs):
        plain = str(path).replace("\\", "/")
        for source, target in sorted(pairs, key=lambda pair: -len(pair[0])):
            prefix = source.replace("\\", "/")
            same = (str.lower if ":" in prefix[:2] else str)  # drive letters mean Windows: case is no matter
            if same(plain) == same(prefix) or same(plain).startswith(same(prefix) + "/"):
                rest = plain[len(prefix):]
                return target + (rest.replace("/", "\\") if "\\" in target else rest)
        return str(path)


class Client:
    """One service. Jobs are dictionaries as the service's OpenAPI description says (`Job`)."""

    def __init__(self, folder=None, path_map=(), starter=None):
        self.folder, self.paths, self.starter = folder, PathMap(path_map), starter

    def health(self):
        """{"contract", "version", "device", "memory", "model", "worker", "jobs", ...}."""
        answer = self._ask("GET", "/v1/health")
        if answer["contract"] != CONTRACT:
            raise ServiceError(
                f"the service speaks contract {answer['contract']}, this client {CONTRACT}; install one version of both"
            )
        return answer

    def recipe_fields(self):
        """Names that this service's recipes may have; a host leaves others out."""
        return set(self._ask("GET", "/v1/openapi.json")["components"]["schemas"]["Recipe"]["properties"])

    def submit(self, recipe, request=None):
        """Put a recipe into the queue. Sent again under the same `request` it is the same job."""
        recipe = {k: v for k, v in dict(recipe).items() if v is not None}
        for name in ("plate", "mask", "out"):
            if name in recipe:
                recipe[name] = self.paths.to_service(recipe[name])
        door, _, path = recipe.get("model", "").partition(":")
        if door in ("lift", "vace"):
            recipe["model"] = f"{door}:{self.paths.to_service(path)}"
        return self._ask("POST", "/v1/jobs", {"recipe": recipe, "request": request or uuid.uuid4().hex})

    def jobs(self):
        """All jobs: those in the queue in its order, then those that ended, latest first."""
        return self._ask("GET", "/v1/jobs")["jobs"]

    def job(self, number):
        return self._ask("GET", f"/v1/jobs/{int(number)}")

    def watch(self, number, seconds=None):
        """Yield the job now and at every change until it has ended (or `seconds` are over)."""
        end = None if seconds is None else time.monotonic() + seconds
        job = self.job(number)
        yield job
        while job["state"] in OPEN_STATES:
            left = POLL_SECONDS if end is None else min(POLL_SECONDS, end - time.monotonic())
            if left <= 0:
                return
            before = job["revision"]
            path = f"/v1/jobs/{int(number)}?after={before}&wait={left:.1f}"
            job = self._ask("GET", path, seconds=left + ANSWER_SECONDS)
            if job["revision"] != before:
                yield job

    def wait(self, number, seconds=None):
        """The job once it has ended, or as it is after `seconds`."""
        job = None
        for job in self.watch(number, seconds):
            pass
        return job

    def cancel(self, number):
        return self._ask("POST", f"/v1/jobs/{int(number)}/cancel", {})

    def retry(self, number):
        return self._ask("POST", f"/v1/jobs/{int(number)}/retry", {})

    def move(self, number, before=None):
        """Before another queued job, or to the end."""
        return self._ask("POST", f"/v1/jobs/{int(number)}/move", {"before": before})

    def preview(self, number, frame=None):
        """PNG bytes: the layer of the latest (or of one) frame over a checkerboard; None if there is none."""
        try:
            where = f"/v1/jobs/{int(number)}/preview" + ("" if frame is None else f"?frame={int(frame)}")
            return self._ask("GET", where)
        except ServiceError as error:
            if error.status == 404:
                return None
            raise

    def unload(self):
        """Give the model's memory back now (after the job that runs)."""
        return self._ask("POST", "/v1/model/unload", {})

    def shutdown(self):
        """End the service; the queue stays, and a running job goes on when it is started again."""
        return self._ask("POST", "/v1/shutdown", {})

    def results(self, job):
        """Of a job that is done, as this machine writes paths: {"out", "edit", "composite", "manifest"}.

        edit and composite are patterns (edit.####.exr), manifest is read. Raises ServiceError.
        """
        out = Path(self.paths.to_host(job["recipe"]["out"]))
        try:
            manifest = json.loads((out / "manifest.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            raise ServiceError(f"{out}: holds no whole delivery; is the job done, and the path mapped?") from None
        kind = manifest["composite"]["format"]
        return {
            "out": str(out),
            "edit": str(out / "edit" / "edit.####.exr"),
            "composite": str(out / "composite" / f"composite.####.{kind}"),
            "manifest": manifest,
        }

    def _ask(self, method, path, body=None, seconds=ANSWER_SECONDS):
        """Ask; a service that has gone is found or started once more. Every request may be sent twice."""
        looked_again = False
        for _ in range(BUSY_TRIES):
            try:
                return self._exchange(discover(self.folder), method, path, body, seconds)
            except (NotRunning, OSError, http.client.HTTPException) as error:
                if isinstance(error, NotRunning) and not self.starter:
                    raise
                if looked_again:
                    words = f"the service does not answer ({error}); start it with vera serve"
                    raise NotRunning(words) from None
                looked_again = True
                if self.starter:
                    self.starter()
            except ServiceError as error:
                if error.status != BUSY:
                    raise
                time.sleep(0.3)
        raise ServiceError("the service has too many clients; try again later", BUSY)

    def _exchange(self, entry, method, path, body, seconds):
        # http.client takes no proxy from the environment: this never leaves the machine.
        connection = http.client.HTTPConnection("127.0.0.1", entry["port"], timeout=seconds)
        try:
            headers = {"Authorization": f"Bearer {entry['token']}", "Content-Type": "application/json"}
            connection.request(method, path, None if body is None else json.dumps(body), headers)
            response = connection.getresponse()
            content = response.read()
        finally:
            connection.close()
        if response.getheader("Content-Type", "").startswith("image/"):
            return content
        try:
            answer = json.loads(content)
        except ValueError:
            raise ServiceError(f"the service answered {response.status} without words", response.status) from None
        if response.status >= 400:
            raise ServiceError(answer.get("error", f"refused ({response.status})"), response.status)
        return answer


def main(arguments):
    if not arguments or arguments[0] not in ("health", "list", "submit", "watch", "cancel", "retry"):
        print(__doc__.strip(), file=sys.stderr)
        return 2
    command, *rest = arguments
    client = Client()
    try:
        if command == "health":
            print(json.dumps(client.health(), indent=2))
        elif command == "list":
            for job in client.jobs():
                print(f"{job['id']:>5}  {job['state']:9}  {job['recipe']['prompt']}")
        elif command == "submit":
            recipe = dict(part.split("=", 1) for part in rest)
            numbers = {n: json.loads(recipe[n]) for n in ("seed", "steps", "guidance") if n in recipe}
            print(client.submit({**recipe, **numbers})["id"])
        elif command == "watch":
            for job in client.watch(rest[0]):
                shown = ("state", "stage", "done", "total", "frame", "reason")
                print(json.dumps({name: job[name] for name in shown}), flush=True)
        else:
            print(getattr(client, command)(rest[0])["state"])
    except (ServiceError, ValueError, IndexError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
