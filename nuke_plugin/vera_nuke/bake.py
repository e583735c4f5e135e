"""Replace a VeraEdit by a Group with a plain Read, which needs neither this plug-in nor the core."""

from __future__ import annotations

import os
import re
from typing import Any

import nuke

from . import show, versions
from .host import undo_step
from .host_rules import RefusedError

GIZMO = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "VeraEdit.gizmo")
_LEFT_OUT = re.compile(r"^  name (?:mask|MaskFormat|MaskWrite|PlateFormat|PlateWrite)$", re.MULTILINE)
_BLOCK = re.compile(r"^ (\w+) \{\n(.*?)^ \}\n", re.DOTALL | re.MULTILINE)


def bake(node: nuke.Gizmo) -> nuke.Node:
    """Put the Group beside the node and give it the node's connections. Returns it. Raises RefusedError."""
    words = show.missing(node)
    if words:
        raise RefusedError(f"{words}; there is nothing to bake")
    parent = node.parent() or nuke.root()
    name = free_name(parent, f"{node.name()}_v{int(node['version'].value()):03d}")
    with undo_step("VeraEdit: bake to Group"), parent:
        nuke.scriptReadText(group_text(node, name))
        group = nuke.toNode(name)
        if group is None:
            raise RefusedError("Nuke did not make the Group; the terminal has more")
        group.setXYpos(node.xpos() + 110, node.ypos())
        group.setInput(0, node.input(0))
        for other in node.dependent(nuke.INPUTS | nuke.HIDDEN_INPUTS):
            for index in range(other.inputs()):
                if other.fullName() != group.fullName() and other.input(index) == node:
                    other.setInput(index, group)
    return group


def contact_sheet(node: nuke.Gizmo, base: str) -> nuke.Node:
    """Reads of all versions, each labelled, into a ContactSheet beside the node; returns it. Raises RefusedError."""
    there = [(number, versions.delivered(versions.path(base, number))) for number in versions.numbers(base)]
    found = [(number, delivery) for number, delivery in there if delivery and not delivery.missing]
    if not found:
        raise RefusedError("no version is rendered yet; press Render")
    with undo_step("VeraEdit: all versions"), node.parent() or nuke.root():
        reads = []
        for place, (number, delivery) in enumerate(found):
            read = nuke.nodes.Read(file=delivery.edit, first=delivery.first, last=delivery.last, raw=True)
            out = versions.path(base, number)
            words = [f"v{number:03d}", str(versions.asked(out).get("prompt", "")), versions.note(out)]
            read["label"].setValue("\n".join(filter(None, words)))
            read.setXYpos(node.xpos() + 110 * (place + 1), node.ypos() + 120)
            reads.append(read)
        sheet = nuke.nodes.ContactSheet(inputs=reads)
        form = node.format()
        columns = min(3, len(reads))
        rows = -(-len(reads) // columns)
        for name, value in (
            ("width", form.width() * columns),
            ("height", form.height() * rows),
            ("columns", columns),
            ("rows", rows),
        ):
            sheet[name].setValue(value)
        sheet.setXYpos(node.xpos() + 110, node.ypos() + 240)
    return sheet


def free_name(parent: nuke.Group, wanted: str) -> str:
    """A name that no node of the group has."""
    there = {node.name() for node in parent.nodes()}
    name, count = wanted, 2
    while name in there:
        name, count = f"{wanted}_{count}", count + 1
    return name


def group_text(node: nuke.Gizmo, name: str) -> str:
    """The Group as a script: the gizmo's inner nodes with the values of their linked knobs."""
    with open(GIZMO, encoding="utf-8") as file:
        inner = file.read().split("\n}\n", 1)[1]
    version = int(node["version"].value())
    values = {
        '"\\[value parent.result_file]"': quoted(node["result_file"].value()),
        "{{parent.result_first}}": str(int(node["result_first"].value())),
        "{{parent.result_last}}": str(int(node["result_last"].value())),
        "{{parent.result_shown}}": "1",
        "{{parent.mix}}": f"{float(node['mix'].value()):g}",
    }
    for linked, written in values.items():
        inner = inner.replace(linked, written)
    inner = _BLOCK.sub(lambda block: "" if _LEFT_OUT.search(block[2]) else block[0], inner)
    asked = versions.asked(os.path.dirname(os.path.dirname(str(node["result_file"].value()))))
    return (
        f"Group {{\n inputs 0\n name {name}\n tile_color 0x2f6f8fff\n"
        " addUserKnob {20 vera l VeraEdit}\n"
        ' addUserKnob {4 output l output M {"edit layer" matte composite difference}}\n'
        f" output {quoted(node['output'].value())}\n"
        " addUserKnob {1 made l made}\n"
        f" made {quoted(_made(asked, version))}\n"
        " addUserKnob {43 prompt l prompt}\n"
        f" prompt {quoted(asked.get('prompt', ''))}\n}}\n{inner}"
    )


def quoted(value: object) -> str:
    """The text quoted as a word of Tcl, also valid inside a node's braces."""
    text = re.sub(r'[\\"\[\]{}$]', lambda match: "\\" + match[0], str(value))
    return '"' + text.replace("\n", "\\n").replace("\t", "\\t") + '"'


def _made(asked: dict[str, Any], version: int) -> str:
    told = [f"{name} {asked[name]}" for name in ("model", "seed", "layer_space") if name in asked]
    return ", ".join([f"version {version}", *told])
