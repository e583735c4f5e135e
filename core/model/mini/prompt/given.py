"""The words that the model is given for a prompt, and notes on those that it is not given."""

from collections.abc import Iterable
from itertools import pairwise

from vera.core.model.mini import words as world
from vera.core.model.mini.prompt import senses
from vera.core.model.mini.prompt.parsed import Parsed
from vera.core.model.mini.prompt.tokens import SILENT, Token, quoted, text_of, words_in
from vera.core.model.mini.tokenize import tokenize

# Words that may stand in an instruction outside its phrases.
_ALWAYS = words_in("a an the and of its please", *world.VERBS)
_OF_OBJECTS = words_in(
    *world.COLORS,
    *world.PACES.values(),
    *(way for table in (world.SIZES, world.MATERIALS) for ways in table.values() for way in ways),
)
_OF_OBJECTS |= frozenset(senses.SAME_AS.values())
_OF_EFFECTS = words_in(*(way for ways in world.AMOUNTS.values() for way in ways))
_OF_BACKGROUNDS = words_in("please", *(form.format(scene="", shot="", keep="") for form in world.BACKGROUND_FORMS))
_OF_BACKGROUNDS |= frozenset(world.SUBJECTS)
_OF_ONE_THING = ("place", "depth", "reflection", "motion")  # phrases that an effect, which fills the frame, has not
_AFTER_PREPOSITIONS = ("next", "in", "out")  # next to, in from, out of: one preposition


class Given:
    """words: for the model; notes: what was left out, a line each."""

    def __init__(self, prompt: Parsed):
        self.prompt, self.notes = prompt, list[str]()
        self.words = self._of_addition() if prompt.background is None else self._of_background()

    def _of_background(self) -> list[str]:
        """The prompt as it is, where the model was taught such ones; else "change the background to ..."."""
        tokens = self.prompt.words
        scenes = [span for span in self.prompt.spans if span.phrase.kind == "scene"]
        described = words_in(*(way for span in scenes for way in world.BACKGROUNDS[span.phrase.name]))
        for token in tokens:
            fits = token.span is not None and token.span.phrase.kind in ("scene", "depth", "shot")
            token.dropped = not (fits or token.is_read or token.base in described | _OF_BACKGROUNDS)
        self._note_unknown()
        if self._is_taught():
            return [token.raw for token in tokens]
        words = tokenize("change the background to")
        if scenes and scenes[0].start and self.prompt.tokens[scenes[0].start - 1].raw in senses.ARTICLES:
            words.append(self.prompt.tokens[scenes[0].start - 1].raw)
        words += [str(token.base) for token in tokens if token.span in scenes]
        kept = [str(token.base) for token in tokens if token.base in world.SUBJECTS][:1]
        return words + [word for name in kept for word in ("keep", "the", name)]

    def _is_taught(self) -> bool:
        for i, token in enumerate(self.prompt.tokens):
            named = token.raw in senses.BACKGROUND and token.span is None
            if named and (i == 0 or self.prompt.tokens[i - 1].raw != "the" or self.prompt.is_place(i)):
                return False
        return all(token.base == token.raw and not token.dropped for token in self.prompt.words)

    def _of_addition(self) -> list[str]:
        effect = bool(self.prompt.asked_for("effect"))
        self._read_what_effects_do()
        self._leave_out_places()
        self._leave_out_second_ones()
        for span in self.prompt.spans if effect else ():
            if span.phrase.kind in _OF_ONE_THING:
                self._leave_out(self.prompt.tokens[span.start : span.end])
        self._take_nearest(effect)
        counts = self._leave_out_counts()
        fitting = _ALWAYS | (_OF_EFFECTS if effect else _OF_OBJECTS)
        for token in self.prompt.words:
            fits = token.span is not None or token.is_read or token.base in fitting
            token.dropped = token.dropped or not fits
        self._note_unknown(besides=counts)
        for before, after in pairwise(self.prompt.words):
            after.dropped = after.dropped or (after.raw == "and" and before.dropped)
        words = [word for i, token in enumerate(self.prompt.tokens) for word in self._words_of(i, token)]
        color = None if effect else self._usual_color()
        return _with_articles(words if color is None else self._colored(words, color))

    def _usual_color(self) -> str | None:
        """The colour of the thing where none is named; None where one is, or the model has none."""
        things = self.prompt.asked_for("object")
        named = any(t.base in world.COLORS and not t.dropped and t.span is None for t in self.prompt.words)
        color = senses.USUAL_COLORS.get(things[0].phrase.name) if things and not named else None
        return color if color in self.prompt.vocabulary else None

    def _colored(self, words: list[str], color: str) -> list[str]:
        """The words with a colour before the thing's name."""
        span = self.prompt.asked_for("object")[0]
        before = [w for i, t in enumerate(self.prompt.tokens[: span.start]) for w in self._words_of(i, t)]
        return [*before, color, *words[len(before) :]]

    def _read_what_effects_do(self) -> None:
        """ "Falling snow", "snow falling": said of an effect that does so anyway."""
        ways = [senses.ITS_OWN_WAY.get(span.phrase.name, ()) for span in self.prompt.asked_for("effect")]
        for token in self.prompt.words:
            own = token.span is None or token.span.phrase.kind == "motion"
            if own and any(token.raw in words for words in ways):
                token.raw, token.base, token.dropped = SILENT, None, True

    def _take_nearest(self, effect: bool) -> None:
        """Words and phrases that the model has others for; where those only come near, that is said."""
        spans = [s for s in self.prompt.spans if s.phrase.near and not self.prompt.tokens[s.start].dropped]
        taken = [(self.prompt.tokens[s.start : s.end], " ".join(s.phrase.words or ())) for s in spans]
        free = [t for t in self.prompt.words if t.span is None and not t.dropped and not effect]
        moves = any(s.phrase.kind == "motion" and not self.prompt.tokens[s.start].dropped for s in self.prompt.spans)
        colored = any(t.base in world.COLORS for t in free)
        for token in free:
            nearest = senses.NEAREST_COLORS.get(token.raw)
            if moves and token.raw in senses.MOVING:  # "flying from left to right": the rest says it
                token.raw, token.base = SILENT, None
            elif senses.SAME_AS.get(token.raw) in self.prompt.vocabulary:
                token.base = senses.SAME_AS[token.raw]
            elif nearest in self.prompt.vocabulary and not colored:
                token.base, colored = nearest, True
                taken.append(([token], str(nearest)))
        self.notes += [f"mini takes '{text_of(part)}' as '{word}', the nearest that it knows" for part, word in taken]

    def _words_of(self, i: int, token: Token) -> Iterable[str]:
        if token.dropped or token.is_break:
            return ()
        if token.span is not None and token.span.phrase.words:
            return token.span.phrase.words if token.span.start == i else ()
        word = senses.ADDING.get(token.raw) or token.base
        return (word,) if word in self.prompt.vocabulary else ()

    def _leave_out_places(self) -> None:
        """Phrases such as "next to the lamp post": the model knows places by its own phrases alone."""
        tokens = self.prompt.tokens
        for i, token in enumerate(tokens):
            if not token.is_preposition or token.dropped:
                continue
            end = i + 1
            while end < len(tokens) and not self._ends_place(end):
                end += 1
            if any(t.says_something or t.is_unknown for t in tokens[i + 1 : end]):
                self._leave_out(tokens[i:end])

    def _ends_place(self, i: int) -> bool:
        token, before = self.prompt.tokens[i], self.prompt.tokens[i - 1]
        other = token.span is not None and token.span.phrase.kind in (*_OF_ONE_THING, "shot")
        next_place = token.is_preposition and not (before.is_preposition or before.raw in _AFTER_PREPOSITIONS)
        return token.parts or token.is_verb or other or next_place

    def _leave_out_second_ones(self) -> None:
        """Of several colours, places or motions the model is given the first."""
        tokens = self.prompt.tokens
        colors = [i for i, t in enumerate(tokens) if t.base in world.COLORS and not t.span and not t.dropped]
        names = list(dict.fromkeys(str(tokens[i].base) for i in colors))
        if len(names) > 1:
            self.notes.append(f"mini gives one colour to a thing: of {' and '.join(names)} it takes {names[0]}")
            for token in tokens[
                colors[0] + 1 : colors[-1] + 1
            ]:  # the thing itself may stand between: "a red ball, blue"
                color = token.base in world.COLORS or token.raw in senses.CONJUNCTIONS
                token.dropped = token.dropped or (color and token.span is None)
        for kind in ("place", "motion"):
            spans = [s for s in self.prompt.spans if s.phrase.kind == kind and not tokens[s.start].dropped]
            for span in spans[1:]:
                if span.phrase.name != spans[0].phrase.name:
                    self._leave_out(tokens[span.start : span.end])

    def _leave_out_counts(self) -> list[Token]:
        """Numbers and plurals: mini adds one thing. Returns the words of number."""
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
        """Name the words that were dropped and are in no note yet."""
        noted = " ".join(self.notes)
        left = [t for t in self.prompt.words if t.dropped and t not in besides and t.raw not in noted]
        if left:
            guesses = self.prompt.guesses(left)
            self.notes.append(f"mini leaves out {quoted(left)}, not known here{guesses}")


def _with_articles(words: list[str]) -> list[str]:
    """A or an, as the colour that follows asks for."""
    right = {color: "an" if color[0] in "aeiou" else "a" for color in world.COLORS}
    return [right.get(b, a) if a in ("a", "an") else a for a, b in zip(words, [*words[1:], ""])]
