"""Reasons to refuse a prompt: an act that mini cannot do, several edits at once, or a thing that it does not know."""

from itertools import dropwhile, takewhile

from vera.core.model.mini import words as world
from vera.core.model.mini.prompt import senses
from vera.core.model.mini.prompt.parsed import Parsed, is_target
from vera.core.model.mini.prompt.phrases import TARGETS
from vera.core.model.mini.prompt.tokens import LINKS, Token, forms_of, quoted, text_of, words_in

ADDS = f"it adds {', '.join(world.OBJECTS)}, {', '.join(world.EFFECTS)}"
BACKGROUNDS = f"its backgrounds are {', '.join(world.BACKGROUNDS)}"
WHAT_TO_SAY = "say what to add, such as 'Add a red balloon'"
WHAT_IT_DOES = "it adds one thing, or changes the background"
WHAT_IT_READS = "it reads English, of a small world: docs/prompts.md"
_PHRASE_ENDS = senses.CONJUNCTIONS | senses.PREPOSITIONS | {"keep"}
_PLACES = words_in(*world.PLACES, *(way for ways in world.PLACE_PHRASES.values() for way in ways)) - senses.PREPOSITIONS


def impossible(prompt: Parsed) -> str | None:
    """Message for a prompt that mini cannot serve whatever its vocabulary: no word, another act, a question, several
    edits. None for others."""
    if not prompt.words:
        return f"it holds no word; {WHAT_TO_SAY}"
    act = _other_act(prompt)
    if act or not any(token.says_something for token in prompt.words):
        return act
    return _question(prompt) or _several(prompt) or _background_as_thing(prompt)


def not_known(prompt: Parsed) -> str | None:
    """Message for a prompt with things that mini does not know, or with probable typing errors, or None."""
    if not any(token.says_something for token in prompt.words):
        return f"mini knows nothing of {quoted(prompt.words)}{prompt.guesses(prompt.words)}; {WHAT_IT_READS}"
    return _thing_not_known(prompt) if prompt.background is None else _scene_not_known(prompt, prompt.background)


def _other_act(prompt: Parsed) -> str | None:
    for i, token in enumerate(prompt.tokens):
        if token.span is not None or token.is_break or token.kept:
            continue
        if token.is_negation and not (token.raw == "0" and token.aside):  # "at frame 0"
            return f"mini cannot leave things out or take them away ('{token.raw}'); {WHAT_IT_DOES}"
        act = _act_anywhere(token) or (token.starts and senses.ACTS_AT_THE_START.get(token.raw))
        if act:
            after = [t.raw for t in prompt.tokens[i + 1 : i + 2] if t.raw in ("down", "up", "away", "out")]
            return f"mini cannot {act} ('{' '.join([token.raw, *after])}'); {WHAT_IT_DOES}"
        if token.raw in senses.CHANGING and not _changes_background(prompt, i) and not _adds(prompt, i):
            thing = text_of(prompt.noun_phrase(i + 1))
            return f"mini cannot change {repr(thing) if thing else 'that'} ('{token.raw}'); {WHAT_IT_DOES} as a whole"
    return None


def _act_anywhere(token: Token) -> str | None:
    """The act that a word asks for, in any of its forms: removing, removed."""
    known = token.base == token.raw  # "lower" is one of the model's own words
    forms = [token.raw, *(f for f in ([] if known else forms_of(token.raw)) if not f.endswith("ing"))]
    return next((senses.ACTS_ANYWHERE[form] for form in forms if form in senses.ACTS_ANYWHERE), None)


def _question(prompt: Parsed) -> str | None:
    words = [token.raw for token in prompt.words]
    asks = words[0] in senses.QUESTIONS and not prompt.tokens[0].span
    requests = len(words) > 1 and words[1] in ("you", "we", "i", "there", "it") and words[0] not in ("do", "have")
    marked = "?" in (token.raw for token in prompt.tokens)
    asks = asks or (marked and words[0] in senses.QUESTIONS_BY_THEIR_MARK and not requests)
    return f"it asks a question ('{words[0]}'); {WHAT_TO_SAY}" if asks else None


def _changes_background(prompt: Parsed, verb: int) -> bool:
    after = prompt.noun_phrase(verb + 1)
    near = [*prompt.tokens[max(verb - 1, 0) : verb], *after]
    misspelt = any(token.base is None and prompt.guess(token.raw) == "background" for token in after)
    return misspelt or any(token.raw in senses.BACKGROUND for token in near)


def _adds(prompt: Parsed, verb: int) -> bool:
    """Whether a verb that can add or change adds here: "make a balloon", "make it snow"."""
    if prompt.tokens[verb].raw not in senses.CHANGING_OR_ADDING:
        return False
    after = prompt.noun_phrase(verb + 1)
    if len(after) > 1 and after[0].raw == "it" and after[1].span and after[1].span.phrase.kind == "effect":
        return True
    return not (after and after[0].raw in senses.THERE_ALREADY)


def _several(prompt: Parsed) -> str | None:
    things = prompt.asked_for("object", "effect")
    if things or prompt.background is not None:
        things = sorted([*things, *prompt.accompanying()], key=lambda span: span.start)
    names = [span.phrase.name for span in things if span.phrase.kind == "object"]
    names += dict.fromkeys(span.phrase.name for span in things if span.phrase.kind == "effect")
    names = ["another background"] * (prompt.background is not None and bool(things)) + names
    names += ["another one"] * bool(names and _another(prompt))
    if len(names) < 2:
        return None
    return f"it asks for {' and '.join(names[:4])}; ask one by one, each as a delivery of its own"


def _another(prompt: Parsed) -> bool:
    """Whether a pronoun or a phrase without a noun stands for a further thing: "a blue one", "and a blue"."""
    for phrase in prompt.noun_phrases():
        targets = [k for k, token in enumerate(phrase) if is_target(token)]
        for k, token in enumerate(phrase):
            one = token.raw == "one" and phrase[:k] and phrase[k - 1].raw in ("only", "just", "exactly", "single")
            determines = any(target > k for target in targets)
            if token.raw in senses.STANDING_FOR and token.span is None and not determines and not one:
                return True
        begins = bool(phrase) and (phrase[0].raw in senses.ARTICLES or phrase[0].is_count)
        if begins and not targets and any(token.base in world.COLORS for token in phrase):
            return not any(prompt.is_strange(token) for token in phrase)
    return False


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
    strange = [t for phrase in phrases for t in phrase if prompt.is_strange(t) and t.is_unknown] + _places(prompt)
    guesses = prompt.guesses(strange)
    if guesses:
        return f"mini does not know {quoted(strange)}{guesses}"
    for phrase in phrases:
        other = _other_thing(prompt, phrase, bool(targets))
        if other:
            return f"mini does not know {other}; {ADDS}"
    return None if targets else f"it names nothing to add; {ADDS}"


def _places(prompt: Parsed) -> list[Token]:
    """Words of a place that may be misspelt, as in "on the lfet"."""
    asides = [token for start, end in prompt.asides for token in prompt.tokens[start:end]]
    return [token for token in asides if token.is_unknown and prompt.guess(token.raw) in _PLACES]


def _other_thing(prompt: Parsed, phrase: list[Token], added: bool) -> str | None:
    """What a noun phrase names that the model does not know, or None.

    The head of a noun phrase names the thing: the last word before a preposition, a verb, a mark or the end. If the
    head is unknown, so is the thing: "apple tree". An unknown word before a known head is left out: "a shiny balloon".
    added: whether the prompt names a thing to add.
    """
    targets = [k for k, token in enumerate(phrase) if is_target(token)]
    for k in range(len(phrase)):
        if not targets:
            other = _thing_alone(prompt, phrase, k, added)
        elif k > targets[-1]:
            other = _head_after(prompt, phrase[targets[0] :], k - targets[0])
        else:
            other = _thing_before(prompt, phrase, k, targets)
        if other:
            return other
    return None


def _head_after(prompt: Parsed, named: list[Token], k: int) -> str | None:
    """Token k if it makes the thing before it another one: "apple tree"; not "popping" or "that pops"."""
    token, before = named[k], named[:k]
    said_of_it = any(t.raw in senses.RELATIVES or (t.is_act and prompt.is_strange(t)) for t in before)
    if not prompt.is_strange(token) or said_of_it or token.is_act or _says_how(token):
        return None
    last = [t for t in before if is_target(t)][-1]
    known = [t for t in before if t.span is last.span]
    return f"'{text_of([*known, token])}', only '{text_of(known)}'"


def _thing_before(prompt: Parsed, phrase: list[Token], k: int, targets: list[int]) -> str | None:
    """Token k if it names another thing before a known one: "a dog chasing a ball", "a picture of a ball".

    None for "a shiny ball".
    """
    token, between = phrase[k], phrase[k + 1 : targets[0]]
    whole = any(t.raw == "of" for t in between[:1])
    if not (prompt.is_strange(token) or (whole and token.raw in senses.PICTURE)):
        return None
    if any(t.raw == "of" for t in between):
        return f"'{text_of(phrase[k : targets[-1] + 1])}'"
    apart = any(t.raw in senses.ARTICLES or t.raw in senses.THERE_ALREADY for t in between)
    return quoted([token]) if apart and not token.raw.endswith("ly") else None


def _thing_alone(prompt: Parsed, phrase: list[Token], k: int, added: bool) -> str | None:
    """The unknown words from token k on, in a phrase without a known thing.

    None if they only describe a thing that is added elsewhere (`added`).
    """
    token, before = phrase[k], phrase[:k]
    if not prompt.is_strange(token):
        return None
    thing = any(t.raw in senses.ARTICLES or t.is_count for t in before)
    said_of_it = bool(before) and before[0].raw in senses.RELATIVES
    if added and (_says_how(token) or (not thing and (said_of_it or token.is_act))):
        return None
    return quoted(t for t in phrase[k:] if prompt.is_strange(t))


def _says_how(token: Token) -> bool:
    """Whether a word only asks for quality, or is a mark."""
    return token.raw in senses.QUALITIES or not token.is_word


def _scene_not_known(prompt: Parsed, background: int) -> str | None:
    linked = list(dropwhile(lambda token: token.raw in LINKS, prompt.tokens[background:]))
    scene = list(takewhile(lambda t: not t.is_break and t.raw not in LINKS and t.raw not in _PHRASE_ENDS, linked))
    before = [token for token in prompt.tokens[:background] if token.raw not in senses.CHANGING]
    guesses = prompt.guesses([*before, *scene])
    if guesses:
        return f"mini does not know {quoted(t for t in [*before, *scene] if t.is_unknown)}{guesses}"
    found = [span for span in prompt.spans if span.phrase.kind == "scene" and not prompt.is_kept(span)]
    unknown = [token for token in scene if token.is_unknown]
    if not found or (unknown and not any(token.span in found for token in scene)):
        reason = f"mini does not know {quoted(unknown)}" if unknown else "it names no background that mini knows"
        return f"{reason}; {BACKGROUNDS}"
    names = list(dict.fromkeys(span.phrase.name for span in found))
    names = [name for name in names if not any((name, other) in senses.PARTS_OF for other in names)]
    if len(names) > 1:
        return f"it names {len(names)} backgrounds, {' and '.join(names)}; ask for one"
    return _beside_scene(prompt)


def _beside_scene(prompt: Parsed) -> str | None:
    """Message if the scene's noun phrase has an unknown head ("a city park"), or if more than the scene changes."""
    head = max(i for i, token in enumerate(prompt.tokens) if token.span and token.span.phrase.kind == "scene")
    scene = [token for token in prompt.tokens if token.span is prompt.tokens[head].span]
    for token in takewhile(lambda t: not (t.parts or t.aside or t.is_verb or t.span), prompt.tokens[head + 1 :]):
        if not (token.is_read or token.raw in senses.RELATIVES or token.base in prompt.described or token.is_act):
            return f"mini does not know '{text_of([*scene, token])}', only '{text_of(scene)}'; {BACKGROUNDS}"
    for i, token in enumerate(prompt.tokens):
        subject = token.base in world.SUBJECTS
        if token.span is None and not token.aside and (subject or token.is_unknown):
            clause = list(takewhile(lambda t: not (t.parts or t.is_verb), reversed(prompt.tokens[:i])))
            joined = prompt.tokens[i - len(clause) - 1 : i - len(clause)] if i > len(clause) else []
            thing = subject or any(t.raw in senses.ARTICLES for t in clause)
            if thing and any(t.raw in senses.CONJUNCTIONS for t in joined):
                return f"mini changes the background alone, not '{token.raw}'; {BACKGROUNDS}"
    return None
