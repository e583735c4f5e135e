"""Choose the words of a prompt that reach the model, with notes on those that do not."""

from collections.abc import Iterable
from itertools import pairwise

from vera.core.model.mini import words as world
from vera.core.model.mini.finishes import FINISHES
from vera.core.model.mini.prompt import senses
from vera.core.model.mini.prompt.parsed import EFFECT_ATTRIBUTES, OBJECT_ATTRIBUTES, Parsed
from vera.core.model.mini.prompt.phrases import Span
from vera.core.model.mini.prompt.tokens import SILENT, Token, quoted, text_of, words_in
from vera.core.model.mini.tokenize import tokenize

_OF_BACKGROUNDS = words_in("please", *(form.format(scene="", shot="", keep="") for form in world.BACKGROUND_FORMS))
_OF_BACKGROUNDS |= frozenset(world.SUBJECTS)
# Phrases that effects cannot have, because they fill the frame.
_OF_ONE_THING = ("place", "depth", "reflection", "motion")
BARE_METAL = "steel"  # finish of a thing that is "metal", without a colour
_ORDER = ("size", "material", "color")  # order of an object's attributes before its name
# Number of phrases about the shot, its angle and its camera in the training data; fewer of them are a request.
_FRAMING = 3
_PARTS = frozenset(("to", "on", "in", "at", "into", "onto", "of", "from", "over"))  # "in the shot" adds no meaning


class ModelPrompt:
    """What the model gets.

    words: for the model
    notes: messages about words that were left out
    finish: word of `FINISHES` that the model's words only approximate, or None
    """

    finish: str | None = None

    def __init__(self, prompt: Parsed):
        self.prompt, self.notes = prompt, list[str]()
        self.words = self._of_addition() if prompt.background is None else self._of_background()

    def _of_background(self) -> list[str]:
        """The unchanged prompt, if the training data has its form; else "change the background to ..."."""
        tokens = self.prompt.words
        scenes = [span for span in self.prompt.spans if span.phrase.kind == "scene"]
        for span in [span for span in scenes if self.prompt.is_kept(span)]:  # "keep the sky": all but people is new
            self._leave_out(self.prompt.tokens[span.start : span.end])
            scenes.remove(span)
        self._leave_out_asides()
        for token in tokens:
            fits = token.span is not None and token.span.phrase.kind in ("scene", "depth", "shot")
            fits = fits or token.is_read or token.base in self.prompt.described | _OF_BACKGROUNDS
            fits = fits or token.raw in senses.POSTURES
            token.dropped = token.dropped or not fits
        self._note_unknown()
        if self._is_taught_background():
            return [token.raw for token in tokens]
        words = tokenize("change the background to")
        if scenes and scenes[0].start and self.prompt.tokens[scenes[0].start - 1].raw in senses.ARTICLES:
            words.append(self.prompt.tokens[scenes[0].start - 1].raw)
        words += [str(token.base) for token in tokens if token.span in scenes]
        kept = [str(token.base) for token in tokens if token.base in world.SUBJECTS and not token.dropped][:1]
        return words + [word for name in kept for word in ("keep", "the", name)]

    def _is_taught_background(self) -> bool:
        if not any(token.raw in _OF_BACKGROUNDS and token.is_verb for token in self.prompt.words):
            return False
        for i, token in enumerate(self.prompt.tokens):
            named = token.raw in senses.BACKGROUND and token.span is None
            if named and (i == 0 or self.prompt.tokens[i - 1].raw != "the" or self.prompt.is_place(i)):
                return False
        return all(token.base == token.raw and not token.dropped for token in self.prompt.words)

    def _of_addition(self) -> list[str]:
        """The prompt unchanged if its form occurs in training; else its words in the order of the training data."""
        effect = bool(self.prompt.asked_for("effect"))
        self._read_what_effects_do()
        self._read_the_same(effect)
        self._leave_out_asides()
        self._leave_out_framing()
        attributes = EFFECT_ATTRIBUTES if effect else OBJECT_ATTRIBUTES
        self._leave_out_second_ones(attributes)
        for span in self.prompt.spans if effect else ():
            if span.phrase.kind in _OF_ONE_THING:
                self._leave_out(self.prompt.tokens[span.start : span.end])
        self._take_nearest(effect)
        counts = self._leave_out_counts()
        taught = frozenset(("a", "an", "the", "of", "its", "please", "and")) | words_in(*world.VERBS)
        for token in self.prompt.words:
            fits = token.span is not None or token.is_read or token.base in attributes or token.base in taught
            token.dropped = token.dropped or not (fits or token.base in senses.SAME_AS.values())
        self._note_unknown(besides=counts)
        if self._is_taught_addition(attributes):
            return [token.raw for token in self.prompt.words]
        return self._in_order(effect, attributes)

    def _is_taught_addition(self, attributes: dict[str, str]) -> bool:
        """Whether the prompt has the form of the training data: a verb, a thing with its colour, attributes in their
        places.
        """
        tokens = self.prompt.words
        if not all(t.base == t.raw and not t.dropped and not (t.span and t.span.phrase.words) for t in tokens):
            return False
        things = self.prompt.asked_for("object", "effect")
        if len(things) != 1 or not any(token.base in words_in(*world.VERBS) for token in tokens):
            return False
        if things[0].phrase.kind == "effect":
            return True
        before = [t for t in self.prompt.tokens[: things[0].start] if not t.is_break]
        kinds = [attributes[str(t.base)] for t in tokens if t.span is None and attributes.get(str(t.base)) in _ORDER]
        named = [attributes[str(t.base)] for t in before if t.span is None and attributes.get(str(t.base)) in _ORDER]
        in_order = kinds == named == sorted(set(kinds), key=_ORDER.index) and "color" in kinds
        articles = [t for t in before if t.span is None and t.raw in ("a", "an")]
        adjectives = (
            all(t.span or t.base in attributes for t in before[before.index(articles[0]) + 1 :]) if articles else False
        )
        return in_order and adjectives

    def _in_order(self, effect: bool, attributes: dict[str, str]) -> list[str]:
        """The words of an addition in the order of the training: "add a big red ball bouncing on the left"."""
        things = self.prompt.asked_for("object", "effect")
        if not things:  # the known words, for --anyway
            return [str(t.base) for t in self.prompt.words if t.base in self.prompt.vocabulary and not t.dropped]
        verbs = [t for t in self.prompt.words if t.is_verb and not t.dropped and t.raw != "keep"]
        known = [senses.ADDING.get(t.raw) or t.base for t in verbs]
        verb = next((word for word in known if word in self.prompt.vocabulary), "add")
        verb = "add" if verb in senses.CHANGING else verb
        said = {attributes[str(t.base)]: str(t.base) for t in reversed(self._free_words()) if t.base in attributes}
        if effect:
            return [*filter(lambda word: word in self.prompt.vocabulary, (verb,)), *self._effect(things[0], said)]
        if "color" not in said and said.get("material") in world.MATERIALS["metallic"]:
            self.finish, said["color"] = BARE_METAL, senses.NEAREST_COLORS[BARE_METAL]
        said.setdefault("color", self._usual_color(things[0]) or "")
        name = [said[kind] for kind in _ORDER if said.get(kind)] + self._words_of(things[0])
        still = [
            str(t.base) for t in self._free_words() if t.base in senses.SAME_AS.values() and t.base not in attributes
        ]
        spans = [s for s in self.prompt.spans if not self.prompt.tokens[s.start].dropped]
        after = [
            self._words_of(s)
            for kind in ("motion", "place", "depth", "reflection")
            for s in spans
            if s.phrase.kind == kind
        ]
        moves = any(s.phrase.kind == "motion" for s in spans)
        words = [verb, "an" if name[0][0] in "aeiou" else "a", *name]
        words += [*(after[0] if moves else still[:1]), *([said["pace"]] if "pace" in said else [])]
        words += [word for part in after[moves:] for word in part]
        return [word for word in words if word in self.prompt.vocabulary]

    def _effect(self, thing: Span, said: dict[str, str]) -> list[str]:
        """An effect with its amount, and with the article that its name has in the model's world."""
        name = self._words_of(thing)
        amount = [said["amount"]] if "amount" in said and said["amount"] not in name else []
        with_article = ["a", *name] in [tokenize(way) for way in world.EFFECTS[thing.phrase.name]]
        return [*(["a"] if with_article and not amount else []), *amount, *name]

    def _free_words(self) -> list[Token]:
        """Words for the model that belong to no phrase of its world."""
        return [token for token in self.prompt.words if token.span is None and not token.dropped and token.base]

    def _words_of(self, span: Span) -> list[str]:
        return list(span.phrase.words or [str(token.base) for token in self.prompt.tokens[span.start : span.end]])

    def _usual_color(self, thing: Span) -> str | None:
        """The usual colour of a thing without a named one; None if the model has none for it."""
        color = senses.USUAL_COLORS.get(thing.phrase.name)
        return color if color in self.prompt.vocabulary else None

    def _read_what_effects_do(self) -> None:
        """Drop words for an effect's own movement: "falling snow", "snow falling"."""
        ways = [senses.ITS_OWN_WAY.get(span.phrase.name, ()) for span in self.prompt.asked_for("effect")]
        for token in self.prompt.words:
            own = token.span is None or token.span.phrase.kind == "motion"
            if own and any(token.raw in words for words in ways):
                token.raw, token.base, token.dropped = SILENT, None, True

    def _read_the_same(self, effect: bool) -> None:
        """Synonyms of the model's words."""
        for token in self.prompt.words if not effect else ():
            if token.span is None and senses.SAME_AS.get(token.raw) in self.prompt.vocabulary:
                token.base = senses.SAME_AS[token.raw]

    def _take_nearest(self, effect: bool) -> None:
        """Replace words and phrases by the model's own; a note names those that are only similar."""
        spans = [s for s in self.prompt.spans if s.phrase.near and not self.prompt.tokens[s.start].dropped]
        taken = [(self.prompt.tokens[s.start : s.end], " ".join(s.phrase.words or ())) for s in spans]
        free = [t for t in self.prompt.words if t.span is None and not t.dropped and not effect]
        moves = any(s.phrase.kind == "motion" and not self.prompt.tokens[s.start].dropped for s in self.prompt.spans)
        colored = any(t.base in world.COLORS for t in free)
        for token in free:
            nearest = senses.NEAREST_COLORS.get(token.raw)
            if moves and token.raw in senses.MOVING:  # in "flying from left to right" the path is enough
                token.raw, token.base = SILENT, None
            elif nearest in self.prompt.vocabulary and not colored:
                token.base, colored = nearest, True
                if token.raw in FINISHES:
                    self.finish = token.raw
                else:
                    taken.append(([token], str(nearest)))
        self.notes += [f"mini takes '{text_of(part)}' as '{word}', the nearest that it knows" for part, word in taken]

    def _leave_out_asides(self) -> None:
        """Drop places outside of the model's phrases, such as "next to the lamp post"."""
        for start, end in self.prompt.asides:
            part = self.prompt.tokens[start:end]
            nothing = senses.PICTURE | senses.ARTICLES | _PARTS
            nothing |= senses.BACKGROUND if self.prompt.background is not None else frozenset()
            if not all(token.raw in nothing and token.span is None for token in part):
                self._leave_out(part)
            for token in part:
                token.dropped = token.raw not in senses.BACKGROUND

    def _leave_out_framing(self) -> None:
        """Drop words for framing from an addition, which keeps the plate's framing: "close-up" makes nothing larger."""
        shots = [span for span in self.prompt.spans if span.phrase.kind == "shot"]
        for span in shots if len(shots) < _FRAMING else ():
            self._leave_out(self.prompt.tokens[span.start : span.end])

    def _leave_out_second_ones(self, attributes: dict[str, str]) -> None:
        """Keep the first of several colours, sizes, places or motions, with a note."""
        tokens = self.prompt.tokens
        metal = any(t.base in world.MATERIALS["metallic"] and not t.span for t in tokens)
        for token in tokens if metal else ():  # "shiny" adds nothing to metal
            if token.base in world.MATERIALS["glossy"] and token.span is None:
                token.raw, token.base, token.dropped = SILENT, None, True
        for kind in dict.fromkeys(attributes.values()):
            found = [
                i for i, t in enumerate(tokens) if attributes.get(str(t.base)) == kind and not t.span and not t.dropped
            ]
            names = list(dict.fromkeys(str(tokens[i].base) for i in found))
            if len(names) > 1:
                noun = "colour" if kind == "color" else kind
                self.notes.append(f"mini gives one {noun} to a thing: of {' and '.join(names)} it takes {names[0]}")
                for token in tokens[found[0] + 1 : found[-1] + 1]:
                    second = attributes.get(str(token.base)) == kind or token.raw in senses.CONJUNCTIONS
                    token.dropped = token.dropped or (second and token.span is None)
        for kind in ("place", "motion"):
            spans = [s for s in self.prompt.spans if s.phrase.kind == kind and not tokens[s.start].dropped]
            drifts = any(
                s.phrase.name.startswith("drifting") and not tokens[s.start].dropped for s in self.prompt.spans
            )
            for n, span in enumerate(spans):
                part = tokens[span.start : span.end]
                onwards = kind == "place" and drifts and part[0].raw == "to"  # "moving to the left then to the right"
                if n == 0 and not onwards:
                    continue
                if onwards or span.phrase.name != spans[0].phrase.name:
                    self._leave_out(part)
                for token in part:
                    token.dropped = True

    def _leave_out_counts(self) -> list[Token]:
        """Drop numbers and plurals, because mini adds one thing. Returns the dropped words."""
        counts = [token for token in self.prompt.words if not token.span and not token.dropped and token.is_count]
        for before, after in pairwise(self.prompt.tokens):
            if before in counts and after.raw == "of":  # "a lot of"
                after.raw, after.base = SILENT, None
        for token in counts:
            token.dropped = True
        things = self.prompt.asked_for("object")
        if things and (counts or things[0].plural):
            more = f" and leaves out {quoted(counts)}" if counts else ""
            self.notes.append(f"mini adds one {things[0].phrase.name}{more}")
        elif counts:
            self.notes.append(f"mini leaves out {quoted(counts)}")
        return counts

    def _leave_out(self, part: list[Token]) -> None:
        part = [token for token in part if not token.dropped and not token.is_break]
        for token in part:
            token.dropped = True
        if part:
            self.notes.append(f"mini leaves out '{text_of(part)}'")

    def _note_unknown(self, besides: Iterable[Token] = ()) -> None:
        """Add a note on the dropped words that have none yet."""
        noted = " ".join(self.notes)
        silent = senses.ARTICLES | senses.CONJUNCTIONS | senses.STANDING_FOR | {SILENT}
        left = [t for t in self.prompt.words if t.dropped and not (t.is_read or t.kept or t.aside or t in besides)]
        left = [t for t in left if t.raw not in noted and t.raw not in silent and t.raw not in senses.PICTURE]
        if left:
            guesses = self.prompt.guesses(left)
            self.notes.append(f"mini leaves out {quoted(left)}, not known here{guesses}")
