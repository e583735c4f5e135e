"""mini's text encoder: a small vocabulary, word embeddings, a convolution over neighbours, and two attention layers.

It is trained together with the transformer and implements `Text` (core/model/interfaces.py).
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vera.core.model.functional import zero_init
from vera.core.model.mini.finishes import FINISHES
from vera.core.model.mini.prompt.reader import MAX_WORDS, PromptReader
from vera.core.model.mini.prompt.senses import PEOPLE
from vera.core.model.named import Finish, Subject
from vera.core.model.transformer import sinusoids

PAD = 0


class MiniText(nn.Module):
    """encode(prompts) -> states (B, 32, dim); positions past the prompt are zeros."""

    def __init__(self, words: list[str], dim: int = 192, layers: int = 2, heads: int = 6):
        super().__init__()
        self.words = list(words)
        self.index = {w: i + 2 for i, w in enumerate(self.words)}
        self.reader = PromptReader(self.words)
        self.embedding = nn.Embedding(len(self.words) + 2, dim)  # number 1 is unused; it stood for unknown words
        # The meaning of a word depends on the one before it: "drifting left", "on the left".
        self.neighbours = zero_init(nn.Conv1d(dim, dim, 3, padding=1))
        self.layers = nn.ModuleList(TextLayer(dim, heads) for _ in range(layers))
        self.norm = nn.LayerNorm(dim)

    def check(self, prompt: str, anyway: bool = False) -> list[str]:
        """Warnings about a prompt, which name every ignored word.

        Raises InputError if the model cannot do it or, unless `anyway`, does not know it.
        """
        return self.reader.read(prompt).check(anyway)

    def asks_for_people(self, prompt: str) -> bool:
        """Whether a job without a mask must first find the people in the plate; see `Text.asks_for_people`."""
        return self.reader.read(prompt).background

    def in_front(self, prompt: str) -> Subject | None:
        """The subject of the plate behind which the prompt puts a thing."""
        name = self.reader.read(prompt).behind
        return None if name is None else Subject(name, name in PEOPLE)

    def finish(self, prompt: str) -> Finish | None:
        """How an added thing is painted, by the word for which the states have the nearest colour only."""
        return FINISHES.get(self.reader.read(prompt).finish or "")

    def words_of(self, prompt: str) -> list[str]:
        """The words of a prompt that are encoded."""
        return self.reader.read(prompt).words

    def ids(self, prompts: list[str]) -> Tensor:
        """Numbers of the known words, (B, MAX_WORDS), and PAD past each prompt's end."""
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
        # An empty prompt attends to its padding, to avoid NaNs, and is set to zero afterwards.
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
