"""Damage by chance, the same for the same dice: of bytes, and of JSON."""

import copy
import json
import random
from typing import Any

ODD_VALUES: list[Any] = [
    None,
    True,
    False,
    0,
    -1,
    2**31,
    2**63,
    -(2**70),
    10**39,
    1.5,
    1e308,
    "",
    " ",
    "../../../etc/passwd",
    "/dev/zero",
    "\x00",
    "\u202e",
    "x" * 300,
    "x" * 20_000,
    "9" * 400,
    [],
    [[]],
    {},
    {"a": 1},
    ["x"] * 200,
    [5],
    "%s%n",
    "a\nb",
]
ODD_NUMBERS = (0, 1, 0x7F, 0x80, 0xFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)


def mutated_bytes(content: bytes, dice: random.Random) -> bytes:
    """Some bits flipped, or a part overwritten, cut off, doubled, left out or put in; headers more than the rest."""
    found = bytearray(content)
    for _ in range(dice.choice((1, 1, 1, 2, 8))):
        place = dice.randrange(max(1, min(len(found), 600) if dice.random() < 0.7 else len(found)))
        kind = dice.randrange(7)
        if kind <= 1 and found:
            found[place] ^= 1 << dice.randrange(8)
        elif kind == 2:
            width = dice.choice((1, 2, 4))
            number = dice.choice(ODD_NUMBERS) & (1 << 8 * width) - 1
            found[place : place + width] = number.to_bytes(width, dice.choice(("little", "big")))
        elif kind == 3:
            del found[place:]
        elif kind == 4:
            del found[place : place + dice.randrange(1, 64)]
        elif kind == 5:
            found[place:place] = found[place : place + dice.randrange(1, 64)]
        else:
            found[place:place] = dice.randbytes(dice.randrange(1, 32))
    return bytes(found)


def mutated_json(value: Any, dice: random.Random) -> bytes:
    """A value somewhere within replaced, left out, renamed or there twice; or the text damaged as bytes are."""
    kind = dice.randrange(8)
    if kind == 0:
        return mutated_bytes(json.dumps(value).encode(), dice)
    if kind == 1:
        return dice.choice((b"", b"[" * 100_000, b'{"a":' * 100_000, b"9" * 5000, b"NaN", b"\xff\xfe", b"null", b"7"))
    value = copy.deepcopy(value)
    parents = [node for node in _nodes(value) if isinstance(node, (list, dict)) and node]
    if not parents:
        return json.dumps(dice.choice(ODD_VALUES)).encode()
    parent = dice.choice(parents)
    key = dice.choice(list(parent) if isinstance(parent, dict) else range(len(parent)))
    if kind == 2:
        del parent[key]
    elif kind == 3 and isinstance(parent, dict):
        parent[str(key) + dice.choice(("", "x", "\u0000", "x" * 5000))] = dice.choice(ODD_VALUES)
    elif kind == 4 and isinstance(parent, dict):
        text = json.dumps(value)
        return text.replace(json.dumps(key), f"{json.dumps(key)}: 1, {json.dumps(key)}", 1).encode()
    else:
        parent[key] = dice.choice(ODD_VALUES)
    return json.dumps(value).encode()


def _nodes(value: Any) -> list[Any]:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [value, *(node for one in inner for node in _nodes(one))]
