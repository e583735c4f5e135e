import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from vera.core.errors import InputError
from vera.core.sampling.latent_store import InMemory, LatentStore, LayerLatents, States
from vera.core.state_file import StateFile, state_writer

LATENTS = torch.randn(9, 3, 4, 2, 5, generator=torch.Generator().manual_seed(0))


def write(path, latents=LATENTS, facts=None, portions=(4, 1, 4)):
    with state_writer(path, facts or {}) as add:
        for part in latents.split(portions):
            add(part)
    return StateFile(path)


def test_latents_written_in_portions_form_a_safetensors_file(tmp_path):
    facts = {}
    with state_writer(tmp_path / "a/x.safetensors", facts) as add:
        add(LATENTS[:4])
        add(LATENTS[4:])
        facts["frames"] = "1 33"  # facts may be added during the write
    assert torch.equal(load_file(tmp_path / "a/x.safetensors")["latents"], LATENTS)
    assert safe_open(tmp_path / "a/x.safetensors", "pt").metadata().keys() == {"frames", "digest"}
    assert StateFile(tmp_path / "a/x.safetensors").facts == {"frames": "1 33"}


@pytest.mark.parametrize("start, stop", [(0, 9), (0, 1), (3, 7), (8, 9), (8, 12), (9, 12)])
def test_any_range_of_frames_is_read_bit_for_bit(tmp_path, start, stop):
    file = write(tmp_path / "x.safetensors")
    assert file.shape == InMemory(LATENTS).shape == (9, 3, 4, 2, 5)
    assert torch.equal(file.read(start, stop), LATENTS[start:stop])
    assert torch.equal(file.read(start, stop), InMemory(LATENTS).read(start, stop))


def test_a_failed_write_leaves_the_old_file(tmp_path):
    write(tmp_path / "x.safetensors")
    with pytest.raises(RuntimeError), state_writer(tmp_path / "x.safetensors", {}) as add:
        add(LATENTS[:1])
        raise RuntimeError
    assert [p.name for p in tmp_path.iterdir()] == ["x.safetensors"]
    assert torch.equal(StateFile(tmp_path / "x.safetensors").read(0, 9), LATENTS)


def test_one_layer_reads_like_its_tensor(tmp_path):
    layer = LayerLatents(write(tmp_path / "x.safetensors"), 2, "cpu")
    tensor = LATENTS[:, 2].movedim(0, 1)[None]
    assert layer.shape == tensor.shape
    assert all(torch.equal(layer[:, :, i], tensor[:, :, i]) for i in range(9))


def test_shots_are_returned_only_if_they_cover_exactly_the_frames(tmp_path):
    store, frames = LatentStore(tmp_path, "abc"), range(-3, 20)
    for shot in (range(9, 20), range(-3, 9)):
        assert store.shots("layers", frames) == {}
        write(store.path("layers", shot[0]), facts=store.facts(shot))
    assert list(store.shots("layers", frames)) == [range(-3, 9), range(9, 20)]
    assert store.shots("plate", frames) == {} == store.shots("layers", range(-3, 21))
    store.refuse_others()
    kept = LatentStore(tmp_path / "kept", "abc")
    store.move_to("layers", kept)
    assert list(kept.shots("layers", frames)) == [range(-3, 9), range(9, 20)]
    assert not list(tmp_path.glob("*.safetensors"))
    kept.move_to("layers", store)
    other = LatentStore(tmp_path, "abd")
    assert other.shots("layers", frames) == {}
    with pytest.raises(InputError, match="generated from another plate, prompt, seed"):
        other.refuse_others()


def test_states_hold_the_newest_step_of_the_same_generation(tmp_path):
    facts = {"generation": "abc", "frames": "1 9"}
    states = States(tmp_path, "state.1", facts)
    assert states.newest() == (0, None)
    for step in (1, 2):
        with states.writer(step) as add:
            add(LATENTS * step)
    step, state = States(tmp_path, "state.1", facts).newest()
    assert step == 2 and torch.equal(state.read(0, 9), LATENTS * 2) and len(list(tmp_path.iterdir())) == 1
    (tmp_path / "state.1.step0003.part.safetensors").write_bytes(b"half")
    assert states.newest()[0] == 2
    assert States(tmp_path, "state.1", facts | {"generation": "abd"}).newest() == (0, None)
    assert States(tmp_path, "state.10", facts).newest() == (0, None)
    states.clear()
    assert states.newest() == (0, None)


def test_a_damaged_shot_is_ignored_and_listed(tmp_path):
    store, frames = LatentStore(tmp_path, "abc"), range(1, 10)
    write(store.path("layers", 1), facts=store.facts(frames))
    assert store.holds("layers", frames) and not store.damaged()
    content = bytearray(store.path("layers", 1).read_bytes())
    content[-7] ^= 1
    store.path("layers", 1).write_bytes(content)
    assert store.shots("layers", frames) == {} and not store.holds("layers", frames)
    assert store.damaged() == [store.path("layers", 1)]
    store.refuse_others()  # the generation of a damaged file is unknown


def test_a_damaged_state_is_ignored(tmp_path):
    states = States(tmp_path, "state.1", {"generation": "abc", "frames": "1 9"})
    for step in (1, 2):
        with states.writer(step) as add:
            add(LATENTS * step)
    path = tmp_path / "state.1.step0002.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    assert states.newest() == (0, None)
    with states.writer(2) as add:
        add(LATENTS)
    assert states.newest()[0] == 2


@pytest.mark.parametrize("frames", ["9 1", "1 99999999999", "1", "a b", "1 9 ", ""])
def test_a_file_without_frame_numbers_is_ignored(tmp_path, frames):
    store = LatentStore(tmp_path, "abc")
    write(store.path("layers", 1), facts={"generation": "abc", "frames": frames})
    assert store.shots("layers", range(1, 10)) == {}
