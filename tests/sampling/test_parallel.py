"""A shot on several processes is the shot on one."""

import numpy as np
import pytest
import torch

from vera.core.errors import InputError
from vera.core.sampling.parallel import Crew, shares
from vera.core.cli.render import main
from vera.core.sampling.latent_store import LatentFile
from vera.core.sampling.speed_options import SpeedOptions
from tests.plate.media import write_image
from tests.tiny_vera import vera_directory


@pytest.mark.parametrize("count, ranks, each", [(12, 4, [3] * 4), (12, 8, [2] * 4 + [1] * 4), (3, 2, [2, 1]), (27, 2, [14, 13])])
def test_shares_differ_by_one_at_most(count, ranks, each):
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
    given = ["--plate", f"{shot}/plate.####.png", "--mask", f"{shot}/mask.png", "--model", f"{shot}/vera", "--device", "cpu"]
    code = main([*given, "--prompt", "add a boat", "--keep", "--progress", "none", "--out", f"{shot}/{out}", *more])
    [file] = (shot / out).glob("kept/layers.*.safetensors") if code == 0 else [None]
    return code, file and LatentFile(file).read(0, 4)


@pytest.mark.parametrize("more", [[], ["--cache", "0.4"]], ids=["whole", "cached"])
def test_two_processes_make_what_one_makes(shot, more):
    """Through the command: windows, guidance, a mask, the first-block cache, uneven heads and regions."""
    one, two = (render(shot, f"{n}{more}", "--processes", n, *more) for n in "12")
    assert one[0] == two[0] == 0
    assert one[1].std() > 0.1 and (one[1] - two[1]).abs().max() < 1e-5


def test_the_cache_did_skip(shot):
    whole, cached = (LatentFile(next((shot / f"1{more}").glob("kept/layers.*"))).read(0, 4) for more in ([], ["--cache", "0.4"]))
    assert (whole - cached).abs().max() > 1e-3


@pytest.mark.parametrize(
    "more, reason",
    [
        (["--processes", "4"], "has 3 heads"),
        (["--processes", "0"], "give 1 or more"),
        (["--processes", "2", "--compile"], "leave out --compile"),
        (["--processes", "2", "--model", "lift:x.mov"], "runs on one"),
    ],
)
def test_what_cannot_be_shared_is_refused(shot, more, reason, capsys):
    assert render(shot, "refused", *more)[0] == 2
    assert reason in capsys.readouterr().err and not (shot / "refused").exists()


def test_a_crew_that_is_not_needed_starts_nobody(shot):
    with Crew(2, SpeedOptions()) as crew:
        with pytest.raises(InputError, match="neither"):
            crew.load("gone", "cpu")
        assert crew.followers is None


def test_a_call_on_one_rank_alone_is_the_model(shot):
    """Regions on a world of one: the whole."""
    import tempfile

    import torch.distributed as dist

    from vera.core.model.load import load_model
    from vera.core.sampling.parallel import Regions

    transformer = load_model(str(shot / "vera"), "cpu").transformer
    with tempfile.TemporaryDirectory() as folder, torch.no_grad():
        dist.init_process_group("gloo", store=dist.FileStore(f"{folder}/s", 1), rank=0, world_size=1)
        given = (torch.randn(2, 3, 4, 3, 6, 6), torch.tensor([10.0, 900.0]), torch.randn(2, 5, 16), torch.randn(2, 4, 3, 6, 6))
        torch.testing.assert_close(transformer(*given, cache=Regions()), transformer(*given), atol=1e-6, rtol=0)
        dist.destroy_process_group()
