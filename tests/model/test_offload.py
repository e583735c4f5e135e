"""Parts that visit the device: there while they work, away after it, and nothing else is different."""

import pytest
import torch
from torch import nn

from vera.core.model import offload
from vera.core.model.load import load_model


class Traveller(nn.Module):
    """Notes where it was sent, and what it was asked."""

    remembers = False

    def __init__(self):
        super().__init__()
        self.log = ["made"]
        self.channels = 4

    def to(self, device):
        self.log.append(device)
        return self

    def check(self, prompt):
        return [prompt]

    def encode(self, given):
        self.log.append("encode")
        return given

    def encode_stream(self):
        return self.encode

    def decode_stream(self, latents):
        for i in range(latents):
            self.log.append(i)
            yield i


def test_it_is_there_only_while_it_works():
    part = Traveller()
    text = offload.VisitingText(part, part, "gpu")
    assert text.encode("a") == "a" and text.check("a") == ["a"]
    assert part.log == ["made", "cpu", "gpu", "encode", "cpu"]


def test_it_leaves_after_a_failure_too():
    part = Traveller()
    part.encode = lambda given: 1 / 0
    with pytest.raises(ZeroDivisionError):
        offload.VisitingCodec(part, "gpu").encode("a")
    assert part.log[-1] == "cpu"


def test_streams_side_by_side_share_one_stay():
    part = Traveller()
    codec = offload.VisitingCodec(part, "gpu")
    assert list(zip(*(codec.decode_stream(2) for _ in range(3)))) == [(0, 0, 0), (1, 1, 1)]
    assert part.log[:4] == ["made", "cpu", "gpu", 0]
    assert part.log.index("cpu", 2) == len(part.log) - 1, "left while a stream was open"


def test_a_stream_of_frames_visits_for_each_group():
    part = Traveller()
    encode = offload.VisitingCodec(part, "gpu").encode_stream()
    assert (encode("a"), encode("b")) == ("a", "b")
    assert part.log == ["made", "cpu"] + ["gpu", "encode", "cpu"] * 2


def test_mini_computes_the_same():
    plain, visiting = load_model("mini", "cpu"), load_model("mini", "cpu", offload="parts")
    assert visiting.fingerprint == plain.fingerprint and visiting.codec.channels == plain.codec.channels
    prompts = ["Add a red ball", ""]
    assert torch.equal(visiting.text.encode(prompts), plain.text.encode(prompts))
    video = torch.rand(1, 3, 6, 16, 16, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        latents = plain.codec.encode(video)
        assert torch.equal(visiting.codec.encode(video), latents)
        assert torch.equal(visiting.codec.decode(latents, 6), plain.codec.decode(latents, 6))
