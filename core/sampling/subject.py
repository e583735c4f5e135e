"""Whom a new background leaves as filmed, where no mask tells: people, found in the plate.

The embedded model does not know a real person from what is behind. People are proposed to it as a mask would; its
own alpha, refined by the plate, is still what is delivered.
"""

from collections.abc import Callable, Sequence

import torch

from vera.core.errors import InputError
from vera.core.model.people import load_people
from vera.core.plate.fit import shrink

# So many frames, evenly over the plate, are looked at before work starts. More find a person who comes late.
LOOKED_AT = 5
# A person covers at least this share of the frame; smaller ones are specks of texture as often as people.
LEAST_AREA = 0.02
# Of what is more a person than not, this share is surely one. What is no person, an animal or a puppet, is found in
# pieces: rabbit 0.70 to 0.78, walkers far away 0 to 0.38, people near the camera 0.90 to 0.96.
LEAST_SURE = 0.85

PEOPLE_KEPT = (
    "no mask was given for the new background: the people found in the plate are kept; for another subject give --mask,"
    " white where the background is; --mask none lets the model decide"
)


def refuse_nobody(frames: Sequence[int], picture: Callable[[int], torch.Tensor]) -> None:
    """Raise InputError unless people near the camera are found. picture(frame): (H, W, 3), encoded, in [0, 1]."""
    step = max(1, -(-len(frames) // LOOKED_AT))
    looked_at = frames[::step]
    found = torch.stack([people_in(picture(frame)) for frame in looked_at])
    person, sure = ((found > level).float().mean().item() for level in (0.5, 0.9))
    if person < LEAST_AREA or sure < LEAST_SURE * person:
        numbers = ", ".join(map(str, looked_at))
        raise InputError(
            f"mask: none was given for the new background, and no person was found to keep (frames {numbers}); give"
            " --mask, white where the background is, or --mask none to let the model decide"
        )


@torch.inference_mode()
def people_in(picture: torch.Tensor) -> torch.Tensor:
    """How sure each pixel of (H, W, 3) is somebody's, (h, w) in [0, 1] at the size that the network sees."""
    return load_people()(shrink(picture, 256, 256)[None])[0, 0]


def background_of(picture: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """The mask (h, w) of a background behind the people in (H, W, 3), at `size` (width, height): 1 is background."""
    return 1 - shrink(people_in(picture)[..., None], *size)[0]
