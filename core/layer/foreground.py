"""The layer's own colour at its edges, where the decoder mixed it with what lay outside."""

import torch

from vera.kernels.planes import dilate, pull_push, smoothstep

# Coverage below which a colour is not worked back from its mixture: that would multiply noise.
LEAST_SHARE = 0.25
# What counts as outside of the layer, to learn what was mixed in.
OUTSIDE = (0.01, 0.05)
# How far, in pixels, colour is carried outward, and how sharply a pixel is trusted by its share of alpha. First
# only to tell what the decoder mixed: from the solid inside, as far as motion blur reaches. What is delivered is
# carried less far, so that an object does not tint the shadow beside it.
INSIDE, EDGE = (8, 16), (3, 4)


def clean_color(edit: torch.Tensor, alpha: torch.Tensor) -> torch.Tensor:
    """Straight colour (3, h, w) freed from the tint of its surroundings, carried past the layer's edge.

    edit in [0, 1], alpha (h, w) in [0, 1]. Just inside an edge a decoder gives E = t F + (1 - t) O: the
    layer's colour F mixed with O, whatever it drew outside, and the share t is about alpha. O is seen
    outside and carried in; then F = (E - (1 - t) O) / t. Where the decoder kept colour and alpha apart, E
    lies near the cleaned colour already: t is the larger of alpha and of E's place on the way from O to
    that. Last, colour is carried outward, so that an edge lies over a colour of the layer.
    """
    a = alpha[None]
    outside = pull_push(edit[None], (1 - smoothstep(a, *OUTSIDE))[None])[0]
    cleaned = extend_color(_without(outside, edit, a), alpha, *INSIDE)
    way = cleaned - outside
    along = ((edit - outside) * way).sum(0, keepdim=True) / (way * way).sum(0, keepdim=True).clamp_min(1e-3)
    return extend_color(_without(outside, edit, torch.maximum(a, along)), alpha)


def extend_color(edit: torch.Tensor, alpha: torch.Tensor, reach: int = EDGE[0], power: int = EDGE[1]) -> torch.Tensor:
    """Straight colour (3, h, w) carried outward past the layer's edge.

    A pixel is trusted by its alpha beside the largest within `reach`, to the given power; where trust
    lacks, colour comes from a pyramid of trusted means (pull-push). The inside of a translucent layer
    is its neighbours' equal and stays.
    """
    planes, a = edit[None], alpha[None, None]
    trust = (a / dilate(a, reach).clamp_min(1e-4)).clamp(0, 1) ** power
    return pull_push(planes, torch.where(a > 0.02, trust, 0.0))[0]


def _without(outside, edit, share):
    share = share.clamp(LEAST_SHARE, 1)
    return ((edit - (1 - share) * outside) / share).clamp(0, 1)
