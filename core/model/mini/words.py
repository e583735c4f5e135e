"""The world that mini knows, in words. Each entry: the name first, then its synonyms."""

COLORS = {  # display-encoded sRGB
    "red": (0.85, 0.10, 0.10),
    "orange": (0.95, 0.50, 0.08),
    "yellow": (0.95, 0.85, 0.12),
    "green": (0.15, 0.65, 0.20),
    "cyan": (0.15, 0.80, 0.85),
    "blue": (0.12, 0.25, 0.85),
    "purple": (0.50, 0.15, 0.70),
    "pink": (0.97, 0.50, 0.70),
    "white": (0.94, 0.94, 0.94),
    "black": (0.07, 0.07, 0.08),
}

OBJECTS = {
    "ball": ("ball", "sphere"),
    "balloon": ("balloon", "party balloon"),
    "cube": ("cube", "box", "crate"),
    "star": ("star", "five pointed star"),
    "heart": ("heart", "love heart"),
    "ring": ("ring", "hoop", "donut"),
    "kite": ("kite", "diamond kite"),
    "lantern": ("lantern", "paper lantern"),
    "mushroom": ("mushroom", "toadstool"),
    "fish": ("fish", "goldfish"),
    "umbrella": ("umbrella", "parasol"),
    "butterfly": ("butterfly", "moth"),
    "bird": ("bird", "flying bird"),
    "leaf": ("leaf", "tree leaf"),
    "paper plane": ("paper plane", "paper airplane"),
    "rocket": ("rocket", "space rocket"),
    "apple": ("apple", "ripe apple"),
    "flower": ("flower", "daisy", "blossom"),
}
# The kinds that stand on something cast a contact shadow; the others float.
STANDING = ("ball", "cube", "mushroom", "ring", "apple")

MATERIALS = {  # None: the kind's own material
    None: ("",),
    "matte": ("matte", "chalky"),
    "glossy": ("glossy", "shiny"),
    "metallic": ("metallic", "metal"),
    "glowing": ("glowing", "luminous"),
}

SIZES = {"small": ("small", "tiny", "little"), "medium": ("", "medium"), "large": ("large", "big", "huge")}

HALF_HEIGHTS = {"small": 0.15, "medium": 0.22, "large": 0.31}  # half an object's height, in frame heights

PLACES = {  # x and y of the path's centre, in half frames, y down
    "left": (-0.55, 0.0),
    "right": (0.55, 0.0),
    "centre": (0.0, 0.0),
    "top": (0.0, -0.5),
    "bottom": (0.0, 0.5),
    "top left": (-0.55, -0.5),
    "top right": (0.55, -0.5),
    "bottom left": (-0.55, 0.5),
    "bottom right": (0.55, 0.5),
}
PLACE_PHRASES = {
    "left": ("on the left", "at the left side", "to the left"),
    "right": ("on the right", "at the right side", "to the right"),
    "centre": ("in the centre", "in the middle", "in the center"),
    "top": ("at the top", "in the upper part"),
    "bottom": ("at the bottom", "in the lower part"),
    "top left": ("in the top left corner", "in the upper left"),
    "top right": ("in the top right corner", "in the upper right"),
    "bottom left": ("in the bottom left corner", "in the lower left"),
    "bottom right": ("in the bottom right corner", "in the lower right"),
}
DEPTHS = {"behind": "behind the {subject}", "in front": "in front of the {subject}"}
REFLECTIONS = (
    "reflected in the water",
    "with a reflection in the water",
    "reflected on the floor",
    "with its reflection on the shiny floor",
)

MOTIONS = {
    "still": ("", "still", "resting", "hovering"),
    "rising": ("rising", "floating up", "going up", "drifting up"),
    "falling": ("falling", "sinking", "going down", "floating down"),
    "drifting left": ("drifting left", "moving to the left"),
    "drifting right": ("drifting right", "moving to the right"),
    "bouncing": ("bouncing", "jumping up and down"),
    "circling": ("circling", "going round in circles"),
}
# The motions that may be slow or fast, x and y in frame heights over a shot.
STEPS = {"rising": (0, -0.4), "falling": (0, 0.4), "drifting left": (-0.5, 0), "drifting right": (0.5, 0)}
PACES = {"slow": "slowly", "usual": "", "fast": "quickly"}

EFFECTS = {
    "snow": ("snow", "falling snow", "snowfall", "snowflakes"),
    "rain": ("rain", "falling rain", "rainfall", "a shower of rain"),
    "fog": ("fog", "mist", "drifting fog"),
    "smoke": ("smoke", "rising smoke", "a plume of smoke"),
    "fire": ("fire", "flames", "burning fire", "fire and embers"),
    "confetti": ("confetti", "falling confetti", "paper confetti"),
    "bubbles": ("bubbles", "soap bubbles", "rising bubbles"),
    "sparks": ("sparks", "flying sparks", "a spray of sparks"),
    "light rays": ("light rays", "rays of light", "sun rays", "god rays"),
}

BACKGROUNDS = {
    "sunset": ("a sunset", "a sunset sky", "an orange evening sky"),
    "night": ("a starry night", "a night sky with stars"),
    "sea": ("the sea", "a calm sea", "an ocean"),
    "desert": ("a desert", "desert dunes", "sand dunes"),
    "mountains": ("snowy mountains", "mountains", "mountain peaks"),
    "studio": ("a studio gradient", "a grey studio", "a plain studio backdrop"),
    "forest": ("a forest", "a misty forest", "the woods"),
    "city": ("a city at night", "a city skyline at night", "night lights of a city"),
    "bricks": ("a brick wall", "red bricks", "a wall of bricks"),
    "storm": ("a storm", "a stormy sea", "storm clouds over the sea"),
    "meadow": ("a meadow", "a green field", "a grassy field"),
    "clouds": ("a blue sky with clouds", "white clouds", "a cloudy sky"),
}
SUBJECTS = ("person", "dancer", "man", "woman", "subject", "figure", "animal", "rabbit")
SHOTS = ("Medium shot", "Wide shot", "Close-up", "Full shot")
ANGLES = ("eye-level", "low angle", "high angle")
CAMERAS = ("static camera", "sharp focus", "shallow focus", "slow pan")

# Repeated as often as training draws them.
VERBS = (
    "Add",
    "Add",
    "Add",
    "Put",
    "Place",
    "Insert",
    "Create",
    "Show",
    "Draw",
)
AMOUNTS = {"light": ("light", "a little"), "heavy": ("heavy", "thick", "dense")}  # amount of an effect -> its words
BACKGROUND_FORMS = (
    "Change the background to {scene}. {shot} Keep the {keep} intact.",
    "Change the background to {scene}. Keep the {keep} intact.",
    "Replace the background with {scene}, keep the {keep}.",
    "Put {scene} behind the {keep}.",
    "Put the {keep} in front of {scene}.",
    "Keep the {keep} and change the background to {scene}.",
    "Make the background {scene}.",
)
