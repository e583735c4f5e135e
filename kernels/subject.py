"""Recover a kept subject's own colour where the old background shows through it."""

import torch

from vera.kernels.native_module import native as _native
from vera.kernels.planes import pull_push, smoothstep

# Share from which a pixel's colour counts as that of the subject, or of the background, alone; its weight is 1 at 1.
MIN_SHARE = 0.9
# Plate pixels around the translucent part in which the two colours are searched.
SEARCH_MARGIN = 96


def free_subject(
    edit: torch.Tensor, alpha: torch.Tensor, kept: torch.Tensor, plate: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """The layer that shows the subject over the new background without the old one.

    The plate is S = m F + (1 - m) B with the subject's matte m = 1 - alpha. The unchanged layer over it gives a E + m
    S, which still contains m (1 - m) B of the old background B. So F and B are extended into the translucent part from
    where each is alone, S is divided between them (of the unexplained rest F gets m and B the remainder), and the layer
    is computed again so that it gives a E + m F over S. Where no straight colour in [0, 1] does that, alpha rises as
    little as possible.

    edit: (H, W, 3), straight colour E
    alpha: (H, W)
    kept: (H, W), weight of the correction
    plate: (H, W, 3), S
    All are float32 tensors in [0, 1], encoded, on one device. Mixtures are of encoded values, as in the model's
    composite. Returns edit and alpha, bit for bit unchanged where alpha is 0 or 1 or kept is 0.
    """
    mixed = (kept > 0) & (alpha > 0) & (alpha < 1)
    rows, columns = (mixed.any(d).nonzero()[:, 0] for d in (1, 0))
    if not len(rows):
        return edit, alpha
    box = tuple(slice(max(0, int(x[0]) - SEARCH_MARGIN), int(x[-1]) + 1 + SEARCH_MARGIN) for x in (rows, columns))
    parts = (edit[box].contiguous(), alpha[box].contiguous(), kept[box].contiguous(), plate[box].contiguous())
    edit, alpha = edit.clone(), alpha.clone()
    edit[box], alpha[box] = _free(*parts)
    return edit, alpha


def _free(edit, alpha, kept, plate):
    if _native is None or plate.is_cuda:
        return reference(edit, alpha, kept, plate)
    edit, alpha = edit.clone(), alpha.clone()
    _native.free_subject(edit.numpy(), alpha.numpy(), kept.numpy(), plate.numpy())
    return edit, alpha


def reference(
    edit: torch.Tensor, alpha: torch.Tensor, kept: torch.Tensor, plate: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """`free_subject` of one box, in plain torch, on any device."""
    a, s, k = alpha[..., None], plate, kept[..., None]
    m = 1 - a
    subject, behind = (_carried(s, share) for share in (m, a))
    own = (subject + m * (s - m * subject - a * behind)).clamp(0, 1)
    composite = a * edit + m * (s + k * (own - s))
    room = torch.where(composite < s, s, 1 - s).clamp_min(1e-6)
    raised = torch.maximum(a, ((composite - s).abs() / room).amax(-1, keepdim=True)).clamp_max(1)
    freed = ((composite - (1 - raised) * s) / raised.clamp_min(1e-6)).clamp(0, 1)
    mixed = (k > 0) & (a > 0) & (a < 1)
    return torch.where(mixed, freed, edit), torch.where(mixed, raised, a)[..., 0]


def _carried(plate, share):
    trust = smoothstep(share.movedim(-1, 0)[None], MIN_SHARE, 1)
    return pull_push(plate.movedim(-1, 0)[None], trust)[0].movedim(0, -1)
