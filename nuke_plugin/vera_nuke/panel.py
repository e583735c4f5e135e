"""The settings dialog. It needs an interface."""

from __future__ import annotations

import threading

import nuke
import nukescripts

from . import settings
from .host import complain, on_main
from .host_rules import RefusedError


class Panel(nukescripts.PythonPanel):
    def __init__(self, values: settings.Settings) -> None:
        super().__init__("Vera settings", "vera.settings")
        self.python = nuke.File_Knob("python", "Python of the core")
        self.root = nuke.File_Knob("root", "folder that holds core")
        self.cache = nuke.File_Knob("cache", "results of unsaved scripts")
        self.folders = nuke.Multiline_Eval_String_Knob("folders", "folders it may use")
        self.paths = nuke.Multiline_Eval_String_Knob("paths", "paths: here = there")
        self.python.setTooltip("Such as /opt/vera/.venv/bin/python. Empty: the service is started by hand")
        self.root.setTooltip("Empty if the core is installed in that Python")
        self.folders.setTooltip(
            "One per line. The service reads and writes only in these folders; without any, in your home folder"
        )
        self.paths.setTooltip("One pair per line, if the service's machine has other paths: Z:/shots = /mnt/shots")
        for knob, value in (
            (self.python, values.python),
            (self.root, values.root),
            (self.cache, values.cache),
            (self.folders, "\n".join(values.folders)),
            (self.paths, "\n".join(f"{a} = {b}" for a, b in values.paths)),
        ):
            self.addKnob(knob)
            knob.setValue(value)

    def values(self) -> settings.Settings:
        """The settings in the panel. Raises RefusedError."""
        pairs = []
        for line in _lines(self.paths.value()):
            here, equals, there = (part.strip() for part in line.partition("="))
            if not (equals and here and there):
                raise RefusedError(f"paths: '{line}' is not a pair; write here = there")
            pairs.append((here, there))
        return settings.Settings(
            _text_of(self.python),
            _text_of(self.root),
            _text_of(self.cache) or settings.load().cache,
            tuple(_lines(self.folders.value())),
            tuple(pairs),
        )


def show() -> None:
    """Show the dialog, store the settings, and allow the service its folders. Raises RefusedError."""
    panel = Panel(settings.load())
    if not panel.showModalDialog():
        return
    values = panel.values()
    settings.save(values)
    if values.python and values.folders:
        threading.Thread(target=_allow, args=(values,), name="Vera allow", daemon=True).start()


def _allow(values: settings.Settings) -> None:
    try:
        settings.allow(values)
    except RefusedError as error:
        on_main(complain, f"Vera settings: {error}")


def _text_of(knob: nuke.Knob) -> str:
    return str(knob.value() or "").strip()


def _lines(text: object) -> list[str]:
    return [line.strip() for line in str(text or "").split("\n") if line.strip()]
