"""`vera serve`: run the resident service, or control the running one."""

import argparse
import os
import sys
import webbrowser
from pathlib import Path

from vera.core.cli.arguments import Parser
from vera.core.cli.command import command, tell
from vera.core.errors import InputError, printable
from vera.core.service import client

DONE, RUNS_ALREADY = 0, 3

DESCRIPTION = """\
Keeps a model loaded and renders a queue of edits that survives crashes and reboots.
Nuke and Blender start it automatically. It accepts connections from this machine and this user only."""

EPILOG = """\
  vera serve                     run it until Ctrl-C (the queue is kept)
  vera serve --open              open its page in your browser: the queue and the results
  vera serve --submit job.json   add a job to its queue; the same file as for vera render
  vera serve --allow /mnt/shots  allow it to read and write there (default: your home folder)
  vera serve --status            print its state; --unload frees the model's memory; --stop ends it

It ends automatically when idle. Its state is one folder per user with the queue, the token and service.log
(VERA_SERVICE_DIR or --folder names another). docs/service.md has the API.
exit codes: 0 done; 2 the input is wrong; 3 another service is running; 1 an internal error."""


def parser() -> Parser:
    p = Parser(
        prog="vera serve",
        description=DESCRIPTION,
        epilog=EPILOG,
    )
    ask = p.add_mutually_exclusive_group()
    ask.add_argument(
        "--open", action="store_true", help="open the service's page in a browser; starts a service if none is running"
    )
    ask.add_argument("--submit", metavar="JOB", help="add a job file to the queue; starts a service if none is running")
    ask.add_argument("--status", action="store_true", help="print the state of the running service")
    ask.add_argument("--unload", action="store_true", help="make the running service free its model's memory")
    ask.add_argument("--stop", action="store_true", help="end the running service; its queue is kept")
    ask.add_argument("--allow", metavar="FOLDER", help="allow the service to use a folder, permanently")
    p.add_argument("--folder", type=Path, help="folder of the service's state (default: one per user)")
    p.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    p.add_argument("--idle", type=seconds, default=1800, help="seconds without jobs and clients until it ends (1800)")
    p.add_argument(
        "--model-idle", type=seconds, default=300, help="seconds without jobs until the model is unloaded (300)"
    )
    p.add_argument(
        "--hang", type=seconds, default=60, help="seconds without a heartbeat until the worker is ended (60)"
    )
    p.add_argument("--stall", type=seconds, default=1800, help="seconds without progress until a job is ended (1800)")
    p.add_argument(
        "--memory-limit",
        type=seconds,
        metavar="GIB",
        help="memory of the worker (default: three quarters of all; Linux)",
    )
    return p


def seconds(text: str) -> float:
    value = float(text)
    if not 0 < value < 1e9:
        raise argparse.ArgumentTypeError(f"{text} is not a number above 0")
    return value


def ask(args: argparse.Namespace, folder: Path) -> str:
    """Send a request to the service and return the text to print. --open and --submit start a service if necessary.

    Raises client.ServiceError, InputError.
    """
    service = client.Client(folder)
    if args.open:
        return opened(folder, start_if_none(args, folder))
    if args.submit:
        from vera.core.recipe import EditRecipe

        recipe = EditRecipe.from_file(args.submit).to_json()
        recipe.pop("schema")
        started = start_if_none(args, folder)
        job = service.submit(recipe)
        return f"job {job['id']}: {job['state']}; {started}; its page: vera serve --open"
    if args.unload:
        service.unload()
        return "the model is unloaded, or will be after the job that runs"
    if args.stop:
        service.shutdown()
        return "ending; the queue stays"
    health = service.health()
    counts = ", ".join(f"{count} {state}" for state, count in health["jobs"].items() if count) or "no jobs"
    model = f"{health['model'] or 'no model'} on {health['device']}"
    trouble = f"; trouble: {health['trouble']}" if health["trouble"] else ""
    return (
        f"service {health['version']}, process {health['pid']}: worker {health['worker']}, {model}; {counts}{trouble}"
    )


def start_if_none(args: argparse.Namespace, folder: Path) -> str:
    """Start a service with the command's options unless one answers; return a sentence about it.

    Raises client.ServiceError.
    """
    began = "runs"
    try:
        client.Client(folder).health()
    except client.NotRunningError:
        client.start(sys.executable, folder=folder, options=options_of(args))
        began = "was started"
    return f"the service {began} at {address_of(client.discover(folder))}"


def options_of(args: argparse.Namespace) -> list[str]:
    """The options of the command for a service that it starts."""
    names = ("device", "idle", "model_idle", "hang", "stall", "memory_limit")
    given = {name: getattr(args, name) for name in names if getattr(args, name) is not None}
    return [word for name, value in given.items() for word in (f"--{name.replace('_', '-')}", str(value))]


def address_of(entry: client.Entry) -> str:
    return f"http://127.0.0.1:{entry['port']}/"


def opened(folder: Path, where: str) -> str:
    """Open the page in a browser; return a sentence with its address if no browser can be opened."""
    if webbrowser.open((folder / "open.html").resolve().as_uri()):
        return f"{where}; its page is in your browser"
    entry = client.discover(folder)
    return (
        f"{where}; no browser could be opened. This address is your key to it until it ends, so keep it to yourself"
        f" (from another machine: ssh -L {entry['port']}:127.0.0.1:{entry['port']} first):\n"
        f"{address_of(entry)}#token={entry['token']}"
    )


def serve(args: argparse.Namespace, folder: Path) -> int:
    from vera.core.service import server

    limit = server.default_memory_limit() if args.memory_limit is None else int(args.memory_limit * 2**30)
    if args.folder:
        os.environ["VERA_SERVICE_DIR"] = str(folder)  # messages and workers name this service's folder
    settings = server.Settings(folder, args.device, args.idle, args.model_idle, args.hang, args.stall, limit)

    def started(url: str) -> None:
        print(f"Vera's service at {url}; its page: vera serve --open; end it with Ctrl-C", flush=True)
        if not sys.stdout.isatty():
            server.log_to(folder / "service.log")

    try:
        server.run(settings, started)
        return DONE
    except server.AlreadyRunningError as error:
        tell(error)
        return RUNS_ALREADY


@command
def main(argv: list[str] | None = None) -> int:
    args = parser().parse_args(argv)
    try:
        folder = (args.folder or client.state_folder()).absolute()
        if args.open or args.submit or args.status or args.unload or args.stop:
            print(printable(ask(args, folder)))
            return DONE
    except client.ServiceError as error:
        raise InputError(str(error)) from None
    if args.allow:
        from vera.core.service.security import Roots, make_private_folder

        make_private_folder(folder)
        print("allowed: " + printable(", ".join(Roots(folder / "roots.json").allow(args.allow))))
        return DONE
    return serve(args, folder)


if __name__ == "__main__":
    sys.exit(main())
