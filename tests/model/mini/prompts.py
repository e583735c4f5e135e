"""Prompts that people would type at mini, and what should happen: written before the code that reads them.

An outcome is DONE (no word is said), WARNED (done, and every word that counted for nothing is named) or REFUSED (one
line with the fix, before any work). `says`: what the line names. `read`: the words that the model is given, where they
are not the prompt's own.

`python -m tests.model.mini.prompts` writes the table into docs/prompts.md.
"""

from dataclasses import dataclass
from pathlib import Path

from vera.core.data.engine.instructions import vocabulary
from vera.core.errors import InputError
from vera.core.model.mini import words as world
from vera.core.model.mini.prompt.reader import PromptReader

PAGE = Path(__file__).parents[3] / "docs/prompts.md"
DONE, WARNED, REFUSED = "done", "warned", "refused"


@dataclass(frozen=True)
class Case:
    prompt: str
    outcome: str
    says: tuple[str, ...] = ()
    read: str | None = None


KINDS: dict[str, list[Case]] = {
    "Adding": [
        Case("Add a red balloon on the left", DONE),
        Case("add a large blue kite", DONE),
        Case("Please put a small green ball in the middle.", DONE),
        Case("Add falling snow", DONE),
        Case(
            "Insert a glowing paper lantern, floating up on the right",
            DONE,
            read="insert a glowing orange paper lantern floating up on the right",
        ),
        Case("Add heavy rain.", DONE),
        Case("ADD A RED BALLOON", DONE),
        Case("a red balloon", DONE),
        Case("snow", DONE),
        Case("I want some fog, please", DONE, read="fog please"),
        Case("Could you add a yellow star at the top?", DONE, read="add a yellow star at the top"),
        Case("Generate a purple butterfly", DONE, read="create a purple butterfly"),
        Case("Make it snow", DONE, read="add snow"),
        Case("Add a shiny red ball, reflected in the water", DONE),
        Case("Add a rocket behind the dancer", DONE, read="add a white rocket behind the dancer"),
    ],
    "Changing the background": [
        Case("Change the background to a forest", DONE),
        Case("Replace the background with the sea, keep the dancer.", DONE),
        Case("Put a sunset behind the woman", DONE),
        Case("Make the background a starry night", DONE),
        Case("Turn the background into a desert", DONE, read="change the background to a desert"),
        Case("Set the backdrop to snowy mountains", DONE, read="change the background to snowy mountains"),
        Case("Put a city at night in the background", DONE, read="change the background to a city at night"),
        Case(
            "Change the background to the sea, don't touch the man",
            DONE,
            read="change the background to the sea keep the man",
        ),
        Case("Change the background", REFUSED, ("no background", "sunset")),
        Case("Change the background to Paris", REFUSED, ("'paris'", "sunset")),
        Case("Change the background to a tropical beach at sunset", REFUSED, ("'tropical'", "'beach'")),
        Case("Change the background to a forest at sunset", REFUSED, ("forest", "sunset", "one")),
        Case("Add mountains", REFUSED, ("Change the background to mountains",)),
    ],
    "Plurals, counts, inflections": [
        Case("Add balloons", WARNED, ("one balloon",), read="add red balloon"),
        Case("Add 3 red balloons", WARNED, ("'3'", "one balloon"), read="add red balloon"),
        Case("two kites", WARNED, ("'two'", "one kite"), read="red kite"),
        Case("Add a lot of butterflies", WARNED, ("'lot'", "one butterfly"), read="add an orange butterfly"),
        Case("Add a balloon that floats up", DONE, read="add a red balloon floating up"),
        Case("It is raining heavily", DONE, read="rain heavy"),
        Case("flying birds", WARNED, ("one bird",), read="black flying bird"),
        Case("Add a gray cube", WARNED, ("'gray' as 'white'",), read="add a white cube"),
        Case("Add a red and white ball", WARNED, ("red and white", "one colour"), read="add a red ball"),
    ],
    "Words that come near": [
        Case("Add a shiny gold apple", WARNED, ("'gold' as 'yellow'",), read="add a shiny yellow apple"),
        Case("Add a silver ball", WARNED, ("'silver' as 'white'",), read="add a white ball"),
        Case(
            "Add a wooden crate on the sidewalk",
            WARNED,
            ("'wooden' as 'orange'", "'on the sidewalk' as 'at the bottom'"),
            read="add an orange crate at the bottom",
        ),
        Case("Add a red wooden box", WARNED, ("'wooden'",), read="add a red box"),
        Case(
            "Add a brown leaf falling slowly",
            WARNED,
            ("'brown' as 'orange'",),
            read="add an orange leaf falling slowly",
        ),
        Case(
            "A hot air balloon floating across the sky",
            WARNED,
            ("'hot air balloon' as 'balloon'", "'across the sky' as 'drifting right'"),
            read="a red balloon drifting right",
        ),
        Case("Add a dove flying from right to left", WARNED, ("'dove'",), read="add a black bird drifting left"),
        Case("Add a bird flying across the frame", DONE, read="add a black bird drifting right"),
        Case("A goldfish swimming to the left", DONE, read="an orange goldfish moving to the left"),
        Case(
            "Add a balloon floating above the roofs", WARNED, ("'above the roofs'",), read="add a red balloon hovering"
        ),
        Case("Make it snow heavily", DONE, read="add snow heavy"),
        Case("Snow falling lightly", DONE, read="snow light"),
        Case("Add a drizzle", DONE, read="add a light rain"),
        Case("Add golden sparks", WARNED, ("'golden'",), read="add sparks"),
        Case("Add a gold dragon", REFUSED, ("does not know 'dragon'",)),
    ],
    "Where no colour is named": [
        Case("Add an apple", DONE, read="add a red apple"),
        Case("Add a fish", DONE, read="add an orange fish"),
        Case("Add a leaf", DONE, read="add a green leaf"),
        Case("Add a large crate", DONE, read="add a large orange crate"),
        Case("Add a shiny ring on the right", DONE, read="add a shiny yellow ring on the right"),
        Case("Add a paper plane", DONE, read="add a white paper plane"),
        Case("Add a pink apple", DONE),
    ],
    "Misspelt": [
        Case("Add a red baloon", REFUSED, ("'baloon'", "did you mean 'balloon'")),
        Case("Add a blu kite", REFUSED, ("'blu'", "did you mean 'blue'")),
        Case("Add snw", REFUSED, ("'snw'", "did you mean 'snow'")),
        Case("Add a red umbrela on the right", REFUSED, ("'umbrela'", "did you mean 'umbrella'")),
        Case("Chnage the background to a desert", REFUSED, ("'chnage'", "did you mean 'change'")),
        Case("Change the backgroud to a desert", REFUSED, ("'backgroud'", "did you mean 'background'")),
    ],
    "Other languages, and none": [
        Case("左に赤い風船を追加", REFUSED, ("'左に赤い風船を追加'", "English")),
        Case("Füge einen roten Ballon hinzu", REFUSED, ("'füge'", "did you mean 'balloon'")),
        Case("Ajoute un ballon rouge à gauche", REFUSED, ("'ajoute'", "'à'")),
        Case("Добавь красный шар слева", REFUSED, ("'добавь'", "English")),
        Case("Añade nieve", REFUSED, ("'añade'", "English")),
        Case("أضف بالون أحمر", REFUSED, ("English",)),
        Case("...", REFUSED, ("no word",)),
        Case("🎈", REFUSED, ("'🎈'",)),
        Case("12345", REFUSED, ("'12345'",)),
        Case("asdf qwer zxcv", REFUSED, ("'asdf', 'qwer', 'zxcv'",)),
        Case("Add a flibbertigibbet on the zorp", REFUSED, ("'flibbertigibbet'", "balloon")),
    ],
    "Things that it does not know": [
        Case("Add a zebra", REFUSED, ("'zebra'", "balloon")),
        Case("Add a dragon flying over the city", REFUSED, ("'dragon'",)),
        Case("Add a person walking on the right", REFUSED, ("'person'", "keep")),
        Case("Add a dog on a red ball", REFUSED, ("'dog'",)),
        Case("Add a red balloon next to the lamp post", WARNED, ("'next to the lamp post'",), read="add a red balloon"),
        Case("Add a red ball under the umbrella", WARNED, ("'under the umbrella'",), read="add a red ball"),
        Case(
            "Add a balloon in the sky", WARNED, ("'in the sky' as 'at the top'",), read="add a red balloon at the top"
        ),
        Case("Add a beautiful lantern", WARNED, ("'beautiful'",), read="add an orange lantern"),
        Case("Add red snow", WARNED, ("'red'",), read="add snow"),
        Case("Add rain on the left", WARNED, ("'on the left'",), read="add rain"),
        Case("Add a dog and a balloon", REFUSED, ("'dog'",)),
        Case("Add a #FF0000 balloon", WARNED, ("'#'", "'ff0000'"), read="add a red balloon"),
    ],
    "Other acts": [
        Case("Remove the rabbit", REFUSED, ("'remove'", "adds")),
        Case("Get rid of the car in the background", REFUSED, ("'rid'",)),
        Case("Delete the logo on the left", REFUSED, ("'delete'",)),
        Case("Don't show the balloon", REFUSED, ("'don't'",)),
        Case("The shot without the rabbit", REFUSED, ("'without'",)),
        Case("Make the rabbit blue", REFUSED, ("'make'", "'the rabbit blue'")),
        Case("Change her dress to red", REFUSED, ("'change'",)),
        Case("Replace the rabbit with a balloon", REFUSED, ("'replace'",)),
        Case("Turn the sky purple", REFUSED, ("'turn'", "background")),
        Case("Make it darker and more cinematic", REFUSED, ("darker",)),
        Case("Relight the scene like a sunset", REFUSED, ("'relight'",)),
        Case("Turn this into a cartoon", REFUSED, ("'turn'",)),
        Case("Add a balloon in anime style", REFUSED, ("'anime'",)),
        Case("Blur the background", REFUSED, ("'blur'",)),
        Case("Move the balloon to the left", REFUSED, ("'move'",)),
        Case("Slow down the video", REFUSED, ("'slow down'",)),
    ],
    "Several edits in one prompt": [
        Case("Add a red balloon on the left and a blue kite on the right", REFUSED, ("balloon", "kite", "one by one")),
        Case("Add rain and fog", REFUSED, ("rain", "fog", "one by one")),
        Case("Change the background to the sea and add a bird", REFUSED, ("bird", "one by one")),
        Case("Add snow. Then add a lantern.", REFUSED, ("snow", "lantern", "one by one")),
        Case("a star, a heart and a ring", REFUSED, ("star", "heart", "one by one")),
    ],
}
CASES = [case for cases in KINDS.values() for case in cases]
BEGIN = "<!-- made by `python -m tests.model.mini.prompts`: edit tests/model/mini/prompts.py instead -->"
END = "<!-- end of what is made -->"


def said_of(prompt: str, reader: PromptReader) -> tuple[str, str]:
    """(outcome, what is said) of a prompt."""
    try:
        notes = reader.read(prompt).check(anyway=False)
    except InputError as error:
        return REFUSED, str(error)
    return (WARNED, "; ".join(notes)) if notes else (DONE, "")


def tables(reader: PromptReader) -> str:
    """What happens to every prompt of the list, as Markdown."""
    lines = [BEGIN]
    for kind, cases in KINDS.items():
        lines += ["", f"## {kind}", "", "| prompt | outcome | what is said |", "|---|---|---|"]
        for case in cases:
            outcome, said = said_of(case.prompt, reader)
            lines.append(f"| {case.prompt} | {outcome} | {_shortened(said)} |")
    return "\n".join([*lines, "", END])


def with_tables(page: str, reader: PromptReader) -> str:
    """The page with its tables as they are now."""
    before, rest = page.split(BEGIN)
    return before + tables(reader) + rest.split(END)[1]


def _shortened(said: str) -> str:
    """Without the long lists, which the page has once."""
    for names in (", ".join([*world.OBJECTS, *world.EFFECTS]), ", ".join(world.BACKGROUNDS)):
        said = said.replace(names, "...")
    return said.removeprefix("prompt: ").removesuffix("; --anyway goes on without it")


if __name__ == "__main__":
    PAGE.write_text(with_tables(PAGE.read_text(encoding="utf-8"), PromptReader(vocabulary())), encoding="utf-8")
