"""mini's text encoder: a small vocabulary, words embedded, met with their neighbours, and mixed by two attention
layers.

It is trained together with the transformer and follows the contract of text.py.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vera.core.model.functional import zero_init
from vera.core.model.mini.prompt.reader import MAX_WORDS, PromptReader
from vera.core.model.transformer import sinusoids

PAD = 0


class MiniText(nn.Module):
    """encode(prompts) -> states (B, 32, dim); positions past the prompt are zeros."""

    def __init__(self, words: list[str], dim: int = 192, layers: int = 2, heads: int = 6):
        super().__init__()
        self.words = list(words)
        self.index = {w: i + 2 for i, w in enumerate(self.words)}
        self.reader = PromptReader(self.words)
        self.embedding = nn.Embedding(len(self.words) + 2, dim)  # number 1 was for unknown words, and is used by none
        # "Drifting left" and "on the left": what a word means depends on the one before it.
        self.neighbours = zero_init(nn.Conv1d(dim, dim, 3, padding=1))
        self.layers = nn.ModuleList(TextLayer(dim, heads) for _ in range(layers))
        self.norm = nn.LayerNorm(dim)

    def check(self, prompt: str, anyway: bool = False) -> list[str]:
        """Warnings about a prompt: every word that counts for nothing is named.

        Raises InputError for what this model cannot do, and for what it does not know unless anyway.
        """
        return self.reader.read(prompt).check(anyway)

    def asks_for_people(self, prompt: str) -> bool:
        """Whether the people in the plate have to be told where there is no mask: before another background."""
        return self.reader.read(prompt).background

    def words_of(self, prompt: str) -> list[str]:
        """The words of a prompt that the model is given."""
        return self.reader.read(prompt).words

    def ids(self, prompts: list[str]) -> Tensor:
        """(B, MAX_WORDS) numbers of words, PAD past each prompt's end; only words that the model knows have one."""
        rows = [[self.index[w] for w in self.reader.read(p).words] for p in prompts]
        return torch.tensor([r + [PAD] * (MAX_WORDS - len(r)) for r in rows], device=self.embedding.weight.device)

    def encode(self, prompts: list[str]) -> Tensor:
        """States (B, MAX_WORDS, dim) of instructions."""
        return self(self.ids(prompts))

    def forward(self, ids: Tensor) -> Tensor:
        """ids (B, MAX_WORDS) -> states (B, MAX_WORDS, dim)."""
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
    """Self-attention and a feed-forward, each behind a norm."""

    def __init__(self, dim: int, heads: int):
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.qkv, self.out = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)
        self.up, self.down = nn.Linear(dim, 4 * dim), nn.Linear(4 * dim, dim)

    def forward(self, x: Tensor, seen: Tensor) -> Tensor:
        """x (B, N, dim); seen: which positions are attended to, broadcast over (B, heads, N, N)."""
        q, k, v = (y.unflatten(-1, (self.heads, -1)).transpose(1, 2) for y in self.qkv(self.norm1(x)).chunk(3, dim=-1))
        attended = F.scaled_dot_product_attention(q, k, v, attn_mask=seen)
        x = x + self.out(attended.transpose(1, 2).flatten(2))
        return x + self.down(F.gelu(self.up(self.norm2(x))))
