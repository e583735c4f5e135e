"""A stand-in for the one class of `nukescripts` that the plug-in uses."""

import nuke


class PythonPanel:
    def __init__(self, title="", name=""):
        self.title, self.knobs = title, []

    def addKnob(self, knob):
        self.knobs.append(knob)

    def showModalDialog(self):
        """A test puts what the artist fills in into nuke.answers: a dictionary by knob, or None for cancel."""
        filled = nuke.answers.pop(0)
        for knob in self.knobs:
            if filled and knob.name() in filled:
                knob.setValue(filled[knob.name()])
        return filled is not None
