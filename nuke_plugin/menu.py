"""Nuke runs this file if it has an interface. It must never prevent Nuke from starting."""

import traceback

try:
    import nuke

    icon = "vera_edit.png"
    menu = nuke.menu("Nodes").addMenu("Vera", icon=icon)
    menu.addCommand("VeraEdit", "nuke.createNode('VeraEdit')", "ctrl+alt+e", icon=icon)
    menu = nuke.menu("Nuke").addMenu("Vera")
    menu.addCommand("Re-render all changed", "import vera_nuke.buttons; vera_nuke.buttons.render_all_changed()")
    menu.addCommand("Open the queue", "import vera_nuke.buttons; vera_nuke.buttons.open_queue()")
    menu.addCommand("Settings...", "import vera_nuke.buttons; vera_nuke.buttons.settings()")
except Exception:
    traceback.print_exc()
    print("Vera: its menu could not be made; Nuke continues without it")
