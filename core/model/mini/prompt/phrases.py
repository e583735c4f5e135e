"""Find phrases of the model's world (things, places, motions) among a prompt's tokens."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from vera.core.model.mini import words as world
from vera.core.model.mini.prompt import senses
from vera.core.model.mini.prompt.tokens import Token, singular
from vera.core.model.mini.tokenize import tokenize

TARGETS = ("object", "effect", "scene")  # kinds of phrases that can be requested


@dataclass(frozen=True)
class Phrase:
    """A phrase of the model's world.

    kind: object, effect, scene, place, motion, depth, reflection or shot
    name: in the world's tables
    words: the model's words, if they differ from the prompt's
    near: whether these words are only similar, which needs a note
    """

    kind: str
    name: str
    words: tuple[str, ...] | None = None
    near: bool = False


@dataclass(eq=False)
class Span:
    """Tokens [start, end) that form a phrase.

    preposition: the token that makes it a place or a part of another thing; None if the prompt asks for it
    """

    phrase: Phrase
    start: int
    end: int
    plural: bool = False
    preposition: int | None = None


Phrases = dict[tuple[str, ...], Phrase]


def phrases_of(vocabulary: frozenset[str]) -> Phrases:
    """The phrases that a model with this vocabulary understands."""
    return {words: found for words, found in _all_phrases() if vocabulary.issuperset(found.words or words)}


def find_spans(tokens: list[Token], phrases: Phrases) -> list[Span]:
    """Find the longest phrases from left to right, plurals included, and store each token's span in the token."""
    spans: list[Span] = []
    longest = max(map(len, phrases), default=0)
    i = 0
    while i < len(tokens):
        span = next(filter(None, (_span(tokens, i, length, phrases) for length in range(longest, 0, -1))), None)
        if span:
            for token in tokens[i : span.end]:
                token.span = span
            span.preposition = preposition_before(tokens, i)
            spans.append(span)
        i = span.end if span else i + 1
    return spans


def preposition_before(tokens: list[Token], i: int) -> int | None:
    """The preposition that makes the phrase at token i a place or a part of another thing, or None."""
    for k in range(i - 1, -1, -1):
        token = tokens[k]
        if token.span is not None:
            if token.span.phrase.kind in TARGETS:
                return token.span.preposition
        elif token.parts or token.is_verb:
            return None
        elif token.is_preposition:
            while k and tokens[k - 1].is_preposition:
                k -= 1
            return k
    return None


def _span(tokens: list[Token], start: int, length: int, phrases: Phrases) -> Span | None:
    part = tokens[start : start + length]
    if len(part) < length or any(token.is_break for token in part):
        return None
    words = tuple(token.base or token.raw for token in part)
    one = (*words[:-1], singular(words[-1]))
    found = phrases.get(words)
    of_one = phrases.get(one)
    if found is None and of_one and of_one.kind == "object":  # "stars" is in the vocabulary as a plural
        part[-1].base = one[-1]
        return Span(of_one, start, start + length, plural=True)
    if found is None:
        return None
    plural = found.kind == "object" and part[-1].raw != words[-1] and singular(part[-1].raw) == words[-1]
    return Span(found, start, start + length, plural or part[-1].raw in senses.RESPELLED and found.kind == "object")


def _all_phrases() -> Iterator[tuple[tuple[str, ...], Phrase]]:
    """All phrases that a prompt can contain, without a leading article."""
    for noun, name in senses.SCENE_NOUNS.items():
        yield (noun,), Phrase("scene", name)
    for short, place in senses.PLACES.items():
        yield tuple(short.split()), Phrase("place", place, tuple(place.split()))
    yield from _senses()
    depths = {name: [form.format(subject=s) for s in world.SUBJECTS] for name, form in world.DEPTHS.items()}
    tables: dict[str, dict[str, Iterable[str]]] = {
        "object": dict(world.OBJECTS),
        "effect": dict(world.EFFECTS),
        "scene": dict(world.BACKGROUNDS),
        "place": dict(world.PLACE_PHRASES),
        "motion": dict(world.MOTIONS),
        "depth": dict(depths),
        "reflection": {"reflection": world.REFLECTIONS},
        "shot": {"shot": (*world.SHOTS, *world.ANGLES, *world.CAMERAS)},
    }
    for kind, table in tables.items():
        for name, ways in table.items():
            for words in map(tokenize, ways):
                words = words[1:] if words and words[0] in senses.ARTICLES else words
                if words:
                    yield tuple(words), Phrase(kind, name)


def _senses() -> Iterator[tuple[tuple[str, ...], Phrase]]:
    """Usual expressions for places, motions, things and effects, with the model's words for them."""
    grounds = [("on", ground) for ground in senses.GROUNDS] + [("in", ground) for ground in senses.SOFT_GROUNDS]
    for preposition, ground in grounds:
        yield (preposition, "the", ground), Phrase("place", "bottom", tuple("at the bottom".split()), near=True)
    for sky in senses.SKIES:
        yield ("in", "the", sky), Phrase("place", "top", tuple("at the top".split()), near=True)
        yield ("across", "the", sky), Phrase("motion", "drifting right", ("drifting", "right"), near=True)
    for way, motion in senses.WAYS.items():
        yield tuple(way.split()), Phrase("motion", motion, tuple(motion.split()))
    for moving in senses.MOVING:
        for side in ("left", "right"):
            words = ("moving", "to", "the", side)
            yield (moving, *words[1:]), Phrase("motion", f"drifting {side}", words)
            for way in (side, f"{side}ward", f"{side}wards") if not moving.startswith(("com", "enter")) else ():
                yield (moving, way), Phrase("motion", f"drifting {side}", ("drifting", side))
    for name, kinds in senses.KINDS_OF.items():
        for kind in kinds:
            yield tuple(kind.split()), Phrase("object", name, (name,), near=True)
    for name, form in world.DEPTHS.items():
        person = tuple(form.format(subject="person").split())
        for somebody in senses.SOMEBODY:
            yield tuple(form.replace("the {subject}", somebody).split()), Phrase("depth", name, person)
    for effect, named in senses.EFFECTS_LIKE.items():
        yield (effect,), Phrase("effect", named.split()[-1], tuple(named.split()))
