"""Plans of memory, the farm, the service's rules, and what the Nuke plug-in asks and writes in its stand-in."""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.nuke_plugin.conftest import FAKE, PLUGIN, delivery, edit_node, load, read_node
from tests.nuke_plugin.pixels import Pictures, write_exr
from tests.plate.media import write_noise
from tests.recorded.recording import attempt, files, of_command, record
from vera.core.farm import shot_lists, task, templates
from vera.core.job.gpu_plan import GIB, Geometry, Planner, lines
from vera.core.service import api, look, progress_estimate, renewal


@record
def plans_of_memory(folder: Path) -> Any:
    planner = Planner(Geometry.of("1.3b"), (832, 480), 33, one_batch=False)
    cases = [(memory, "auto", "auto") for memory in (4, 8, 12, 80)]
    cases += [
        (24, "fp8", "auto"),
        (24, "auto", "blocks"),
        (24, "bf16", "none"),
        (80, "int8", "parts"),
        (4, "bf16", "none"),
    ]
    found: dict[str, Any] = {}
    for memory, weights, offload in cases:
        chosen = attempt(planner.choose, memory * GIB, None, weights, offload)
        found[f"{memory} GiB, {weights}, {offload}"] = chosen
        found["words"] = attempt(lambda m=memory, c=chosen: list(lines(planner, m * GIB, c)))
    refused = [["--model", "nosuch"], ["--size", "12"], ["--frames", "0"], ["--memory", "0"]]
    return found | {" ".join(words): of_command(folder, "plan", *words) for words in refused}


@record
def lists_of_shots(folder: Path) -> Any:
    for name in ("a", "b"):
        write_noise(folder / name, (1, 2))
    line = {"plate": "a/plate.####.exr", "prompt": "Add a ball", "out": "out/a"}
    texts = {
        "good": [line, line | {"plate": "b/plate.####.exr", "out": "out/b"}],
        "one folder twice": [line, line | {"seed": 2}],
        "unknown field": [line | {"promt": "x"}],
        "no plate": [{"prompt": "x", "out": "o"}],
    }
    found: dict[str, Any] = {}
    for name, rows in texts.items():
        (folder / "shots.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        found[name] = attempt(shot_lists.read_shots, [str(folder / "shots.jsonl")])
    (folder / "shots.jsonl").write_text("no json\n")
    found["no json"] = attempt(shot_lists.read_shots, [str(folder / "shots.jsonl")])
    found["no file"] = attempt(shot_lists.read_shots, [str(folder / "nosuch.jsonl")])
    return found


@record
def tasks_of_a_farm(folder: Path) -> Any:
    cases = [
        ["--plate", "p.####.exr", "--prompt", "x", "--out", "o"],
        ["--plate", "p.####.exr", "--prompt", "", "--out", "o", "--seed", "5", "--keep", "true"],
        ["plate=p", "prompt=x"],
        ["--nosuch", "x"],
        [],
    ]
    found = {}
    for words in cases:
        values = attempt(task.values_of, words)
        found[" ".join(words)] = [values, values if isinstance(values, Exception) else attempt(task.recipe_of, values)]
    return found


@record
def template_of_a_farm(folder: Path) -> Any:
    return templates.shot_template().splitlines()


@record
def contract_of_the_service(folder: Path) -> Any:
    return api.description()


@record
def looks(folder: Path) -> Any:
    plate = str(write_noise(folder / "in", (1, 2)))
    least = {"plate": plate, "prompt": "Add a red ball", "out": str(folder / "out")}
    cases = {
        "good": least,
        "an unknown word": least | {"prompt": "Add a red zebra"},
        "no plate": least | {"plate": str(folder / "no.#.exr")},
        "outside": least | {"plate": "/etc/passwd"},
        "a lift": least | {"model": f"lift:{plate}"},
    }
    return {name: attempt(look.lines_of, values, [str(folder)]) for name, values in cases.items()}


@record
def progress_of_jobs(folder: Path) -> Any:
    found = {}
    earlier = {"frames": 10, "seconds": {"read": 2.0, "denoise": 20.0, "deliver": 6.0, "finish": 1.0}}
    steps = [
        ("read", 0, 4),
        ("read", 4, 4),
        ("denoise", 1, 4),
        ("other", 1, 2),
        ("denoise", 4, 4),
        ("deliver", 2, 4),
        ("finish", 1, 1),
    ]
    for name, known, lifts in (("unknown", None, False), ("known", earlier, False), ("a lift", None, True)):
        estimate = progress_estimate.ProgressEstimate(known, lifts)
        estimate.frames = 5
        found[name] = [[*estimate.update(*step, 3.0), estimate.whole] for step in steps]
    short = progress_estimate.ProgressEstimate({"frames": 1, "seconds": {"read": 0.1}})
    return found | {"too short": short.earlier, "no time left": short.update("denoise", 3, 4, None)}


@record
def exchanges_of_tokens(folder: Path) -> Any:
    service = renewal.Renewal(b"k" * 32, "token", 4711)
    first = service.answer({"nonce": "a" * 32})
    good = {"nonce": first["nonce"], "proof": service.proof("page", "a" * 32, first["nonce"])}
    cases = [
        good,
        good,
        {"nonce": "a"},
        {"nonce": "b" * 32, "proof": "x"},
        {"nonce": "a" * 32, "more": 1},
        {},
        {"nonce": 5},
    ]
    return [
        service.proof("page", "a", "b") != service.proof("service", "a", "b"),
        [attempt(service.answer, c) for c in cases],
    ]


@contextmanager
def nuke_with_plug_in(folder: Path) -> Iterator[Any]:
    """The stand-in with the plug-in as it is built; modules of other tests are put back."""
    kept = {n: m for n, m in sys.modules.items() if n.partition(".")[0] in ("nuke", "nukescripts", "vera_nuke")}
    for name in kept:
        del sys.modules[name]
    built = load(PLUGIN / "build.py", "vera_nuke_build").build(folder / "dist")[0]
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(FAKE))
        patch.syspath_prepend(str(built))
        patch.setenv("VERA_NUKE_SETTINGS", str(folder / "settings.json"))
        for name in ("VERA_PYTHON", "VERA_ROOT"):
            patch.delenv(name, raising=False)
        import nuke

        nuke.gizmo_paths.append(str(built))
        nuke.reset()
        nuke.pictures = Pictures()
        nuke.painter = nuke.pictures.paint
        (folder / "settings.json").write_text(json.dumps({"cache": str(folder / "cache")}))
        load(built / "init.py", "vera_nuke_init")
        try:
            yield nuke
        finally:
            ours = ("nuke", "nukescripts", "vera_nuke")
            for name in [n for n in sys.modules if n.partition(".")[0] in ours]:
                del sys.modules[name]
            sys.modules.update(kept)


def shot_of(nuke: Any, folder: Path) -> Any:
    (folder / "shot").mkdir()
    for frame in range(1001, 1004):
        write_exr(folder / "shot" / f"plate.{frame}.exr", np.full((48, 64, 3), frame / 4000))
    return read_node(nuke, folder / "shot" / "plate.####.exr", 1001, 1003)


@record
def requests_of_nuke(folder: Path) -> Any:
    """What the node asks with each knob at another value: the recipe, and what would be written."""
    found: dict[str, Any] = {}
    with nuke_with_plug_in(folder) as nuke:
        from vera_nuke import gather

        plate = shot_of(nuke, folder)
        settings = {
            "usual": {},
            "own range": {"range": "own", "first": 1002, "last": 1003},
            "no range": {"range": "own", "first": 9, "last": 1},
            "outside": {"range": "own", "first": 1, "last": 1003},
            "seed": {"seed": 12},
            "no prompt": {"prompt": " "},
            "quality": {"quality": "own", "steps": 7, "guidance": 2.5},
            "lines": {"prompt": "Add a\n red ball "},
            "view": {"read_view": "left", "read_match": "grain"},
            "region": {"use_region": True},
        }
        for name, values in settings.items():
            node = edit_node(nuke, plate)
            said = [attempt(lambda k=k, v=v: node[k].setValue(v)) for k, v in values.items()]
            found[name] = [[str(s) for s in said if s is not None], attempt(gather.request, node)]
        for name, facts in {
            "log": ("colorspace", "AlexaV3LogC"),
            "raw": ("raw", True),
            "error": ("on_error", "black"),
        }.items():
            attempt(lambda f=facts: plate[f[0]].setValue(f[1]))
            found[f"plate {name}"] = attempt(gather.request, edit_node(nuke, plate))
        found["no plate"] = attempt(gather.request, nuke.createNode("VeraEdit"))
        found["messages"] = nuke.messages
    return found


@record
def versions_and_scripts_of_nuke(folder: Path) -> Any:
    with nuke_with_plug_in(folder) as nuke:
        from vera_nuke import bake, gather, versions

        node = edit_node(nuke, shot_of(nuke, folder))
        asked = gather.request(node)
        base = str(folder / "versions/shot")
        numbers = [delivery(base, asked) for _ in range(3)]
        versions.delete(versions.path(base, 2))
        versions.set_note(versions.path(base, 3), "good one")
        found = {
            "numbers": [numbers, versions.numbers(base), attempt(versions.find, base, asked, 1)],
            "asked": versions.asked(versions.path(base, 1)),
            "note": [versions.note(versions.path(base, n)) for n in (1, 3)],
            "delivered": attempt(versions.delivered, versions.path(base, 3)),
            "next": versions.begin(base, asked),
            "missing": versions.missing(str(folder / "shot/plate.####.exr"), 1001, 1006),
            "file": [versions.file_of(p, 1001) for p in ("a.####.exr", "a.%04d.exr", "a.exr")],
            "bases": [
                attempt(versions.check_base, each) for each in ("", "relative", str(folder), "/a b/c", "/x/%V/y")
            ],
            "written": [
                versions.is_written(str(folder), 1, 2),
                versions.mark_written(str(folder), 1, 2),
                versions.is_written(str(folder), 1, 2),
            ],
            "group": bake.group_text(node, "Baked").splitlines(),
            "quoted": [bake.quoted(v) for v in ("a", 'b "c" [d] {e} $f \\n', 1, 2.5, True)],
            "free name": bake.free_name(nuke.root(), node.name()),
            "pages": files(Path(base), folder, images=False),
        }
    return found
