"""Read a prompt for mini: every token is read or named in a note, and impossible edits are refused. Without torch.

    text -> tokens -> phrases of the model's world -> parsed -> refusals
                                                             -> given: words for the model, and notes

One prompt asks for one edit: an object, an effect, or another background. A prompt in a form of the training data
reaches the model unchanged.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

from vera.core.errors import InputError
from vera.core.model.mini.prompt.model_prompt import ModelPrompt
from vera.core.model.mini.prompt.parsed import Parsed
from vera.core.model.mini.prompt.phrases import phrases_of
from vera.core.model.mini.prompt.refusals import impossible, not_known

MAX_WORDS = 32  # largest number of words that the model can read


@dataclass(frozen=True)
class Reading:
    """How a prompt is read.

    words: for the model
    notes: messages about words that were left out
    impossible: message if the model cannot do it, or None
    not_known: message if the model does not know a word that it can leave out, or None
    background: whether the prompt asks for another background
    behind: subject of the plate behind which the thing is put, or None
    finish: word for colour or material that `words` only approximate, or None
    """

    words: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    impossible: str | None = None
    not_known: str | None = None
    background: bool = False
    behind: str | None = None
    finish: str | None = None

    def check(self, anyway: bool) -> list[str]:
        """The notes. Raises InputError; with `anyway`, unknown words become a note."""
        if self.impossible:
            raise InputError(f"prompt: {self.impossible}")
        if self.not_known and not (anyway and self.words):
            more = "; --anyway goes on without it" if self.words else ""
            raise InputError(f"prompt: {self.not_known}{more}")
        return [*self.notes, *([self.not_known] if self.not_known else [])]


class PromptReader:
    """Reads prompts for a model with this vocabulary."""

    def __init__(self, vocabulary: Iterable[str]):
        self.vocabulary = frozenset(vocabulary)
        self.phrases = phrases_of(self.vocabulary)

    def read(self, prompt: str) -> Reading:
        """How the prompt is read. Raises nothing: refusals are fields of the result."""
        parsed = Parsed(prompt, self.vocabulary, self.phrases)
        refusal = impossible(parsed)
        if refusal:
            return Reading(impossible=refusal)
        missing = not_known(parsed)
        if not any(token.says_something for token in parsed.words):
            return Reading(not_known=missing)
        given = ModelPrompt(parsed)
        if len(given.words) > MAX_WORDS:
            missing = missing or f"mini reads {MAX_WORDS} words, these are {len(given.words)}; shorten it"
        words = given.words[:MAX_WORDS]
        return Reading(words, given.notes, None, missing, parsed.background is not None, parsed.behind, given.finish)
