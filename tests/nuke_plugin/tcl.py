"""Nuke's scripts as Tcl reads them: a safe interpreter in which nothing exists but what is recorded."""

import re
from dataclasses import dataclass, field

import pytest

tkinter = pytest.importorskip("tkinter", reason="this Python has no tkinter, whose Tcl reads the scripts")


@dataclass
class Recorded:
    kind: str
    knobs: list = field(default_factory=list)  # (name, [words])
    inputs: list = field(default_factory=list)  # Recorded or None; the first is input 0
    nodes: list = field(default_factory=list)  # inside

    def values(self, name):
        return [words for knob, words in self.knobs if knob == name]

    @property
    def name(self):
        return self.values("name")[0][0] if self.values("name") else ""


class Recorder:
    """Runs a script; `roots` are its nodes. Raises tkinter.TclError for what is not Tcl."""

    def __init__(self, text):
        self.tcl = tkinter.Tcl()
        self.roots, self._stacks, self._groups, self._variables = [], [[]], [], {}
        self.tcl.createcommand("pyCommand", self._command)
        self.tcl.createcommand("pyKnob", self._knob)
        self._empty_interpreter("script", "pyCommand")
        self._empty_interpreter("body", "pyKnob")
        self.tcl.call("interp", "eval", "script", text)
        assert not self._groups, "a group is not ended"

    def _empty_interpreter(self, name, unknown):
        """Safe, and with every command of its own taken away: what a script calls is all recorded."""
        self.tcl.call("interp", "create", "-safe", name)
        for command in self.tcl.splitlist(self.tcl.call("interp", "eval", name, "info commands")):
            if command != "rename":
                self.tcl.call("interp", "eval", name, ["rename", command, ""])
        self.tcl.call("interp", "eval", name, "rename rename {}")
        self.tcl.call("interp", "alias", name, "unknown", "", unknown)

    def _command(self, name, *words):
        stack = self._stacks[-1]
        if name in ("version", "stack"):
            return words[0] + " of the stack" if name == "stack" else ""
        if name == "set":
            self._variables[words[0]] = stack[-1]
            return words[1]
        if name == "push":
            stack.append(None if words[0] == "0" else self._variables[words[0]])
        elif name == "end_group":
            self._stacks.pop()
            self._groups.pop()
        else:
            assert len(words) == 1, f"{name} with {len(words)} words"
            self._node(name, words[0])
        return ""

    def _node(self, kind, body):
        node = Recorded(kind)
        self._current = node
        self.tcl.call("interp", "eval", "body", body)
        wanted = int(node.values("inputs")[0][0]) if node.values("inputs") else 1
        stack = self._stacks[-1]
        if kind != "Gizmo":
            node.inputs = [stack.pop() if stack else None for _ in range(wanted)]
        (self._groups[-1].nodes if self._groups else self.roots).append(node)
        stack.append(node)
        if kind in ("Gizmo", "Group"):
            self._groups.append(node)
            self._stacks.append([])

    def _knob(self, name, *words):
        self._current.knobs.append((name, list(words)))
        return ""


def record(text):
    """The nodes of a script. `$P0` is written P0, so that variables need no interpreter of their own."""
    return Recorder(re.sub(r"^push \$(\w+)", r"push \1", text, flags=re.MULTILINE)).roots


def every(nodes):
    for node in nodes:
        yield node
        yield from every(node.nodes)
