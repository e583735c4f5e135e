"""Names of Wan2.1's parameters in the original release, in diffusers, and in a Vera.

NAMES has all differences between the first two. Note norm2 and norm3: the original numbers the norms in the order of
declaration, diffusers in the order of use. So cross-attention's norm is norm3 in the original and norm2 in diffusers.
"""

import re
from collections.abc import Collection

from vera.core.errors import InputError
from vera.core.model.config import BRANCHES
from vera.core.model.tensors import listed

# (original release, diffusers); {} is the block's number, `.weight` and `.bias` follow.
NAMES = (
    ("patch_embedding", "patch_embedding"),
    ("text_embedding.0", "condition_embedder.text_embedder.linear_1"),
    ("text_embedding.2", "condition_embedder.text_embedder.linear_2"),
    ("time_embedding.0", "condition_embedder.time_embedder.linear_1"),
    ("time_embedding.2", "condition_embedder.time_embedder.linear_2"),
    ("time_projection.1", "condition_embedder.time_proj"),
    ("blocks.{}.self_attn.q", "blocks.{}.attn1.to_q"),
    ("blocks.{}.self_attn.k", "blocks.{}.attn1.to_k"),
    ("blocks.{}.self_attn.v", "blocks.{}.attn1.to_v"),
    ("blocks.{}.self_attn.o", "blocks.{}.attn1.to_out.0"),
    ("blocks.{}.self_attn.norm_q", "blocks.{}.attn1.norm_q"),
    ("blocks.{}.self_attn.norm_k", "blocks.{}.attn1.norm_k"),
    ("blocks.{}.norm3", "blocks.{}.norm2"),
    ("blocks.{}.cross_attn.q", "blocks.{}.attn2.to_q"),
    ("blocks.{}.cross_attn.k", "blocks.{}.attn2.to_k"),
    ("blocks.{}.cross_attn.v", "blocks.{}.attn2.to_v"),
    ("blocks.{}.cross_attn.o", "blocks.{}.attn2.to_out.0"),
    ("blocks.{}.cross_attn.norm_q", "blocks.{}.attn2.norm_q"),
    ("blocks.{}.cross_attn.norm_k", "blocks.{}.attn2.norm_k"),
    ("blocks.{}.ffn.0", "blocks.{}.ffn.net.0.proj"),
    ("blocks.{}.ffn.2", "blocks.{}.ffn.net.2"),
    ("blocks.{}.modulation", "blocks.{}.scale_shift_table"),
    ("head.head", "proj_out"),
    ("head.modulation", "scale_shift_table"),
)
TO_ORIGINAL = {diffusers: original for original, diffusers in NAMES}

# Parameters of Vera that Wan does not have; they start from zeros.
NEW_PARAMETERS = ("source_embedding", "mask_embedding", "layer_embedding")

# Prefixes that other tools add to all names of a file, longest first.
PREFIXES = ("model.diffusion_model.", "diffusion_model.", "model.")

ONLY_T2V = "; only Wan2.1 text-to-video (T2V) checkpoints are taken"


def detect_layout(names: Collection[str]) -> str:
    """The layout, "diffusers" or "original", by the name of the self-attention. Raises InputError for neither."""
    for layout, attention in (("diffusers", "attn1"), ("original", "self_attn")):
        if any(name.startswith(f"blocks.0.{attention}.") for name in names):
            return layout
    raise InputError(
        f"these tensor names are neither the original release's of Wan nor diffusers': {listed(names)}" + ONLY_T2V
    )


def is_vera(names: Collection[str]) -> bool:
    """Whether these are the names of a Vera's parameters."""
    return any(name.startswith(f"blocks.0.{branch}.") for name in names for branch in BRANCHES)


def checkpoint_name(name: str, layout: str) -> str:
    """The name of a tensor in a checkpoint of `layout`, from its diffusers name."""
    if layout == "diffusers":
        return name
    match = re.fullmatch(r"(?:blocks\.(\d+)\.)?(.*?)((?:\.weight|\.bias)?)", name)
    assert match is not None  # each of its parts may be empty
    block, stem, leaf = match.groups()
    pattern = stem if block is None else "blocks.{}." + stem
    return TO_ORIGINAL.get(pattern, pattern).format(block) + leaf


def wan_name(name: str) -> str | None:
    """The diffusers name of the Wan tensor that a Vera parameter starts from; None for new parameters."""
    if name.startswith(NEW_PARAMETERS):
        return None
    if name.startswith("shared."):
        return name.replace("shared", "condition_embedder", 1)
    return re.sub(rf"^(blocks\.\d+\.)?(?:{'|'.join(BRANCHES)})\.", lambda m: m.group(1) or "", name)
