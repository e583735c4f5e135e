"""State files: written in portions, read back bit for bit, and any damage is found before a value is used."""

import os
import random

import pytest
import torch
from safetensors.torch import load_file, save_file

from vera.core.errors import InputError
from vera.core.state_file import StateFile, state_writer, whole_state

VALUES = torch.randn(9, 3, 4, generator=torch.Generator().manual_seed(0))
FACTS = {"generation": "abc", "frames": "1 9"}


def write(path, values=VALUES, facts=FACTS, dtype=torch.float32):
    with state_writer(path, facts, dtype) as add:
        for part in values.split((4, 1, 4)):
            add(part)
    return path


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_it_is_a_safetensors_file_of_its_type(tmp_path, dtype):
    path = write(tmp_path / "x.safetensors", dtype=dtype)
    assert torch.equal(load_file(path)["latents"], VALUES.to(dtype))
    file = StateFile(path)
    file.check()
    assert file.read(2, 5).dtype == dtype and torch.equal(file.read(2, 5), VALUES[2:5].to(dtype))


def test_a_flip_of_any_bit_is_found(tmp_path):
    path = write(tmp_path / "x.safetensors")
    whole = path.read_bytes()
    places = [*range(260), *random.Random(0).sample(range(len(whole)), 300)]
    for place in places:
        damaged = bytearray(whole)
        damaged[place] ^= 1 << place % 8
        path.write_bytes(damaged)
        assert whole_state(path, FACTS) is None, place
    path.write_bytes(whole)
    assert whole_state(path, FACTS) is not None


@pytest.mark.parametrize("replaced", [True, False])
def test_a_file_that_was_whole_is_read_again_when_it_is_another(tmp_path, replaced):
    """Of the same size: another file of the same time in its place, or another time."""
    path = write(tmp_path / "x.safetensors")
    assert whole_state(path, FACTS) is not None
    time, damaged = path.stat().st_mtime_ns, bytearray(path.read_bytes())
    damaged[-1] ^= 1
    file = tmp_path / "y" if replaced else path
    file.write_bytes(damaged)
    os.utime(file, ns=(time, time if replaced else time + 10**9))
    os.replace(file, path)
    assert whole_state(path, FACTS) is None


@pytest.mark.parametrize(
    "damage",
    [
        lambda b: b[:-1],
        lambda b: b[:5],
        lambda b: b"",
        lambda b: b"\xff" * 8 + b[8:],
        lambda b: b + b"0",
        lambda b: b[:8] + b"[" * 4096 + b[4104:],
        lambda b: b[:8] + b"9" * 4096 + b[4104:],
    ],
)
def test_a_file_that_is_not_whole_is_named_with_its_fix(tmp_path, damage):
    path = write(tmp_path / "x.safetensors")
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(InputError, match="not a whole file of latents; remove it"):
        StateFile(path)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_is_no_finite_number_is_damage(tmp_path, value):
    values = VALUES.clone()
    values[3, 1, 2] = value
    assert whole_state(write(tmp_path / "x.safetensors", values), FACTS) is None


def test_a_link_is_no_state(tmp_path):
    path = write(tmp_path / "x.safetensors")
    (tmp_path / "y.safetensors").symlink_to(path)
    assert whole_state(tmp_path / "y.safetensors", FACTS) is None and whole_state(path, FACTS) is not None


def test_another_jobs_state_is_none(tmp_path):
    path = write(tmp_path / "x.safetensors")
    assert whole_state(path, {**FACTS, "generation": "abd"}) is None


def test_a_state_without_a_digest_is_taken_as_earlier_versions_wrote_it(tmp_path):
    path = write(tmp_path / "x.safetensors")
    whole = path.read_bytes()
    digest = StateFile(path).digest
    text = whole[8:4104].decode().replace(f', "digest": "{digest}"', "").rstrip().ljust(4096)
    path.write_bytes(whole[:8] + text.encode() + whole[4104:])
    assert whole_state(path, FACTS) is not None
    save_file({"latents": VALUES}, path, FACTS)  # of another layout
    assert whole_state(path, FACTS) is None
