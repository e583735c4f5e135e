"""mini's text encoder: a small vocabulary, words embedded, met with their neighbours, and mixed by two attention layers.

It is trained together with the transformer and follows the contract of text.py.
"""

import torch
import torch.nn.functional as F
from torch import nn

from vera.core.model.mini.tokenize import tokenize
from vera.core.model.functional import zero_init
from vera.core.model.transformer import sinusoids

PAD, UNKNOWN = 0, 1
MAX_WORDS = 32


class MiniText(nn.Module):
    """encode(prompts) -> states (B, 32, dim); positions past the prompt are zeros."""

    def __init__(self, words: list[str], dim: int = 192, layers: int = 2, heads: int = 6):
        super().__init__()
        self.words = list(words)
        self.index = {w: i + 2 for i, w in enumerate(self.words)}
        self.embedding = nn.Embedding(len(self.words) + 2, dim)
        # "Drifting left" and "on the left": what a word means hangs on the one before it.
        self.neighbours = zero_init(nn.Conv1d(dim, dim, 3, padding=1))
        self.layers = nn.ModuleList(TextLayer(dim, heads) for _ in range(layers))
        self.norm = nn.LayerNorm(dim)

    def unknown_words(self, prompt: str) -> list[str]:
        """Words that this model never saw, in the prompt's order, each once."""
        return list(dict.fromkeys(w for w in tokenize(prompt) if w not in self.index))

    def check(self, prompt: str) -> list[str]:
        """Warnings about a prompt: words outside the vocabulary, words past the limit."""
        notes, unknown = [], self.unknown_words(prompt)
        if unknown:
            notes.append(f"mini does not know {', '.join(repr(w) for w in unknown)} and leaves it out")
        count = len(tokenize(prompt))
        if count > MAX_WORDS:
            notes.append(f"mini reads the first {MAX_WORDS} of the prompt's {count} words")
        return notes

    def ids(self, prompts: list[str]) -> torch.Tensor:
        rows = [[self.index.get(w, UNKNOWN) for w in tokenize(p)][:MAX_WORDS] for p in prompts]
        return torch.tensor([r + [PAD] * (MAX_WORDS - len(r)) for r in rows], device=self.embedding.weight.device)

    def encode(self, prompts: list[str]) -> torch.Tensor:
        return self(self.ids(prompts))

    def forward(self, ids):
        there = ids != PAD
        x = self.embedding(ids)
        x = x + 0.1 * sinusoids(torch.arange(ids.shape[1], device=ids.device), x.shape[-1]).to(x.dtype)
        x = x + self.neighbours((x * there[..., None]).transpose(1, 2)).transpose(1, 2)
        # An empty prompt has nothing to attend to: let it see its padding, then zero it.
        seen = (there | ~there.any(1, keepdim=True))[:, None, None]
        for layer in self.layers:
            x = layer(x, seen)
        return self.norm(x) * there[..., None]


class TextLayer(nn.Module):
    def __init__(self, dim: int, heads: int):
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.qkv, self.out = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)
        self.up, self.down = nn.Linear(dim, 4 * dim), nn.Linear(4 * dim, dim)

    def forward(self, x, seen):
        q, k, v = (
            y.unflatten(-1, (self.heads, -1)).transpose(1, 2) for y in self.qkv(self.norm1(x)).chunk(3, dim=-1)
        )
        attended = F.scaled_dot_product_attention(q, k, v, attn_mask=seen)
        x = x + self.out(attended.transpose(1, 2).flatten(2))
        return x + self.down(F.gelu(self.up(self.norm2(x))))
