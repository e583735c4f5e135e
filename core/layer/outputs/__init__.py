"""The table of the delivery's formats, one module each.

A new format needs a class of one of the three kinds in `output.py`, a row in EXTRA_OUTPUTS, and its name among the
recipe's choices of `also` (a test compares the two).
"""

from vera.core.layer.outputs.composite import Composite
from vera.core.layer.outputs.edit import EditExr
from vera.core.layer.outputs.matte import Matte
from vera.core.layer.outputs.output import Formats, FrameOutput, Output
from vera.core.layer.outputs.png import Png
from vera.core.layer.outputs.prores import ProRes
from vera.core.layer.outputs.split import SPLIT_FILES, SPLIT_PARTS

EDIT, COMPOSITE = EditExr(), Composite()
STANDARD_OUTPUTS: tuple[Output, ...] = (EDIT, COMPOSITE)  # of every delivery
EXTRA_OUTPUTS: tuple[Output, ...] = (ProRes(), Png(), Matte())  # by the recipe's `also`, in its order
SPLIT_OUTPUTS: dict[str, tuple[Output, ...]] = {"none": (), "files": SPLIT_FILES, "parts": SPLIT_PARTS}
ALL_OUTPUTS = (*STANDARD_OUTPUTS, *EXTRA_OUTPUTS, *SPLIT_FILES)
FRAME_FOLDERS = tuple(output.folder for output in ALL_OUTPUTS if isinstance(output, FrameOutput))


def outputs_of(formats: Formats) -> tuple[Output, ...]:
    """The outputs of a delivery in these formats, in the table's order."""
    extra = (output for output in EXTRA_OUTPUTS if output.name in formats.extra_outputs)
    return (*STANDARD_OUTPUTS, *extra, *SPLIT_OUTPUTS[formats.split])
