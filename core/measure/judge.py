"""Ask a vision-language model for scores. The user provides the model as a command or a Python function.

A command reads one JSON object per question from its standard input, {"id", "question", "scale", "plate", "result",
"prompt"}; "plate" and "result" are paths of videos. The last word of its output is the score. A function, named
`module:function`, receives the object as a dict and returns the score. A failure, or a score outside the scale, raises
ValueError, and only that figure is not measured.
"""

import importlib
import json
import math
import os
import re
import shlex
import subprocess
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from vera.core.errors import InputError

QUESTIONS = json.loads(Path(__file__).with_name("questions.json").read_text(encoding="utf-8"))["questions"]
Judge = Callable[[dict[str, Any]], Any]  # one question in, its score out
ANSWER_TIMEOUT = 600  # seconds for one answer; raising it lets slow models answer and delays the report of a hang


def find_judge(text: str) -> Judge:
    """The judge named on the command line, as a function of one question. Raises InputError."""
    if re.fullmatch(r"[\w.]+:\w+", text):
        module, name = text.split(":")
        try:
            return getattr(importlib.import_module(module), name)
        except (ImportError, AttributeError) as error:
            raise InputError(f"--judge {text}: {error}; give a function as module:function, or a command") from None
    argv = shlex.split(text, posix=os.name != "nt")
    if not argv:
        raise InputError("--judge is empty; give a function as module:function, or a command")
    return partial(_answer_of, argv)


def ask(judge: Judge, question: dict[str, Any], prompt: str, caption: str, plate: Path, result: Path) -> float:
    """The judge's score for one question about one clip. Raises ValueError."""
    words = question["question"].replace("{prompt}", prompt).replace("{caption}", caption)
    asked = {"id": question["id"], "question": words, "scale": question["scale"], "prompt": prompt}
    try:
        score = float(judge(asked | {"plate": str(plate), "result": str(result)}))
    except Exception as error:  # the user's model may raise anything; the other figures are still measured
        raise ValueError(f"{question['id']} not judged: {error}") from error
    low, high = question["scale"]
    if not (math.isfinite(score) and low <= score <= high):
        raise ValueError(f"{question['id']} not judged: {score:g} is not from {low} to {high}")
    return score


def _answer_of(argv: list[str], asked: dict[str, Any]) -> str:
    question = json.dumps(asked)
    done = subprocess.run(
        argv, input=question, capture_output=True, text=True, encoding="utf-8", timeout=ANSWER_TIMEOUT
    )
    if done.returncode:
        raise ValueError(f"the judge ended with {done.returncode}: {' '.join(done.stderr.split())[-200:]}")
    return (done.stdout.split() or [""])[-1]
