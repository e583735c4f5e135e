"""Parts that visit the device: there while they work, away after it, and nothing else is different."""

import pytest
import torch
from diffusers import AutoencoderKLWan
from torch import nn

from vera.core.model import offload
from vera.core.model.codec import WanCodec
from vera.core.model.load import load_model
from vera.core.model.offload import computing_device


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

    def check(self, prompt, anyway=False):
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


class Guest(nn.Linear):
    """Notes where it was sent; stays where it is."""

    def __init__(self):
        super().__init__(2, 2)
        self.log = []

    def to(self, device):
        self.log.append(str(device))
        return self


def test_the_transformer_leaves_for_another_part_and_comes_back_to_compute():
    """Of parts that take turns no two are on the device: what is moved there is moved after the other has left."""
    transformer, part, moves = Guest(), Traveller(), []
    transformer.log = part.log = moves
    lodger = offload.Lodger(transformer, "meta")
    codec = offload.VisitingCodec(part, "meta", lodger)
    del moves[:]
    codec.encode("a")
    assert moves == ["cpu", "meta", "encode", "cpu"]
    transformer(torch.ones(1, 2)), transformer(torch.ones(1, 2))
    assert moves[4:] == ["meta"] and computing_device(transformer) == torch.device("meta")
    list(codec.decode_stream(1))
    assert moves[5:] == ["cpu", "meta", 0, "cpu"]


@pytest.mark.parametrize("ahead", [1, 2, 5, 8])
def test_streams_decoded_in_turns_give_the_same_bits(ahead):
    vae = AutoencoderKLWan(
        base_dim=8, dim_mult=[1, 1, 1, 1], num_res_blocks=1, z_dim=4, latents_mean=[0.0] * 4, latents_std=[1.0] * 4
    )
    codec = WanCodec(vae)
    latents = torch.randn(2, 4, 6, 3, 4, generator=torch.Generator().manual_seed(0))
    plain = [codec.decode(x[None], 21) for x in latents]
    codec.ahead = ahead
    turns = [torch.cat(chunks, dim=2) for chunks in zip(*zip(*(codec.decode_stream(x[None]) for x in latents)))]
    assert all(torch.equal(a, b) for a, b in zip(turns, plain))


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
