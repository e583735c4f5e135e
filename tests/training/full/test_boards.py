"""Curves outside the log, with a stand-in for Weights & Biases."""

import json
import sys
from types import SimpleNamespace

import pytest

from vera.core.training.full.boards import boards
from vera.core.training.full.sharded_state import log


@pytest.fixture
def wandb(monkeypatch):
    """A stand-in module; `calls` holds what it was given."""
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)  # as if it was not installed
    for name in ("WANDB_API_KEY", "WANDB_MODE", "WANDB_PROJECT"):
        monkeypatch.delenv(name, raising=False)
    module = SimpleNamespace(calls=[], points=[])

    def init(**options):
        module.calls.append(options)
        return SimpleNamespace(log=lambda values, step: module.points.append((values, step)))

    module.init = init
    monkeypatch.setitem(sys.modules, "wandb", module)
    return module


def test_numbers_of_the_log_become_points(wandb, tmp_path):
    made = boards(tmp_path / "run", {"rate": 0.1}, print)
    log(tmp_path / "run", made, step=3, losses={"edit": 0.5, "alpha": 0.25}, norm=2.0, samples="samples/step.png")
    assert wandb.points == [({"losses/edit": 0.5}, 3), ({"losses/alpha": 0.25}, 3), ({"norm": 2.0}, 3)]
    assert json.loads((tmp_path / "run/log.jsonl").read_text())["samples"] == "samples/step.png"


def test_without_a_key_it_is_offline_and_a_resumed_run_is_the_same(wandb, tmp_path, monkeypatch):
    boards(tmp_path / "run", {"rate": 0.1}, print)
    monkeypatch.setenv("WANDB_API_KEY", "k")
    boards(tmp_path / "run", {}, print)
    monkeypatch.setenv("WANDB_MODE", "disabled")
    boards(tmp_path / "other", {}, print)
    first, second, third = wandb.calls
    assert [call["mode"] for call in wandb.calls] == ["offline", "online", "disabled"]
    assert first["id"] == second["id"] != third["id"] and first["config"] == {"rate": 0.1}
    assert first["dir"] == str(tmp_path / "run") and first["resume"] == "allow"


def test_a_service_that_cannot_be_reached_is_one_line(wandb, tmp_path):
    def fail(**options):
        raise RuntimeError("no\nnetwork")

    wandb.init, said = fail, []
    assert boards(tmp_path, {}, said.append) == []
    assert said == ["Weights & Biases: no curves there (no network); the log has the same numbers"]


def test_none_is_required(wandb, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    said = []
    assert boards(tmp_path, {}, said.append) == [] and said == []
