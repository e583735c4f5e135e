"""The latent cache: entries match the row's files and the encoders, and damaged ones are computed again."""

import dataclasses
import hashlib
import os
import shutil

import pytest
import torch

from tests.data.datasets.layers import make_layers, write_dataset, write_movie
from tests.tiny_vera import vera_directory
from vera.core.data.datasets import layered_cache
from vera.core.data.datasets.layered import BrokenRowError, read_rows
from vera.core.data.datasets.layered_cache import Cache, Encoders, fetch, finish
from vera.core.training.full.rows import Order, SampleSource, SequentialOrder, split


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    root = tmp_path_factory.mktemp("cache")
    vera_directory(root / "vera")
    write_dataset(root / "data", count=3)
    return root


@pytest.fixture(scope="module")
def encoders(place):
    return Encoders(place / "vera", "cpu")


@pytest.fixture(scope="module")
def made(place, encoders):
    """The sample of the first row, encoded once."""
    cache = Cache(place / "made", encoders.fingerprint)
    return finish(fetch(read_rows(place / "data")[0][0], cache), cache, encoders)


@pytest.fixture
def cache(place, made, tmp_path, encoders):
    """A cache that holds the first row."""
    shutil.copytree(place / "made", tmp_path / "kept")
    return Cache(tmp_path / "kept", encoders.fingerprint)


@pytest.fixture
def rows(place):
    return read_rows(place / "data")[0]


def entries(cache):
    return sorted(p for p in cache.folder.rglob("*") if p.is_file() and p.name != "digests.jsonl")


def test_a_cached_row_is_read_without_decoding(rows, made, cache):
    assert made.latents.shape == (5, 4, 13, 4, 4) and made.latents.dtype == torch.float16
    assert 0 < len(made.states) < 20 and (made.states != 0).any(-1).all()
    again = fetch(rows[0], cache)
    assert again.layers is None and torch.equal(again.latents, made.latents) and torch.equal(again.states, made.states)
    assert [p.suffix for p in entries(cache)] == [".safetensors"] * 2  # no temporary file is left


@pytest.mark.parametrize("harm", ["cut", "flipped", "emptied"])
def test_a_damaged_entry_is_made_again(rows, made, cache, encoders, harm, monkeypatch):
    path = cache.folder / f"{cache.key_of_row(rows[0])}.safetensors"
    whole = path.read_bytes()
    path.write_bytes({"cut": whole[:-9], "flipped": whole[:-1] + bytes([whole[-1] ^ 1]), "emptied": b""}[harm])
    assert cache.get(cache.key_of_row(rows[0])) is None
    again = fetch(rows[0], cache)
    assert again.latents is None and len(again.layers) == 5
    # Encoding again is slow and gives the same.
    monkeypatch.setattr(encoders, "latents", lambda row, layers: made.latents)
    assert torch.equal(finish(again, cache, encoders).latents, made.latents) and path.read_bytes() == whole


def test_the_cache_key_follows_movie_bytes_and_encoders_not_paths(place, rows, cache, tmp_path):
    key = cache.key_of_row(rows[0])
    assert key != Cache(cache.folder, "others").key_of_row(rows[0]) != cache.key_of_row(rows[1])
    shutil.copytree(place / "data", tmp_path / "moved")
    moved = read_rows(tmp_path / "moved")[0][0]
    assert cache.key_of_row(moved) == key  # equal bytes at another path
    write_movie(tmp_path / "moved/clip0/mask.mp4", make_layers(5)["mask"])
    assert cache.key_of_row(moved) != key
    (tmp_path / "moved/clip0/mask.mp4").unlink()
    with pytest.raises(BrokenRowError, match="mask.mp4.*cannot be read"):
        cache.key_of_row(moved)


def test_the_encoders_fingerprint_ignores_the_transformer(place, encoders):
    shutil.copytree(place / "vera", place / "other")
    (place / "other/transformer/config.json").write_text("{}")  # only the transformer differs
    assert Encoders(place / "other", "cpu").fingerprint == encoders.fingerprint
    (place / "other/vae/config.json").write_text((place / "other/vae/config.json").read_text() + " ")
    assert Encoders(place / "other", "cpu").fingerprint != encoders.fingerprint


def test_a_row_with_too_long_an_instruction_is_broken(rows, cache, encoders):
    long = dataclasses.replace(rows[0], instruction="a " * 600)
    with pytest.raises(BrokenRowError, match="tokens, the model reads 512"):
        finish(fetch(long, cache), cache, encoders)


class Numbered:
    """A row with a name and nothing else."""

    def __init__(self, number):
        self.name = f"row {number}"


def test_epochs_are_permutations_with_deterministic_substitutes():
    rows = [Numbered(i) for i in range(10)]
    order = Order(rows, seed=3)
    epochs = [[order.row(e * 10 + i, set()).name for i in range(10)] for e in range(3)]
    assert all(sorted(epoch) == sorted(r.name for r in rows) for epoch in epochs) and epochs[0] != epochs[1]
    broken = {epochs[0][4], "row 9"}
    names = [order.row(i, broken).name for i in range(10)]
    assert names == [Order(rows, seed=3).row(i, broken).name for i in range(10)] and not broken & set(names)
    # Of many rows, each broken one has a substitute of its own.
    many = Order([Numbered(i) for i in range(200)], seed=3)
    drawn = range(100)
    lost = {many.row(draw, set()).name for draw in drawn}
    assert len({many.row(draw, lost).name for draw in drawn}) > 50
    # A broken row changes only its own draw.
    assert all(a == b for a, b in zip(names, epochs[0]) if b not in broken)


def test_held_out_rows_share_no_plate_with_training_rows(place, rows):
    twins = [dataclasses.replace(row, name=f"{row.name} again") for row in rows]
    trained, held = split(rows + twins, 1, place / "data")
    assert len(held) == 2 and len(trained) == 4
    assert not {r.files["source"] for r in trained} & {r.files["source"] for r in held}


def test_worker_processes_return_rows_in_order(rows, made, cache, encoders, spawned_as_copies):
    """Two processes read ahead; the row in the middle is broken."""
    gone = rows[1].files["alpha"].with_name("gone.mp4")
    broken = dataclasses.replace(rows[1], files=rows[1].files | {"alpha": gone})
    order = SequentialOrder([rows[0], broken, rows[2]])
    source = SampleSource(order, cache, encoders, set(), 2)
    with spawned_as_copies():
        first, last = source.samples([0, 1, 2])
    assert [error.row for error in source.new_broken] == [broken.name] and torch.equal(first.latents, made.latents)
    assert torch.equal(last.latents, cache.get(cache.key_of_row(rows[2])))  # a worker decoded, this process encoded


def test_a_movie_is_digested_again_only_after_a_change(place, tmp_path, encoders, monkeypatch):
    """An unchanged path, size and modification time mean unchanged bytes, in this process and the next."""
    shutil.copytree(place / "data", tmp_path / "data")
    row, read = read_rows(tmp_path / "data")[0][0], []
    for file in row.files.values():
        os.utime(file, ns=(10**18, 10**18))  # long ago
    digest = hashlib.file_digest
    monkeypatch.setattr(
        layered_cache.hashlib, "file_digest", lambda file, kind: read.append(file.name) or digest(file, kind)
    )
    key = Cache(tmp_path / "cache", "e").key_of_row(row)
    assert len(read) == 5 and Cache(tmp_path / "cache", "e").key_of_row(row) == key and len(read) == 5
    with open(tmp_path / "cache/digests.jsonl", "ab") as file:
        file.write(b'["half a li')  # an incomplete line, as after a power cut
    row.files["alpha"].write_bytes(row.files["edit"].read_bytes())
    changed = Cache(tmp_path / "cache", "e").key_of_row(row)
    assert changed != key and len(read) == 6
    # The file is younger than one clock tick and might change again: its digest is not stored yet.
    assert Cache(tmp_path / "cache", "e").key_of_row(row) == changed and len(read) == 7


def test_filling_the_cache_does_not_read_existing_entries(rows, cache, monkeypatch):
    monkeypatch.setattr(cache, "get", None)
    assert fetch(rows[0], cache, fill_only=True).cached and finish(fetch(rows[0], cache, True), cache, None) is None
