"""A prompt in tokens: words and numbers of any script, marks, and the breaks between its parts."""

import unicodedata
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from vera.core.model.mini import words as world
from vera.core.model.mini.prompt import senses
from vera.core.model.mini.tokenize import tokenize

if TYPE_CHECKING:
    from vera.core.model.mini.prompt.phrases import Span

QUIET = frozenset("\"'`´‘’“”„«»()[]{}-–—_/\\*")  # marks that part words and say nothing
BREAKS = frozenset(".,;:!?…。，、；：！？¿¡\n")
AND = frozenset("&+")
SILENT = ""  # stands for a word that belongs to another one: the "of" of "a lot of"
MAX_QUOTED = 24  # characters of one word in a message
MAX_NAMED = 100  # characters of all words in one message


def words_in(*texts: str) -> frozenset[str]:
    """All words of some texts."""
    return frozenset(word for text in texts for word in tokenize(text))


VERBS = words_in(*world.VERBS) | frozenset(senses.ADDING) | senses.CHANGING | {"keep"}
# Between a verb or the word "background" and what it is about.
LINKS = frozenset(["to", "into", "with", "by", "for", "as", "a", "an", "the", "be", "look", "like", "show", "is", "of"])


@dataclass(eq=False)
class Token:
    """One token. raw: in lower case; base: the vocabulary's form of it, None for another word; starts: whether a clause
    begins with it; span: the phrase of the model's world that it belongs to; dropped: not given to the model."""

    raw: str
    is_break: bool = False
    starts: bool = False
    base: str | None = None
    span: "Span | None" = field(default=None, repr=False)
    dropped: bool = False

    @property
    def is_verb(self) -> bool:
        return self.raw in VERBS and self.span is None

    @property
    def is_preposition(self) -> bool:
        """Whether it begins a phrase that no phrase of the model's world holds."""
        return self.raw in senses.PREPOSITIONS and self.span is None

    @property
    def is_count(self) -> bool:
        return self.raw in senses.COUNTS or (self.raw[:1].isdigit() and self.raw != "1")

    @property
    def is_negation(self) -> bool:
        return self.raw in senses.NEGATIONS or self.raw.endswith(("n't", "n’t"))

    @property
    def parts(self) -> bool:
        """Whether a noun phrase ends before it, as at a break or a conjunction."""
        return self.is_break or self.raw in senses.CONJUNCTIONS

    @property
    def is_read(self) -> bool:
        """Whether it has a sense here, though it may be no word of the vocabulary."""
        known = self.raw in senses.FILLERS or self.raw in senses.CONJUNCTIONS or self.raw in senses.BACKGROUND
        return known or self.is_verb or self.is_count or self.raw in LINKS or self.raw in (SILENT, "1", "away")

    @property
    def is_unknown(self) -> bool:
        return not (self.is_break or self.dropped or self.is_read) and self.base is None

    @property
    def says_something(self) -> bool:
        """Whether the word is known, and more than an article or a preposition."""
        empty = self.raw in senses.PREPOSITIONS or self.raw in senses.ARTICLES or self.raw in senses.CONJUNCTIONS
        return (self.base is not None or self.is_verb) and not empty


def read_tokens(prompt: str, base: Callable[[str], str | None]) -> list[Token]:
    """The prompt's tokens; base gives the vocabulary's form of a word."""
    tokens = _with_keep(list(_split(prompt)))
    starts = True
    for token in tokens:
        token.starts = starts and not token.is_break
        token.base = None if token.is_break else base(token.raw)
        filler = token.raw in senses.FILLERS or token.raw in ("please", "to")
        starts = token.parts or (starts and filler)
    return tokens


def forms_of(word: str) -> Iterator[str]:
    """The word, then what it may be an inflection or another spelling of, likeliest first."""
    yield word
    if word in senses.RESPELLED:
        yield senses.RESPELLED[word]
    yield singular(word)
    stem = word.removesuffix("s")
    for ending in ("", "ing", "y", "ed"):
        yield stem + ending
        yield stem.removesuffix("e") + ending
    for ending in ("ing", "ed", "ily", "ly", "er") if len(word) > 5 else ():
        if word.endswith(ending):
            short = word.removesuffix(ending)
            yield from (short, short + "e", short + "y", short + "ing", short.removesuffix(short[-1:]))


def singular(word: str) -> str:
    """The word without a plural's ending."""
    for plural, one in (("ies", "y"), ("ves", "f"), ("xes", "x"), ("shes", "sh"), ("ches", "ch"), ("s", "")):
        if word.endswith(plural) and len(word) > len(plural) + 1 and not word.endswith("ss"):
            return word.removesuffix(plural) + one
    return word


def quoted(tokens: Iterable[Token]) -> str:
    """Words for a message: each once, in quotes; how many more there are."""
    names = list(dict.fromkeys(f"'{token.raw[:MAX_QUOTED]}'" for token in tokens))
    shown: list[str] = []
    for name in names:
        if sum(map(len, shown)) + len(name) > MAX_NAMED:
            return f"{', '.join(shown)} and {len(names) - len(shown)} more"
        shown.append(name)
    return ", ".join(shown)


def text_of(tokens: Iterable[Token]) -> str:
    """The words as they were typed, for a message."""
    return " ".join(token.raw for token in tokens)[:MAX_NAMED]


def _split(prompt: str) -> Iterator[Token]:
    text = unicodedata.normalize("NFC", prompt).lower() + " "
    word = ""
    for i, character in enumerate(text):
        kind = unicodedata.category(character)[0]  # L letters, M what is set upon them, N numbers, P and S marks
        apostrophe = character in "'’" and word[-1:].isalpha() and text[i + 1].isalpha()
        if kind in "LMN" or apostrophe:
            word += character
            continue
        if word:
            yield Token(_without_ending(word))
            word = ""
        if character in BREAKS:
            yield Token(character, is_break=True)
        elif character in AND:
            yield Token("and")
        elif kind in "PS" and character not in QUIET:
            yield Token(character)


def _without_ending(word: str) -> str:
    """rabbit's -> rabbit, I'd -> I."""
    stem, mark, ending = word.replace("’", "'").rpartition("'")
    return stem if mark and ending in ("s", "d", "ll", "m", "re", "ve") else word


def _with_keep(tokens: list[Token]) -> list[Token]:
    """ "don't touch the dancer" -> "keep the dancer"."""
    kept: list[Token] = []
    while tokens:
        touching = [k for k, token in enumerate(tokens[1:3], 1) if token.raw in senses.TOUCHING]
        if tokens[0].is_negation and touching:
            if kept and kept[-1].raw == "do":
                kept.pop()
            kept.append(Token("keep"))
            tokens = tokens[touching[0] + 1 :]
        else:
            kept.append(tokens[0])
            tokens = tokens[1:]
    return kept
