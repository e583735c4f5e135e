"""Nuke runs this file for each folder in NUKE_PATH, also in a terminal session. It must never prevent Nuke from
starting."""

import traceback

try:
    import nuke
    from vera_nuke import badge, guard, plate

    nuke.pluginAddPath("./icons")
    nuke.addOnScriptLoad(guard.check_script)
    nuke.addBeforeRender(guard.check_before_render)
    for kind in (plate.CLASS, "Group"):
        nuke.addOnCreate(guard.note_node, nodeClass=kind)
        if nuke.GUI:
            nuke.addAutolabel(badge.label, nodeClass=kind)
            nuke.addUpdateUI(guard.update_badge, nodeClass=kind)
except Exception:
    traceback.print_exc()
    print("Vera: could not be set up; Nuke continues without it")
