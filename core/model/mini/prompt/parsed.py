"""A parsed prompt: its tokens, its phrases, and the edit that they ask for."""

import difflib
from collections.abc import Iterable, Iterator
from itertools import pairwise, takewhile

from vera.core.model.mini import words as world
from vera.core.model.mini.prompt import senses
from vera.core.model.mini.prompt.phrases import TARGETS, Phrases, Span, find_spans
from vera.core.model.mini.prompt.tokens import Token, forms_of, read_tokens, words_in

# Similarity in [0, 1] from which a word may be a misspelt known word; raising it tolerates fewer typing errors.
MIN_SIMILARITY = 0.8
MIN_GUESSED = 4  # length in letters of the shortest word that is suggested; shorter ones resemble too many others

# {word: kind of attribute}, of objects and of effects.
OBJECT_ATTRIBUTES = {
    **{color: "color" for color in world.COLORS},
    **{word: "size" for ways in world.SIZES.values() for word in words_in(*ways)},
    **{word: "material" for ways in world.MATERIALS.values() for word in words_in(*ways)},
    **{word: "pace" for word in words_in(*world.PACES.values())},
}
EFFECT_ATTRIBUTES = {word: "amount" for ways in world.AMOUNTS.values() for word in words_in(*ways) - {"a"}}
# Words that may stand beside a thing without naming another one.
_SAID_OF_THINGS = frozenset(
    [
        *OBJECT_ATTRIBUTES,
        *EFFECT_ATTRIBUTES,
        *senses.NEAREST_COLORS,
        *senses.SAME_AS,
        *senses.SAME_AS.values(),
        *senses.MOVING,
        *senses.STANDING_FOR,
        *(word for words in senses.ITS_OWN_WAY.values() for word in words),
    ]
)
_DETERMINERS = senses.ARTICLES | senses.THERE_ALREADY | senses.STANDING_FOR


class Parsed:
    """A prompt, parsed with a model's vocabulary.

    tokens, spans: see their classes
    background: token from which a new background is named; None for another edit
    asides: parts that begin with a preposition and are no phrase of the model's world, such as "next to the lamp post".
        They say where, when or how, and can be left out.
    """

    def __init__(self, prompt: str, vocabulary: frozenset[str], phrases: Phrases):
        self.vocabulary = vocabulary
        self.tokens = read_tokens(prompt, self.base)
        self.spans = find_spans(self.tokens, phrases)
        keeping = list(self._keeping())
        self.background = self._background({i for part in keeping for i in part})
        if self.background is None:
            for i in (i for part in keeping for i in part):
                self.tokens[i].kept = True
        self.asides = list(self._asides())
        for start, end in self.asides:
            for token in self.tokens[start:end]:
                token.aside = True

    @property
    def words(self) -> list[Token]:
        """All tokens but breaks."""
        return [token for token in self.tokens if not token.is_break]

    @property
    def described(self) -> frozenset[str]:
        """The words of the model's world that describe the named backgrounds."""
        scenes = [span.phrase.name for span in self.spans if span.phrase.kind == "scene"]
        return words_in(*(way for name in scenes for way in world.BACKGROUNDS[name]))

    def base(self, word: str) -> str | None:
        """The vocabulary's form of a word: its base form in the vocabulary's spelling; None if there is none."""
        if word in self.vocabulary:
            return word
        fixed = word in senses.FILLERS or word in senses.COUNTS or word in senses.PREPOSITIONS
        if fixed and word not in senses.RESPELLED:
            return None
        return next((form for form in forms_of(word) if form in self.vocabulary and _is_form(word, form)), None)

    def guess(self, word: str) -> str | None:
        """The vocabulary's word that this one may be a misspelling of, or None."""
        likely = [w for w in self.vocabulary if len(w) >= MIN_GUESSED and w[0] == word[:1]]
        likely = sorted(w for w in likely if abs(len(w) - len(word)) <= 1)
        swapped = [w for w in likely if len(w) == len(word) and sorted(w) == sorted(word)]
        return next(iter([*swapped, *difflib.get_close_matches(word, likely, 1, MIN_SIMILARITY)]), None)

    def guesses(self, tokens: Iterable[Token]) -> str:
        """The suffix " (did you mean 'balloon'?)" for the first token that may be misspelt, or ""."""
        for token in tokens:
            word = token.base is None and not token.is_read and token.raw not in senses.NOT_MISSPELT
            guess = self.guess(token.raw) if word else None
            if guess:
                return f" (did you mean '{guess}'?)"
        return ""

    def asked_for(self, *kinds: str) -> list[Span]:
        """Phrases of these kinds that the prompt asks for, not those that only describe another one."""
        return [span for span in self.spans if span.phrase.kind in kinds and span.preposition is None]

    def accompanying(self) -> list[Span]:
        """Further objects and effects that the prompt asks for: the bird of "with a bird next to it", but not that of
        "under the bird", which is already there.
        """
        found = []
        for span in self.spans:
            if span.phrase.kind in ("object", "effect") and span.preposition is not None:
                before = self.tokens[span.preposition : span.start]
                if not any(token.raw in senses.THERE_ALREADY for token in before):
                    found.append(span)
        return found

    def is_kept(self, span: Span) -> bool:
        """Whether a clause asks to keep what a phrase names: "keep the forest"."""
        before = takewhile(lambda token: not token.parts, reversed(self.tokens[: span.start]))
        return next((token.raw for token in before if token.is_verb), "") == "keep"

    def is_strange(self, token: Token) -> bool:
        """Whether a word, taken alone, may name a thing that the model does not know."""
        counted = token.is_break or token.span or token.aside or token.kept or token.dropped or token.is_read
        return not counted and token.raw not in _SAID_OF_THINGS and token.base not in _SAID_OF_THINGS

    def noun_phrase(self, start: int) -> list[Token]:
        """The tokens from one to the next preposition, conjunction or break."""
        return list(takewhile(lambda t: not (t.parts or t.raw in senses.PREPOSITIONS), self.tokens[start:]))

    def noun_phrases(self) -> Iterator[list[Token]]:
        """The noun phrases of the request without asides, separated at verbs, breaks and conjunctions.

        "A big, shiny and red ball" is one; "a dog and a ball", "a kite and zebra" and "a red and a blue ball" are two.
        """
        part: list[Token] = []
        for token, after in pairwise([*self.tokens, Token(".", is_break=True)]):
            listed = bool(part) and not any(is_target(t) or self.is_strange(t) for t in part)
            goes_on = listed and not (after.raw in _DETERMINERS or after.is_count or after.is_verb)
            soft = token.raw == "," or token.raw in senses.CONJUNCTIONS
            if token.span is None and soft and goes_on:
                continue
            if token.parts or token.is_verb or token.aside or token.kept:
                yield part
                part = []
            else:
                part.append(token)
        yield part

    def is_place(self, i: int) -> bool:
        """Whether "background" at token i means a place: "in the background"."""
        before = [token.raw for token in self.tokens[max(i - 2, 0) : i] if token.raw not in senses.ARTICLES]
        return bool(before) and before[-1] in senses.PREPOSITIONS

    @property
    def behind(self) -> str | None:
        """The subject of the plate behind which the prompt puts a thing; None if it names none."""
        spans = [span for span in self.spans if span.phrase.kind == "depth" and span.phrase.name == "behind"]
        if not spans or self.background is not None or not self.asked_for("object"):
            return None
        words = spans[0].phrase.words or tuple(t.base or t.raw for t in self.tokens[spans[0].start : spans[0].end])
        return words[-1]

    def _background(self, kept: set[int]) -> int | None:
        named = [i for i, token in enumerate(self.tokens) if token.raw in senses.BACKGROUND and token.span is None]
        named = [i for i in named if i not in kept]
        for i in named:
            if not self.is_place(i):
                return i + 1
        scenes, others = self.asked_for("scene"), self.asked_for("object", "effect")
        behind = any(span.phrase.name == "behind" for span in self.spans)
        if scenes and not others and (behind or named):  # "put the sea behind the dancer", "... in the background"
            return scenes[0].start
        if not others and not scenes and any(token.raw in world.SUBJECTS for token in self.tokens):
            return self._background_in_front()
        return None

    def _background_in_front(self) -> int | None:
        """Whether the scene after "in front of" is the requested background: "put the dancer in front of the sea"."""
        for span in self.spans:
            if span.phrase.kind == "scene" and span.preposition is not None:
                between = [token.raw for token in self.tokens[span.preposition : span.start]]
                if [word for word in between if word not in senses.ARTICLES] == ["in", "front", "of"]:
                    span.preposition = None
                    return span.start
        return None

    def _keeping(self) -> Iterator[range]:
        """Mark clauses such as "keep the background as it is", which an addition fulfils anyway."""
        for i, token in enumerate(self.tokens):
            if token.raw == "keep" and token.span is None:
                rest = takewhile(lambda t: not (t.parts or t.is_verb), self.tokens[i + 1 :])
                clause = range(i, i + 1 + sum(1 for _ in rest))
                attributed = any(self.tokens[k].base in _SAID_OF_THINGS for k in clause)  # "keep it red"
                if not attributed and not any(is_target(self.tokens[k]) for k in clause):
                    yield clause

    def _asides(self) -> Iterator[tuple[int, int]]:
        """Asides of an addition; for a new background, what follows it."""
        scenes = [span.end for span in self.spans if span.phrase.kind == "scene"]
        i = 0 if self.background is None else min((end for end in scenes if end > self.background), default=0)
        end = len(self.tokens) if self.background is not None and not scenes else i
        while i < len(self.tokens):
            end = self._end_of_aside(i) if self._begins_aside(i) else i
            if end > i:
                yield i, end
            i = max(end, i + 1)

    def _begins_aside(self, i: int) -> bool:
        token, before = self.tokens[i], self.tokens[i - 1] if i else None
        named = before is not None and before.span is not None and before.span.phrase.kind != "shot"
        of_it = token.raw == "of" and token.span is None and named
        return not token.kept and (of_it or token.is_preposition)

    def _end_of_aside(self, start: int) -> int:
        clause = self.tokens[start].raw in senses.SUBORDINATORS
        for i in range(start + 1, len(self.tokens)):
            token, before = self.tokens[i], self.tokens[i - 1]
            goes_on = (
                token.raw in senses.CONJUNCTIONS and self.tokens[i + 1 : i + 2] and self.tokens[i + 1].raw == "the"
            )
            opening = all(t.is_preposition or t.raw in _DETERMINERS for t in self.tokens[start:i])  # "from the left"
            other = token.span is not None and token.span.phrase.kind not in TARGETS and not opening
            following = token.is_preposition and not (before.is_preposition or before.raw in _OF_TWO_WORDS)
            ends = token.is_break or (token.raw in senses.CONJUNCTIONS and not goes_on)
            acts = token.is_verb and not (opening and before.raw != "to")  # "with paint" names a thing
            if ends or (not clause and (acts or other or following)):
                return i
        return len(self.tokens)


_OF_TWO_WORDS = ("next", "in", "out")  # "next to", "in from", "out of" are one preposition


def is_target(token: Token) -> bool:
    """Whether the phrase names a thing of the model's world that can be requested."""
    return token.span is not None and token.span.phrase.kind in TARGETS


_INFLECTED = frozenset(OBJECT_ATTRIBUTES) | frozenset(EFFECT_ATTRIBUTES)
_INFLECTED |= words_in(*(way for ways in (*world.MOTIONS.values(), *world.EFFECTS.values()) for way in ways))
_INFLECTED |= words_in(*world.VERBS, "make change replace keep reflected reflection") | {"centered"}


def _is_form(word: str, form: str) -> bool:
    """Whether an inflected form can have a word's sense: "boxes" can mean the thing box, "boxing" cannot."""
    if word in senses.FALSE_FRIENDS:
        return False
    if word.endswith("er"):
        return OBJECT_ATTRIBUTES.get(form) in ("color", "size")
    return form in _INFLECTED or form in senses.RESPELLED.values() or not word.endswith(("ing", "ed", "ly"))
