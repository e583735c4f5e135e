"""Questions to a vision-language model that the user brings: a command, or a Python function. None is part of this.

A command gets one JSON object on its standard input for each question, {"id", "question", "scale", "plate", "result",
"prompt"}, the paths being of two videos, and the last word of its output is the score. A function, named
`module:function`, gets the same object as a dict and returns the score. Any failure, and any score off its scale, is a
ValueError: that one figure is then not measured.
"""

import importlib
import json
import math
import os
import re
import shlex
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

from vera.core.errors import InputError

QUESTIONS = json.loads(Path(__file__).with_name("questions.json").read_text(encoding="utf-8"))["questions"]
Judge = Callable[[dict[str, Any]], Any]  # one question in, its score out
PATIENCE = 600  # seconds for one answer


def find_judge(text: str) -> Judge:
    """The judge named on the command line, as a function of one question. Raises InputError."""
    if re.fullmatch(r"[\w.]+:\w+", text):
        module, name = text.split(":")
        try:
            return getattr(importlib.import_module(module), name)
        except (ImportError, AttributeError) as error:
            raise InputError(f"--judge {text}: {error}; name a function as module:function, or a command") from None
    argv = shlex.split(text, posix=os.name != "nt")
    if not argv:
        raise InputError("--judge is empty; name a function as module:function, or a command")
    return lambda asked: _answer_of(argv, asked)


def ask(judge: Judge, question: dict[str, Any], prompt: str, caption: str, plate: Path, result: Path) -> float:
    """The score of one question about one clip, on its scale. Raises ValueError."""
    words = question["question"].replace("{prompt}", prompt).replace("{caption}", caption)
    asked = {"id": question["id"], "question": words, "scale": question["scale"], "prompt": prompt}
    try:
        score = float(judge(asked | {"plate": str(plate), "result": str(result)}))
    except Exception as error:  # a model of the user's own: whatever it raises, the rest is still worth measuring
        raise ValueError(f"{question['id']} not judged: {error}") from error
    low, high = question["scale"]
    if not (math.isfinite(score) and low <= score <= high):
        raise ValueError(f"{question['id']} not judged: {score:g} is not from {low} to {high}")
    return score


def _answer_of(argv: list[str], asked: dict[str, Any]) -> str:
    question = json.dumps(asked)
    done = subprocess.run(argv, input=question, capture_output=True, text=True, encoding="utf-8", timeout=PATIENCE)
    if done.returncode:
        raise ValueError(f"the judge ended with {done.returncode}: {' '.join(done.stderr.split())[-200:]}")
    return (done.stdout.split() or [""])[-1]
