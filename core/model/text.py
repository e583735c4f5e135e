"""Encode the instruction for full-size models, with Wan's tokenizer and UMT5 encoder."""

import html
from typing import Any

import torch
from torch import Tensor

from vera.core.errors import InputError
from vera.core.model.named import Finish, Subject


class WanText:
    """encode(prompts) -> (B, max_length, width), zero past each prompt's end, as Wan was trained.

    States keep the encoder's type and device. tokenizer and encoder are transformers'
    (T5 tokenizer, UMT5EncoderModel).
    """

    def __init__(self, tokenizer: Any, encoder: Any, max_length: int = 512):
        self.tokenizer, self.encoder, self.max_length = tokenizer, encoder.eval(), max_length
        self.width = encoder.config.d_model

    def check(self, prompt: str, anyway: bool = False) -> list[str]:
        """No warnings: the vocabulary is open, so `anyway` has no effect.

        Raises InputError for a prompt of more than max_length tokens, because truncation would change its meaning.
        """
        self._rows([prompt])
        return []

    def asks_for_people(self, prompt: str) -> bool:
        """False: a full-size model itself separates people from their background."""
        return False

    def in_front(self, prompt: str) -> Subject | None:
        """None: a full-size model knows by itself what stands in front."""
        return None

    def finish(self, prompt: str) -> Finish | None:
        """None: the states tell it."""
        return None

    def _rows(self, prompts: list[str]) -> list[list[int]]:
        rows = self.tokenizer([clean(p) for p in prompts], add_special_tokens=True).input_ids
        for prompt, row in zip(prompts, rows):
            if len(row) > self.max_length:
                raise InputError(
                    f"prompt '{prompt[:40]}...': {len(row)} tokens, the model reads {self.max_length}; shorten it"
                )
        return rows

    @torch.no_grad()
    def encode(self, prompts: list[str]) -> Tensor:
        """States (B, max_length, width). Raises InputError as check() does."""
        rows = self._rows(prompts)
        ids = torch.full((len(rows), self.max_length), self.tokenizer.pad_token_id)
        mask = torch.zeros_like(ids)
        for i, row in enumerate(rows):
            ids[i, : len(row)] = torch.tensor(row)
            mask[i, : len(row)] = 1
        device = self.encoder.device
        ids, mask = ids.to(device), mask.to(device)
        states = self.encoder(ids, mask).last_hidden_state
        return torch.where(mask[..., None].bool(), states, 0)


def clean(prompt: str) -> str:
    """The prompt with HTML entities resolved (twice, as Wan does) and runs of white space replaced by one space.

    Wan's pipeline also repairs broken Unicode if ftfy is installed. This is left out, so that a prompt means the same
    on every machine.
    """
    return " ".join(html.unescape(html.unescape(prompt)).split())
