"""`vera serve`: the resident service, and words with the one that runs."""

import argparse
import sys
import webbrowser
from pathlib import Path

from vera.core.cli.arguments import Parser
from vera.core.cli.command import command, tell
from vera.core.errors import InputError, printable
from vera.core.service import client

DONE, RUNS_ALREADY = 0, 3

DESCRIPTION = """\
Keeps a model warm and renders a queue of edits that survives crashes and reboots.
Nuke and Blender start it by themselves; it listens on this machine only, and to you only."""

EPILOG = """\
  vera serve                     run it here until Ctrl-C (the queue stays)
  vera serve --open              its page in your browser: the queue, and the results to play and take up again
  vera serve --submit job.json   put a job into its queue; the same file as for core.render
  vera serve --allow /mnt/shots  let it read and write there (your home folder until any is named)
  vera serve --status            what it does; --unload gives the model's memory back; --stop ends it

It ends by itself when idle. State: one folder a user, with the queue, the token and service.log
(VERA_SERVICE_DIR or --folder names another). docs/service.md has the API.
exit codes: 0 done; 2 the input is wrong; 3 another one runs already; 1 our fault."""


def parser() -> Parser:
    p = Parser(
        prog="vera serve",
        description=DESCRIPTION,
        epilog=EPILOG,
    )
    ask = p.add_mutually_exclusive_group()
    ask.add_argument(
        "--open", action="store_true", help="open the service's page in a browser; starts it where none runs"
    )
    ask.add_argument(
        "--submit", metavar="JOB", help="put a job file into the queue; starts the service where none runs"
    )
    ask.add_argument("--status", action="store_true", help="say what the running service does")
    ask.add_argument("--unload", action="store_true", help="make the running service give its model's memory back")
    ask.add_argument("--stop", action="store_true", help="end the running service; its queue stays")
    ask.add_argument("--allow", metavar="FOLDER", help="let the service use a folder, from now on")
    p.add_argument("--folder", type=Path, help="the service's state (default: one folder a user)")
    p.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    p.add_argument("--idle", type=seconds, default=1800, help="seconds without work and clients until it ends (1800)")
    p.add_argument("--model-idle", type=seconds, default=300, help="seconds without work until the model goes (300)")
    p.add_argument("--hang", type=seconds, default=60, help="seconds without a sign of life until the worker ends (60)")
    p.add_argument("--stall", type=seconds, default=1800, help="seconds without progress until a job ends (1800)")
    p.add_argument("--memory-limit", type=seconds, metavar="GIB", help="for the worker (three quarters of all; Linux)")
    return p


def seconds(text: str) -> float:
    value = float(text)
    if not 0 < value < 1e9:
        raise argparse.ArgumentTypeError(f"{text} is not a number above 0")
    return value


def ask(args: argparse.Namespace, folder: Path) -> str:
    """Words with the service, which --open and --submit start where none runs; returns what to print. Raises
    client.ServiceError, InputError."""
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
    """Start a service, with the command's options, where none answers; a few words on where it is. Raises
    client.ServiceError."""
    began = "runs"
    try:
        client.Client(folder).health()
    except client.NotRunningError:
        client.start(sys.executable, folder=folder, options=options_of(args))
        began = "was started"
    return f"the service {began} at {address_of(client.discover(folder))}"


def options_of(args: argparse.Namespace) -> list[str]:
    """The options of a service that is started, as they were given here."""
    names = ("device", "idle", "model_idle", "hang", "stall", "memory_limit")
    given = {name: getattr(args, name) for name in names if getattr(args, name) is not None}
    return [word for name, value in given.items() for word in (f"--{name.replace('_', '-')}", str(value))]


def address_of(entry: client.Entry) -> str:
    return f"http://127.0.0.1:{entry['port']}/"


def opened(folder: Path, where: str) -> str:
    """Open the page; where no browser can be, say the address that opens it."""
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
        from vera.core.service.security import Roots, private_folder

        private_folder(folder)
        print("allowed: " + printable(", ".join(Roots(folder / "roots.json").allow(args.allow))))
        return DONE
    return serve(args, folder)


if __name__ == "__main__":
    sys.exit(main())
