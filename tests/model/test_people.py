"""The network that finds people, against what MediaPipe 0.10.21 gave for the same picture."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image

from vera.core.model.people import load_people

HERE = Path(__file__).parent / "people"


def astronaut() -> torch.Tensor:
    """Eileen Collins, by NASA (public domain), 128x128 (3, H, W) in [0, 1]."""
    return torch.from_numpy(np.asarray(Image.open(HERE / "astronaut.png")) / np.float32(255)).movedim(-1, 0)


@torch.inference_mode()
def test_it_finds_what_mediapipe_finds():
    twice = astronaut().repeat_interleave(2, 1).repeat_interleave(2, 2)  # at the size that the network sees
    found = load_people()(twice[None])[0, 0].numpy()
    meant = np.load(HERE / "mediapipe.npz")["mask"] / 65535
    assert 0.5 < meant.mean() < 0.6
    assert np.abs(found[::4, ::4] - meant).max() < 1e-3


@torch.inference_mode()
def test_any_size_and_several_pictures():
    pictures = torch.stack([astronaut()[:, :100, :90], torch.zeros(3, 100, 90)])
    found = load_people()(pictures)
    assert found.shape == (2, 1, 100, 90) and found[0].mean() > 0.4 and found[1].max() < 0.1
