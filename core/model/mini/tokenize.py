"""How mini parts a prompt into words. Without torch, for Blender's Python."""

import re


def tokenize(text: str) -> list[str]:
    """Lower-case words; punctuation and hyphens part them."""
    return re.findall(r"[a-z]+", text.lower())
