"""mini's codec, text encoder and folder."""

import copy
import hashlib
import json
import shutil

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from vera.core.errors import InputError
from vera.core.model.families import family_of
from vera.core.model.limits import Limits
from vera.core.model.load import load_model
from vera.core.model.mini.edition import load_mini, published_digests, save_codec, save_mini
from vera.core.model.mini.edition_files import CONFIG, OBJECTS, SCENES, WEIGHTS
from vera.core.model.mini.mini_codec import MiniCodec, fold, unfold
from vera.core.model.mini.mini_config import MINI, MiniConfig
from vera.core.model.mini.mini_text import MAX_WORDS, MiniText
from vera.core.model.mini.mini_transformer import MiniTransformer
from vera.core.model.names import EMBEDDED
from vera.core.training.mini.vae_training import new_codec


@pytest.fixture
def codec():
    torch.manual_seed(0)
    codec = MiniCodec(channels=4, width=8, blocks=1).eval()
    torch.nn.init.normal_(codec.refiner[-1].weight)
    return codec


def test_fold_puts_each_pixel_where_it_says():
    video = torch.arange(2 * 3 * 8 * 16 * 24, dtype=torch.float64).reshape(2, 3, 8, 16, 24)
    cells = fold(video)
    b, c, t, y, x = 1, 2, 6, 13, 9
    channel = ((c * 4 + t % 4) * 8 + y % 8) * 8 + x % 8
    assert cells[b * 2 + t // 4, channel, y // 8, x // 8] == video[b, c, t, y, x]


def test_unfold_undoes_fold():
    video = torch.rand(2, 3, 8, 16, 24, dtype=torch.float64)
    assert torch.equal(unfold(fold(video) * 2 - 1, 2).float(), video.float())


@pytest.mark.parametrize("frames, latents", [(1, 1), (2, 2), (5, 2), (16, 5), (17, 5), (18, 6)])
def test_exactly_as_many_frames(codec, frames, latents):
    z = codec.encode(torch.rand(1, 3, frames, 16, 24))
    assert z.shape == (1, 4, latents, 2, 3)
    assert codec.decode(z, frames).shape == (1, 3, frames, 16, 24)


def test_encoding_is_causal(codec):
    video = torch.rand(1, 3, 13, 16, 16)
    changed = video.clone()
    changed[:, :, 5:] = 0
    a, b = codec.encode(video), codec.encode(changed)
    assert torch.equal(a[:, :, :2], b[:, :, :2]) and not torch.equal(a[:, :, 2], b[:, :, 2])


@pytest.mark.parametrize("frames", [1, 2, 5, 16])
def test_frames_streamed_in_are_the_whole_encode(codec, frames):
    given, encode = torch.rand(1, 3, frames, 16, 24), codec.encode_stream()
    groups = [given[:, :, :1], *given[:, :, 1:].split(4, dim=2)] if frames > 1 else [given]
    streamed = torch.cat([encode(g) for g in groups], dim=2)
    torch.testing.assert_close(streamed, codec.encode(given), rtol=0, atol=1e-6)


def test_decoding_looks_one_latent_frame_back(codec):
    z = torch.randn(1, 4, 5, 2, 2)
    changed = z.clone()
    changed[:, :, 1] += 1
    a, b = (list(codec.decode_stream(x)) for x in (z, changed))
    same = [torch.equal(x, y) for x, y in zip(a, b)]
    assert same == [True, False, False, True, True]


def test_the_stream_can_stop_early(codec):
    z = torch.randn(1, 4, 4, 2, 2)
    stream = codec.decode_stream(z)
    assert torch.equal(torch.cat([next(stream), next(stream)], 2), codec.decode(z[:, :, :2], 5))


@pytest.fixture
def text():
    torch.manual_seed(0)
    return MiniText(["add", "ball", "red"], dim=24, heads=2).eval()


def test_states_end_with_the_prompt(text):
    states = text.encode(["add red ball", ""])
    assert states.shape == (2, MAX_WORDS, 24)
    assert states[0, :3].abs().sum(-1).min() > 0 and not states[0, 3:].any() and not states[1].any()


def test_batch_mates_do_not_matter(text):
    alone = text.encode(["red ball"])
    together = text.encode(["red ball", "add ball"])
    torch.testing.assert_close(together[:1], alone)


def test_word_order_matters(text):
    add, ball, red = (text.index[word] for word in ("add", "ball", "red"))
    assert not torch.allclose(text(torch.tensor([[red, ball, add]])), text(torch.tensor([[add, ball, red]])))


def test_warnings_name_the_words(text):
    assert text.check("Add red, RED ball!") == []
    (note,) = text.check("Add a beautiful and very beautiful red ball")
    assert "'beautiful'" in note and "'red'" not in note and note.count("beautiful") == 1


@pytest.fixture(scope="module")
def edition(tmp_path_factory):
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("edition")
    modules = MiniTransformer(MINI), MiniText(["red"], MINI.text_dim), MiniCodec()
    save_mini(folder, *modules, Limits(49, 11520, 16, 9, 2.5, 2.0))
    return folder, modules


@pytest.fixture
def folder(edition, tmp_path):
    """An edition's folder, to be spoiled, and the modules in it."""
    shutil.copytree(edition[0], tmp_path / "edition")
    return tmp_path / "edition", edition[1]


def test_an_edition_is_read_as_it_was_written(folder):
    path, (transformer, text, codec) = folder
    model = load_mini(path, "cpu")
    for mine, theirs in ((model.transformer, transformer), (model.text, text)):
        for a, b in zip(mine.parameters(), theirs.parameters(), strict=True):
            if b.ndim < 2:
                assert torch.equal(a, b.bfloat16().float())
                continue
            # 8 bits a weight: off by no more than half a step of its row.
            rows, largest = (a - b).flatten(1).abs().amax(1), b.flatten(1).abs().amax(1)
            assert (rows <= largest / 254 * 1.001 + 1e-12).all()
    for a, b in zip(model.codec.state_dict().values(), codec.state_dict().values(), strict=True):
        assert torch.equal(a, b)
    assert model.limits == Limits(49, 11520, 16, 9, 2.5, 2.0) and model.text.words == ["red"]
    assert load_mini(path, "cpu").fingerprint == model.fingerprint


def test_another_edition_has_another_fingerprint(folder):
    path, modules = folder
    before = load_mini(path, "cpu").fingerprint
    codec = copy.deepcopy(modules[2])
    with torch.no_grad():
        codec.inverse.bias[0] += 1
    save_mini(path, *modules[:2], codec, Limits(49))
    assert load_mini(path, "cpu").fingerprint != before


@pytest.mark.parametrize("name", ["codec.safetensors", "config.json"])
def test_a_missing_part_is_named(folder, name):
    (folder[0] / name).unlink()
    with pytest.raises(InputError, match=name):
        load_mini(folder[0], "cpu")


def without_digests(folder):
    (folder / "SHA256SUMS").unlink()
    return folder


def test_a_codec_of_another_width_is_named(folder):
    save_codec(MiniCodec(channels=4), folder[0] / "codec.safetensors")
    with pytest.raises(InputError, match="codec.safetensors: 4 channels, the transformer's latents have 24"):
        load_mini(without_digests(folder[0]), "cpu")


def test_a_vae_of_another_model_is_named(folder):
    vae = new_codec(
        {"base_dim": 8, "dim_mult": [1, 1, 1], "patch_size": 2, "temperal_downsample": [True, True], "z_dim": 4}
    )
    save_codec(vae, folder[0] / "codec.safetensors")
    with pytest.raises(InputError, match="codec.safetensors: 4 channels, the transformer's latents have 24"):
        load_mini(without_digests(folder[0]), "cpu")


@pytest.mark.parametrize("file", ["config.json", "transformer.safetensors", "text.safetensors", "codec.safetensors"])
def test_one_flipped_bit_is_found_by_the_published_digest(folder, file):
    contents = bytearray((folder[0] / file).read_bytes())
    contents[-len(contents) // 3] ^= 1
    (folder[0] / file).write_bytes(contents)
    with pytest.raises(InputError, match=f"{file}: damaged"):
        load_mini(folder[0], "cpu")


def test_the_published_digests_are_those_of_sha256sum(folder):
    lines = (folder[0] / "SHA256SUMS").read_text().splitlines()
    assert len(lines) == 4
    for line in lines:
        digest, name = line.split("  ")
        assert digest == hashlib.sha256((folder[0] / name).read_bytes()).hexdigest()


def test_the_embedded_edition_has_published_digests():
    assert set(published_digests(EMBEDDED)) == {CONFIG, *WEIGHTS, OBJECTS, SCENES}


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("part", ["transformer", "text", "codec"])
def test_weights_that_are_not_finite_are_refused(folder, part, value):
    file = without_digests(folder[0]) / f"{part}.safetensors"
    state = load_file(file)
    with safe_open(file, "pt") as opened:
        metadata = opened.metadata()
    name = next(n for n, tensor in state.items() if tensor.is_floating_point())
    state[name].view(-1)[0] = value
    save_file(state, file, metadata)
    with pytest.raises(InputError, match=f"{part}.safetensors: '{name.removesuffix('.scale')}' holds values"):
        load_mini(folder[0], "cpu")


WRONG_CONFIGURATIONS = [
    {"layers": 10**9},
    {"layers": 1e9},
    {"layers": -1},
    {"layers": 0},
    {"layers": "6"},
    {"layers": None},
    {"layers": True},
    {"dim": 192.0},
    {"dim": 10**30},
    {"heads": 0},
    {"heads": 5},
    {"ffn_dim": [768]},
    {"text_dim": {}},
    {"freq_dim": -128},
    {"latent_channels": 10**6},
    {"patch": [1, 2]},
    {"patch": "122"},
    {"patch": [1, 2, 0]},
    {"patch": [1, 2, 10**9]},
    {"eps": "small"},
    {"eps": -1},
    {"eps": float("nan")},
    {"mask_input": 1},
    {"drawing": "yes"},
    {"latent_std": -0.65},
    {"latent_std": None},
    {"latent_std": 10**400},
    {"speed": 3},
]


@pytest.mark.parametrize("change", WRONG_CONFIGURATIONS, ids=str)
def test_wrong_configurations_are_one_line(tmp_path, change):
    path = tmp_path / "config.json"
    MINI.save(path)
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(InputError, match="config.json") as caught:
        MiniConfig.load(path)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 300 + len(str(path))


@pytest.mark.parametrize("text", ["", "{", "[]", "3", "null", "[" * 100_000, '"mini"'], ids=lambda t: t[:8])
@pytest.mark.parametrize("kind", [MiniConfig, Limits])
def test_files_that_are_no_configuration_are_one_line(tmp_path, kind, text):
    (tmp_path / "file.json").write_text(text)
    with pytest.raises(InputError, match="file.json") as caught:
        kind.load(tmp_path / "file.json")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "words",
    [None, "red", '{"a": 1}', "[1, 2]", "[" * 5000, "[" + '"a", ' * 100_001 + '"a"]'],
    ids=lambda w: str(w)[:12],
)
def test_a_wrong_vocabulary_is_named(folder, words):
    file = without_digests(folder[0]) / "text.safetensors"
    save_file(load_file(file), file, None if words is None else {"words": words})
    with pytest.raises(InputError, match="text.safetensors: damaged"):
        load_mini(folder[0], "cpu")


def test_an_edition_is_a_model_by_its_folder(folder):
    model = load_model(str(folder[0]), "cpu")
    assert model.name == str(folder[0]) and model.text.words == ["red"]
    assert family_of(str(folder[0])) is family_of("mini")


@pytest.mark.parametrize("part", ["transformer", "text", "codec"])
def test_a_damaged_part_is_named(folder, part):
    file = folder[0] / f"{part}.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(InputError, match=f"{part}.safetensors: damaged"):
        load_mini(folder[0], "cpu")
