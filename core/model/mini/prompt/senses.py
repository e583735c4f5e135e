"""Words outside mini's own vocabulary that its reader of prompts knows the sense of, and what it makes of them."""


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


def _by_word(acts: dict[str, str]) -> dict[str, str]:
    """{act: its words} -> {word: act}."""
    return {word: act for act, words in acts.items() for word in words.split()}


# Words that say nothing of the picture: read, and not given to the model.
FILLERS = _words("""
    i we you it this that these those there here is are be being been am was s some any another one should would
    could can
    will shall may let lets want wants need like wish would love us me my our your his her their please kindly just
    also now
    which who appear appears appearing visible see seen have has get scene shot video clip image picture frame
    frames footage
    plate layer do does so very really bit as such ok okay hi hello thanks thank new different one
""")

ARTICLES = frozenset(("a", "an", "the"))
# What follows a verb that changes things, where the thing is in the picture already.
THERE_ALREADY = _words("the this that these those his her their its my our your every all it them him everything")
CONJUNCTIONS = frozenset(("and", "then", "plus", "also", "or", "but"))
PREPOSITIONS = _words("""
    in on at to with over behind under below above beside beneath underneath near next out between by from through
    across along
    around against inside outside toward towards among onto into for like off past beyond within upon front during
""")
COUNTS = _words("""
    two three four five six seven eight nine ten eleven twelve twenty hundred hundreds thousand thousands dozen
    dozens several
    many few couple pair lot lots bunch group multiple various both more much
""")

# Verbs that add, as the model's own verb that stands for them.
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
# Verbs that change what is there: of these mini knows the background alone.
CHANGING = _words("""
    change changing replace replacing make turn turning transform transforming convert swap switch set alter modify
    edit paint
    substitute exchange give
""")
# Those of them that may add as well: "make a balloon", "paint a star".
CHANGING_OR_ADDING = frozenset(("make", "paint", "give"))
BACKGROUND = _words("background backgrounds backdrop bg scenery surroundings environment")
NEGATIONS = _words("no not without never nothing none dont doesnt isnt")
# After a negation these ask to keep: "don't touch the dancer".
TOUCHING = _words("""
    touch touching change changing move moving alter altering affect affecting edit editing cover covering modify
    modifying
    remove removing replace replacing hide hiding lose losing harm
""")

# Acts that mini does not know: by words that ask for them wherever they stand ...
ACTS_ANYWHERE = _by_word(
    {
        "take things away": (
            "remove removed removing delete deleted erase erasing eliminate rid disappear vanish uncover"
        ),
        "change the colour or material of things": (
            "recolor recolour recoloring recolouring colorize colourise colorise dye tint"
        ),
        "change the light of the picture": (
            "relight relighting darken darker brighten brighter dimmer "
            "lighting exposure contrast"
            " saturation desaturate warmer cooler grade regrade illuminate"
        ),
        "change the style of the picture": (
            "style styled stylize stylise restyle anime cartoon cinematic sketch watercolor watercolour"
        ),
        "move, resize or reshape things": (
            "resize rescale enlarge shrink flip mirror reposition bigger smaller larger taller zoom"
        ),
        "treat the picture": "upscale stabilize stabilise denoise deblur sharpen retime interpolate rotoscope",
    }
)
# ... and by verbs that begin a sentence or a part of it.
ACTS_AT_THE_START = _by_word(
    {
        "take things away": "take hide clear clean wipe cut stop drop",
        "change the colour or material of things": "color colour",
        "change the light of the picture": "light dim lower raise increase decrease reduce",
        "move, resize or reshape things": "move shift rotate scale stretch pan tilt",
        "treat the picture": "blur slow speed crop fix repair restore enhance improve track extract reverse loop trim",
    }
)

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

# Colours and materials as people name them, and the model's colour that comes nearest: what is taken for what is said.
# Of a thing that has one of the model's colours besides, they are left out.
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
# The colour that a thing has where none is named.
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
# Other words of the same sense, of objects, as the model has them.
SAME_AS = {"floating": "hovering", "hanging": "hovering", "motionless": "still", "slow": "slowly", "fast": "quickly"}
# What an effect does by itself: saying so asks for nothing more.
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
# "on the ..." is at the bottom of the picture, "in the ..." at its top: near enough, and said.
GROUNDS = _words("""
    ground floor sidewalk pavement street road path grass lawn table desk sand beach snow stairs bench carpet
""")
SKIES = _words("sky air")
WAYS = {
    "from left to right": "drifting right",
    "from the left to the right": "drifting right",
    "from right to left": "drifting left",
    "from the right to the left": "drifting left",
    "across the frame": "drifting right",
    "across the picture": "drifting right",
    "across the screen": "drifting right",
    "across the shot": "drifting right",
}
MOVING = ("flying", "floating", "swimming", "rolling", "gliding", "sailing", "going", "drifting", "walking")
# Things that are of a kind which the model draws as one.
KINDS_OF = {
    "balloon": ("hot air balloon", "helium balloon"),
    "ball": ("beach ball", "soccer ball", "tennis ball", "basketball", "football"),
    "bird": ("dove", "doves", "pigeon", "seagull", "gull", "crow", "raven", "sparrow", "eagle", "swallow"),
    "flower": ("rose", "tulip", "sunflower"),
    "cube": ("dice",),
    "rocket": ("spaceship",),
}
EFFECTS_LIKE = {"drizzle": "light rain", "downpour": "heavy rain", "blizzard": "heavy snow"}

# A word that is enough to name a background.
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
# Backgrounds that a word of another one may describe: a city at night, a stormy sea, storm clouds.
PARTS_OF = {("night", "city"), ("sea", "storm"), ("clouds", "storm"), ("clouds", "sunset"), ("clouds", "night")}

# Places as people shorten them, as the model has them.
PLACES = {
    "on left": "on the left",
    "on right": "on the right",
    "left side": "on the left",
    "right side": "on the right",
    "on the left side": "on the left",
    "on the right side": "on the right",
    "on the left hand side": "on the left",
    "on the right hand side": "on the right",
    "at the left": "on the left",
    "at the right": "on the right",
    "in middle": "in the middle",
    "at the center": "in the center",
    "at the centre": "in the centre",
    "at top": "at the top",
    "at bottom": "at the bottom",
    "top left": "in the top left corner",
    "top right": "in the top right corner",
    "bottom left": "in the bottom left corner",
    "bottom right": "in the bottom right corner",
    "in the top left": "in the top left corner",
    "at the top left": "in the top left corner",
    "in the top right": "in the top right corner",
    "at the top right": "in the top right corner",
    "in the bottom left": "in the bottom left corner",
    "at the bottom left": "in the bottom left corner",
    "in the bottom right": "in the bottom right corner",
    "at the bottom right": "in the bottom right corner",
    "in the upper left corner": "in the upper left",
    "in the upper right corner": "in the upper right",
    "in the lower left corner": "in the lower left",
    "in the lower right corner": "in the lower right",
    "top left corner": "in the top left corner",
    "top right corner": "in the top right corner",
}
