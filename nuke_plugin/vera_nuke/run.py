"""Run one job of the service, from the button to the layer in the node.

Node and disk are read on the main thread. A separate thread talks to the service and touches no node. Without an
interface, everything runs in the calling thread.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
import threading
import traceback
from typing import TYPE_CHECKING, Any

import nuke

from . import badge, gather, plate, settings, show, versions
from .host import HostGoneError, complain, no_undo, on_main, say, set_status, unsaved
from .host_rules import RefusedError, fitting, keeps, look_words, percent, progress_words, take_over_kept

if TYPE_CHECKING:
    from .client import Client, Job

_POLL_SECONDS = 0.5  # interval at which the cancel buttons are polled; raising it delays cancelling
_running: dict[str, Run] = {}  # by the folder of the version


def render(node: nuke.Gizmo, wait: bool = False, draft: bool = False) -> None:
    """Show the result of the node's request, at once if it is on the disk, else after a job. Raises RefusedError.

    wait: return after the result is shown; otherwise return at once and watch the job from a thread
    draft: of the current frame
    """
    _refuse_second(node)
    request = gather.request(node, draft=draft, frames=(int(nuke.frame()),) * 2 if draft else None)
    with no_undo():
        node["spaces"].setValue(spaces(request))
    base = gather.folder(node)
    number = versions.find(base, request, int(node["version"].value()))
    if number is not None:
        out = versions.path(base, number)
        if out in _running:
            raise RefusedError(f"v{number:03d}: another node renders the same just now; press Render when it is done")
        delivery = versions.delivered(out)
        if delivery and not delivery.missing:
            return show.show(node, base, number)
    plate.write(node, request)
    if number is None:
        kept = versions.kept_for(base, request)
        number = versions.begin(base, request)
        take_over_kept(kept, versions.path(base, number))
    _start(Run(node, base, number, request.recipe), wait)


def look(node: nuke.Gizmo, wait: bool = False) -> None:
    """Show how the inputs would be read, before a job. Raises RefusedError; refusals of the service are shown too."""
    request = gather.request(node, write=False)
    recipe = {**request.recipe, "out": gather.folder(node)}
    name = str(node.fullName())
    if request.plate_write is not None:
        return complain(look_words([], name, "its input is more than one untouched Read, so that Nuke writes it"))
    if request.mask_write is not None:
        recipe.pop("mask")

    def ask() -> None:
        from .client import ServiceError

        try:
            service = settings.connect()
            read = service.look(fitting(recipe, service.recipe_fields()))
            read += ["The mask is written by Nuke first."] if request.mask_write is not None else []
        except (RefusedError, ServiceError) as error:
            read = [str(error)]
        with contextlib.suppress(HostGoneError):
            on_main(complain, look_words(read, name))

    if wait:
        ask()
    else:
        threading.Thread(target=ask, name="Vera look", daemon=True).start()


def changed(node: nuke.Gizmo) -> bool:
    """Whether the node's request differs from the shown version. Raises RefusedError."""
    if show.missing(node):
        return True
    number = int(node["version"].value())
    return versions.find(gather.folder(node), gather.request(node, write=False), number) != number


def cancel(node: nuke.Gizmo) -> None:
    """Stop this node's job; finished frames stay. Raises RefusedError."""
    run = _run_of(node)
    if run is None:
        raise RefusedError("nothing is being rendered for this node")
    run.cancelled.set()
    set_status(node, "being cancelled")


def resume(node: nuke.Gizmo, number: int) -> None:
    """After a script was opened: show or watch a job that it had started. No job is started."""
    base = gather.folder(node)
    delivery = versions.delivered(versions.path(base, number))
    if delivery and not delivery.missing:
        show.show(node, base, number)
    elif _run_of(node) is None:
        _start(Run(node, base, number, None), wait=False)


def spaces(request: versions.Request) -> str:
    """The colour spaces of plate and layer, as text for the artist."""
    plate_is = "written as EXR" if request.plate_write else "its own files"
    return f"plate in {request.recipe['color_space']} ({plate_is}), layer in {request.recipe['layer_space']}"


def _refuse_second(node: nuke.Gizmo) -> None:
    """Raise RefusedError if a job of the node is running."""
    run = _run_of(node)
    if run is not None:
        raise RefusedError(f"v{run.number:03d} of this node is being rendered; cancel it first, or wait")


def _run_of(node: nuke.Gizmo) -> Run | None:
    """The running job of a node, or None."""
    for run in list(_running.values()):
        try:
            if run.node == node:  # it may have another name by now
                return run
        except ValueError:
            pass  # the run's node has been deleted
    return None


def _start(run: Run, wait: bool) -> None:
    _running[run.out] = run
    with no_undo():
        run.node["pending"].setValue(run.number)
    if wait:
        run.work()
        if run.failure:
            raise RefusedError(run.failure)
    else:
        set_status(run.node, f"v{run.number:03d}: is being rendered")
        badge.running(run.node, f"v{run.number:03d}: looking for the service")
        threading.Thread(target=run.work, name="Vera " + run.out, daemon=True).start()


class Run:
    """A version that is being made. recipe: None if an existing job is only watched."""

    def __init__(self, node: nuke.Gizmo, base: str, number: int, recipe: dict[str, Any] | None) -> None:
        self.node, self.base, self.number, self.recipe = node, base, number, recipe
        self.name, self.out = node.fullName(), versions.path(base, number)
        self.cancelled = threading.Event()
        self.failure = self.last_words = ""  # the error, and the latest progress, each one line
        self.shown_frame: int | None = None  # the frame whose thumbnail is shown
        self.pictures: list[str] = []  # files of all thumbnails so far, deleted at the end

    def work(self) -> None:
        """Run the whole job; an error is stored in `failure` and in the node's status."""
        try:
            words = self._error_of(self._wait())
        except HostGoneError:
            self._unregister()
            return
        except RefusedError as error:
            words = str(error)
        except Exception as error:
            traceback.print_exc()
            words = f"fault: {type(error).__name__}: {error}; the terminal has more"
        try:
            on_main(self._finish, words)
        except (HostGoneError, ValueError):
            pass  # the node, the script or Nuke is closed; the next Render finds the result
        finally:
            self._unregister()

    def _unregister(self) -> None:
        if _running.get(self.out) is self:  # after a script was reopened, another Run may have replaced this one
            del _running[self.out]

    def _wait(self) -> Job:
        """Wait for the job's end and return it."""
        from .client import OPEN_STATES, ServiceError

        task = nuke.ProgressTask(f"Vera: {self.name} v{self.number:03d}") if nuke.GUI else None
        try:
            service = settings.connect(may_start=self.recipe is not None)
            job, is_cancelled = self._job(service), False
            while job["state"] in OPEN_STATES:
                for job in service.watch(job["id"], _POLL_SECONDS):  # noqa: B020 - the newest state
                    if job["state"] in OPEN_STATES:
                        self._report(service, job, task)
                if not is_cancelled and (self.cancelled.is_set() or (task and task.isCancelled())):
                    is_cancelled = True
                    try:
                        service.cancel(job["id"])
                    except ServiceError as error:
                        if error.status != 409:  # it has just ended
                            raise
            return job
        except ServiceError as error:
            raise RefusedError(str(error)) from None
        finally:
            del task  # its window closes

    def _job(self, service: Client) -> Job:
        """Submit the recipe, or find the job that was submitted before. Raises RefusedError, ServiceError."""
        if self.recipe is not None:
            recipe = {"keep": keeps(self.recipe["model"]), **self.recipe}
            return service.submit({**fitting(recipe, service.recipe_fields()), "out": self.out})
        out = service.paths.to_service(self.out)
        for job in service.jobs():
            if job["recipe"]["out"] == out:
                return job
        raise RefusedError("was not finished; press Render to continue")

    def _report(self, service: Client, job: Job, task: nuke.ProgressTask | None) -> None:
        words = f"v{self.number:03d}: {progress_words(job)}"
        if words == self.last_words:
            return
        self.last_words = words
        if task:
            task.setMessage(progress_words(job))
            task.setProgress(percent(job))
        try:
            on_main(self._show_progress, words, self._new_picture(service, job))
        except ValueError:
            raise HostGoneError("the node has gone") from None

    def _new_picture(self, service: Client, job: Job) -> str | None:
        """The file of the latest frame's thumbnail if it is newer than the shown one, else None."""
        frames = job["thumbnails"]
        if not nuke.GUI or not frames or frames[-1] == self.shown_frame:
            return None
        self.shown_frame = frames[-1]
        content = service.preview(job["id"], self.shown_frame)
        if content is None:
            return None
        file = os.path.join(tempfile.gettempdir(), f"vera_{os.getpid()}_{id(self)}_{self.shown_frame}.png")
        try:
            with open(file, "wb") as stream:
                stream.write(content)
        except OSError:
            return None  # the thumbnail is optional
        self.pictures.append(file)
        return file

    def _show_progress(self, words: str, picture: str | None) -> None:
        """Show the job's state in the node's label and its thumbnail in the panel, on the main thread, without
        saving."""
        badge.running(self.node, words)
        if picture:
            with unsaved():
                self.node["look"].setValue(f'<img src="{picture}">')
        if not nuke.GUI:
            say(f"{self.node.fullName()}: {words}")

    def _error_of(self, job: Job) -> str | None:
        """The message if there is no result, else None."""
        if job["state"] == "done":
            return None
        if job["state"] == "cancelled":
            return "cancelled; press Render to continue"
        return job["reason"] or "failed; the service's log has more"

    def _finish(self, words: str | None) -> None:
        """Show the result, or the error `words`, on the main thread."""
        self._unregister()  # before the artist sees the end, and may press Render again
        with unsaved():
            self.node["look"].setValue("")
        for file in self.pictures:
            with contextlib.suppress(OSError):
                os.unlink(file)
        if words is None:
            try:
                show.show(self.node, self.base, self.number)
                return
            except RefusedError as error:
                words = f"{error}; the service reports it as done; check the paths in Settings"
        self.failure = words
        versions.forget_if_empty(self.out)
        with no_undo():
            self.node["pending"].setValue(0)
        set_status(self.node, f"v{self.number:03d}: {words}")
        badge.ended(self.node, "" if words.startswith("cancelled") else "failed")
