"""Recover the layer's own colour at its edges, where the decoder mixed it with its surroundings."""

import torch

from vera.kernels.planes import dilate, pull_push, smoothstep

# Coverage below which a colour is not recovered from its mixture, which would amplify noise. Raising it recovers less.
LEAST_SHARE = 0.25
# Alpha of pixels that show the surroundings: wholly below the first value, not at all above the second.
SURROUNDINGS_ALPHA = (0.01, 0.05)
# (reach in pixels, power of alpha as a weight) with which colour is extended outward. INSIDE is used to find the
# mixture: it reaches from the solid inside across motion blur. EDGE is used for the delivered colour: it reaches less
# far, so that an object does not tint the shadow beside it.
INSIDE, EDGE = (8, 16), (3, 4)


def clean_color(edit: torch.Tensor, alpha: torch.Tensor) -> torch.Tensor:
    """Straight colour (3, h, w) without the tint of its surroundings, extended past the layer's edge.

    edit (3, h, w) and alpha (h, w) in [0, 1]. Just inside an edge a decoder gives E = t F + (1 - t) O: it mixes the
    layer's colour F with the surroundings O, and t is about alpha. O is measured outside and extended inward; then
    F = (E - (1 - t) O) / t. If the decoder kept colour and alpha apart, E is already near the recovered colour. So t is
    the larger of alpha and of E's position between O and that colour. Last, the colour is extended outward, so that
    edge pixels have a colour of the layer.
    """
    a = alpha[None]
    outside = pull_push(edit[None], (1 - smoothstep(a, *SURROUNDINGS_ALPHA))[None])[0]
    cleaned = extend_color(_without(outside, edit, a), alpha, *INSIDE)
    way = cleaned - outside
    along = ((edit - outside) * way).sum(0, keepdim=True) / (way * way).sum(0, keepdim=True).clamp_min(1e-3)
    return extend_color(_without(outside, edit, torch.maximum(a, along)), alpha)


def extend_color(edit: torch.Tensor, alpha: torch.Tensor, reach: int = EDGE[0], power: int = EDGE[1]) -> torch.Tensor:
    """Straight colour (3, h, w) extended outward past the layer's edge.

    A pixel's weight is its alpha over the largest within `reach`, to the given power. Where the weight is small, the
    colour comes from a pyramid of weighted means (pull-push). Inside a translucent layer all weights are equal, so the
    colour stays.
    """
    planes, a = edit[None], alpha[None, None]
    trust = (a / dilate(a, reach).clamp_min(1e-4)).clamp(0, 1) ** power
    return pull_push(planes, torch.where(a > 0.02, trust, 0.0))[0]


def _without(outside, edit, share):
    share = share.clamp(LEAST_SHARE, 1)
    return ((edit - (1 - share) * outside) / share).clamp(0, 1)
