import subprocess
import sys
from pathlib import Path

import numpy as np
import OpenImageIO as oiio
import pytest

from vera.core.layer import image_file


def spec_for(pixels, kind):
    return oiio.ImageSpec(pixels.shape[1], pixels.shape[0], pixels.shape[2], kind)


def noise(shape=(40, 50, 4)):
    return np.random.default_rng(0).random(shape).astype(np.float16)


def test_every_half_is_kept(tmp_path):
    bits = np.arange(65536, dtype=np.uint16).reshape(256, 64, 4)
    spec = spec_for(bits, "half")
    spec.attribute("compression", "zip")
    image_file.write_image(tmp_path / "a.exr", bits.view(np.float16), spec)
    assert np.array_equal(image_file.read_image(tmp_path / "a.exr").view(np.uint16), bits)
    assert [p.name for p in tmp_path.iterdir()] == ["a.exr"]


def test_a_format_that_changes_the_pixels_is_noticed(tmp_path):
    spec = spec_for(noise(), "half")
    spec.attribute("compression", "dwaa")
    with pytest.raises(OSError, match="does not read back"):
        image_file.write_image(tmp_path / "a.exr", noise(), spec)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("call", ["open", "write_image", "close"])
def test_each_failing_call_of_the_writer_is_noticed(tmp_path, monkeypatch, call):
    """A full disk fails write_image and then lets close succeed, or only close fails."""
    old = np.zeros((4, 4, 3), np.float16)
    image_file.write_image(tmp_path / "a.exr", old, spec_for(old, "half"))

    class Output:
        def __init__(self, real):
            self.real = real

        def __getattr__(self, name):
            do = getattr(self.real, name)
            return (lambda *a: do(*a) and False) if name == call else do

    create = oiio.ImageOutput.create
    fake = type("ImageOutput", (), {"create": staticmethod(lambda p: Output(create(p)))})
    monkeypatch.setattr(image_file.oiio, "ImageOutput", fake)
    with pytest.raises(OSError, match="a.part.exr: could not be written.*are free"):
        image_file.write_image(tmp_path / "a.exr", noise(), spec_for(noise(), "half"))
    assert [p.name for p in tmp_path.iterdir()] == ["a.exr"]
    assert np.array_equal(image_file.read_image(tmp_path / "a.exr"), old)


@pytest.mark.parametrize("damage", ["cut", "flip"])
def test_what_the_disk_lost_is_noticed(tmp_path, monkeypatch, damage):
    """The writer says all is well, the file is not."""
    write = image_file._write

    def lossy(path, pixels, spec):
        write(path, pixels, spec)
        content = bytearray(path.read_bytes())
        if damage == "cut":
            del content[len(content) // 2 :]
        else:
            content[-100] ^= 1
        path.write_bytes(content)

    monkeypatch.setattr(image_file, "_write", lossy)
    spec = spec_for(noise(), "half")
    spec.attribute("compression", "zip" if damage == "cut" else "none")
    with pytest.raises(OSError):
        image_file.write_image(tmp_path / "a.exr", noise(), spec)
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(sys.platform == "win32", reason="no limit on file sizes there")
@pytest.mark.parametrize("name, kind", [("a.exr", "half"), ("a.tif", "half"), ("a.dpx", "uint16"), ("a.png", "uint16")])
def test_a_disk_that_really_refuses(tmp_path, name, kind):
    """The system's own limit: writes past 20 kB fail, as they do on a full disk."""
    program = f"""
import resource, signal, pathlib, numpy as np, OpenImageIO as oiio
from vera.core.layer.image_file import write_image
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (20000, 20000))
pixels = np.random.default_rng(0).integers(0, 15000, (128, 128, 3), np.uint16)
pixels = pixels.view(np.float16) if {kind!r} == "half" else pixels
write_image(pathlib.Path({str(tmp_path)!r}) / {name!r}, pixels, oiio.ImageSpec(128, 128, 3, {kind!r}))
"""
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=root)
    assert done.returncode != 0 and "OSError" in done.stderr
    assert not list(tmp_path.iterdir())


def test_a_broken_file_does_not_read_as_pixels(tmp_path):
    path = tmp_path / "a.exr"
    image_file.write_image(path, noise((200, 200, 4)), spec_for(noise((200, 200, 4)), "half"))
    path.write_bytes(path.read_bytes()[:-5000])
    for broken in (path, tmp_path / "none.exr"):
        with pytest.raises(OSError, match=broken.name):
            image_file.read_image(broken)
