"""Measures, the evaluation's figures and table, and the benchmark's."""

from pathlib import Path
from typing import Any

import numpy as np
import torch

from tests.comparing.media import edited, make_set, movie
from tests.recorded.footage import disc, plate
from tests.recorded.recording import attempt, files, of_command, record
from vera.core.comparing import benchmark_rows, figure_table
from vera.core.data.engine.clips import make_clip
from vera.core.evaluation import held_out, labelled_figures
from vera.core.evaluation.classifier import load_classifier
from vera.core.measure import matting, preservation, video


@record
def measures_of_pictures(folder: Path) -> Any:
    truth, found = disc(0)[..., 0], np.clip(disc(2, 12, 5)[..., 0] * 0.9, 0, 1)
    shown, came = plate(0), np.clip(plate(1) * 0.98, 0, 1)
    where = truth < 0.5
    before = disc(-1)[..., 0]
    return {
        "mad": matting.mad(found, truth),
        "mse": matting.mse(found, truth),
        "grad": matting.grad(found, truth),
        "conn": matting.conn(found, truth),
        "dtssd": matting.dtssd(found, before, truth, before * 0.9),
        "psnr": [
            preservation.psnr(came, shown),
            preservation.psnr(came, shown, where),
            preservation.psnr(shown, shown),
        ],
        "none": [preservation.psnr(came, shown, where & False), preservation.ssim(came, shown, where & False)],
        "ssim": [preservation.ssim(came, shown), preservation.ssim(came, shown, where)],
        "outside": [preservation.outside(truth), preservation.outside(truth, 3)],
        "flicker": video.flicker(came, shown),
        "sharpness": [video.sharpness(came), video.sharpness(came, where)],
    }


LABELS = {
    "object": {
        "edit": "object",
        "object": "star",
        "color": "red",
        "size": "large",
        "place": "centre",
        "motion": "still",
    },
    "moving": {
        "edit": "object",
        "object": "ball",
        "color": "blue",
        "size": "small",
        "place": "left",
        "motion": "still",
    },
    "effect": {"edit": "effect", "effect": "snow", "amount": "light"},
    "background": {"edit": "background", "background": "sea"},
}


@record
def figures_of_labelled_clips(folder: Path) -> Any:
    classifier, found = load_classifier(), {}
    times = torch.arange(5)
    for name, labels in LABELS.items():
        clip = attempt(make_clip, 3, 48, 80, times, labels)
        if isinstance(clip, Exception):
            found[name] = clip
            continue
        source, color, alpha = (v.transpose(0, 1) for v in (clip.source, clip.edit, clip.alpha))
        for seen, factor in (("exact", 1.0), ("thin", 0.6)):
            matte = alpha[0] * factor
            laid = matte * color + (1 - matte) * source + 0.01
            found[f"{name} {seen}"] = attempt(labelled_figures.judge, clip, times, color, matte, laid, classifier)
            found[f"{name} {seen} own"] = [
                labelled_figures.share_of_zeros(matte),
                labelled_figures.share_of_solid(matte),
                labelled_figures.flicker(color, matte),
                labelled_figures.centres(matte),
                labelled_figures.nearest_color(color, matte),
            ]
    return found


@record
def table_of_an_evaluation(folder: Path) -> Any:
    results = [
        {
            "clip": 1,
            "kind": "star",
            "hue": "red",
            "object": 1.0,
            "color": 0.0,
            "place": 1.0,
            "motion": 1.0,
            "zeros": 0.97,
        },
        {"clip": 2, "mad": 0.02, "agreement": 31.0, "kept": 20.0, "kept_outside": 60.0, "anew_outside": 30.0},
        {"clip": 3, "background": 0.05, "background_masked": 0.04, "translucent": 0.03, "solid": 0.99},
        {"clip": 4, "flickers": (0.3, 0.2), "phrasings": 0.8, "dtssd": 0.01, "codec": 40.0},
    ]
    rows = held_out.means(results)
    return [rows, held_out.table(rows).splitlines(), held_out.objects_after(0, 4)]


@record
def refused_evaluations(folder: Path) -> Any:
    given = [["--count", "0"], ["--steps", "x"], ["--guidance", "-1"], ["--model", "nosuch"], ["--first", "-5"]]
    return {" ".join(words): of_command(folder, "evaluate", *words) for words in given}


@record
def benchmark(folder: Path) -> Any:
    file, truth = make_set(folder / "set", 2)
    for key, (plates, alphas) in truth.items():
        off = [e + np.where(a[..., None] > 0, 8, 1) / 255 for e, a in zip(edited(plates, alphas), alphas, strict=True)]
        movie(folder / "off" / f"{key}.mp4", off)
        movie(folder / "off" / f"{key}_alpha.mp4", [np.clip(a - 2 / 255, 0, 1) for a in alphas])
    out = folder / "out"
    run = of_command(folder, "compare", file, "--results", f"off={folder / 'off'}", "--out", out, "--progress", "none")
    found = {
        name: each for name, each in files(out, folder, images=False).items() if not name.endswith((".mp4", ".html"))
    }
    return run | {"files": found}


@record
def refused_benchmarks(folder: Path) -> Any:
    file, _ = make_set(folder / "set", 1)
    (folder / "empty").mkdir()
    out = ["--out", folder / "out", "--progress", "none"]
    cases = {
        "no method": [file, *out],
        "no file": [folder / "no.jsonl", "--results", f"a={folder / 'empty'}", *out],
        "empty results": [file, "--results", f"a={folder / 'empty'}", *out],
        "no folder": [file, "--results", f"a={folder / 'nosuch'}", *out],
        "twice": [file, "--results", f"a={folder / 'empty'}", "--results", f"a={folder / 'empty'}", *out],
        "a word of the report": [file, "--results", f"truth={folder / 'empty'}", *out],
        "no clips": [file, "--results", f"a={folder / 'empty'}", "--clips", "0", *out],
    }
    return {name: of_command(folder, "compare", *words) for name, words in cases.items()}


@record
def rows_of_a_test_set(folder: Path) -> Any:
    file, _ = make_set(folder / "set", 2)
    with file.open("a") as lines:
        lines.write('{"video_id": "v9"}\nno json\n')
    rows, broken = benchmark_rows.read_rows([file])
    clips = [
        {"key": "a", "method": "m", "edit_type": "obj_add", "figures": {"psnr": 30.0, "mad": 2.0}, "note": "resized"},
        {
            "key": "b",
            "method": "m",
            "edit_type": "background_replace",
            "figures": {"psnr": 20.0, "mad": None},
            "note": None,
        },
        {"key": "c", "method": "n", "edit_type": "obj_add", "error": "no video", "note": None},
    ]
    tables = attempt(figure_table.rows_of, clips)
    page = (
        tables if isinstance(tables, Exception) else figure_table.markdown(tables, ["row 3: bad"], clips).splitlines()
    )
    return [rows, broken, tables, page]
