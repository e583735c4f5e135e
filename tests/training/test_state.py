"""The training state: saving, resuming, averaging."""

import pickle

import pytest
import torch
from torch import nn

from vera.core.errors import InputError
from vera.core.training.state import STATE, Ema, load_state, save_state, trapezoid


def train_steps(model, optimizer, count, first):
    losses = []
    for i in range(first, first + count):
        torch.manual_seed(i)
        loss = (model(torch.randn(4, 3)) - 1).pow(2).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def new_model():
    torch.manual_seed(0)
    model = nn.Linear(3, 2)
    return model, torch.optim.AdamW(model.parameters(), lr=0.1)


def test_resumed_equals_uninterrupted(tmp_path):
    model, optimizer = new_model()
    whole = train_steps(model, optimizer, 8, 0)
    model, optimizer = new_model()
    assert load_state(tmp_path, {"m": model}, optimizer) == (0, {})
    train_steps(model, optimizer, 5, 0)
    save_state(tmp_path, 5, {"m": model}, optimizer, {"clips": 40})

    torch.manual_seed(99)
    other = nn.Linear(3, 2)
    again = torch.optim.AdamW(other.parameters(), lr=0.1)
    assert load_state(tmp_path, {"m": other}, again) == (5, {"clips": 40})
    assert train_steps(other, again, 3, 5) == whole[5:]
    assert not list(tmp_path.glob("*.part"))


def test_average_follows_the_weights():
    model, _ = new_model()
    ema = Ema({"m": model}, decay=0.5)
    start = model.weight.detach().clone()
    with torch.no_grad():
        model.weight.add_(1.0)
    ema.update({"m": model}, step=1000)
    torch.testing.assert_close(ema.modules["m"].weight, start + 0.5)


@pytest.mark.parametrize("step, rate", [(0, 0.005), (99, 0.5), (199, 1.0), (600, 1.0), (875, 0.5), (1000, 0.02)])
def test_the_learning_rate_warms_up_holds_and_decays(step, rate):
    assert trapezoid(step, 1000, 1.0) == pytest.approx(rate, abs=1e-6)


def test_a_pickle_in_the_place_of_a_state_is_refused_and_not_loaded(tmp_path):
    class Code:
        def __reduce__(self):
            return open, (str(tmp_path / "pwned"), "w")

    (tmp_path / STATE).write_bytes(pickle.dumps(Code()))
    model, optimizer = new_model()
    with pytest.raises(InputError, match="not a readable state"):
        load_state(tmp_path, {"m": model}, optimizer)
    assert not (tmp_path / "pwned").exists()
