"""Split a prompt into words. This module does not load torch, for Blender's Python."""

import re


def tokenize(text: str) -> list[str]:
    """The prompt's words in lower case, separated by white space, punctuation and hyphens."""
    return re.findall(r"[a-z]+", text.lower())
