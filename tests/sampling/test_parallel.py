"""A shot on several processes equals the shot on one."""

import inspect
import tempfile
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import timedelta
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.distributed as dist
from safetensors import safe_open
from torch.distributed.tensor import DTensor

from tests import forked
from tests.plate.media import write_image
from tests.tiny_vera import vera_directory
from vera.core.cli.render import main
from vera.core.errors import InputError
from vera.core.model import tensors
from vera.core.model.device import indexed
from vera.core.model.load import load_model
from vera.core.model.transformer import Transformer, kept_in_float32
from vera.core.sampling import parallel
from vera.core.sampling.parallel import Regions, WorkerProcesses, shares
from vera.core.sampling.speed_options import SpeedOptions
from vera.core.state_file import StateFile


@pytest.mark.parametrize(
    "count, ranks, each", [(12, 4, [3] * 4), (12, 8, [2] * 4 + [1] * 4), (3, 2, [2, 1]), (27, 2, [14, 13])]
)
def test_shares_of_ranks_differ_by_at_most_one(count, ranks, each):
    assert shares(count, ranks) == each


@pytest.fixture(scope="module")
def shot(tmp_path_factory):
    """A model of three heads that sees 9 frames of 48x48 (27 tokens a layer), and a plate of two windows' length."""
    folder = tmp_path_factory.mktemp("shot")
    limits = {"max_frames": 9, "pixels": 48 * 48, "steps": 4, "guidance": 3.0}
    vera_directory(folder / "vera", limits, spread=0.3)
    rng = np.random.default_rng(0)
    for frame in range(1, 14):
        write_image(folder / f"plate.{frame:04d}.png", rng.integers(0, 255, (48, 48, 3), np.uint8))
    write_image(folder / "mask.png", np.full((48, 48, 3), 200, np.uint8))
    return folder


def render(shot, out, *more):
    """(exit code, layers or None) of the command with further options, which replace these."""
    options = {
        "--plate": f"{shot}/plate.####.png",
        "--mask": f"{shot}/mask.png",
        "--model": f"{shot}/vera",
        "--device": "cpu",
        "--prompt": "add a boat",
        "--progress": "none",
        "--out": f"{shot}/{out}",
    }
    base = [part for name, value in options.items() if name not in more for part in (name, value)]
    code = main([*base, "--keep", *more])
    [file] = (shot / out).glob("kept/layers.*.safetensors") if code == 0 else [None]
    return code, file and StateFile(file).read(0, 4)


@pytest.fixture
def followers_are_copies(spawned_as_copies):
    """Followers start as copies of a process; the test of camera motion starts them as users do."""
    with spawned_as_copies():
        yield


WAYS = {
    "regions": ["--guidance", "1"],  # uneven heads and regions
    "halves": [],  # one guidance pass each
    "cached": ["--cache", "0.4"],
    "sharded": ["--shard", "--guidance", "1"],
}


@pytest.fixture(scope="module")
def alone(shot):
    """alone(way): the layers of one process, whose weights are whole."""
    made = {}

    def render_alone(way):
        options = tuple(option for option in WAYS[way] if option != "--shard")
        if options not in made:
            code, made[options] = render(shot, f"1{way}", *options)
            assert code == 0 and made[options].std() > 0.1
        return made[options]

    return render_alone


@pytest.mark.parametrize("way", WAYS)
def test_two_processes_give_the_result_of_one(shot, alone, way, followers_are_copies):
    """Runs the command with windows, a mask, one guidance pass or two, the first-block cache, or sharded weights."""
    code, two = render(shot, f"2{way}", "--processes", "2", *WAYS[way])
    assert code == 0 and (alone(way) - two).abs().max() < 1e-5


def test_the_cache_skips_blocks(alone):
    assert (alone("halves") - alone("cached")).abs().max() > 1e-3


@pytest.mark.parametrize(("count", "allowed"), [(2, True), (3, True), (4, False)])
def test_no_more_processes_than_heads_are_allowed(count, allowed):
    workers = WorkerProcesses(count, SpeedOptions())
    transformer = SimpleNamespace(config=SimpleNamespace(heads=3))
    with nullcontext() if allowed else pytest.raises(InputError, match="3 heads"):
        workers._check(transformer, "cpu")


@pytest.mark.parametrize(
    "more, reason",
    [
        (["--processes", "4"], "has 3 heads"),
        (["--processes", "0"], "give 1 or more"),
        (["--processes", "2", "--compile"], "leave out --compile"),
        (["--processes", "2", "--model", "lift:x.mov"], "runs on one"),
        (["--shard"], "give --processes"),
        (["--processes", "2", "--shard", "--model", "mini", "--prompt", "add a red ball"], "fits everywhere"),
        (["--processes", "2", "--shard", "--weights", "int8"], "stay whole"),
        (["--processes", "2", "--shard", "--offload", "parts"], "cannot wait"),
    ],
)
def test_models_that_cannot_be_shared_are_refused(shot, more, reason, capsys):
    assert render(shot, "refused", *more)[0] == 2
    assert reason in capsys.readouterr().err and not (shot / "refused").exists()


@pytest.fixture(scope="module")
def panned(tmp_path_factory):
    """A plate with camera motion, which mini's drawing follows."""
    folder = tmp_path_factory.mktemp("panned")
    field = np.random.default_rng(3).integers(0, 255, (12, 40, 3), np.uint8).repeat(8, 0).repeat(8, 1)
    for frame in range(1, 14):
        write_image(folder / f"plate.{frame:04d}.png", field[:, 6 * frame : 6 * frame + 160])
    return folder


def test_two_processes_give_the_same_with_camera_motion(panned):
    """The drawing's views are named arguments, which must reach every process."""
    made = {}
    for processes in "12":
        out = panned / processes
        given = [
            "--plate",
            f"{panned}/plate.####.png",
            "--prompt",
            "add a red balloon rising",
            "--out",
            str(out),
            "--keep",
        ]
        assert main([*given, "--steps", "2", "--device", "cpu", "--progress", "none", "--processes", processes]) == 0
        made[processes] = StateFile(next(out.glob("kept/layers.*.safetensors"))).read(0, 4)
    assert made["1"].std() > 0.1 and (made["1"] - made["2"]).abs().max() < 1e-3


@dataclass(frozen=True)
class Given:
    """An object with several inputs, as a future transformer might take."""

    text: torch.Tensor
    parts: dict


def example(number):
    return torch.arange(float(number), number + 3)


def all_inputs():
    """A value for every input in the transformer's signature, and one for an input that does not exist yet."""
    names = [name for name in inspect.signature(Transformer.forward).parameters if name not in ("self", "cache")]
    named = {name: example(number) for number, name in enumerate(names)}
    return named | {"conditions": Given(example(50), {"deep": [example(51), "a word", None, np.arange(3)]})}


class Listener(torch.nn.Module):
    """A stand-in for the transformer that records its arguments."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))

    def forward(self, *inputs, cache=None, **named):
        self.called = inputs, named


def follow_and_write(rank, place):
    from vera.core.sampling import parallel

    listener = Listener()
    parallel.load_model = lambda *given, **options: SimpleNamespace(transformer=listener)
    parallel.Regions = lambda inner=None, half=None: inner  # the stand-in has no blocks to share
    if rank == 0:
        parallel._join_group(0, 2, "cpu", place)
        crew = WorkerProcesses(2, SpeedOptions())
        listener.register_forward_pre_hook(crew._lead, with_kwargs=True)
        listener(example(90), torch.ones(2, 3, dtype=torch.bfloat16), torch.empty(0, 4), **all_inputs())
        parallel.give(None, torch.device("cpu"))
    else:
        speed = SimpleNamespace(prepare=lambda transformer: None)
        parallel._follow(0, 2, place, parallel.Follower("listener", "cpu", {}, speed, sharded=False))
    torch.save(listener.called, f"{place}/called-{rank}")


def test_every_input_of_the_transformer_reaches_every_process(tmp_path):
    """Positional and named inputs, and tensors inside objects; a missing one would change the picture."""
    forked.spawn(follow_and_write, (str(tmp_path),), 2)
    leader, follower = (torch.load(tmp_path / f"called-{rank}", weights_only=False) for rank in range(2))
    assert [t.tolist() for t in follower[0]] == [t.tolist() for t in leader[0]] and follower[0][
        1
    ].dtype == torch.bfloat16
    assert follower[0][2].shape == (0, 4)
    given = all_inputs()
    assert follower[1].keys() == leader[1].keys() == given.keys()
    for name, value in given.items():
        if name != "conditions":
            assert torch.equal(follower[1][name], value), name
    got = follower[1]["conditions"]
    assert torch.equal(got.text, example(50)) and torch.equal(got.parts["deep"][0], example(51))
    assert got.parts["deep"][1:3] == ["a word", None] and (got.parts["deep"][3] == np.arange(3)).all()


def test_each_process_loads_its_weights_onto_its_own_gpu(shot, tmp_path, monkeypatch):
    """safetensors reads "cuda" as the first GPU, not as the process's current GPU."""
    opened, made = [], []

    def spied(file, framework, device):
        opened.append(device)
        return safe_open(file, framework, device="cpu")

    monkeypatch.setattr(tensors, "safe_open", spied)
    monkeypatch.setattr(torch.cuda, "set_device", made.append)
    monkeypatch.setattr(parallel.dist, "init_process_group", lambda *given, **options: None)
    monkeypatch.setattr(parallel.dist, "new_group", lambda *given, **options: None)
    monkeypatch.setattr(parallel.dist, "destroy_process_group", lambda: None)
    monkeypatch.setattr(parallel.signal, "signal", lambda *given: None)
    monkeypatch.setattr(parallel, "take", lambda device: None)
    follower = parallel.Follower(str(shot / "vera"), "cuda", {}, SpeedOptions(), sharded=False)
    parallel._follow(0, 2, str(tmp_path), follower)
    assert set(opened) == {"cuda:1"} and made == [1]


def test_the_current_gpu_is_named_by_its_number(shot, monkeypatch):
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 3)
    assert tensors.TensorFiles(shot / "vera/transformer", "cuda").device == "cuda:3"
    assert [indexed(d) for d in ("cuda", torch.device("cuda:1"), "cpu")] == ["cuda:3", "cuda:1", "cpu"]


def test_the_timeout_between_processes_is_days(tmp_path):
    """The leader may decode and deliver for hours between two calls."""
    parallel._join_group(0, 1, "cpu", str(tmp_path))
    group = torch.distributed.distributed_c10d._get_default_group()
    assert group._get_backend(torch.device("cpu")).options._timeout >= timedelta(days=7)
    torch.distributed.destroy_process_group()


def test_a_process_of_a_sharded_model_holds_only_its_share_of_the_blocks(shot, followers_are_copies):
    """Half of each sharded matrix; fp32 parameters and everything outside the blocks are whole."""
    whole = load_model(f"{shot}/vera", "cpu").transformer
    with WorkerProcesses(2, SpeedOptions(), sharded=True) as crew:
        shares = dict(crew.load(f"{shot}/vera", "cpu").transformer.named_parameters())
    cut = {name for name, value in shares.items() if isinstance(value, DTensor)}
    blocks = {name for name, _ in whole.named_parameters() if name.startswith("blocks.")}
    assert cut == {name for name in blocks if not kept_in_float32(name)}
    for name, value in whole.named_parameters():
        rows = -(-value.shape[0] // 2) if name in cut else value.shape[0]
        held = shares[name].to_local() if name in cut else shares[name]
        assert torch.equal(held, value[:rows]), name


def test_a_crew_whose_model_fails_to_load_starts_no_process(shot):
    with WorkerProcesses(2, SpeedOptions()) as crew:
        with pytest.raises(InputError, match="neither"):
            crew.load("gone", "cpu")
        assert crew.followers is None


def test_regions_of_one_rank_equal_the_plain_model(shot):
    """A group of one rank has one region, the whole picture."""
    transformer = load_model(str(shot / "vera"), "cpu").transformer
    with tempfile.TemporaryDirectory() as folder, torch.no_grad():
        dist.init_process_group("gloo", store=dist.FileStore(f"{folder}/s", 1), rank=0, world_size=1)
        given = (
            torch.randn(2, 3, 4, 3, 6, 6),
            torch.tensor([10.0, 900.0]),
            torch.randn(2, 5, 16),
            torch.randn(2, 4, 3, 6, 6),
        )
        torch.testing.assert_close(transformer(*given, cache=Regions()), transformer(*given), atol=1e-6, rtol=0)
        dist.destroy_process_group()
