"""Instructions in many phrasings, and the vocabulary of all phrasings."""

import random
import re
from typing import Any

from vera.core.model.mini import words
from vera.core.model.mini.tokenize import tokenize


def instruction(labels: dict[str, Any], rng: random.Random) -> str:
    """A random phrasing of the edit that `labels` describe (see clips.py)."""
    if labels["edit"] == "background":
        form, scene = rng.choice(words.BACKGROUND_FORMS), rng.choice(words.BACKGROUNDS[labels["background"]])
        return form.format(scene=scene, keep=rng.choice(words.SUBJECTS), shot=_shot(rng))
    if labels["edit"] == "effect":
        return _finish(f"{rng.choice(words.VERBS)} {_effect(labels, rng)}", rng)
    noun, motion, place, more = _object(labels, rng)
    verb = rng.choice(words.VERBS)
    order = rng.random()
    if place and order < 0.12:  # the place first
        text = _join(f"{place[0].upper()}{place[1:]},", verb.lower(), noun, motion, more)
    elif place and order < 0.35:  # the place before the motion
        text = _join(verb, noun, place, motion, more)
    else:
        text = _join(verb, noun, motion, place, more)
    return _finish(text, rng)


def _object(labels: dict[str, Any], rng: random.Random) -> tuple[str, str, str, str]:
    """(noun with article and adjectives, motion, place, depth and reflection); each but the noun may be empty."""
    ways = words.PLACE_PHRASES.get(labels.get("place") or "", ("",))
    drifts = labels["motion"].startswith("drifting")  # avoids "moving to the left to the right"
    place = rng.choice([w for w in ways if not (drifts and w.startswith("to the"))])
    motion = rng.choice(words.MOTIONS[labels["motion"]])
    pace = words.PACES[labels.get("pace", "usual")]
    motion = _join(*((pace, motion) if rng.random() < 0.5 else (motion, pace))) if motion else pace
    size = rng.choice(words.SIZES[labels["size"]]) if labels["size"] != "medium" or rng.random() < 0.2 else ""
    material = rng.choice(words.MATERIALS[labels.get("material")])
    noun = _join(size, material, labels["color"], rng.choice(words.OBJECTS[labels["object"]]))
    if motion and rng.random() < 0.2:
        noun, motion = f"{motion} {noun}", ""
    more = []
    if labels.get("depth"):
        more.append(words.DEPTHS[labels["depth"]].format(subject=rng.choice(words.SUBJECTS)))
    if labels.get("reflection"):
        more.append(rng.choice(words.REFLECTIONS))
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}", motion, place, _join(*more)


def _effect(labels: dict[str, Any], rng: random.Random) -> str:
    amounts = words.AMOUNTS.get(labels["amount"], ("",))
    noun = rng.choice(words.EFFECTS[labels["effect"]])
    amount = rng.choice(amounts)
    return noun if noun.startswith("a ") and amount else _join(amount, noun)


def _finish(text: str, rng: random.Random) -> str:
    if rng.random() < 0.15 and "," not in text:
        text = f"Please {text[0].lower()}{text[1:]}"
    return f"{text}. {_shot(rng)}" if rng.random() < 0.3 else text + rng.choice(("", "."))


def _shot(rng: random.Random) -> str:
    return f"{rng.choice(words.SHOTS)}, {rng.choice(words.ANGLES)}, {rng.choice(words.CAMERAS)}."


def _join(*parts: str) -> str:
    return " ".join(p for p in parts if p)


def vocabulary() -> list[str]:
    """Every word that an instruction can contain, sorted."""
    texts = [
        *words.COLORS,
        *words.SUBJECTS,
        *words.SHOTS,
        *words.ANGLES,
        *words.CAMERAS,
        *words.VERBS,
        *words.BACKGROUND_FORMS,
    ]
    texts += [*words.DEPTHS.values(), *words.REFLECTIONS, *words.PACES.values()]
    tables = (
        words.OBJECTS,
        words.MATERIALS,
        words.SIZES,
        words.PLACE_PHRASES,
        words.MOTIONS,
        words.EFFECTS,
        words.BACKGROUNDS,
    )
    for table in tables:
        for phrases in table.values():
            texts += phrases
    texts += ["please a an light little heavy thick dense"]
    return sorted({w for t in texts for w in tokenize(re.sub(r"\{\w+\}", "", t))})
