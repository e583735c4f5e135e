"""Preferences: the location of Vera's core, and the options of its service."""

import os
import subprocess
from dataclasses import dataclass

import bpy

from .client import own_environment

ASK_SECONDS = 120


@dataclass(frozen=True)
class Connection:
    """Where the core is, and how its service is started.

    python: the interpreter in which the core is installed; "" uses a service that already runs
    root: the folder that contains `core`, if the core is not installed
    options: of vera.core.cli.serve, for a service that is started here
    """

    python: str = ""
    root: str = ""
    options: tuple = ()


class _LastTest:
    """Result of the last test of the service; the panel shows it."""

    words = ""


last_test = _LastTest()


class VeraPreferences(bpy.types.AddonPreferences):
    bl_idname = __package__

    python: bpy.props.StringProperty(
        name="Python",
        subtype="FILE_PATH",
        description=(
            "The Python that has Vera's core, such as /opt/vera/.venv/bin/python. It starts "
            "the service; empty: use one that runs"
        ),
    )
    root: bpy.props.StringProperty(
        name="Core Folder",
        subtype="DIR_PATH",
        description="The folder that holds 'core', where it is not installed in that Python",
    )
    device: bpy.props.EnumProperty(
        name="Device",
        items=(
            ("auto", "Auto", "The GPU where there is one"),
            ("cuda", "GPU", "CUDA"),
            ("cpu", "CPU", "Slow, works everywhere"),
        ),
    )
    idle: bpy.props.IntProperty(
        name="Service Ends After",
        default=30,
        min=1,
        max=1440,
        description="Minutes without jobs and clients until the service ends",
    )
    model_idle: bpy.props.IntProperty(
        name="Memory Freed After",
        default=5,
        min=1,
        max=1440,
        description="Minutes without a job until the model's memory is given back",
    )

    def draw(self, context: bpy.types.Context) -> None:
        layout = self.layout
        layout.use_property_split = True
        layout.prop(self, "python")
        layout.prop(self, "root")
        layout.prop(self, "device")
        layout.prop(self, "idle", text="Service Ends After (min)")
        layout.prop(self, "model_idle", text="Memory Freed After (min)")
        layout.label(text="Device and times apply to a service that is started from here.", icon="INFO")
        row = layout.row(align=True)
        row.operator("vera.test_service")
        row.operator("vera.allow_folder")
        row.operator("vera.stop_service")
        for line in last_test.words.splitlines():
            layout.label(text=line)


def preferences() -> VeraPreferences | None:
    addon = bpy.context.preferences.addons.get(__package__)
    return addon.preferences if addon else None


def connection() -> Connection:
    """The preferences as plain values, which threads may read."""
    p = preferences()
    if p is None:
        return Connection()
    options = ("--device", p.device, "--idle", str(p.idle * 60), "--model-idle", str(p.model_idle * 60))
    return Connection(bpy.path.abspath(p.python.strip()), bpy.path.abspath(p.root.strip()), options)


def what_is_wrong(settings: Connection) -> str:
    """The reason why this Python cannot run the service, with the fix; "" if it can. Takes seconds."""
    if not settings.python:
        return "No Python is named: only a service that already runs is used (vera serve)."
    if not os.path.isfile(settings.python):
        return f"{settings.python}: no such file. Name the Python of the environment that Vera's core is installed in."
    if settings.root and not os.path.isdir(os.path.join(settings.root, "core")):
        return (
            f"{settings.root}: holds no folder 'core'. Name Vera's own folder, or leave "
            "it empty if the core is installed."
        )
    try:
        answer = ask(settings, "-c", "import vera.core.cli.serve, torch; print(torch.__version__)")
    except OSError as error:
        return f"{settings.python}: cannot be run ({error.strerror}). Name a Python."
    except subprocess.TimeoutExpired:
        return f"{settings.python}: does not answer. Try it in a terminal: vera serve --status."
    if answer.returncode == 0:
        return ""
    last = (answer.stderr.strip().splitlines() or ["no message"])[-1]
    if "No module named 'vera" in last:
        return f"{settings.python}: has no Vera. Install it there, or name its folder under Core Folder."
    if "No module named" in last:
        return f"{settings.python}: has Vera, but not all it needs: {last}. Run its set-up again."
    return f"{settings.python}: cannot load Vera's core: {last}"


def ask(settings: Connection, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the core's Python without Blender's own environment; returns the finished process."""
    no_window = getattr(subprocess, "CREATE_NO_WINDOW", 0)  # Windows only
    return subprocess.run(
        [settings.python, *arguments],
        cwd=settings.root or None,
        env=own_environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=ASK_SECONDS,
        creationflags=no_window,
    )


def register() -> None:
    bpy.utils.register_class(VeraPreferences)


def unregister() -> None:
    bpy.utils.unregister_class(VeraPreferences)
