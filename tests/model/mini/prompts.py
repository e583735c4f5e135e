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
        Case("a red balloon", DONE, read="add a red balloon"),
        Case("snow", DONE, read="add snow"),
        Case("I want some fog, please", DONE, read="add fog"),
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
        Case(
            "Change the background to mountains but keep the sky",
            WARNED,
            ("'sky'",),
            read="change the background to mountains",
        ),
        Case("Keep the clouds and change the background to a desert", WARNED, ("'clouds'",)),
        Case("Change the background", REFUSED, ("no background", "sunset")),
        Case("Change the background to Paris", REFUSED, ("'paris'", "sunset")),
        Case("Change the background to a tropical beach at sunset", REFUSED, ("'tropical'", "'beach'")),
        Case("Change the background to a forest at sunset", REFUSED, ("forest", "sunset", "one")),
        Case("Add mountains", REFUSED, ("Change the background to mountains",)),
    ],
    "Plurals, counts, inflections": [
        Case("Add balloons", WARNED, ("one balloon",), read="add a red balloon"),
        Case("Add 3 red balloons", WARNED, ("'3'", "one balloon"), read="add a red balloon"),
        Case("two kites", WARNED, ("'two'", "one kite"), read="add a red kite"),
        Case("Add a lot of butterflies", WARNED, ("'lot'", "one butterfly"), read="add an orange butterfly"),
        Case("Add a balloon that floats up", DONE, read="add a red balloon floating up"),
        Case("It is raining heavily", DONE, read="add heavy rain"),
        Case("flying birds", WARNED, ("one bird",), read="add a black flying bird"),
        Case("Add a gray cube", DONE, read="add a white cube"),
        Case("Add a red and white ball", WARNED, ("red and white", "one colour"), read="add a red ball"),
    ],
    "Words that come near": [
        Case("Add a shiny gold apple", DONE, read="add a shiny yellow apple"),
        Case("Add a metal ball", DONE, read="add a metal white ball"),
        Case("Add a shiny metal red ball", DONE, read="add a metal red ball"),
        Case("Add a silver ball", DONE, read="add a white ball"),
        Case(
            "Add a wooden crate on the sidewalk",
            WARNED,
            ("'on the sidewalk' as 'at the bottom'",),
            read="add an orange crate at the bottom",
        ),
        Case("Add a red wooden box", WARNED, ("'wooden'",), read="add a red box"),
        Case("Add a brown leaf falling slowly", DONE, read="add an orange leaf falling slowly"),
        Case(
            "A hot air balloon floating across the sky",
            WARNED,
            ("'hot air balloon' as 'balloon'", "'across the sky' as 'drifting right'"),
            read="add a red balloon drifting right",
        ),
        Case("Add a dove flying from right to left", WARNED, ("'dove'",), read="add a black bird drifting left"),
        Case("Add a bird flying across the frame", DONE, read="add a black bird drifting right"),
        Case("A goldfish swimming to the left", DONE, read="add an orange goldfish moving to the left"),
        Case(
            "Add a balloon floating above the roofs", WARNED, ("'above the roofs'",), read="add a red balloon hovering"
        ),
        Case("Make it snow heavily", DONE, read="add heavy snow"),
        Case("Snow falling lightly", DONE, read="add light snow"),
        Case("Add a drizzle", DONE, read="add light rain"),
        Case("Add a red ball moving left", DONE, (), read="add a red ball drifting left"),
        Case("A bird flies right", DONE, (), read="add a black bird drifting right"),
        Case("Add a blue kite flying leftwards", DONE, (), read="add a blue kite drifting left"),
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
        Case("Add a red balloon, also add a blue one", REFUSED, ("balloon and another one",)),
        Case("a red balloon and then a green one", REFUSED, ("another one",)),
        Case("Add a green kite and a blue", REFUSED, ("another one",)),
        Case("Add a red and a blue balloon", REFUSED, ("another one",)),
        Case("Add a balloon on the left and one on the right", REFUSED, ("another one",)),
        Case("Add a balloon and do the same on the right", REFUSED, ("another one",)),
        Case("add a kite. Add a boat too", REFUSED, ("'boat'",)),
        Case("Add a kite plus a ball", REFUSED, ("kite and ball",)),
        Case("Add a kite as well as a zebra", REFUSED, ("'zebra'",)),
        Case("Add a balloon with a bird next to it", REFUSED, ("balloon and bird",)),
        Case("Add a lantern surrounded by butterflies", REFUSED, ("lantern and butterfly",)),
        Case("Add a red balloon and make it snow", REFUSED, ("balloon and snow",)),
        Case("Change the background to a forest with snow", REFUSED, ("another background and snow",)),
        Case("Change the background to the sea and the man to a woman", REFUSED, ("'man'",)),
        Case("Put mountains and a lake behind the dancer", REFUSED, ("'lake'",)),
        Case("Add another balloon", DONE, read="add a red balloon"),
    ],
    "Postures": [
        Case("Add an apple that stands on the left", DONE, read="add a red apple resting on the left"),
        Case("Add a cube sitting on the right", DONE, read="add an orange cube resting on the right"),
        Case("Add a ball lying in the middle", DONE, read="add a red ball resting in the middle"),
        Case("a ball lies on the left", DONE, read="add a red ball resting on the left"),
        Case("Add a standing umbrella", DONE, read="add a blue umbrella resting"),
        Case("Add a mushroom planted in the grass", WARNED, ("'in the grass' as 'at the bottom'",)),
        Case("Add a bird perched on the fence", WARNED, ("'on the fence'",), read="add a black bird resting"),
        Case(
            "Change the background to a meadow, keep the person standing",
            DONE,
            read="change the background to a meadow keep the person",
        ),
        Case(
            "Keep the sitting woman and change the background to a forest",
            DONE,
            read="change the background to a forest keep the woman",
        ),
        Case("Add a person standing on the left", REFUSED, ("'person'",)),
    ],
    "Two colours, two sizes, two ways": [
        Case("Add a red fish, blue", WARNED, ("red and blue", "one colour"), read="add a red fish"),
        Case("Add a red ball that is blue", WARNED, ("red and blue",), read="add a red ball"),
        Case("Add a red, white and blue kite", WARNED, ("red and white and blue",), read="add a red kite"),
        Case("Add a small big balloon", WARNED, ("small and big", "one size"), read="add a small red balloon"),
        Case("Add a glowing matte ball", WARNED, ("one material",), read="add a glowing red ball"),
        Case("Add heavy light snow", WARNED, ("one amount",), read="add heavy snow"),
        Case("Add a slow fast ball", WARNED, ("one pace",), read="add a red ball slowly"),
        Case("Add a balloon rising then falling", WARNED, ("'falling'",), read="add a red balloon rising"),
        Case("Add a balloon on the left and right", WARNED, ("'right'",), read="add a red balloon on the left"),
        Case("Add a red balloon turning blue", REFUSED, ("'turning'",)),
    ],
    "Places as people say them": [
        Case("Add a balloon top left", DONE, read="add a red balloon in the top left corner"),
        Case("a blue star, upper right corner", DONE, read="add a blue star in the upper right"),
        Case("Add a balloon at the lower left", DONE, read="add a red balloon in the lower left"),
        Case("Add a balloon bottom-right", DONE, read="add a red balloon in the bottom right corner"),
        Case("Add a balloon [left]", DONE, read="add a red balloon on the left"),
        Case("Add a kite on the far right", DONE, read="add a red kite on the right"),
        Case("Add a balloon centered", DONE, read="add a red balloon in the center"),
        Case("Add a kite at the top of the frame", DONE, read="add a red kite at the top"),
        Case("Add a ball left of the man", WARNED, ("'of the man'",), read="add a red ball on the left"),
        Case("Add a balloon at x=100 y=200", WARNED, ("'at x = 100 y = 200'",), read="add a red balloon"),
        Case("Add a balloon on the lfet", REFUSED, ("'lfet'", "did you mean 'left'")),
    ],
    "Negations": [
        Case("Add a balloon that does not move", DONE, read="add a red balloon still"),
        Case("a balloon without moving", DONE, read="add a red balloon still"),
        Case("Add a balloon; it stays in place", DONE, read="add a red balloon still"),
        Case("Add a static balloon", DONE, read="add a red balloon still"),
        Case("Keep the background and add a balloon", DONE, read="add a red balloon"),
        Case("Don't change anything else, add a kite", DONE, read="add a red kite"),
        Case("Add a ball, not red", REFUSED, ("'not'",)),
        Case("a balloon that isn't red", REFUSED, ("'isn't'",)),
        Case("Add a balloon, no clouds", REFUSED, ("'no'",)),
        Case("Add a balloon that never falls", REFUSED, ("'never'",)),
        Case("I do not want snow", REFUSED, ("'not'",)),
        Case("avoid snow", REFUSED, ("'avoid'",)),
        Case("I hate balloons", REFUSED, ("'hate'",)),
        Case("Add anything but a balloon", REFUSED, ("'not'",)),
        Case("Add a balloon in any colour but red", REFUSED, ("'not'",)),
        Case("Change the background, but keep the forest", REFUSED, ("no background",)),
        Case("Add zero balloons", REFUSED, ("'zero'",)),
        Case("Add -1 balloons", REFUSED, ("'-1'",)),
        Case("a colourless balloon", REFUSED, ("'colourless'",)),
        Case("Change the background to a cloudless sky", REFUSED, ("'cloudless'",)),
        Case("Change the background to a forest without fog", REFUSED, ("'without'",)),
    ],
    "When and how": [
        Case("Add a balloon, close-up", WARNED, ("'close up'",), read="add a red balloon"),
        Case("Add a balloon in slow motion", WARNED, ("'in slow motion'",), read="add a red balloon"),
        Case("Add a balloon at frame 10", WARNED, ("'at frame 10'",), read="add a red balloon"),
        Case("Add a balloon for two seconds", WARNED, ("'for two seconds'",), read="add a red balloon"),
        Case("Add a balloon starting at the second half", WARNED, ("'starting'", "'at the second half'")),
        Case("Add a balloon until the man leaves", WARNED, ("'until the man leaves'",), read="add a red balloon"),
        Case("Add a balloon while it rains", WARNED, ("'while it rains'",), read="add a red balloon"),
        Case("When the man turns, add a balloon", WARNED, ("'when the man turns'",), read="add a red balloon"),
        Case("Add a balloon with paint", WARNED, ("'with paint'",), read="add a red balloon"),
        Case("I want you to add a balloon", DONE, read="add a red balloon"),
        Case("Add a transparent balloon", WARNED, ("'transparent'",), read="add a red balloon"),
        Case("Add a balloon slightly to the left", WARNED, ("'slightly'",), read="add a red balloon to the left"),
        Case("Add a balloon coming from the left", DONE, read="add a red balloon drifting right"),
        Case("Add a balloon going from bottom to top", DONE, read="add a red balloon rising"),
        Case("Add a balloon. It should be big and float up.", DONE, read="add a big red balloon floating up"),
        Case("Add a balloon in black and white", REFUSED, ("light of the picture",)),
        Case("Add a cartoon style balloon", REFUSED, ("'cartoon'",)),
        Case("Add a balloon bigger than the house", REFUSED, ("'bigger'",)),
        Case("Add a balloon that disappears", REFUSED, ("'disappears'",)),
    ],
    "Other things that begin or end as one that it knows": [
        Case("Add an apple tree", REFUSED, ("'apple tree'", "only 'apple'")),
        Case("Add a balloon animal", REFUSED, ("'balloon animal'",)),
        Case("Add a kite surfer", REFUSED, ("'kite surfer'",)),
        Case("Add a fire truck", REFUSED, ("'fire truck'",)),
        Case("Add a snow globe on the left", REFUSED, ("'snow globe'",)),
        Case("Add a rocket man", REFUSED, ("'rocket man'",)),
        Case("Add a snowman", REFUSED, ("'snowman'",)),
        Case("Add a firefly", REFUSED, ("'firefly'",)),
        Case("Add a toy boat", REFUSED, ("'toy', 'boat'",)),
        Case("Add a rubber duck", REFUSED, ("'rubber', 'duck'",)),
        Case("Add cat food", REFUSED, ("'cat', 'food'",)),
        Case("Add a picture of a balloon", REFUSED, ("'picture of a balloon'",)),
        Case("Add a star fish", REFUSED, ("star and fish",)),
        Case("Add a man holding an umbrella", REFUSED, ("'man'",)),
        Case("Add a dog chasing a ball", REFUSED, ("'dog'",)),
        Case("It's raining cats and dogs", REFUSED, ("'raining cats'",)),
        Case("Change the background to a city park", REFUSED, ("'city park'", "only 'city'")),
        Case("Change the background to a night club", REFUSED, ("'night club'",)),
        Case("Change the background to a forest fire", REFUSED, ("fire",)),
        Case("Add a big bouncy balloon", WARNED, ("'bouncy'",), read="add a big red balloon"),
        Case("Add a toy rocket", WARNED, ("'toy'",), read="add a white rocket"),
        Case("Add a boxing ring", WARNED, ("'boxing'",), read="add a yellow ring"),
        Case("Change the background to a snowy forest", WARNED, ("'snowy'",), read="change the background to forest"),
    ],
    "Questions, quotes and marks": [
        Case("Is there a balloon in the shot?", REFUSED, ("question",)),
        Case("How do I add a balloon?", REFUSED, ("question",)),
        Case("Where is the balloon?", REFUSED, ("nothing to add",)),
        Case("What about a balloon?", DONE, read="add a red balloon"),
        Case("Can you add a red balloon?", DONE, read="add a red balloon"),
        Case("“add a red balloon”", DONE),
        Case("ADD A RED BALLOON!!!", DONE),
        Case("red-balloon", DONE, read="add a red balloon"),
        Case("Add the word 'balloon'", REFUSED, ("write words",)),
        Case("add 2 ballons pls 🎈", REFUSED, ("'ballons'", "did you mean")),
        Case("Add a red balloon 😊", WARNED, ("'😊'",), read="add a red balloon"),
        Case("masterpiece, best quality, red balloon, 4k", WARNED, ("'masterpiece'", "'4k'"), read="add a red balloon"),
        Case("빨간 풍선 추가", REFUSED, ("English",)),
        Case("הוסף בלון אדום", REFUSED, ("English",)),
        Case("Thêm một quả bóng bay màu đỏ", REFUSED, ("English",)),
        Case("Recolour the car red", REFUSED, ("'recolour'",)),
        Case("Upscale to 4K", REFUSED, ("'upscale'",)),
        Case("Stabilise the shot", REFUSED, ("'stabilise'",)),
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
