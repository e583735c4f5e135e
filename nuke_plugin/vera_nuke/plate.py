"""The plate and the mask as files: those of the Read if the stream has their pixels, else files that Nuke writes.

Call these functions in the main thread only.
"""

from __future__ import annotations

import glob
import hashlib
import os
import re
from collections import namedtuple
from collections.abc import Callable
from typing import Any, NoReturn, cast

import nuke

from . import color, versions
from .host import as_nuke_finds, full_size, inner, no_undo
from .host_rules import RefusedError, frames_in_words

# path: a file pattern. space: the core's name of the colour space, "" if unknown. state: a hash of all sources. write:
# whether Nuke must write the files first.
Files = namedtuple("Files", "path space state write")

# Formats that the core reads bit for bit like Nuke. Movies and JPEGs are decoded by other code in Nuke.
_DIRECT = ("exr", "dpx", "tif", "tiff", "png")
CLASS = "VeraEdit"
_MARKS = ("result_file", "result_shown", "result_space", "pending")  # knobs that only a VeraEdit has
# Parts of a name that only Nuke can fill in: the view, a variable of the script (from Nuke 16), an expression.
_OPEN_NAME = re.compile(r"%[Vv]|%\{|\[|\$")
# Knobs that change no pixel.
_LAYOUT = re.compile(
    r"(?:xpos|ypos|selected|label|note_font\S*|tile_color|gl_color|hide_input|postage_stamp|cached|dope_sheet|name)\b"
)
# Knobs of another VeraEdit that change pixels.
_RESULT = re.compile(r"(?:result_\w+|output|disable)\b")


def is_edit(node: nuke.Node) -> bool:
    """Whether a node is a VeraEdit: by its class, or by its knobs where the gizmo was copied to a Group."""
    kind = node.Class()
    return kind == CLASS or (kind == "Group" and all(node.knob(name) is not None for name in _MARKS))


def root_knob(name: str) -> str | None:
    """The text of a knob of the script, expressions in it evaluated; None if there is no such knob."""
    knob = nuke.root().knob(name)
    if knob is None:
        return None
    return str((knob.evaluate() if hasattr(knob, "evaluate") else knob.value()) or "")


def plate_files(source: nuke.Node, first: int, last: int, folder: str, working: str) -> Files:
    """Files of the plate stream `source`. Raises RefusedError."""
    read = untouched_read(source, first, last)
    if read is not None:
        space = working if read["raw"].value() else color.of_read(*_colorspace(read))
        # Nuke converts nothing in the working space, and decodes the other two like the core.
        if space in (working, "linear", "srgb"):
            pattern = file_pattern(read)
            gone = versions.missing(pattern, first, last)
            if gone:
                raise RefusedError(
                    f"{read.fullName()}: {pattern}: {frames_in_words(gone)} not on the disk;"
                    " supply the files or choose other frames"
                )
            files = [versions.file_of(pattern, frame) for frame in range(first, last + 1)]
            return Files(pattern, space, _state_of_files(files), False)
    state = state_of_stream(source, first, last)
    return Files(f"{folder}/plates/{state[:12]}/plate.####.exr", working, state, True)


def mask_files(source: nuke.Node, first: int, last: int, folder: str, working: str) -> Files:
    """Files of the mask stream. The core takes alpha, or the brightness where alpha is 1 everywhere."""
    read = untouched_read(source, first, last, still=True)
    # File and picture have the same values only if Nuke converts nothing.
    if read is not None and (read["raw"].value() or color.of_read(*_colorspace(read)) in (working, "linear")):
        pattern = file_pattern(read)
        frames = range(first, last + 1)
        if not versions.missing(pattern, first, last):
            return Files(pattern, "", _state_of_files(sorted({versions.file_of(pattern, f) for f in frames})), False)
    state = state_of_stream(source, first, last)
    return Files(f"{folder}/plates/{state[:12]}/mask.####.exr", "", state, True)


def untouched_read(node: nuke.Node | None, first: int, last: int, still: bool = False) -> nuke.Node | None:
    """The Read whose files have exactly the stream's pixels, frame by frame; None if there is none.

    None is also the answer in doubt: then Nuke writes the stream, which is always correct but slower.
    """
    while node is not None and node.Class() == "Dot":
        node = node.input(0)
    if node is None or node.Class() != "Read" or node["disable"].value():
        return None
    pattern = file_pattern(node)
    if _OPEN_NAME.search(pattern):
        return None
    numbered = versions.file_of(pattern, 1) != versions.file_of(pattern, 2)
    extension = os.path.splitext(pattern)[1][1:].lower()
    if extension not in _DIRECT or (extension != "exr" and "rgba.alpha" in node.channels()):
        return None  # Nuke may premultiply files of other formats when it reads them
    if not numbered and not still:
        return None
    if _is_retimed(node):
        return None
    if numbered and not _value(node, "first") <= first <= last <= _value(node, "last"):
        return None if still else _refuse_range(node, first, last)
    width, height = node.metadata("input/width"), node.metadata("input/height")
    form, box = node.format(), node.bbox()
    if (form.width(), form.height()) != (width, height):
        return None  # the Read has another format than its files
    if (box.x(), box.y(), box.w(), box.h()) != (0, 0, width, height):
        return None  # overscan, or a smaller data window
    return node


def file_pattern(node: nuke.Node) -> str:
    """The absolute file pattern of a Read, expressions evaluated."""
    return as_nuke_finds(absolute(nuke.filename(node) or ""))


def absolute(name: str) -> str:
    """The absolute path, with forward slashes. A relative one starts at the project's or script's folder."""
    if name and not os.path.isabs(name):
        folder = root_knob("project_directory") or os.path.dirname(root_knob("name") or "")
        name = os.path.abspath(os.path.join(folder, name))
    return name.replace("\\", "/")


def upstream(node: nuke.Node, links: int) -> list[nuke.Node]:
    """The nodes that a node directly depends on, also inside groups and outside its own group.

    Raises RefusedError if Python may not see them (Nuke Indie).
    """
    try:
        found = list(nuke.dependencies([node], links))
        if isinstance(node, nuke.Group):
            found += node.nodes()
        if node.Class() == "Input":
            found += nuke.dependencies([node.parent()], links)
    except RuntimeError as error:
        words = " ".join(str(error).split())
        raise RefusedError(
            f"{node.fullName()}: Nuke does not say what it is made of ({words}); edit an untouched Read instead"
        ) from None
    return found


def edits() -> list[nuke.Gizmo]:
    """All VeraEdit nodes of the script, also those in groups and those that were copied to a Group."""
    there = [node for kind in (CLASS, "Group") for node in nuke.allNodes(kind, recurseGroups=True)]
    return [cast("nuke.Gizmo", node) for node in there if is_edit(node)]


def edits_upstream(node: nuke.Node | None) -> list[nuke.Gizmo]:
    """The enabled VeraEdit nodes that a node's picture depends on."""
    found, waiting, seen = [], [node], set()
    while waiting:
        node = waiting.pop()
        if node is None or node.fullName() in seen:
            continue
        seen.add(node.fullName())
        if is_edit(node) and not node["disable"].value():
            found.append(cast("nuke.Gizmo", node))
        waiting += upstream(node, nuke.INPUTS | nuke.HIDDEN_INPUTS)
    return found


def state_of_stream(node: nuke.Node, first: int, last: int) -> str:
    """A hash that changes with anything upstream: nodes, knobs, connections, and the files that are read.

    Expressions can depend on knobs of the root, on the environment and on variables of the script. They are included by
    their values at the first, middle and last frame. Raises RefusedError if Python cannot see the nodes (Nuke Indie).
    """
    colors = [root_knob(name) for name in ("colorManagement", "OCIO_config", "customOCIOConfigPath", "workingSpaceLUT")]
    digest = hashlib.sha256(f"{first}-{last} {colors}".encode())
    frames = sorted({first, (first + last) // 2, last})
    seen, waiting = set(), [node]
    while waiting:  # a list and not recursion, because a script may have thousands of nodes
        node = waiting.pop()
        if node.fullName() in seen:
            continue
        seen.add(node.fullName())
        digest.update(_state_of_node(node, frames).encode())
        waiting += reversed(upstream(node, nuke.INPUTS | nuke.HIDDEN_INPUTS | nuke.EXPRESSIONS))
    return digest.hexdigest()


def _state_of_node(node: nuke.Node, frames: list[int]) -> str:
    knobs = node.writeKnobs(nuke.TO_SCRIPT | nuke.WRITE_NON_DEFAULT_ONLY).split("\n")
    lines = [line for line in knobs if not _LAYOUT.match(line.strip())]
    if is_edit(node):  # of another edit only its result counts, not its status
        lines = [line for line in knobs if _RESULT.match(line.strip())]
    if node.Class() == "Write":  # a Write passes its input on unchanged
        lines = []
    told = [node.fullName(), node.Class(), *lines, *_values_of_expressions(node, lines, frames)]
    if node.knob("file") is not None and node.Class() != "Write":
        told.append(state_of_pattern(file_pattern(node)))
    for index in range(node.inputs()):
        source = node.input(index)
        told.append(f"{index} {source.fullName() if source else '-'}")
    return "\n".join(told)


def _values_of_expressions(node: nuke.Node, lines: list[str], frames: list[int]) -> list[str]:
    """The values of the expressions on a node's knobs, which can depend on things other than upstream nodes."""
    values = []
    for line in lines:
        name, _, text = line.strip().partition(" ")
        knob = node.knob(name) if re.search(r"\{\{|\{[A-Za-z]|\[", text) else None
        if knob is None:
            continue
        try:
            if hasattr(knob, "hasExpression") and knob.hasExpression():
                values.append(f"{name} {[knob.getValueAt(frame) for frame in frames]}")
            elif hasattr(knob, "evaluate"):
                values.append(f"{name} {knob.evaluate()}")
        except Exception as error:  # a broken expression is broken in the picture too
            values.append(f"{name} {error}")
    return values


def write(node: nuke.Gizmo, request: versions.Request) -> None:
    """Write the request's missing plate and mask files as lossless EXR with unchanged pixels. Raises RefusedError."""
    for which, pattern in (("plate", request.plate_write), ("mask", request.mask_write)):
        if pattern is None:
            continue
        mark = os.path.dirname(pattern) + "/" + which
        first, last = request.first, request.last
        if not versions.is_written(mark, first, last) or versions.missing(pattern, first, last):
            _write(node, which, pattern, first, last)
            os.makedirs(mark, exist_ok=True)
            versions.mark_written(mark, first, last)


def _write(node: nuke.Gizmo, which: str, pattern: str, first: int, last: int) -> None:
    writer = inner(node, {"plate": "PlateWrite", "mask": "MaskWrite"}[which])
    try:
        os.makedirs(os.path.dirname(pattern), exist_ok=True)
        with no_undo():
            if which == "mask":
                writer["channels"].setValue("rgba" if "rgba.alpha" in inner(node, "mask").channels() else "rgb")
            node[which + "_file"].setValue(pattern)
            node["writing"].setValue(True)
        with full_size():
            nuke.execute(writer, first, last, 1)
    except OSError as error:
        raise RefusedError(
            f"{os.path.dirname(pattern)}: cannot be written ({error.strerror}); choose another folder"
        ) from None
    except RuntimeError as error:
        reason = " ".join(str(error).split()) or "no reason given"
        raise RefusedError(f"the {which} could not be written ({reason}); nothing was submitted") from None
    finally:
        with no_undo():
            node["writing"].setValue(False)
    gone = versions.missing(pattern, first, last)
    if gone:
        raise RefusedError(f"the {which} was not written whole: {frames_in_words(gone)} missing; press Render again")


def _is_retimed(read: nuke.Node) -> bool:
    mode, frame = str(_value(read, "frame_mode")), str(_value(read, "frame") or "").strip()
    if mode == "start at":
        return frame not in ("", str(int(_value(read, "first"))))
    return frame not in ("", "0", "frame") if mode == "offset" else frame not in ("", "frame")


def _colorspace(read: nuke.Node) -> tuple[str, Callable[[str], str | None], str]:
    bits = read.metadata("input/bitsperchannel") or ""
    return str(read["colorspace"].value()), root_knob, str(bits)


def _refuse_range(read: nuke.Node, first: int, last: int) -> NoReturn:
    has = f"{int(_value(read, 'first'))}-{int(_value(read, 'last'))}"
    raise RefusedError(f"frames {first}-{last} are not all within {read.fullName()}'s {has}; choose frames that it has")


def state_of_pattern(pattern: str) -> str:
    """A hash that changes with any file of a sequence, or with a single file."""
    return _state_of_files(sorted(glob.glob(re.sub(r"%(0\d+)?d|#+", "*", glob.escape(pattern)))))


def _state_of_files(files: list[str]) -> str:
    """A hash of names, sizes and dates, which needs no reading."""
    digest = hashlib.sha256()
    for file in files:
        try:
            status = os.stat(file)
            digest.update(f"{file} {status.st_size} {status.st_mtime_ns}\n".encode())
        except OSError:
            digest.update(f"{file} -\n".encode())
    return digest.hexdigest()


def _value(node: nuke.Node, name: str) -> Any:
    knob = node.knob(name)
    return None if knob is None else knob.value()
