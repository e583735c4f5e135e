"""Prompts are read whole: every word counts, is named, or the prompt is refused."""

import random

import pytest

from tests.model.mini.prompts import CASES, DONE, KINDS, PAGE, REFUSED, said_of, with_tables
from vera.core.data.engine import instructions
from vera.core.data.engine.clips import draw_labels
from vera.core.errors import InputError
from vera.core.model.mini import words as world
from vera.core.model.mini.finishes import FINISHES
from vera.core.model.mini.mini_text import MiniText
from vera.core.model.mini.object_field import TRAITS
from vera.core.model.mini.prompt import senses
from vera.core.model.mini.prompt.reader import PromptReader
from vera.core.model.mini.tokenize import tokenize

MAX_LINE = 400  # characters of one line to the user


@pytest.fixture(scope="module")
def reader():
    return PromptReader(instructions.vocabulary())


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.prompt)
def test_a_prompt_of_the_list_has_the_outcome_that_it_should(reader, case):
    outcome, said = said_of(case.prompt, reader)
    assert outcome == case.outcome, said
    assert all(words in said for words in case.says), said
    if outcome != REFUSED and (case.read or outcome == DONE):
        assert " ".join(reader.read(case.prompt).words) == (case.read or " ".join(tokenize(case.prompt)))


@pytest.mark.parametrize(
    ("prompt", "given"),
    [
        ("Add a red fish, blue", "add a red fish"),
        ("Add a red ball that is blue", "add a red ball"),
        ("Add a red, white and blue kite", "add a red kite"),
    ],
)
def test_a_second_color_never_takes_the_thing_between_the_two_along(reader, prompt, given):
    assert " ".join(reader.read(prompt).words) == given


@pytest.mark.parametrize(
    ("scene", "named"),
    [
        ("clouds at sunset", None),  # a scene and a natural part of it are one
        ("clouds at night", None),
        ("a night city", None),
        ("a storm with clouds", None),
        ("a storm over the sea", None),
        ("the sea at sunset", "sea and sunset"),
        ("a forest in a storm", "forest and storm"),
        ("mountains and clouds", "mountains and clouds"),
        ("a city and the sea", "city and sea"),
    ],
)
def test_two_backgrounds_are_refused_but_not_one_and_its_part(reader, scene, named):
    missing = reader.read(f"Change the background to {scene}").not_known
    assert missing == (named and f"it names 2 backgrounds, {named}; ask for one")


@pytest.mark.parametrize("row", ["top", "bottom"])
@pytest.mark.parametrize("side", ["left", "right"])
def test_a_corner_is_read_after_at_too(reader, row, side):
    reading = reader.read(f"Add a blue star at the {row} {side}")
    assert " ".join(reading.words) == f"add a blue star in the {row} {side} corner" and not reading.notes


def test_the_list_holds_sixty_prompts_and_six_of_each_kind():
    assert len(CASES) >= 60 and len({case.prompt for case in CASES}) == len(CASES)
    assert all(len(cases) >= 5 for cases in KINDS.values())


def test_instructions_of_the_training_pass_as_they_are(reader):
    rng = random.Random(7)
    for _ in range(800):
        prompt = instructions.instruction(draw_labels(rng), rng)
        reading = reader.read(prompt)
        assert reading.words == tokenize(prompt) and reading.check(anyway=False) == [], prompt


def test_the_models_numbers_of_a_trained_instruction_are_those_of_its_words():
    text = MiniText(instructions.vocabulary(), 8, heads=2)
    prompt = "Put a small glossy red ball drifting left at the bottom, reflected in the water."
    numbers = [text.index[word] for word in tokenize(prompt)]
    assert text.ids([prompt])[0].tolist() == numbers + [0] * (32 - len(numbers))


def test_a_word_that_is_left_out_has_no_number():
    text = MiniText(instructions.vocabulary(), 8, heads=2)
    assert text.ids(["Add a beautiful lantern"]).tolist() == text.ids(["Add a lantern"]).tolist()


SCRIPTS = (
    "zebra",
    "baloon",
    "ズーム",
    "шар",
    "फूल",
    "بالون",
    "é",
    "٣",
    "17",
    "½",
    "#",
    "%",
    "🎈",
    "ff00",
    "naïve",
    "left",
    "water",
    "sky",
)


def test_every_token_of_any_script_is_read_or_named(reader):
    """Strange words among known ones: none is left out without a word."""
    rng = random.Random(3)
    for _ in range(400):
        strange = rng.sample(SCRIPTS, rng.randint(1, 3))
        words = ["add", "a", "red", "ball"]
        for word in strange:
            words.insert(rng.randint(1, len(words)), word)
        prompt = " ".join(words)
        reading = reader.read(prompt)
        said = " ".join([*reading.notes, reading.impossible or "", reading.not_known or ""])
        if reading.impossible or reading.not_known:
            continue
        for word in strange:
            assert word in said or word in reading.words, (prompt, said)


@pytest.mark.parametrize(
    "prompt", ["Add a dog on a red ball", "Add a red baloon", "Change the background to a forest at sunset"]
)
def test_what_is_only_not_known_goes_on_anyway_with_a_warning(reader, prompt):
    with pytest.raises(InputError, match="--anyway goes on without it"):
        reader.read(prompt).check(anyway=False)
    assert reader.read(prompt).check(anyway=True)


@pytest.mark.parametrize(
    "prompt", ["Remove the rabbit", "Add rain and fog", "...", "左に赤い風船を追加", "Make the rabbit blue"]
)
def test_what_mini_cannot_do_is_refused_anyway(reader, prompt):
    with pytest.raises(InputError):
        reader.read(prompt).check(anyway=True)


def test_any_text_is_one_short_line_or_read(reader):
    rng = random.Random(11)
    pool = [
        *instructions.vocabulary(),
        *senses.FILLERS,
        *senses.CHANGING,
        *senses.PREPOSITIONS,
        *SCRIPTS,
        ",",
        ".",
        "?!",
        "\n",
    ]
    for _ in range(800):
        prompt = " ".join(rng.choices(pool, k=rng.randint(1, 60)))
        outcome, said = said_of(prompt, reader)
        assert "\n" not in said
        assert outcome != REFUSED or len(said) <= MAX_LINE, said
        assert set(reader.read(prompt).words) <= reader.vocabulary


@pytest.mark.parametrize(
    "prompt", ["", " \n ", "''", "\u200b", "x" * 10_000, "ball " * 3000, "\u202e\u0301", "-", "n't"]
)
def test_odd_texts_raise_nothing_else(reader, prompt):
    assert len(said_of(prompt, reader)[1]) <= MAX_LINE


def test_more_words_than_the_model_reads_are_refused(reader):
    with pytest.raises(InputError, match="reads 32 words, these are 40"):
        reader.read("Change the background to the sea." + " Wide shot." * 17).check(anyway=False)


def test_a_model_of_fewer_words_knows_those_alone():
    small = PromptReader(["add", "a", "red", "ball"])
    assert small.read("Add a red ball").check(anyway=False) == []
    with pytest.raises(InputError, match="'kite'"):
        small.read("Add a kite").check(anyway=False)


def test_the_page_says_what_happens(reader):
    page = PAGE.read_text(encoding="utf-8")
    assert with_tables(page, reader) == page, "run python -m tests.model.mini.prompts"


def test_every_kind_has_a_usual_colour_that_the_model_knows(reader):
    """A row of USUAL_COLORS that nothing uses, or a kind without one, would be a colour that nobody chose."""
    assert set(senses.USUAL_COLORS) == set(world.OBJECTS)
    for name, color in senses.USUAL_COLORS.items():
        assert color in reader.read(f"Add a {name}").words and color in world.COLORS


@pytest.mark.parametrize("word", sorted(senses.NEAREST_COLORS))
def test_a_near_colour_is_taken_and_said_unless_the_thing_is_painted_so(reader, word):
    reading = reader.read(f"Add a {word} ball")
    color = senses.NEAREST_COLORS[word]
    assert reading.words == ["add", "an" if color == "orange" else "a", color, "ball"] and not reading.not_known
    said = [f"mini takes '{word}' as '{color}', the nearest that it knows"]
    painted = word if word in FINISHES else None
    assert (reading.finish, reading.notes) == (painted, [] if painted else said)


def test_every_finish_is_a_word_for_which_the_model_has_a_near_colour():
    assert set(FINISHES) <= set(senses.NEAREST_COLORS)
    assert {f.material for f in FINISHES.values()} <= {None, *TRAITS}


@pytest.mark.parametrize(
    "prompt, subject",
    [
        ("Add a red ball behind the man", "man"),
        ("Add a red ball behind him", "person"),
        ("Put a blue kite behind the driver", "person"),
        ("Add a rocket behind the rabbit", "rabbit"),
        ("Add a red ball behind the people", "person"),
        ("Add a red ball in front of him", None),
        ("Add a red ball", None),
        ("Put the sea behind the dancer", None),
        ("Add falling snow behind the man", None),
    ],
)
def test_behind_whom_a_thing_is_put(reader, prompt, subject):
    assert reader.read(prompt).behind == subject


def test_a_background_keeps_its_own_words(reader):
    assert reader.read("Change the background to a grey studio").words == tokenize(
        "change the background to a grey studio"
    )
