"""Why a prompt is refused: an act or a number of edits that mini cannot do, or a thing that it does not know."""

from itertools import dropwhile, takewhile

from vera.core.model.mini import words as world
from vera.core.model.mini.prompt import senses
from vera.core.model.mini.prompt.parsed import Parsed
from vera.core.model.mini.prompt.phrases import TARGETS, Span
from vera.core.model.mini.prompt.tokens import LINKS, Token, quoted, text_of, words_in

ADDS = f"it adds {', '.join(world.OBJECTS)}, {', '.join(world.EFFECTS)}"
BACKGROUNDS = f"its backgrounds are {', '.join(world.BACKGROUNDS)}"
DOES = "it adds one thing, or changes the background"
READS = "it reads English, of a small world: docs/prompts.md"
_AMOUNTS = words_in(*(way for ways in world.AMOUNTS.values() for way in ways))
_ENDS = senses.CONJUNCTIONS | senses.PREPOSITIONS | {"keep"}


def impossible(prompt: Parsed) -> str | None:
    """What mini cannot do, whatever it knows: no word, another act, several edits."""
    if not prompt.words:
        return "it holds no word; say what to add, such as 'Add a red balloon'"
    act = _other_act(prompt)
    if act or not any(token.says_something for token in prompt.words):
        return act
    return _several(prompt) or _background_as_thing(prompt)


def not_known(prompt: Parsed) -> str | None:
    """What is asked for and mini does not know, or what may be misspelt."""
    if not any(token.says_something for token in prompt.words):
        return f"mini knows nothing of {quoted(prompt.words)}{prompt.guesses(prompt.words)}; {READS}"
    return _thing_not_known(prompt) if prompt.background is None else _scene_not_known(prompt, prompt.background)


def _other_act(prompt: Parsed) -> str | None:
    for i, token in enumerate(prompt.tokens):
        if token.span is not None or token.is_break:
            continue
        if token.is_negation:
            return f"mini cannot take things away ('{token.raw}'); {DOES}"
        act = senses.ACTS_ANYWHERE.get(token.raw) or (token.starts and senses.ACTS_AT_THE_START.get(token.raw))
        if act:
            after = [t.raw for t in prompt.tokens[i + 1 : i + 2] if t.raw in ("down", "up", "away", "out")]
            return f"mini cannot {act} ('{' '.join([token.raw, *after])}'); {DOES}"
        if token.raw in senses.CHANGING and not _changes_background(prompt, i) and not _adds(prompt, i):
            thing = text_of(prompt.noun_phrase(i + 1))
            return f"mini cannot change {repr(thing) if thing else 'that'} ('{token.raw}'); {DOES} as a whole"
    return None


def _changes_background(prompt: Parsed, verb: int) -> bool:
    after = prompt.noun_phrase(verb + 1)
    near = [*prompt.tokens[max(verb - 1, 0) : verb], *after]
    misspelt = any(token.base is None and prompt.guess(token.raw) == "background" for token in after)
    return misspelt or any(token.raw in senses.BACKGROUND for token in near)


def _adds(prompt: Parsed, verb: int) -> bool:
    """Whether a verb that may add as well as change does: make a balloon, make it snow."""
    if prompt.tokens[verb].raw not in senses.CHANGING_OR_ADDING:
        return False
    after = prompt.noun_phrase(verb + 1)
    if len(after) > 1 and after[0].raw == "it" and after[1].span and after[1].span.phrase.kind == "effect":
        return True
    return not (after and after[0].raw in senses.THERE_ALREADY)


def _several(prompt: Parsed) -> str | None:
    things = prompt.asked_for("object", "effect")
    names = [span.phrase.name for span in things if span.phrase.kind == "object"]
    names += dict.fromkeys(span.phrase.name for span in things if span.phrase.kind == "effect")
    names = ["another background"] * (prompt.background is not None and bool(things)) + names
    if len(names) < 2:
        return None
    return f"it asks for {' and '.join(names[:4])}; ask one by one, each as a delivery of its own"


def _background_as_thing(prompt: Parsed) -> str | None:
    scenes = prompt.asked_for("scene")
    if prompt.background is not None or not scenes or _thing_not_known(prompt):
        return None
    scene = text_of(prompt.tokens[scenes[0].start : scenes[0].end])
    return f"mini knows '{scene}' as a background; write: Change the background to {scene}"


def _thing_not_known(prompt: Parsed) -> str | None:
    targets = prompt.asked_for(*TARGETS)
    phrases = list(prompt.noun_phrases())
    subjects = [t for phrase in phrases for t in phrase if t.base in world.SUBJECTS and t.span is None]
    if subjects and not targets:
        return f"{quoted(subjects)} is something to keep before a new background; {ADDS}"
    unknown = [t for phrase in phrases for t in phrase if t.is_unknown and t.raw not in senses.NEAREST_COLORS]
    guesses = prompt.guesses(unknown)
    if guesses or (unknown and not targets):
        return f"mini does not know {quoted(unknown)}{guesses or f'; {ADDS}'}"
    if not targets:
        return f"it names nothing to add; {ADDS}"
    for span in targets:
        compound = _compound(prompt, span)
        if compound:
            return f"mini does not know '{text_of(compound)}'; {ADDS}"
    for phrase in phrases:  # "a dog and a balloon"
        strange = [token for token in phrase if token.is_unknown]
        if strange and not any(token.span and token.span.phrase.kind in TARGETS for token in phrase):
            return f"mini does not know {quoted(strange)}; {ADDS}"
    return None


def _compound(prompt: Parsed, span: Span) -> list[Token] | None:
    """The thing that a target is only a part of: "fish tank", "a picture of the ball"."""
    for after in prompt.tokens[span.end : span.end + 1]:
        if after.span is not None:
            continue
        acts = after.raw.endswith(("ing", "ed", "ly"))
        if after.is_unknown and not acts and not after.is_preposition and after.raw.isalpha():
            return prompt.tokens[span.start : span.end + 1]
    before = [i for i in range(span.start) if prompt.tokens[i].raw not in senses.ARTICLES]
    if len(before) < 2 or prompt.tokens[before[-1]].raw != "of" or prompt.tokens[before[-1]].span:
        return None
    head = prompt.tokens[before[-2]]
    counts_for_it = head.is_break or head.span or head.is_read or head.base in _AMOUNTS
    return None if counts_for_it else prompt.tokens[before[-2] : span.end]


def _scene_not_known(prompt: Parsed, background: int) -> str | None:
    linked = dropwhile(lambda token: token.raw in LINKS, prompt.tokens[background:])
    scene = list(takewhile(lambda t: not t.is_break and t.raw not in LINKS and t.raw not in _ENDS, linked))
    before = [token for token in prompt.tokens[:background] if token.raw not in senses.CHANGING]
    guesses = prompt.guesses([*before, *scene])
    if guesses:
        return f"mini does not know {quoted(t for t in [*before, *scene] if t.is_unknown)}{guesses}"
    found = [span for span in prompt.spans if span.phrase.kind == "scene"]
    unknown = [token for token in scene if token.is_unknown]
    if not found or (unknown and not any(token.span in found for token in scene)):
        reason = f"mini does not know {quoted(unknown)}" if unknown else "it names no background that mini knows"
        return f"{reason}; {BACKGROUNDS}"
    names = list(dict.fromkeys(span.phrase.name for span in found))
    names = [name for name in names if not any((name, other) in senses.PARTS_OF for other in names)]
    return f"it names {len(names)} backgrounds, {' and '.join(names)}; ask for one" if len(names) > 1 else None
