"""mini's reader of backgrounds: which one a prompt asks for, by the trained head on the text states."""

import pytest

from vera.core.model.interfaces import ShotBackground
from vera.core.model.mini import words
from vera.core.model.mini.edition import load_mini
from vera.core.model.mini.prompt.senses import SCENE_NOUNS
from vera.core.model.names import EMBEDDED


@pytest.fixture(scope="module")
def mini():
    return load_mini(EMBEDDED, "cpu")


@pytest.mark.parametrize("kind", words.BACKGROUNDS)
def test_every_name_of_a_background_is_read_in_every_form(mini, kind):
    nouns = [*words.BACKGROUNDS[kind], *(noun for noun, name in SCENE_NOUNS.items() if name == kind)]
    prompts = [form.format(scene=noun, keep="dancer", shot="") for noun in nouns for form in words.BACKGROUND_FORMS]
    found = [mini.objects.kind_in(mini.text.encode([prompt])) for prompt in prompts]
    assert found.count(kind) >= 0.95 * len(found), [p for p, f in zip(prompts, found) if f != kind]


@pytest.mark.parametrize(
    "prompt", ["Add a red balloon in the sky", "Add heavy snow", "Add a white star over the sea", "Add fire", ""]
)
def test_what_is_no_background_is_none(mini, prompt):
    assert mini.objects.scenes.background(mini.text.encode([prompt])) is None


@pytest.mark.parametrize(
    "prompt, background",
    [
        ("Make the background a misty forest", ShotBackground("forest", frozenset({"misty"}))),
        ("Put snowy mountains behind the man", ShotBackground("mountains", frozenset({"snowy"}))),
        ("Put a calm sea behind the woman", ShotBackground("sea", frozenset({"calm"}))),
        ("Make the background the sea", ShotBackground("sea")),
    ],
)
def test_what_the_words_say_of_a_background_is_read(mini, prompt, background):
    assert mini.objects.of_shot(mini.text.encode([prompt]), None, None, 13) == background


@pytest.mark.parametrize(
    "prompt, thing",
    [
        ("Add heavy snow over the city at night", "snow"),
        ("Put a red kite in the clouds behind the man", "kite"),
        ("Insert a huge black goldfish behind the rabbit", "fish"),
        (
            "Please put a white moth jumping up and down behind the dancer. Wide shot, eye-level, sharp focus.",
            "butterfly",
        ),
    ],
)
def test_a_prompt_that_adds_a_thing_is_no_background(mini, prompt, thing):
    """Of the last two, the background head alone reads a night sky, and clouds."""
    assert mini.objects.kind_in(mini.text.encode([prompt])) == thing
