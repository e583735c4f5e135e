"""A stand-in for Nuke's `nuke` module: nodes, knobs, expressions, threads, scripts in files.

It behaves as the documentation says, and in its bad habits too: errors in callbacks, buttons and
executeInMainThreadWithResult are printed and swallowed (kept in `printed`), knobs that a node does not
have are complained of and ignored when a script is read. Nodes may be touched by the main thread only:
anything else raises, and is kept in `violations`. Standard library only. Pixels are the business of
`painter`, which a test sets: painter(write node, frame, file).
"""

import contextlib
import os
import re
import threading
import time
import traceback
from collections import deque

GUI = True
INPUTS, HIDDEN_INPUTS, EXPRESSIONS = 1, 2, 4
TO_SCRIPT, WRITE_NON_DEFAULT_ONLY, WRITE_USER_KNOB_DEFS = 1, 2, 4
PLUGIN_PATH = []

printed, violations, messages, warnings, tasks, commands = [], [], [], [], [], []
painter = None
answers = []  # of `ask` and of panels
NUKE_VERSION_STRING = "stand-in"

_main = threading.main_thread()
_queue = deque()
_context = []  # (node, knob) of the callback that runs
_on_load, _before_render, _autolabels, _update_ui, _on_create = [], [], [], [], []
_filename_filters = []
indie_limit = None  # in Nuke Indie: how many nodes Python reaches
_reached = set()
asked = []  # what `ask` and `getInput` were asked
_formats = {}
_view_names = ["main"]

# What the nodes that are used here have besides the knobs of every node. A list is a menu.
_COMMON = {
    "name": "",
    "xpos": 0,
    "ypos": 0,
    "label": "",
    "note_font": "",
    "note_font_size": 11,
    "tile_color": 0,
    "selected": False,
    "disable": False,
    "hide_input": False,
    "help": "",
    "knobChanged": "",
    "onCreate": "",
    "icon": "",
    "postage_stamp": False,
}
_FROM = ["hold", "loop", "bounce", "black"]
KNOBS = {
    "Input": {"number": 0},
    "Output": {},
    "Dot": {},
    "Crop": {"box": [0, 0, 0, 0], "softness": 0.0, "reformat": False, "intersect": False, "crop": True},
    "Remove": {"operation": ["remove", "keep"], "channels": "all"},
    "Copy": {f"{way}{i}": "" for i in range(4) for way in ("from", "to")},
    "Switch": {"which": 0.0},
    "Merge2": {
        "operation": ["over", "difference", "plus"],
        "output": "rgba",
        "bbox": ["union", "intersection", "A", "B"],
    },
    "Shuffle": {"red": "red", "green": "green", "blue": "blue", "alpha": "alpha", "in": "rgba", "out": "rgba"},
    "Multiply": {"channels": "rgb", "value": 1.0},
    "ContactSheet": {"width": 100.0, "height": 100.0, "rows": 1, "columns": 1, "gap": 0.0},
    "Grade": {"channels": "rgb", "white": 1.0, "multiply": 1.0, "unpremult": "none"},
    "TimeOffset": {"time_offset": 0},
    "Constant": {"channels": "rgb", "color": [0, 0, 0, 0], "first": 1, "last": 1},
    "Roto": {},
    "CheckerBoard2": {},
    "Read": {
        "file": "",
        "proxy": "",
        "file_type": "",
        "format": "",
        "first": 1,
        "last": 1,
        "origfirst": 1,
        "origlast": 1,
        "origset": False,
        "before": _FROM,
        "after": _FROM,
        "frame_mode": ["expression", "start at", "offset"],
        "frame": "",
        "raw": False,
        "colorspace": "default (linear)",
        "premultiplied": False,
        "auto_alpha": False,
        "on_error": ["error", "black"],
        "reload": "button",
    },
    "Write": {
        "file": "",
        "file_type": "",
        "channels": "rgb",
        "raw": False,
        "colorspace": "default (linear)",
        "create_directories": False,
        "datatype": ["16 bit half", "32 bit float"],
        "compression": ["none", "Zip (1 scanline)"],
        "first": 1,
        "last": 1,
        "reading": False,
    },
    "Group": {},
    "Root": {
        "first_frame": 1,
        "last_frame": 100,
        "format": "64 48 0 0 64 48 1 tiny",
        "proxy": False,
        "project_directory": "",
        "colorManagement": ["Nuke", "OCIO"],
        "OCIO_config": "nuke-default",
        "customOCIOConfigPath": "",
        "workingSpaceLUT": "linear",
        "int8Lut": "sRGB",
        "int16Lut": "sRGB",
        "logLut": "Cineon",
        "floatLut": "linear",
        "views": "main",
        "inputs": 0,
    },
}
_USER_KNOBS = {
    "1": "",
    "2": "",
    "3": 0,
    "6": False,
    "7": 0.0,
    "15": [0, 0, 0, 0],
    "20": "tab",
    "22": "button",
    "26": "",
    "43": "",
}


def _on_main(what):
    if threading.current_thread() is not _main:
        violations.append(f"{what} from {threading.current_thread().name}")
        raise RuntimeError(f"{what}: nodes belong to the main thread")


class Undo:
    depth = disabled_depth = 0

    @staticmethod
    def begin(name=""):
        _on_main("Undo")
        Undo.depth += 1

    @staticmethod
    def end():
        Undo.depth -= 1

    @staticmethod
    def disable():
        _on_main("Undo")
        Undo.disabled_depth += 1

    @staticmethod
    def enable():
        Undo.disabled_depth -= 1


class Knob:
    """A value, a Tcl text or an expression."""

    def __init__(self, node, name, default):
        self.node, self._name = node, name
        self.menu = list(default) if isinstance(default, list) and default and isinstance(default[0], str) else None
        self.default = default[0] if self.menu else list(default) if isinstance(default, list) else default
        self.raw, self.expression, self.enabled, self.user_line = self.default, None, True, None

    def name(self):
        return self._name

    def _touch(self):
        _on_main(f"{self.node.knobs_name()}.{self._name}")
        if self.node.deleted:
            raise ValueError("A PythonObject is not attached to a node")

    def value(self):
        self._touch()
        if self.expression is not None and not isinstance(self.default, str):
            number = _evaluate(self.node, self.expression)
            return type(self.default)(number) if isinstance(self.default, (bool, int, float)) else number
        return self.raw

    def evaluate(self):
        """Of texts: with Tcl in brackets run."""
        self._touch()
        return _tcl_text(self.node, self.raw) if isinstance(self.raw, str) else self.value()

    def getValue(self):
        self._touch()
        if self.expression is not None:
            return float(_evaluate(self.node, self.expression))
        return (
            float(self.menu.index(self.raw))
            if self.menu
            else self.raw
            if isinstance(self.raw, list)
            else float(self.raw)
        )

    def setValue(self, value):
        self._touch()
        if self.menu and not isinstance(value, str):
            value = self.menu[int(value)]
        if self.menu and value not in self.menu:
            raise ValueError(f"{value!r} is not in the menu of {self._name}")
        if not self.menu and self.default not in ("button", "tab"):
            fits = (
                isinstance(value, (int, float))
                if isinstance(self.default, (bool, int, float))
                else isinstance(value, type(self.default))
            )
            if not fits:
                raise TypeError(f"{self._name} takes {type(self.default).__name__}, not {value!r}")
        self.expression = None
        if _open_groups:
            _open_groups[0]._modified = True
        self.raw = value if isinstance(self.default, (str, list)) else type(self.default)(value)
        _run_callback(self.node, "knobChanged", self)
        return True

    def hasExpression(self, index=-1):
        return self.expression is not None

    def getValueAt(self, frame, index=0):
        self._touch()
        before, globals()["_frame"] = _frame, frame
        try:
            return self.getValue()
        finally:
            globals()["_frame"] = before

    def setExpression(self, text):
        self._touch()
        self.expression = text

    def values(self):
        return list(self.menu)

    def setEnabled(self, on):
        self._touch()
        self.enabled = bool(on)

    def execute(self):
        """Press it. What goes wrong is printed, as in Nuke."""
        self._touch()
        if isinstance(self.raw, str) and self.raw not in ("button", ""):
            _run(self.raw, self.node, self)

    def x(self):
        return float(self.raw[0])  # noqa: E704  of a box

    def y(self):
        return float(self.raw[1])  # noqa: E704

    def r(self):
        return float(self.raw[2])  # noqa: E704

    def t(self):
        return float(self.raw[3])  # noqa: E704

    def toScript(self):
        if self.expression is not None:
            return "{{" + self.expression + "}}"
        if isinstance(self.raw, list):
            return "{" + " ".join(v if isinstance(v, str) else f"{v:g}" for v in self.raw) + "}"
        if isinstance(self.raw, bool):
            return str(self.raw).lower()
        return (
            _quoted(self.raw)
            if isinstance(self.raw, str)
            else f"{self.raw:g}"
            if isinstance(self.raw, float)
            else str(self.raw)
        )

    def fromScript(self, words):
        """Of a script's line: a word, numbers, or an expression in braces."""
        text, braced = words
        expression = re.fullmatch(r"\{(.*)\}", text.strip(), re.DOTALL) if braced else None
        if expression and not isinstance(self.default, list):
            self.expression = expression[1].strip('"')
        elif isinstance(self.default, list) and not self.menu:
            self.raw = [float(p) if not p.startswith("{") else p for p in re.findall(r"\{[^}]*\}|\S+", text)]
        elif self.menu:
            self.setValue(self.menu[int(text)] if text.isdigit() else text)
        elif isinstance(self.default, bool):
            self.raw = text.lower() in ("true", "1")
        elif isinstance(self.default, (int, float)):
            self.raw = type(self.default)(float(text)) if not text.startswith("0x") else int(text, 16)
        else:
            self.raw = text

    @property
    def changed(self):
        return self.expression is not None or self.raw != self.default


class _Box:
    def __init__(self, x, y, w, h):
        self._values = x, y, w, h

    def x(self):
        return self._values[0]  # noqa: E704

    def y(self):
        return self._values[1]  # noqa: E704

    def w(self):
        return self._values[2]  # noqa: E704

    def h(self):
        return self._values[3]  # noqa: E704

    def width(self):
        return self._values[2]  # noqa: E704

    def height(self):
        return self._values[3]  # noqa: E704


class Node:
    def __init__(self, kind, parent):
        self.kind, self._parent, self.deleted = kind, parent, False
        self._inputs, self._modified = [], False
        self._knobs = {name: Knob(self, name, value) for name, value in {**_COMMON, **KNOBS.get(kind, {})}.items()}
        if kind != "Root":
            self._knobs["name"].raw = _free_name(parent, kind)
            parent._nodes.append(self)

    def knobs_name(self):
        return self._knobs["name"].raw

    def _touch(self, what="node"):
        _on_main(f"{self.knobs_name()}: {what}")
        if self.deleted:
            raise ValueError("A PythonObject is not attached to a node")

    def Class(self):
        self._touch()
        return self.kind

    def name(self):
        self._touch()
        return self._knobs["name"].raw

    def fullName(self):
        above = self._parent.fullName() + "." if self._parent is not None and self._parent.kind != "Root" else ""
        return above + self.name()

    def setName(self, name):
        self._touch()
        self._knobs["name"].raw = name

    def parent(self):
        self._touch()
        return self._parent

    def knob(self, name):
        self._touch()
        return self._knobs.get(name)

    def knobs(self):
        self._touch()
        return dict(self._knobs)

    def __getitem__(self, name):
        self._touch(name)
        if name not in self._knobs:
            raise NameError(f"knob {name} does not exist")
        return self._knobs[name]

    def inputs(self):
        self._touch()
        return len(self._inputs)

    def input(self, index):
        self._touch()
        return self._inputs[index] if index < len(self._inputs) else None

    def setInput(self, index, node):
        self._touch()
        self._inputs += [None] * (index + 1 - len(self._inputs))
        self._inputs[index] = node
        return True

    def redraw(self):
        self._touch()
        redrawn.append(self.fullName())

    def modified(self):
        return self._modified

    def setModified(self, on):
        self._modified = on

    def makeGroup(self):
        """Copy Gizmo to Group: the same knobs and inner nodes, of class Group."""
        made = Group("Group", self._parent)
        for name, knob in self._knobs.items():
            if name != "name":
                copied = made._knobs.setdefault(name, Knob(made, name, knob.default))
                copied.menu, copied.raw, copied.expression, copied.user_line = (
                    knob.menu,
                    knob.raw,
                    knob.expression,
                    knob.user_line,
                )
        copies = {}
        for inner in self._nodes:
            copy = copies[inner] = Node(inner.kind, made)
            for name, knob in inner._knobs.items():
                copy._knobs[name].raw, copy._knobs[name].expression = knob.raw, knob.expression
        for inner, copy in copies.items():
            copy._inputs = [copies.get(source) for source in inner._inputs]
        made._inputs = list(self._inputs)
        _created(made)
        return made

    def dependencies(self, mask):
        self._touch()
        _reach(self)
        return [n for n in self._inputs if n is not None]

    def dependent(self, mask):
        self._touch()
        return [n for n in self._parent._nodes if self in n._inputs]

    def xpos(self):
        return int(self["xpos"].value())  # noqa: E704

    def ypos(self):
        return int(self["ypos"].value())  # noqa: E704

    def setXYpos(self, x, y):
        self["xpos"].setValue(x)
        self["ypos"].setValue(y)

    def writeKnobs(self, flags):
        self._touch()
        return "\n".join(f"{k._name} {k.toScript()}" for k in self._knobs.values() if k.changed)

    # Pictures: of a Read as its file says, of others as their first input.
    def metadata(self, key):
        self._touch()
        return facts(self).get(key)

    def format(self):
        self._touch()
        return _Box(0, 0, *facts(self)["format"])

    def bbox(self):
        self._touch()
        return _Box(*facts(self).get("bbox", (0, 0, *facts(self)["format"])))

    def channels(self):
        self._touch()
        return facts(self)["channels"]

    def firstFrame(self):
        self._touch()
        return facts(self)["range"][0]

    def hasError(self):
        self._touch()
        return False

    def lastFrame(self):
        self._touch()
        return facts(self)["range"][1]

    def delete(self):
        self._touch()
        self._parent._nodes.remove(self)
        self.deleted = True


class Group(Node):
    def __init__(self, kind, parent):
        self._nodes = []
        super().__init__(kind, parent)

    def nodes(self):
        self._touch()
        return list(self._nodes)

    def node(self, name):
        self._touch()
        return next((n for n in self._nodes if n._knobs["name"].raw == name), None)

    def __enter__(self):
        _open_groups.append(self)
        return self

    def __exit__(self, *_):
        _open_groups.pop()


class Gizmo(Group):
    pass


_frame = 1
counted = {"dependencies": 0}
redrawn = []


def _reach(node):
    """Nuke Indie lets Python reach few nodes, and raises beyond them."""
    if indie_limit is not None and node.kind != "Root":
        _reached.add(node)
        if len(_reached) > indie_limit:
            raise RuntimeError(f"Nuke Indie: Python cannot access more than {indie_limit} nodes")


def frame(number=None):
    if number is not None:
        globals()["_frame"] = number
    return _frame


probe = lambda pattern: {}  # noqa: E731  what a test can tell of other files
file_facts = {}  # what a test says of a file: pattern -> {"input/width": ..., "channels": [...], ...}


def facts(node):
    """What a node's picture is like, upstream as far as it has to be asked."""
    if node.kind == "Read":
        told = file_facts.get(node._knobs["file"].raw) or dict(probe(node._knobs["file"].raw))
        size = (told.get("input/width") or 64, told.get("input/height") or 48)
        span = (int(node._knobs["first"].value()), int(node._knobs["last"].value()))
        found = {"format": size, "range": span, "channels": ["rgba.red", "rgba.green", "rgba.blue"], **told}
        chosen = node._knobs["format"].raw.split()
        return {**found, "format": (int(chosen[0]), int(chosen[1]))} if chosen else found
    if node.kind == "Input":
        outer = node._parent.input(int(node._knobs["number"].value()))
        return facts(outer) if outer is not None else _of_root()
    shift = 0
    while node.kind not in ("Read", "Input", "Constant"):  # a list of steps, as a stream may be thousands of nodes long
        if node.kind == "TimeOffset":
            shift += int(node._knobs["time_offset"].value())
        source = next((n for n in node._inputs if n is not None), None)
        if node.kind == "Roto" or source is None:
            break
        node = source
    if node.kind in ("Read", "Input"):
        found = dict(facts(node))
    else:
        found = _of_root()
    if node.kind == "Constant":
        found["range"] = (int(node._knobs["first"].value()), int(node._knobs["last"].value()))
    if node.kind in ("Roto", "Constant"):
        found["channels"] = ["rgba.red", "rgba.green", "rgba.blue", "rgba.alpha"]
    found["range"] = (found["range"][0] + shift, found["range"][1] + shift)
    return found


def _of_root():
    values = root()._knobs
    form = _formats.get(values["format"].raw, values["format"].raw)
    size = tuple(int(v) for v in form.split()[:2])
    return {"format": size, "range": (values["first_frame"].value(), values["last_frame"].value()), "channels": []}


# The script.

_open_groups = []
gizmo_paths = []  # folders in which X.gizmo is looked for


def root():
    return _open_groups[0]


def thisGroup():
    return _open_groups[-1]


def thisNode():
    return _context[-1][0] if _context else thisGroup()


def thisKnob():
    return _context[-1][1]


def toNode(name):
    _on_main("toNode")
    node = thisGroup()
    for part in name.split("."):
        node = node.node(part) if isinstance(node, Group) else None
    return node


def allNodes(kind=None, group=None, recurseGroups=False):
    _on_main("allNodes")
    found = []
    for node in (group or root())._nodes:
        found.append(node)
        if recurseGroups and isinstance(node, Group):
            found += allNodes(None, node, True)
    return [n for n in found if kind in (None, n.kind)]


def dependencies(nodes, what):
    counted["dependencies"] += 1
    return [other for node in nodes for other in node.dependencies(what)]


def views():
    return list(_view_names)


def filename(node, i=0):
    """Of a Read: its proxy's file in proxy mode, as the documentation says ("based on the root.proxy settings")."""
    _on_main("filename")
    if root()._knobs["proxy"].raw and node.knob("proxy") is not None and node["proxy"].raw:
        return node["proxy"].evaluate()
    return node["file"].evaluate() or None


class callbacks:  # noqa: N801 - a module in Nuke
    @staticmethod
    def filenameFilter(filename):
        for call in _filename_filters:
            found = call(filename)
            if found is not None:
                filename = found
        return filename


def createNode(kind, knobs="", inpanel=True):
    _on_main("createNode")
    node = _made(kind, thisGroup())
    _created(node)
    if isinstance(node, Gizmo):
        _run_callback(node, "knobChanged", Knob(node, "showPanel", ""))
    return node


class _Nodes:
    """nuke.nodes.Grade(inputs=[...], white=2)"""

    def __getattr__(self, kind):
        def make(inputs=(), **knobs):
            node = _made(kind, thisGroup())
            node._inputs = list(inputs)
            for name, value in knobs.items():
                node[name].setValue(value)
            return node

        return make


nodes = _Nodes()


def delete(node):
    node.delete()


def addFormat(text):
    _formats[text.split()[-1]] = text


def scriptSaveAs(file, overwrite=0):
    assert overwrite or not os.path.exists(file)
    return scriptSave(file)


def scriptClear():
    _on_main("scriptClear")

    def delete(group):
        for node in group._nodes:
            if isinstance(node, Group):
                delete(node)
            node.deleted = True

    if _open_groups:
        delete(root())
    _open_groups[:] = [Group("Root", None)]
    root()._knobs["name"].raw = ""


def scriptSave(file):
    """Gizmos with their own knobs only, as Nuke does."""
    _on_main("scriptSave")
    root()._knobs["name"].raw = file
    lines = [
        "#! nuke",
        "version 14.0 v1",
        "Root {",
        " inputs 0",
        *(" " + line for line in root().writeKnobs(0).split("\n")),
        "}",
    ]
    for node in _by_depth(root()._nodes):
        lines += _saved(node)
    with open(file, "w", encoding="utf-8") as stream:
        stream.write("\n".join(lines) + "\n")
    return True


def scriptOpen(file):
    scriptClear()
    with open(file, encoding="utf-8") as stream:
        text = stream.read()
    _read(text)
    root()._knobs["name"].raw = file
    for call in _on_load:
        _swallow(call)


def scriptReadText(text):
    _on_main("scriptReadText")
    _read(text)


def execute(node, first, last, step=1):
    """Render a Write; what beforeRender raises aborts it."""
    _on_main("execute")
    if node["disable"].value():
        raise RuntimeError(f"{node.fullName()} is disabled")
    for call in _before_render:
        _context.append((node, None))
        try:
            call()
        finally:
            _context.pop()
    for frame in range(first, last + 1, step):
        file = re.sub(r"#+|%0\d+d", lambda m: f"{frame:04d}", node["file"].evaluate())
        if node["create_directories"].value():
            os.makedirs(os.path.dirname(file), exist_ok=True)
        painter(node, frame, file)


# The interface.


class ProgressTask:
    def __init__(self, name):
        self.name, self.messages, self.progress, self.cancelled = name, [], [], False
        tasks.append(self)

    def setMessage(self, text):
        self.messages.append(text)

    def setProgress(self, percent):
        assert isinstance(percent, int) and 0 <= percent <= 100
        self.progress.append(percent)

    def isCancelled(self):
        return self.cancelled


def message(text):
    _on_main("message")
    messages.append(text)


def tprint(*words):
    printed.append(" ".join(map(str, words)))


def warning(text):
    warnings.append(text)


def executeInMainThreadWithResult(call, args=(), kwargs={}):  # noqa: B006 - Nuke's own signature
    """Waits. An error is printed, and None comes back."""
    done, box = threading.Event(), []
    _queue.append((call, args, kwargs, box, done))
    done.wait()
    return box[0] if box else None


def pump(until, seconds=60):
    """What the main thread does while Nuke waits for the artist. Returns whether `until()` became true."""
    _on_main("pump")
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        while _queue:
            call, args, kwargs, box, done = _queue.popleft()
            _swallow(lambda: box.append(call(*args, **kwargs)))
            done.set()
        if until():
            return True
        time.sleep(0.01)
    return False


def addFilenameFilter(call, args=(), kwargs={}, nodeClass="*"):
    _filename_filters.append(call)


def addOnCreate(call, args=(), kwargs={}, nodeClass="*"):
    _on_create.append((call, nodeClass))


def addAutolabel(call, args=(), kwargs={}, nodeClass="*"):
    _autolabels.append((call, nodeClass))


def addUpdateUI(call, args=(), kwargs={}, nodeClass="*"):
    _update_ui.append((call, nodeClass))


def _called(calls, node):
    results = []
    for call, kind in calls:
        if kind in ("*", node.kind):
            _context.append((node, None))
            try:
                _swallow(lambda call=call: results.append(call()))
            finally:
                _context.pop()
    return results


def _created(node):
    _called(_on_create, node)


def label_of(node):
    """What the node graph shows of a node."""
    return next(filter(None, _called(_autolabels, node)), node.name())


def idle():
    """What Nuke does when it has nothing to do."""
    for node in allNodes(recurseGroups=True):
        _called(_update_ui, node)


def ask(prompt):
    asked.append(prompt)
    return answers.pop(0) if answers else False


def getInput(prompt, default=""):
    asked.append(prompt)
    return answers.pop(0) if answers else None


def addOnScriptLoad(call):
    _on_load.append(call)


def addBeforeRender(call):
    _before_render.append(call)


def pluginAddPath(path):
    PLUGIN_PATH.append(path)


class _Menu:
    def __init__(self, path):
        self.path = path

    def addMenu(self, name, icon=""):
        return _Menu(f"{self.path}/{name}")

    def addCommand(self, name, command, shortcut="", icon=""):
        commands.append((f"{self.path}/{name}", command, shortcut))


def menu(name):
    return _Menu(name)


class _PanelKnob:
    def __init__(self, name, label=""):
        self._name, self._value = name, ""

    def setTooltip(self, text):
        pass  # noqa: E704

    def value(self):
        return self._value  # noqa: E704

    def setValue(self, value):
        self._value = value  # noqa: E704

    def name(self):
        return self._name  # noqa: E704


File_Knob = Multiline_Eval_String_Knob = String_Knob = _PanelKnob


def run_callbacks(text, node):
    _run(text, node, None)


def reset():
    """A new Nuke, with an empty script."""
    for kept in (
        printed,
        violations,
        messages,
        warnings,
        tasks,
        commands,
        answers,
        _on_load,
        _before_render,
        _queue,
        PLUGIN_PATH,
        _autolabels,
        _update_ui,
        _on_create,
        _filename_filters,
        _reached,
        asked,
        redrawn,
    ):
        kept.clear()
    globals()["indie_limit"], globals()["_frame"] = None, 1
    file_facts.clear()
    _view_names[:] = ["main"]
    globals()["GUI"], globals()["painter"] = True, None
    scriptClear()


def _swallow(call):
    try:
        call()
    except Exception:
        printed.append(traceback.format_exc())


def _run(code, node, knob):
    _context.append((node, knob))
    try:
        _swallow(lambda: exec(code, {"__name__": "__main__"}))
    finally:
        _context.pop()


def _run_callback(node, event, knob):
    code = node._knobs.get(event)
    if code is not None and code.raw and len(_context) < 20:
        _run(code.raw, node, knob)


# Reading and writing scripts.


def _read(text):
    """Tcl as Nuke writes it: a stack of nodes, `set`, `push`, `end_group`."""
    stack, names = [], {}
    target = [thisGroup()]
    for line in commands_of(text):
        word = line[0][0]
        if word == "version":
            continue
        if word == "set":
            names["$" + line[1][0]] = stack[-1] if stack else None
        elif word == "push":
            stack.append(names.get(line[1][0]))
        elif word == "end_group":
            ended = target.pop()
            stack = ended._outer
            if ended.kind == "Group":
                _created(ended)
        elif word == "Root":
            _set_knobs(root(), line[1][0])
        elif word in ("Gizmo", "Group"):
            if word == "Gizmo":
                node = target[-1]  # the definition: `_made` has made the node
                _set_knobs(node, line[1][0])
            else:
                node = _made("Group", target[-1])
                _connect(node, line[1][0], stack)
                _set_knobs(node, line[1][0])
                stack.append(node)
            target.append(node)
            node._outer, stack = stack, []
        else:
            node = _made(word, target[-1])
            _connect(node, line[1][0], stack)
            _set_knobs(node, line[1][0])
            stack.append(node)
            _created(node)
            if isinstance(node, Gizmo) and node._knobs["onCreate"].raw:
                _run_callback(node, "onCreate", None)


def _made(kind, parent):
    if kind == "Group":
        return Group(kind, parent)
    if kind in KNOBS:
        return Node(kind, parent)
    for folder in gizmo_paths:
        file = os.path.join(folder, kind + ".gizmo")
        if os.path.exists(file):
            node = Gizmo(kind, parent)
            with open(file, encoding="utf-8") as stream, node:
                _read(stream.read())
            for knob in node._knobs.values():
                knob.gizmo_default = knob.raw
            return node
    raise RuntimeError(f"{kind}: Unknown command")


def _connect(node, body, stack):
    wanted = next((int(v[0]) for k, v in knob_lines(body) if k == "inputs"), 1)
    node._inputs = [stack.pop() if stack else None for _ in range(wanted)]


def _set_knobs(node, body):
    for name, value in knob_lines(body):
        if name == "inputs":
            continue
        if name == "addUserKnob":
            _add_user_knob(node, value[0])
        elif name in node._knobs:
            node._knobs[name].fromScript(value)
        else:
            printed.append(f"{node.knobs_name()}: no knob named {name}")


def _add_user_knob(node, line):
    words = [w[0] for w in words_of(line)]
    kind, name, *flags = words
    default = _USER_KNOBS.get(kind)
    if "M" in flags:
        default = [w[0] for w in words_of(flags[flags.index("M") + 1])]
    knob = node._knobs[name] = Knob(node, name, default)
    if "T" in flags:
        knob.raw = flags[flags.index("T") + 1]
    knob.user_line = line


def _free_name(group, kind):
    there = {n._knobs["name"].raw for n in group._nodes}
    if kind in ("Input", "Output"):
        kind += "_"
    return next(f"{kind}{i}" for i in range(1, 10**6) if f"{kind}{i}" not in there)


def _saved(node):
    if isinstance(node, Gizmo):
        knobs = [
            k
            for k in node._knobs.values()
            if k.expression is not None or k.raw != getattr(k, "gizmo_default", k.default)
        ]
    else:
        knobs = [k for k in node._knobs.values() if k.changed]
    lines = [f"{node.kind} {{", f" inputs {len(node._inputs)}"]
    lines += [f" addUserKnob {{{k.user_line}}}" for k in knobs if k.user_line and not isinstance(node, Gizmo)]
    lines += [f" {k._name} {k.toScript()}" for k in knobs]
    pushes = [f"push ${_variable(n)}" if n is not None else "push 0" for n in reversed(node._inputs)]
    lines = pushes + lines + ["}", f"set {_variable(node)} [stack 0]"]
    if isinstance(node, Group) and not isinstance(node, Gizmo):
        inner = [line for n in _by_depth(node._nodes) for line in _saved(n)]
        lines[-1:] = inner + ["end_group", lines[-1]]
    return lines


def _variable(node):
    return "N" + re.sub(r"\W", "_", node.fullName())


def _by_depth(nodes):
    ordered = []

    def add(node):
        if node is None or node in ordered or node not in nodes:
            return
        for other in node._inputs:
            add(other)
        ordered.append(node)

    for node in nodes:
        add(node)
    return ordered


def _quoted(text):
    return '"' + re.sub(r'[\\"\[\]{}$]', lambda m: "\\" + m[0], text).replace("\n", "\\n") + '"'


def commands_of(text):
    """The commands of a script as lists of words."""
    position = 0
    while position < len(text):
        words, position = _command(text, position)
        if words:
            yield words


def words_of(text):
    return [word for line in commands_of(text) for word in line]


def knob_lines(body):
    """(name, value) of a node's body; a value is (text, whether it stood in braces)."""
    for words in commands_of(body):
        rest = words[1:]
        yield words[0][0], rest[0] if len(rest) == 1 else (" ".join(w[0] for w in rest), False)


def _command(text, i):
    words = []
    while i < len(text):
        if text[i] in " \t":
            i += 1
        elif text[i] in "\n;":
            return words, i + 1
        elif text[i] == "#" and not words:
            i = text.find("\n", i) + 1 or len(text)
            return [], i
        else:
            word, braced, i = _word(text, i)
            words.append((word, braced))
    return words, i


def _word(text, i):
    if text[i] == "{":
        depth, start = 0, i + 1
        while True:
            if text[i] == "\\":
                i += 1
            elif text[i] == "{":
                depth += 1
            elif text[i] == "}":
                depth -= 1
                if depth == 0:
                    return text[start:i], True, i + 1
            i += 1
    quoted = text[i] == '"'
    i += quoted
    out = []
    while i < len(text) and (text[i] != '"' if quoted else text[i] not in " \t\n;"):
        if text[i] == "\\":
            i += 1
            out.append({"n": "\n", "t": "\t"}.get(text[i], text[i]))
        elif text[i] == "[" and quoted:
            raise SyntaxError(f"Tcl would run {text[i : i + 40]!r}")
        elif text[i] == "[":  # set P [stack 0]
            end = text.index("]", i)
            out.append(text[i : end + 1])
            i = end
        else:
            out.append(text[i])
        i += 1
    return "".join(out), False, i + quoted


# Expressions: the few kinds that are used here. Anything else raises.


def _evaluate(node, text):
    text = text.strip()
    if text == "frame":
        return float(_frame)
    if re.fullmatch(r"-?\d+(\.\d+)?", text):
        return float(text)
    difference = re.fullmatch(r"(.+?)\s*([-/])\s*(.+)", text)
    if difference:
        a, b = _evaluate(node, difference[1]), _evaluate(node, difference[3])
        return a - b if difference[2] == "-" else a / b
    owner, _, name = text.rpartition(".")
    target = {"parent": node._parent, "": node, "this": node, "root": root()}.get(owner)
    if owner == "input" and name in ("width", "height"):
        return facts(node)["format"][name == "height"]
    if target is None or name not in target._knobs:
        raise RuntimeError(f"{node.fullName()}: expression {text!r} does not evaluate")
    return target._knobs[name].getValue()


def _tcl_text(node, text):
    def value(match):
        words = match[1].split()
        if words[0] == "getenv":
            return os.environ.get(words[1], "")
        if len(words) != 2 or words[0] != "value":
            raise RuntimeError(f"[{match[1]}] does not evaluate")
        owner, _, name = words[1].rpartition(".")
        target = {"parent": node._parent, "": node, "root": root()}[owner]
        return str(target._knobs[name].evaluate())

    return re.sub(r"\[([^\]]*)\]", value, text)


@contextlib.contextmanager
def headless():
    """nuke -t, nuke -x."""
    globals()["GUI"] = False
    try:
        yield
    finally:
        globals()["GUI"] = True


scriptClear()
