"""Words outside of mini's vocabulary that the prompt reader understands, with their meaning for the model."""


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


def _by_word(acts: dict[str, str]) -> dict[str, str]:
    """{act: its words} -> {word: act}."""
    return {word: act for act, words in acts.items() for word in words.split()}


# Words without meaning for the picture: they are read and not passed to the model.
FILLERS = _words("""
    i we you it this that these those there here is are be being been am was were s some any should would could can
    will shall may might must let lets want wants need like wish love us me my our your his her their its please
    pls plz kindly just only exactly simply also now which who appear appears appearing visible see seen have has
    get scene shot video clip image picture frame frames footage plate layer do does did so very really bit as such
    ok okay hi hey hello thanks thank thx new different single again too either
""")
# Words for the whole picture: "in the shot" says nothing more.
PICTURE = _words("scene shot video clip image picture frame frames footage plate layer there here")
# Before a thing they mean a further one: "a second balloon". Alone they stand for a thing: "a blue one".
STANDING_FOR = _words("one ones another other others second third same twice thrice duplicate extra")
# Words that ask for quality. They are left out, with a note.
QUALITIES = _words("""
    beautiful nice pretty lovely cute cool awesome amazing photorealistic realistic realism photoreal believable
    detailed detail details highly hd uhd hq 4k 8k quality best high ultra masterpiece professional perfect clean crisp
    natural seamless elegant magical subtle slightly
""")

ARTICLES = frozenset(("a", "an", "the"))
# Words that follow a changing verb if the thing is already in the picture.
THERE_ALREADY = _words("the this that these those his her their its my our your every all it them him everything")
# Words that begin a question. A request such as "can you add ..." is none.
QUESTIONS = _words("what why who whom whose which how is are was were does did has")
QUESTIONS_BY_THEIR_MARK = _words("do have can could would will")  # "do you see a balloon?", but not "do add one"
CONJUNCTIONS = frozenset(("and", "then", "plus", "also", "or", "but", "versus", "vs"))
# They begin a part that says where, when or how, which mini understands only if it is a phrase of its world.
SUBORDINATORS = _words("until till when whenever while once if because where")  # up to the next break
# Words that begin a description of the thing: "that disappears", "it should be transparent".
RELATIVES = _words("that which who it they is are was were should must can could would")
PREPOSITIONS = SUBORDINATORS | _words("""
    in on at to with over behind under below above beside beneath underneath near next out between by from through
    across along around against inside outside toward towards among onto into for like off past beyond within upon
    front during after before since than via per about
""")
COUNTS = _words("""
    two three four five six seven eight nine ten eleven twelve twenty hundred hundreds thousand thousands dozen
    dozens several
    many few couple pair lot lots bunch group flock swarm pile row stack multiple various both more much each every
""")

# Verbs that add -> the model's verb for them.
ADDING = {
    "generate": "create",
    "render": "create",
    "make": "add",
    "include": "insert",
    "overlay": "add",
    "superimpose": "add",
    "introduce": "add",
    "composite": "add",
    "give": "add",
    "bring": "add",
    "paint": "draw",
    "build": "create",
}
# Verbs that change something in the picture. mini can change the background only.
CHANGING = _words("""
    change changing replace replacing make turn turning transform transforming convert swap switch set alter modify
    edit paint
    substitute exchange give
""")
# Verbs of CHANGING that can add too: "make a balloon", "paint a star".
CHANGING_OR_ADDING = frozenset(("make", "paint", "give"))
BACKGROUND = _words("background backgrounds backdrop bg scenery surroundings environment")
NEGATIONS = _words("""
    no not without never nothing none dont doesnt isnt arent wont cannot cant neither nor non avoid avoids avoiding
    except excepting exclude excludes excluding lacking lacks lack minus instead rather hate hates dislike forbid
    unless hardly barely less fewer zero 0 unlit invisible unseen aint sans
""")
NOT_LACKING = _words("motionless seamless flawless endless countless timeless bless unless nevertheless regardless")
# Expressions of several words -> the single word as which they are read.
SAID_OTHERWISE = {
    ways: word
    for word, lists in {
        "still": (
            "does not move|doesn't move|doesnt move|do not move|don't move|is not moving|isn't moving|not moving"
            "|not move|without moving|without movement|without motion|without any motion|without any movement|no motion"
            "|no movement|non moving|never moves|never moving|stays still|stay still|staying still|stands still"
            "|standing still|keeps still|stays in place|stay in place|staying in place|stays put|holding still"
        ),
        "and": ("as well as|along with|together with|in addition to|followed by|accompanied by|besides|alongside"),
        "also": "as well|at the same time|on top of that|in addition|additionally|furthermore|afterwards|afterward",
        "not": "anything but|other than|everything but|all but|colour but|color but|one but|kind but|place but",
        "without": "free of|devoid of",
        "just": "nothing but",
        "keep": "leave the|leave everything",
        "monochrome": "in black and white|in b w|black and white footage|black and white film",
        "want": "would like|i like|we like",
        "": "what about|how about|right now|for me|a bit more like",
    }.items()
    for ways in lists.split("|")
}
# Verbs that mean "keep" after a negation: "don't touch the dancer".
TOUCHING = _words("""
    touch touching change changing move moving alter altering affect affecting edit editing cover covering modify
    modifying
    remove removing replace replacing hide hiding lose losing harm
""")

# Acts that mini cannot do, with words that ask for them at any position,
ACTS_ANYWHERE = _by_word(
    {
        "take things away": "remove delete erase eliminate rid disappear vanish uncover dissolve",
        "write words": "word text letter caption title subtitle saying reading says sign writing inscription",
        "change the colour or material of things": ("recolor recolour colorize colourize colourise colorise dye tint"),
        "change the light of the picture": (
            "relight darken darker brighten brighter dimmer lighting exposure contrast saturation desaturate warmer"
            " cooler grade regrade illuminate monochrome greyscale grayscale sepia"
        ),
        "change the style of the picture": (
            "style stylize stylise restyle anime cartoon comic cinematic sketch watercolor watercolour"
        ),
        "move, resize or reshape things": (
            "resize rescale enlarge shrink flip mirror reposition bigger smaller larger taller zoom"
        ),
        "treat the picture": (
            "upscale upres stabilize stabilise denoise degrain deblur sharpen retime interpolate rotoscope deinterlace"
        ),
    }
)
# and with verbs that ask for them at the beginning of a clause.
ACTS_AT_THE_START = _by_word(
    {
        "take things away": "take hide clear clean wipe cut stop drop",
        "change the colour or material of things": "color colour",
        "change the light of the picture": "light dim lower raise increase decrease reduce",
        "move, resize or reshape things": "move shift rotate scale stretch pan tilt",
        "treat the picture": "blur slow speed crop fix repair restore enhance improve track extract reverse loop trim",
    }
)

# Words that only look like forms of a known word.
FALSE_FRIENDS = _words("""
    tin tins tine tines offing shin shins cite cites heave heaves heaved heaving heavies even evens evened firing
    fired lowe matted matting rest rests andes gods skye smoked daises fulling lowing seas lines
""")
# Words that resemble a known one and are no misspelling of it.
NOT_MISSPELT = _words("""
    spinning swinging driving stays stay stand stands standing string spring later closed singing bursting growing
""")
RESPELLED = {
    "gray": "grey",
    "into": "to",
    "onto": "on",
    "foggy": "fog",
    "rainy": "rain",
    "aeroplane": "airplane",
    "upwards": "up",
    "upward": "up",
    "downwards": "down",
    "downward": "down",
    "leaves": "leaf",
    "women": "woman",
    "men": "man",
    "people": "person",
}

# The model's nearest colour -> other names of colours and materials. A name is left out if the thing also has one of
# the model's colours.
NEAREST_COLORS = {
    word: color
    for color, words in {
        "red": "crimson scarlet maroon burgundy ruby cherry",
        "orange": "brown wooden wood copper bronze amber rusty tan chestnut cardboard leather terracotta",
        "yellow": "gold golden brass lemon mustard blonde",
        "green": "lime olive emerald mint",
        "cyan": "turquoise teal aqua",
        "blue": "navy azure sapphire",
        "purple": "violet lilac lavender indigo",
        "pink": "magenta fuchsia salmon peach",
        "white": "silver grey gray steel chrome stone marble concrete ivory cream beige snowy",
        "black": "charcoal ebony",
    }.items()
    for word in words.split()
}
# The usual colour of a thing, used if none is named.
USUAL_COLORS = {
    "ball": "red",
    "balloon": "red",
    "cube": "orange",
    "star": "yellow",
    "heart": "red",
    "ring": "yellow",
    "kite": "red",
    "lantern": "orange",
    "mushroom": "red",
    "fish": "orange",
    "umbrella": "blue",
    "butterfly": "orange",
    "bird": "black",
    "leaf": "green",
    "paper plane": "white",
    "rocket": "white",
    "apple": "red",
    "flower": "yellow",
}
# How a thing or a kept subject rests. An object's posture is drawn as "resting"; a subject's is the plate's.
POSTURES = _words("standing stands sitting sits lying lies perched perching parked planted rests")
# Other words about objects -> the model's word with the same meaning.
SAME_AS = {
    **dict.fromkeys(sorted(POSTURES), "resting"),
    "floating": "hovering",
    "hanging": "hovering",
    "slow": "slowly",
    "fast": "quickly",
    "motionless": "still",
    "static": "still",
    "stationary": "still",
    "unmoving": "still",
}
# Movements that an effect always has; naming them changes nothing.
ITS_OWN_WAY = {
    "snow": _words("falling floating drifting"),
    "rain": _words("falling pouring"),
    "confetti": _words("falling floating flying"),
    "smoke": _words("rising drifting billowing"),
    "bubbles": _words("rising floating flying"),
    "sparks": _words("flying"),
    "fog": _words("drifting rolling"),
    "fire": _words("burning"),
    "light rays": _words("shining"),
}
# "on the ..." is taken as the bottom of the picture and "in the ..." as its top, with a note.
GROUNDS = _words("""
    ground floor sidewalk pavement street road path grass lawn table desk sand beach snow stairs bench carpet
""")
# "in the ..." is the bottom too.
SOFT_GROUNDS = _words("grass sand")
SKIES = _words("sky air")
WAYS = {
    "from left to right": "drifting right",
    "from the left to the right": "drifting right",
    "left to right": "drifting right",
    "right to left": "drifting left",
    "from right to left": "drifting left",
    "from bottom to top": "rising",
    "from the bottom to the top": "rising",
    "from top to bottom": "falling",
    "from the top to the bottom": "falling",
    "coming from the left": "drifting right",
    "coming from the right": "drifting left",
    "entering from the left": "drifting right",
    "entering from the right": "drifting left",
    "up and down": "bouncing",
    "jumping": "bouncing",
    "hopping": "bouncing",
    "in circles": "circling",
    "from the right to the left": "drifting left",
    "across the frame": "drifting right",
    "across the picture": "drifting right",
    "across the screen": "drifting right",
    "across the shot": "drifting right",
}
MOVING = tuple(
    f"{stem}{ending}"
    for stem, endings in {
        "fly": ("ing",),
        "fl": ("ies",),
        "float": ("ing", "s"),
        "swim": ("ming", "s"),
        "roll": ("ing", "s"),
        "glid": ("ing", "es"),
        "sail": ("ing", "s"),
        "go": ("ing", "es"),
        "drift": ("ing", "s"),
        "walk": ("ing", "s"),
        "mov": ("ing", "es"),
        "travel": ("ling", "ing", "s"),
        "com": ("ing",),
        "enter": ("ing",),
    }.items()
    for ending in endings
)
# Words for a person after "behind" and "in front of"; the model reads all of them as "the person".
SOMEBODY: tuple[str, ...] = (
    *("him", "her", "them", "me", "us", "somebody", "someone"),
    *(f"the {who}" for who in "boy girl guy lady child kid actor actress driver speaker presenter".split()),
)
# The model's subjects that are people.
PEOPLE = _words("person dancer man woman subject figure")
# Other things -> the kind of thing that the model draws for them.
KINDS_OF = {
    "balloon": ("hot air balloon", "helium balloon"),
    "ball": ("beach ball", "soccer ball", "tennis ball", "basketball", "football"),
    "bird": ("dove", "doves", "pigeon", "seagull", "gull", "crow", "raven", "sparrow", "eagle", "swallow"),
    "flower": ("rose", "tulip", "sunflower"),
    "cube": ("dice",),
    "rocket": ("spaceship",),
}
EFFECTS_LIKE = {"drizzle": "light rain", "downpour": "heavy rain", "blizzard": "heavy snow"}

# Words that name a background by themselves.
SCENE_NOUNS = {
    "sunset": "sunset",
    "evening": "sunset",
    "night": "night",
    "starry": "night",
    "sea": "sea",
    "ocean": "sea",
    "desert": "desert",
    "dunes": "desert",
    "dune": "desert",
    "mountains": "mountains",
    "mountain": "mountains",
    "peaks": "mountains",
    "studio": "studio",
    "forest": "forest",
    "woods": "forest",
    "city": "city",
    "skyline": "city",
    "bricks": "bricks",
    "brick": "bricks",
    "wall": "bricks",
    "storm": "storm",
    "stormy": "storm",
    "meadow": "meadow",
    "field": "meadow",
    "clouds": "clouds",
    "cloudy": "clouds",
    "sky": "clouds",
}
# Backgrounds that can be part of another one's description: a city at night, a stormy sea, storm clouds.
PARTS_OF = {("night", "city"), ("sea", "storm"), ("clouds", "storm"), ("clouds", "sunset"), ("clouds", "night")}

# Usual expressions for places -> the model's own.
SIDES = {"left": "on the left", "right": "on the right"}
ROWS = {"top": "top", "upper": "upper", "lower": "lower", "bottom": "bottom"}


def _places() -> dict[str, str]:
    """All expressions for each of the nine places that are no phrase of the model's world."""
    places: dict[str, str] = {}
    for side, own in SIDES.items():
        bare = [side, *(f"{side} {part}" for part in ("side", "half", "third", "edge", "hand side"))]
        bare += [f"far {side}", f"very {side}", f"{side} of frame", f"{side} of the frame"]
        places |= _with_beginnings(bare, own)
    for row, own in {"top": "at the top", "bottom": "at the bottom"}.items():
        places |= _with_beginnings([row, *(f"{row} {part}" for part in ("half", "third", "edge", "part"))], own)
    for row in ("upper", "lower"):
        own = "at the top" if row == "upper" else "at the bottom"
        places |= _with_beginnings([f"{row} {part}" for part in ("half", "third", "edge", "part")], own)
    for middle in ("middle", "center", "centre"):
        places |= _with_beginnings([middle, *(["centered"] if middle == "center" else [])], f"in the {middle}")
    places |= {"centred": "in the centre", "dead center": "in the center", "dead centre": "in the centre"}
    for row in ROWS:
        for side in SIDES:
            own = f"in the {row} {side}" + (" corner" if row in ("top", "bottom") else "")
            for pair in (f"{row} {side}", f"{side} {row}"):
                bare = [pair, *(f"{pair} {part}" for part in ("corner", "side", "quarter", "hand corner", "edge"))]
                places |= _with_beginnings(bare, own)
    return places


def _with_beginnings(ways: list[str], own: str) -> dict[str, str]:
    beginnings = ("", "on ", "on the ", "at ", "at the ", "in ", "in the ", "to the ", "near the ", "towards the ")
    return {f"{beginning}{way}": own for way in ways for beginning in beginnings}


PLACES = _places()
