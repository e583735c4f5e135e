"""A prompt taken apart: its tokens, its phrases, and what they ask for."""

import difflib
from collections.abc import Iterable, Iterator
from itertools import takewhile

from vera.core.model.mini import words as world
from vera.core.model.mini.prompt import senses
from vera.core.model.mini.prompt.phrases import Phrases, Span, find_spans, preposition_before
from vera.core.model.mini.prompt.tokens import Token, forms_of, read_tokens

CLOSE = 0.8  # likeness from which a word counts as another one misspelt; higher asks for fewer typing errors
MIN_GUESSED = 4  # letters of a word that another one may be misspelt for: shorter ones are like too many


class Parsed:
    """What a prompt says, for a model of some words.

    tokens, spans: see their classes. background: the token from which a new background is named, None where another
    edit is asked for.
    """

    def __init__(self, prompt: str, vocabulary: frozenset[str], phrases: Phrases):
        self.vocabulary = vocabulary
        self.tokens = read_tokens(prompt, self.base)
        self.spans = find_spans(self.tokens, phrases)
        self.background = self._background()

    @property
    def words(self) -> list[Token]:
        """All tokens but breaks."""
        return [token for token in self.tokens if not token.is_break]

    def base(self, word: str) -> str | None:
        """The word as the vocabulary has it, inflections and spellings taken off; None for another one."""
        if word in self.vocabulary:
            return word
        fixed = word in senses.FILLERS or word in senses.COUNTS or word in senses.PREPOSITIONS
        if fixed and word not in senses.RESPELLED:
            return None
        return next((form for form in forms_of(word) if form in self.vocabulary), None)

    def guess(self, word: str) -> str | None:
        """The word of the vocabulary that this one may be misspelt for."""
        likely = [w for w in self.vocabulary if len(w) >= MIN_GUESSED and w[0] == word[:1]]
        likely = sorted(w for w in likely if abs(len(w) - len(word)) <= 1)
        return next(iter(difflib.get_close_matches(word, likely, 1, CLOSE)), None)

    def guesses(self, tokens: Iterable[Token]) -> str:
        """ " (did you mean 'balloon'?)" for the first token that may be misspelt, or ""."""
        for token in tokens:
            guess = self.guess(token.raw) if token.base is None and not token.is_read else None
            if guess:
                return f" (did you mean '{guess}'?)"
        return ""

    def asked_for(self, *kinds: str) -> list[Span]:
        """Phrases of these kinds that are asked for themselves."""
        return [span for span in self.spans if span.phrase.kind in kinds and span.preposition is None]

    def noun_phrase(self, start: int) -> list[Token]:
        """From a token up to the next preposition, conjunction or break."""
        return list(takewhile(lambda t: not (t.parts or t.raw in senses.PREPOSITIONS), self.tokens[start:]))

    def noun_phrases(self) -> Iterator[list[Token]]:
        """Those of what is asked for: without what follows a preposition, parted at conjunctions and verbs."""
        part: list[Token] = []
        for i, token in enumerate(self.tokens):
            begins = token.raw in senses.ARTICLES and i > 0 and self.tokens[i - 1].is_break
            after = self.tokens[i + 1 : i + 2]  # "a dog and a ball", but "a soft and shiny ball"
            joins = token.raw in senses.CONJUNCTIONS and any(t.raw in senses.ARTICLES or t.is_count for t in after)
            if joins or begins or token.is_verb:
                yield part
                part = []
            elif token.span or not (
                token.is_break or token.is_preposition or preposition_before(self.tokens, i) is not None
            ):
                part.append(token)
        yield part

    def is_place(self, i: int) -> bool:
        """Whether "background" at token i is a place: "in the background"."""
        before = [token.raw for token in self.tokens[max(i - 2, 0) : i] if token.raw not in senses.ARTICLES]
        return bool(before) and before[-1] in senses.PREPOSITIONS

    def _background(self) -> int | None:
        named = [i for i, token in enumerate(self.tokens) if token.raw in senses.BACKGROUND and token.span is None]
        for i in named:
            if not self.is_place(i):
                return i + 1
        scenes, others = self.asked_for("scene"), self.asked_for("object", "effect")
        behind = any(span.phrase.kind == "depth" for span in self.spans)
        if scenes and not others and (behind or named):  # "put the sea behind the dancer", "... in the background"
            return scenes[0].start
        if not others and not scenes and any(token.raw in world.SUBJECTS for token in self.tokens):
            return self._background_in_front()
        return None

    def _background_in_front(self) -> int | None:
        """ "Put the dancer in front of the sea": the sea is asked for."""
        for span in self.spans:
            if span.phrase.kind == "scene" and span.preposition is not None:
                between = [token.raw for token in self.tokens[span.preposition : span.start]]
                if [word for word in between if word not in senses.ARTICLES] == ["in", "front", "of"]:
                    span.preposition = None
                    return span.start
        return None
