# SPDX-License-Identifier: GPL-3.0-or-later
"""Vera in Blender: a strip, a prompt, and an edit layer above it. No model runs here: jobs are sent to Vera's service.

ops -> plan (media, color, stage) -> tickets -> session -> place, nodes
"""

from . import ops, panel, preferences, session, settings

_MODULES = (preferences, settings, session, ops, panel)


def register() -> None:
    for module in _MODULES:
        module.register()


def unregister() -> None:
    for module in reversed(_MODULES):
        module.unregister()
