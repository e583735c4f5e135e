"""The table is honest, and the whole evaluation runs."""

import json
from contextlib import nullcontext

import pytest
import torch

from vera.core.cli import evaluate as command
from vera.core.data.engine.clips import make_clip
from vera.core.errors import InputError
from vera.core.evaluation import held_out as evaluate
from vera.core.model.load import load_model


def test_table_tells_what_was_met():
    rows = evaluate.means([{"color": 1.0, "kind": "star", "background": 0.05}, {"color": 0.0, "flickers": (0.3, 0.2)}])
    assert rows == {"color": (0.5, 2), "background": (0.05, 1), "flicker": (pytest.approx(1.5), 1)}
    head, color, background, flicker = evaluate.table(rows).splitlines()
    assert len(head) == len(color) == len(background)
    assert color.split()[-4:] == ["50.0%", "95.0%", "missed", "2"]
    assert background.split()[-2:] == ["met", "1"] and "at most 0.060" in background
    assert flicker.split()[-2:] == ["missed", "1"] and "1.50x" in flicker


def test_the_seeds_of_objects():
    seeds = evaluate.objects_after(100, 4)
    assert seeds == sorted(set(seeds)) and all(make_clip(s, 16, 32, [0]).labels["edit"] == "object" for s in seeds)


def test_the_codec_alone_brings_the_true_layer_back():
    labels = {"edit": "object", "object": "star", "color": "red", "size": "large", "place": "centre", "motion": "still"}
    clip = make_clip(3, 80, 144, torch.arange(5), labels)
    color, alpha, composite = evaluate.true_layers(load_model("mini", "cpu").codec, clip)
    alpha = evaluate.delivered(alpha, clip.source)
    assert (composite.transpose(0, 1) - clip.composite).abs().mean() < 0.02
    assert (alpha - clip.alpha[:, 0]).abs().mean() < 0.01 and (alpha == 0).float().mean() > 0.8


def test_the_whole_evaluation(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(evaluate, "seconds", lambda *_: 1.0)
    monkeypatch.setattr(evaluate, "FRAMES", 5)
    monkeypatch.setattr(evaluate, "PHRASINGS", 2)
    assert (
        command.main(
            [
                "--count",
                "16",
                "--steps",
                "1",
                "--guidance",
                "1",
                "--progress",
                "none",
                "--json",
                str(tmp_path / "f.json"),
            ]
        )
        == 0
    )
    found = json.loads((tmp_path / "f.json").read_text())
    assert len(found["clips"]) == 18 and sum(found["rows"][n][1] for n in ("color", "translucent", "background")) == 17
    out = capsys.readouterr().out
    assert all(text in out for name, text, *_ in evaluate.ROWS if name in found["rows"])
    assert {name for name, *_ in evaluate.ROWS} - set(found["rows"]) <= {"solid", "flicker"}


def test_an_evaluation_that_was_stopped_goes_on_with_the_figures_that_it_kept(tmp_path):
    def clip(seed: int) -> None:
        if seed == stopped_at:
            raise KeyboardInterrupt
        asked.append(seed)
        results.append({"clip": seed, "color": 1.0, "flickers": (0.1, 0.2)})

    asked, settings = [], {"model": "a", "steps": 5}
    for stopped_at in (2, None):
        results, kept = [], evaluate.KeptFigures(tmp_path, settings)
        with pytest.raises(KeyboardInterrupt) if stopped_at else nullcontext():
            for seed in range(4):
                kept.add(results, clip, seed)
    assert asked == [0, 1, 2, 3] and [r["clip"] for r in results] == asked
    assert evaluate.means(results) == {"color": (1.0, 4), "flicker": (pytest.approx(0.5), 4)}


def test_kept_figures_of_another_model_are_refused(tmp_path):
    evaluate.KeptFigures(tmp_path, {"model": "a"})
    with pytest.raises(InputError, match="another model"):
        evaluate.KeptFigures(tmp_path, {"model": "b"})


@pytest.mark.parametrize("name", ["PIXELS", "FRAMES"])
def test_kept_figures_of_another_version_are_refused(tmp_path, monkeypatch, name):
    evaluate.KeptFigures(tmp_path, {"model": "a"})
    evaluate.KeptFigures(tmp_path, {"model": "a"})
    monkeypatch.setattr(evaluate, name, getattr(evaluate, name) + 1)
    with pytest.raises(InputError, match="another model, version"):
        evaluate.KeptFigures(tmp_path, {"model": "a"})


def test_kept_figures_of_another_classifier_are_refused(tmp_path, monkeypatch):
    evaluate.KeptFigures(tmp_path / "kept", {"model": "a"})
    (tmp_path / "other").write_bytes(b"weights")
    monkeypatch.setattr(evaluate, "CLASSIFIER", tmp_path / "other")
    with pytest.raises(InputError, match="another model"):
        evaluate.KeptFigures(tmp_path / "kept", {"model": "a"})


@pytest.mark.parametrize(
    ("option", "value", "says"),
    [
        ("--first", "1.5", "1.5 is not a whole number"),
        ("--first", "-5", "-5 is not from 0 to"),
        ("--count", "0", "0 is not from 1 to"),
        ("--steps", "x", "x is not a whole number"),
        ("--guidance", "x", "x is not a number"),
        ("--guidance", "nan", "nan is not from 0 to 100"),
    ],
)
def test_a_number_outside_of_its_bounds_is_one_line(option, value, says, capsys):
    assert command.main([option, value]) == 2
    assert says in capsys.readouterr().err


@pytest.mark.parametrize("settings", ["{", None])
def test_kept_figures_without_settings_are_refused(tmp_path, settings):
    """They may be another model's."""
    kept = evaluate.KeptFigures(tmp_path, {"model": "a"})
    kept.add([], lambda seed: None, 1)
    if settings is None:
        (tmp_path / "settings.json").unlink()
    else:
        (tmp_path / "settings.json").write_text(settings)
    with pytest.raises(InputError, match="another model"):
        evaluate.KeptFigures(tmp_path, {"model": "a"})


def test_a_folder_of_kept_figures_that_cannot_be_made_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="--keep .*file"):
        evaluate.KeptFigures(tmp_path / "file", {})


def test_phrasings_count_what_most_show_and_nothing_for_nothing(monkeypatch):
    evaluation = evaluate.Evaluation(None, 1, 1)
    for seen, share in (
        ([("star", "red")] * 3 + [("star", "blue"), ("nothing", None)], 0.6),
        ([("nothing", "red")] * 5, 0),
    ):
        answers = iter(seen)
        monkeypatch.setattr(evaluation, "_judged", lambda *_: (dict(zip(("kind", "hue"), next(answers))), None))
        evaluation.phrasings(evaluate.objects_after(0, 1)[0])
        assert evaluation.results[-1]["phrasings"] == share


def test_an_unknown_model_is_refused(capsys):
    assert command.main(["--model", "nosuch"]) == 2
    assert "nosuch" in capsys.readouterr().err


def test_a_background_is_judged_without_its_mask_and_with_it(monkeypatch):
    evaluation, masks = evaluate.Evaluation(None, 1, 1), []

    def judged(clip, text, mask=None):
        masks.append(mask)
        return {"mad": 0.5 if mask is None else 0.25}, None

    monkeypatch.setattr(evaluation, "_judged", judged)
    clip = evaluate.make_clip(1, 24, 40, [0], {"edit": "background", "background": "sea"})
    evaluation._add(clip, 1)
    (found,) = evaluation.results
    assert (found["background"], found["background_masked"]) == (0.5, 0.25)
    assert masks[0] is None and masks[1] is clip.mask
