"""The work between Blender and the service, in short steps (ticks) on Blender's main thread.

    stage (another Blender renders) -> submit -> open (the service works) -> place -> placed
                                   any of these -> failed | cancelled -> (retry) again

`tick` is called by a timer, or by `run` if no timer runs (background, Blender as a module). A short-lived thread talks
to the service. It does not touch Blender: it gets plain values, and its answer is processed by a later tick. Nothing is
changed while Blender renders, saves or loads.
"""

from __future__ import annotations

import queue
import subprocess
import threading
import time
from collections.abc import Callable
from typing import Any

import bpy

from . import color, place, plan, stage, tickets
from .client import ENDED_STATES, Client, NotRunningError, ServiceError, connect
from .host_rules import RefusedError, fitting, keeps, percent, progress_words
from .preferences import Connection, connection, last_test, what_is_wrong
from .tickets import Ticket

TICK_SECONDS = 0.5  # between two ticks; raising it delays progress and layers
RETRY_SECONDS = 3.0  # before the next attempt after an error; raising it delays the recovery
JOIN_SECONDS = 10.0  # for the thread to end when the add-on is disabled
# Time for which the status bar shows the end of a job; raising it hides Blender's own status longer.
NOTICE_SECONDS = 12.0
MAX_FAILED_STARTS = 4  # failed attempts to start or reach the service after which a background render gives up


class Session:
    def __init__(self) -> None:
        self.tickets: dict[str, Ticket] = {}  # by id, oldest first
        self.documents: set[str] = set()  # marks seen since the file was opened; undo may remove them from the scenes
        self.renders: dict[str, subprocess.Popen[bytes]] = {}  # ticket id -> process
        self.answers: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
        self.thread: threading.Thread | None = None
        self.busy: set[str] = set()  # what Blender is doing: "render", "save", "load"
        self.trouble = ""  # one line: why the service cannot be reached
        self.failures = 0  # consecutive failures to reach the service
        # Message about the last job that ended, shown for NOTICE_SECONDS, and whether it failed.
        self.notice, self.failed = "", False
        self.last_answer = 0.0  # monotonic time
        self.look_result = ""  # result of the last "What Is Read", for the panel

    # The open file

    def on_open(self) -> None:
        """Load the tickets of the file that was opened."""
        self.documents = set()
        self.tickets = {}
        self.refresh()

    def refresh(self) -> None:
        """Add the tickets of the scenes' marks."""
        self.documents |= {s[tickets.DOCUMENT] for s in bpy.data.scenes if tickets.DOCUMENT in s}
        try:
            loaded = tickets.load(bpy.data.filepath, self.documents)
        except RefusedError as error:
            self.trouble = str(error)
            return
        for ticket in loaded:
            self.tickets.setdefault(ticket.id, ticket)
        self.wake()

    def on_save(self) -> None:
        """Update the tickets after a save, because the file may have a new name."""
        for ticket in self.tickets.values():
            if not ticket.blend and bpy.data.filepath:
                ticket.blend = bpy.data.filepath
                self._keep(ticket)

    # Called by operators

    def add(self, new: list[Ticket]) -> None:
        """Prepare tickets and queue them. Raises RefusedError, and then queues none."""
        started = []
        try:
            for ticket in new:
                plan.prepare(ticket)
                ticket.save()
                started.append(ticket)
        except RefusedError:
            for ticket in started:
                ticket.forget()
            raise
        for ticket in started:
            self.documents.add(ticket.document)
            self.tickets[ticket.id] = ticket
        self.wake()

    def match(self, scene: bpy.types.Scene, generate: bool = True) -> None:
        """Make every layer fit the space in which the scene blends.

        A layer with a delivery for that space shows it at once. Any other is queued for another delivery; without
        `generate`, only if its generated latents were kept. Raises RefusedError.
        """
        space = color.blending_space(scene)
        shown = place.shows_other_space(scene)
        for layer in shown:
            place.show(scene, layer)
        if shown:
            push_undo("Vera: Match Blending Space")
        waiting = {(t.version, t.blend_space) for t in self.open()}
        wrong = [s for s in place.wrong_space(scene) if (place.current(s)["id"], space) not in waiting]
        self.add([plan.redelivery(scene, s, space) for s in wrong if generate or plan.kept_of(place.current(s))])

    def cancel(self, ticket: Ticket) -> None:
        if ticket.ended:
            return
        process = self.renders.pop(ticket.id, None)
        if process:
            process.kill()
            process.wait()
        if ticket.state in ("stage", "place") or (ticket.state == "submit" and not self._asking()):
            ticket.state = "cancelled"
        else:
            ticket.cancelling = True
        self._keep(ticket)
        self.wake()

    def retry(self, ticket: Ticket) -> None:
        """Continue a ticket from the step that it had reached. A layer that was placed is placed again."""
        if not ticket.ended:
            return
        ticket.cancelling, ticket.reason = False, ""
        if ticket.state == "placed" or ticket.job.get("state") == "done":
            ticket.state = "place"
        elif ticket.stage and stage.progress(ticket.stage)[0] < stage.progress(ticket.stage)[1]:
            ticket.state = "stage"
        else:
            ticket.state = "submit"
        self._keep(ticket)
        self.wake()

    def remove(self, ticket: Ticket) -> None:
        """Remove a ticket from the list; delivered files are kept."""
        if ticket.ended:
            self.tickets.pop(ticket.id, None)
            ticket.forget()

    def open(self) -> list[Ticket]:
        return [t for t in self.tickets.values() if not t.ended]

    def summary(self) -> str:
        """A summary of all jobs for the sequencer's header; "" without jobs."""
        waiting = self.open()
        if not waiting:
            return ""
        return f"Vera: {len(waiting)} {'job' if len(waiting) == 1 else 'jobs'}, {words_of(waiting[0])}"

    def show_end(self, ticket: Ticket) -> None:
        """Show in the status bar and the sequencer's header that a job has ended, whatever tab is open."""
        if bpy.app.background:
            return
        self.failed = ticket.state == "failed"
        self.notice = f"Vera: {ticket.recipe['prompt'][:40]}: {words_of(ticket)}"[:160]
        for window in bpy.context.window_manager.windows:
            window.workspace.status_text_set(self.notice)
        if bpy.app.timers.is_registered(_clear_notice):
            bpy.app.timers.unregister(_clear_notice)
        bpy.app.timers.register(_clear_notice, first_interval=NOTICE_SECONDS, persistent=True)
        redraw()

    # The tick

    def wake(self) -> None:
        """Start the timer that calls `tick` while there is something to do."""
        if not bpy.app.background and self.open() and not bpy.app.timers.is_registered(_timer):
            bpy.app.timers.register(_timer, first_interval=0.1, persistent=True)

    def tick(self) -> bool:
        """Do what can be done without waiting; returns whether anything is left to do."""
        if self.paused():
            return True
        changed = self._take_answers()
        for ticket in self.open():
            if ticket.state == "stage":
                changed |= self._render(ticket)
            elif ticket.state == "place":
                changed |= self._place(ticket)
        self._ask()
        if changed:
            redraw()
        return bool(self.open()) or self._asking()

    def paused(self) -> bool:
        """Whether Blender renders, saves or loads; its data must not be changed then."""
        return bool(self.busy) or bpy.app.is_job_running("RENDER")

    def run(self, only: list[Ticket], report: Callable[[str], object] = lambda text: None) -> None:
        """Call `tick` until these tickets have ended, for `blender -b`.

        report: called with each change of a ticket's state, one line. Raises RefusedError.
        """
        words: dict[str, str] = {}
        while not all(t.ended for t in only):
            self.tick()
            for ticket in only:
                now = words_of(ticket)
                if words.get(ticket.id) != now:
                    words[ticket.id] = now
                    report(f"Vera: {ticket.source['name']}: {now}")
            if self.failures >= (MAX_FAILED_STARTS if connection().python else 1):
                raise RefusedError(self.trouble)
            time.sleep(0.1)

    def close(self) -> None:
        """End all threads, processes and timers; tickets are kept."""
        for timer in (_timer, _clear_notice):
            if bpy.app.timers.is_registered(timer):
                bpy.app.timers.unregister(timer)
        for process in self.renders.values():
            process.kill()
            process.wait()
        self.renders = {}
        if self.thread is not None and self._asking():
            self.thread.join(JOIN_SECONDS)

    # Parts of the tick

    def _render(self, ticket: Ticket) -> bool:
        """Start or check the rendering of the plate; returns whether the ticket has changed, as the methods below."""
        process, order = self.renders.get(ticket.id), ticket.stage or {}
        done, total = stage.progress(order)
        before = (ticket.state, ticket.job.get("done"))
        ticket.job = {**ticket.job, "stage": "plate", "done": done, "total": total}
        if done == total:
            if process:
                process.wait()
            self.renders.pop(ticket.id, None)
            ticket.state, ticket.job = "submit", {}
        elif process is None:
            if not self.renders:  # one at a time
                try:
                    self.renders[ticket.id] = stage.start(order)
                except OSError as error:
                    self._fail(ticket, f"the plate cannot be rendered: {error}")
        elif process.poll() is not None:
            self.renders.pop(ticket.id)
            if stage.progress(order)[0] < total:
                self._fail(ticket, f"the plate was not rendered: {stage.last_words(order)}; see {ticket.folder}")
        if before != (ticket.state, ticket.job.get("done")):
            self._keep(ticket)
            return True
        return False

    def _place(self, ticket: Ticket) -> bool:
        scene = bpy.data.scenes.get(ticket.scene)
        if scene is None:
            renamed = [s for s in bpy.data.scenes if s.get(tickets.DOCUMENT) == ticket.document]
            scene = renamed[0] if renamed else None
        try:
            if scene is None:
                raise RefusedError(
                    f"the scene '{ticket.scene}' no longer exists; the layer is in {ticket.recipe['out']}"
                )
            place.place(scene, ticket)
        except RefusedError as error:
            self._fail(ticket, str(error))
            return True
        ticket.state = "placed"
        self._keep(ticket)
        self.show_end(ticket)
        push_undo("Vera: Edit Layer")
        return True

    def _ask(self) -> None:
        """Start an exchange with the service if there is anything to send or to ask."""
        due = [t for t in self.open() if t.state in ("submit", "open")]
        pause = RETRY_SECONDS if self.trouble else 0
        if not due or self._asking() or time.monotonic() - self.last_answer < pause:
            return
        requests = [
            {
                "id": t.id,
                "submit": t.recipe if t.state == "submit" and not t.cancelling else None,
                "number": t.number,
                "cancel": t.cancelling,
                "retry": t.state == "submit" and t.number is not None,
                "frame": (t.job.get("thumbnails") or [None])[-1],
            }
            for t in due
        ]
        self.thread = threading.Thread(
            target=_exchange, args=(connection(), requests, self.answers), name="vera-exchange", daemon=True
        )
        self.thread.start()

    def _asking(self) -> bool:
        return self.thread is not None and self.thread.is_alive()

    def _take_answers(self) -> bool:
        changed = False
        while not self.answers.empty():
            answer = self.answers.get()
            self.last_answer = time.monotonic()
            if "looked" in answer:
                self.look_result, changed = answer["looked"], True
                continue
            if "words" in answer:
                last_test.words, changed = answer["words"], True
                continue
            changed |= self.trouble != answer["trouble"]
            self.trouble = answer["trouble"]
            self.failures = self.failures + 1 if self.trouble else 0
            for number, news in answer["news"].items():
                ticket = self.tickets.get(number)
                if ticket is not None and not ticket.ended:
                    changed |= self._update(ticket, news)
        return changed

    def _update(self, ticket: Ticket, news: dict[str, Any]) -> bool:
        """Take over the service's news of a ticket."""
        if "refused" in news:
            self._fail(ticket, news["refused"])
            return True
        if news.get("lost"):  # the service has a new queue
            ticket.state, ticket.number = "submit", None
            return True
        if news.get("preview"):
            try:
                (tickets.store() / f"{ticket.id}.png").write_bytes(news["preview"])
            except (OSError, RefusedError):
                pass  # without a thumbnail
        job = news.get("job")
        if job is None:
            if ticket.cancelling:
                ticket.state = "cancelled"
                self._keep(ticket)
            return ticket.ended
        if job.get("revision") == ticket.job.get("revision"):
            return False
        ticket.number, ticket.job = job["id"], {k: job.get(k) for k in _STORED}
        ticket.state = {"done": "place", "failed": "failed", "cancelled": "cancelled"}.get(job["state"], "open")
        ticket.reason = job.get("reason") or ""
        self._keep(ticket)
        if ticket.state == "failed":
            self.show_end(ticket)
        return True

    def _fail(self, ticket: Ticket, reason: str) -> None:
        ticket.state, ticket.reason = "failed", reason
        self._keep(ticket)
        self.show_end(ticket)

    def _keep(self, ticket: Ticket) -> None:
        try:
            ticket.save()
        except RefusedError as error:
            self.trouble = str(error)


# Values of a job that a ticket stores.
_STORED = ("state", "revision", "position", "stage", "done", "total", "frame", "seconds_left", "thumbnails", "warnings")


def _exchange(settings: Connection, requests: list[dict[str, Any]], answers: queue.SimpleQueue[dict[str, Any]]) -> None:
    """Send requests and fetch the state of the jobs. Runs in a thread and uses nothing of Blender."""
    trouble, news = "", {}
    try:
        client = service(settings)
        jobs = None
        for request in requests:
            try:
                news[request["id"]] = _send(client, request)
                number = news[request["id"]].get("job", {}).get("id")
                if number is None and request["number"] is not None:
                    jobs = jobs or {j["id"]: j for j in client.jobs()}
                    job = jobs.get(request["number"])
                    news[request["id"]] = {"job": job} if job else {"lost": True}
                job = news[request["id"]].get("job")
                if job and job.get("thumbnails") and job["thumbnails"][-1] != request["frame"]:
                    news[request["id"]]["preview"] = client.preview(job["id"], job["thumbnails"][-1])
            except NotRunningError:
                raise
            except RefusedError as error:
                news[request["id"]] = {"refused": str(error)}
            except ServiceError as error:
                if not 400 <= error.status < 500:
                    raise
                news[request["id"]] = {"refused": str(error)}
    except ServiceError as error:
        # Takes seconds: explain what is wrong with the Python or the folder in the preferences.
        trouble = (what_is_wrong(settings) if settings.python else "") or str(error)
    except Exception as error:  # whatever the error is, the timer must continue and the user must be told
        trouble = f"{type(error).__name__}: {error}"
    answers.put({"trouble": trouble, "news": news})


def _send(client: Client, request: dict[str, Any]) -> dict[str, Any]:
    """Submit, retry or cancel a job; returns {"job": its state}, or {} if there was nothing to send."""
    if request["retry"]:
        job = client.job(request["number"])
        return {"job": client.retry(request["number"]) if job["state"] in ("failed", "cancelled") else job}
    if request["submit"]:
        recipe = {"keep": keeps(request["submit"].get("model", "")), **request["submit"]}
        return {"job": client.submit(fitting(recipe, client.recipe_fields()), request["id"])}
    if request["cancel"] and request["number"] is not None:
        job = client.job(request["number"])
        return {"job": job if job["state"] in ENDED_STATES else client.cancel(request["number"])}
    return {}


def service(settings: Connection) -> Client:
    """A client of the running service. If none runs and the preferences name a Python, one is started.

    Raises ServiceError.
    """
    if settings.python:
        return connect(settings.python, settings.root or None, options=settings.options)
    client = Client()
    client.health()
    return client


def words_of(ticket: Ticket) -> str:
    """The state of a ticket, in words for the user."""
    job = ticket.job
    if ticket.state == "failed":
        return ticket.reason or "failed"
    if ticket.cancelling and not ticket.ended:
        return "cancelling"
    if ticket.state == "stage":
        return f"rendering the plate, {job.get('done', 0)} of {job.get('total', '?')}"
    if ticket.state == "submit":
        return "waiting for the service"
    if ticket.state == "open":
        return progress_words({**job, "state": job.get("state") or "running"})
    return {"place": "placing", "placed": "done"}.get(ticket.state, ticket.state)


def progress_of(ticket: Ticket) -> float:
    """Progress of a ticket's present step in [0, 1]: rendering the plate, or the service's whole job."""
    if ticket.state == "open":
        return percent({**ticket.job, "recipe": ticket.recipe}) / 100
    return min(1.0, (ticket.job.get("done") or 0) / ticket.job["total"]) if ticket.job.get("total") else 0.0


def push_undo(message: str) -> None:
    """Push an undo step for what was just done. Background mode has no undo."""
    if bpy.app.background:
        return
    windows = bpy.context.window_manager.windows
    if windows:
        with bpy.context.temp_override(window=windows[0]):
            bpy.ops.ed.undo_push(message=message)


def redraw() -> None:
    for window in bpy.context.window_manager.windows:
        for area in window.screen.areas:
            if area.type in ("SEQUENCE_EDITOR", "PREFERENCES", "NODE_EDITOR"):
                area.tag_redraw()


session = Session()


def _timer() -> float | None:
    try:
        return TICK_SECONDS if session.tick() else None
    except Exception as error:  # Blender removes a timer that raises, which would stop the queue
        session.trouble = f"{type(error).__name__}: {error}"
        return RETRY_SECONDS


def _clear_notice() -> None:
    """Remove the notice."""
    session.notice = ""
    for window in bpy.context.window_manager.windows:
        window.workspace.status_text_set(None)
    redraw()


# Handlers, which Blender calls at any time; they only set state.


def _handler(activity: str, begins: bool) -> Callable[..., None]:
    """A handler that notes the start or the end of an activity of Blender."""

    @bpy.app.handlers.persistent
    def note(*_: object) -> None:
        (session.busy.add if begins else session.busy.discard)(activity)
        if activity == "load" and not begins:
            session.busy.clear()
            session.on_open()
            _listen()
        if activity == "save" and not begins:
            session.on_save()

    return note


_HANDLERS = [
    (name, _handler(activity, begins))
    for name, activity, begins in (
        ("render_init", "render", True),
        ("render_complete", "render", False),
        ("render_cancel", "render", False),
        ("save_pre", "save", True),
        ("save_post", "save", False),
        ("save_post_fail", "save", False),
        ("load_pre", "load", True),
        ("load_post", "load", False),
        ("load_post_fail", "load", False),
    )
]


@bpy.app.handlers.persistent
def _after_undo(*_: object) -> None:
    """Match tickets and marks again after undo or redo, which may change marks. No ticket is lost."""
    session.refresh()


def _listen() -> None:
    """Subscribe to changes of the sequencer's blending space. Opening a file ends the subscription."""
    bpy.msgbus.clear_by_owner(session)
    bpy.msgbus.subscribe_rna(
        key=(bpy.types.ColorManagedSequencerColorspaceSettings, "name"), owner=session, args=(), notify=_space_changed
    )


def _space_changed() -> None:
    for scene in bpy.data.scenes:
        try:
            session.match(scene, generate=False)
        except RefusedError as error:
            session.trouble = str(error)
    redraw()


def register() -> None:
    for name, handler in (*_HANDLERS, ("undo_post", _after_undo), ("redo_post", _after_undo)):
        getattr(bpy.app.handlers, name).append(handler)
    if not bpy.app.background:
        bpy.app.timers.register(_load_open_file, first_interval=0.2)


def _load_open_file() -> None:
    """Load the open file's tickets after the add-on was enabled; its data cannot be read earlier."""
    session.on_open()
    _listen()


def unregister() -> None:
    bpy.msgbus.clear_by_owner(session)
    session.close()
    for name, handler in (*_HANDLERS, ("undo_post", _after_undo), ("redo_post", _after_undo)):
        handlers = getattr(bpy.app.handlers, name)
        if handler in handlers:
            handlers.remove(handler)
    if bpy.app.timers.is_registered(_load_open_file):
        bpy.app.timers.unregister(_load_open_file)
