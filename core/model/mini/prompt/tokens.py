"""Split a prompt into tokens: words and numbers of any script, punctuation marks, and breaks between its parts."""

import unicodedata
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from vera.core.model.mini import words as world
from vera.core.model.mini.prompt import senses
from vera.core.model.mini.tokenize import tokenize

if TYPE_CHECKING:
    from vera.core.model.mini.prompt.phrases import Span

SILENT_MARKS = frozenset("\"'`´‘’“”„«»()[]{}-–—_/\\*")  # marks that separate words and have no meaning
BREAKS = frozenset(".,;:!?…。，、；：！？¿¡\n")
AND = frozenset("&+")
SILENT = ""  # replaces a word that belongs to another one: the "of" of "a lot of"
# Nouns with the ending of a participle, an adjective or an adverb.
THINGS_LIKE_ACTS = frozenset(
    "building painting ceiling clothing pudding drawing earring wedding lightning frosting icing stocking filling"
    " stuffing covering lining crossing morning evening railing bed hundred seed weed reed breed jelly belly lily"
    " family trolley ally bully assembly".split()
)
MAX_QUOTED = 24  # characters of one word in a message
MAX_NAMED = 100  # characters of all words in one message


def words_in(*texts: str) -> frozenset[str]:
    """All words of the texts."""
    return frozenset(word for text in texts for word in tokenize(text))


VERBS = words_in(*world.VERBS) | frozenset(senses.ADDING) | senses.CHANGING | {"keep"}
# Words between a verb or the word "background" and its object.
LINKS = frozenset(["to", "into", "with", "by", "for", "as", "a", "an", "the", "be", "look", "like", "show", "is", "of"])


@dataclass(eq=False)
class Token:
    """One token of a prompt.

    raw: its text in lower case
    base: the vocabulary's form of it; None for an unknown word
    starts: whether a clause begins with it
    span: the phrase of the model's world to which it belongs, or None
    dropped: whether the model does not get it
    aside: whether it is part of an aside, see `Parsed`
    kept: whether it only asks to keep what an addition keeps anyway
    """

    raw: str
    is_break: bool = False
    starts: bool = False
    base: str | None = None
    span: "Span | None" = field(default=None, repr=False)
    dropped: bool = False
    aside: bool = False
    kept: bool = False

    @property
    def is_verb(self) -> bool:
        return self.raw in VERBS and self.span is None

    @property
    def is_preposition(self) -> bool:
        """Whether the token is a preposition outside of all phrases of the model's world."""
        return self.raw in senses.PREPOSITIONS and self.span is None

    @property
    def is_count(self) -> bool:
        return self.raw in senses.COUNTS or (self.raw.isdecimal() and self.raw != "1")

    @property
    def is_word(self) -> bool:
        """Whether the token is a word, not a mark or a number."""
        return any(character.isalpha() for character in self.raw)

    @property
    def is_act(self) -> bool:
        """Whether its ending may be that of a participle, adjective or adverb: "popping", "striped", "slightly"."""
        stems = [self.raw.removesuffix(ending) for ending in ("ing", "ed", "ly") if self.raw.endswith(ending)]
        return any(set(stem) & set("aeiouy") for stem in stems) and self.raw not in THINGS_LIKE_ACTS

    @property
    def is_negation(self) -> bool:
        below_zero = self.raw[:1] == "-" and self.raw[1:].isdecimal()
        lacking = self.raw.endswith("less") and len(self.raw) > len("less") and self.raw not in senses.NOT_LACKING
        return self.raw in senses.NEGATIONS or self.raw.endswith(("n't", "n’t")) or below_zero or lacking

    @property
    def parts(self) -> bool:
        """Whether a noun phrase ends before the token, as at a break or a conjunction."""
        return self.is_break or self.raw in senses.CONJUNCTIONS

    @property
    def is_read(self) -> bool:
        """Whether the reader understands the token, in the vocabulary or not."""
        known = self.raw in senses.FILLERS or self.raw in senses.CONJUNCTIONS or self.raw in senses.BACKGROUND
        return known or self.is_verb or self.is_count or self.raw in LINKS or self.raw in (SILENT, "1", "away")

    @property
    def is_unknown(self) -> bool:
        return not (self.is_break or self.dropped or self.is_read) and self.base is None

    @property
    def says_something(self) -> bool:
        """Whether the word is known and has a meaning of its own: no article, no preposition."""
        empty = self.raw in senses.PREPOSITIONS or self.raw in senses.ARTICLES or self.raw in senses.CONJUNCTIONS
        return (self.base is not None or self.is_verb) and not empty


def read_tokens(prompt: str, base: Callable[[str], str | None]) -> list[Token]:
    """The prompt's tokens; base gives the vocabulary's form of a word."""
    tokens = _with_keep(_said_otherwise(list(_split(prompt))))
    starts = True
    for token in tokens:
        token.starts = starts and not token.is_break
        token.base = None if token.is_break else base(token.raw)
        filler = token.raw in senses.FILLERS or token.raw in ("please", "to")
        starts = token.parts or (starts and filler)
    return tokens


def forms_of(word: str) -> Iterator[str]:
    """The word itself, then its possible base forms and other spellings, the most likely first."""
    yield word
    if word in senses.RESPELLED:
        yield senses.RESPELLED[word]
    yield singular(word)
    stem = word.removesuffix("s")
    if len(stem) < 3:
        return
    yield stem
    for ending in ("ing", "y", "ed"):
        yield stem + ending
        yield stem.removesuffix("e") + ending
    yield singular(word) + "ing"
    for ending in ("ing", "ed", "ily", "ly", "er") if len(word) > 5 else ():
        if word.endswith(ending):
            short = word.removesuffix(ending)
            yield from (short, short + "e", short + "y", short + "ing")
            if short[-2:-1] == short[-1:]:  # running: run
                yield short[:-1]


def singular(word: str) -> str:
    """The word without a plural ending."""
    for plural, one in (("ies", "y"), ("ves", "f"), ("xes", "x"), ("shes", "sh"), ("ches", "ch"), ("s", "")):
        if word.endswith(plural) and len(word) > len(plural) + 1 and not word.endswith("ss"):
            return word.removesuffix(plural) + one
    return word


def quoted(tokens: Iterable[Token]) -> str:
    """Words for a message: each once, in quotes, up to MAX_NAMED characters, then the number of the others."""
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
        kind = unicodedata.category(character)[0]  # L letters, M combining marks, N numbers, P and S punctuation
        apostrophe = character in "'’" and word[-1:].isalpha() and text[i + 1].isalpha()
        decimal = character in ".," and word[-1:].isdecimal() and text[i + 1].isdecimal()
        if kind in "LN" or apostrophe or decimal or (kind == "M" and word):
            word += character
            continue
        if word:
            yield Token(_without_ending(word))
            word = ""
        if character == "-" and text[i + 1].isdecimal() and text[i - 1 : i].isspace():
            word = character  # a number below zero
            continue
        if character in BREAKS:
            yield Token(character, is_break=True)
        elif character in AND:
            yield Token("and")
        elif kind in "PS" and character not in SILENT_MARKS:
            yield Token(character)


def _without_ending(word: str) -> str:
    """rabbit's -> rabbit, I'd -> I."""
    stem, mark, ending = word.replace("’", "'").rpartition("'")
    return stem if mark and ending in ("s", "d", "ll", "m", "re", "ve") else word


def _said_otherwise(tokens: list[Token]) -> list[Token]:
    """The tokens, with expressions of several words replaced by their single word."""
    read: list[Token] = []
    i = 0
    while i < len(tokens):
        for length in range(min(_LONGEST, len(tokens) - i), 1, -1):
            part = tokens[i : i + length]
            word = senses.SAID_OTHERWISE.get(text_of(part))
            moved = word == "still" and _is_thing(tokens[i + length :])  # "not moving the dancer"
            if word is not None and not moved:
                read += [Token(word)] if word else []
                i += length
                break
        else:
            read.append(tokens[i])
            i += 1
    return read


_LONGEST = max(len(ways.split()) for ways in senses.SAID_OTHERWISE)


def _is_thing(tokens: list[Token]) -> bool:
    """Whether these tokens begin with something that is already in the plate: "the dancer", "anything"."""
    there = senses.ARTICLES | senses.THERE_ALREADY | senses.BACKGROUND | frozenset(world.SUBJECTS)
    return any(token.raw in there or token.raw.startswith("any") for token in tokens[:1])


def _with_keep(tokens: list[Token]) -> list[Token]:
    """ "don't touch the dancer" -> "keep the dancer"."""
    kept: list[Token] = []
    while tokens:
        touching = [k for k, token in enumerate(tokens[1:3], 1) if token.raw in senses.TOUCHING]
        if tokens[0].is_negation and touching and _is_thing(tokens[touching[0] + 1 :]):
            if kept and kept[-1].raw == "do":
                kept.pop()
            kept.append(Token("keep"))
            tokens = tokens[touching[0] + 1 :]
        else:
            kept.append(tokens[0])
            tokens = tokens[1:]
    return kept
