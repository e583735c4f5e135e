"""Instructions: many ways to say the same edit, and the words that exist at all."""

import re

from core.data import words


def tokenize(text: str) -> list[str]:
    """Lower-case words; punctuation and hyphens part them."""
    return re.findall(r"[a-z]+", text.lower())


def instruction(labels: dict, rng) -> str:
    """One phrasing of the edit that labels describe (see clips.py); rng is a random.Random."""
    if labels["edit"] == "background":
        return _background(labels, rng)
    subject = _effect(labels, rng) if labels["edit"] == "effect" else _object(labels, rng)
    verb = rng.choice(("Add", "Add", "Add", "Put", "Place", "Insert", "Create", "Show"))
    text = f"{verb} {subject}"
    if rng.random() < 0.2:
        text = f"Please {text[0].lower()}{text[1:]}"
    return _finish(text, rng)


def _object(labels, rng):
    place = rng.choice(words.PLACE_PHRASES[labels["place"]]) if labels.get("place") else ""
    motion = rng.choice(words.MOTIONS[labels["motion"]])
    size = rng.choice(words.SIZES[labels["size"]]) if labels["size"] != "medium" or rng.random() < 0.2 else ""
    noun = _join(size, labels["color"], rng.choice(words.OBJECTS[labels["object"]]))
    article = "an" if noun[0] in "aeiou" else "a"
    if motion and rng.random() < 0.2:
        noun, motion = f"{motion} {noun}", ""
        article = "a"
    tail = [motion, place]
    if rng.random() < 0.3:
        tail.reverse()
    return _join(article, noun, *tail)


def _effect(labels, rng):
    amount = {"light": ("light", "a little"), "heavy": ("heavy", "thick", "dense")}.get(labels["amount"], ("",))
    noun = rng.choice(words.EFFECTS[labels["effect"]])
    amount = rng.choice(amount)
    return noun if noun.startswith("a ") and amount else _join(amount, noun)


def _background(labels, rng):
    scene = rng.choice(words.BACKGROUNDS[labels["background"]])
    keep = rng.choice(words.SUBJECTS)
    form = rng.choice(
        (
            "Change the background to {scene}. {shot}Keep the {keep} intact.",
            "Change the background to {scene}. Keep the {keep} intact.",
            "Replace the background with {scene}, keep the {keep}.",
            "Put {scene} behind the {keep}.",
            "Make the background {scene}.",
        )
    )
    return form.format(scene=scene, keep=keep, shot=_shot(rng) + " ")


def _finish(text, rng):
    return f"{text}. {_shot(rng)}" if rng.random() < 0.25 else text + rng.choice(("", "."))


def _shot(rng):
    return f"{rng.choice(words.SHOTS)}, {rng.choice(words.ANGLES)}, {rng.choice(words.CAMERAS)}."


def _join(*parts):
    return " ".join(p for p in parts if p)


def vocabulary() -> list[str]:
    """Every word that an instruction of this world can hold, sorted."""
    texts = [*words.COLORS, *words.SUBJECTS, *words.SHOTS, *words.ANGLES, *words.CAMERAS]
    for table in (words.OBJECTS, words.SIZES, words.PLACE_PHRASES, words.MOTIONS, words.EFFECTS, words.BACKGROUNDS):
        for phrases in table.values():
            texts += phrases
    texts += ["please add put place insert create show a an the change background to keep intact replace with"]
    texts += ["behind make light little heavy thick dense"]
    return sorted({w for t in texts for w in tokenize(t)})
