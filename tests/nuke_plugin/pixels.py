"""The pictures of the stand-in's nodes: the few operations that the plug-in uses, in float32 as Nuke has them."""

import numpy as np
import OpenImageIO as oiio

CHANNELS = ["rgba.red", "rgba.green", "rgba.blue", "rgba.alpha"]


def write_exr(file, pixels, kind="half", channels="RGB"):
    spec = oiio.ImageSpec(pixels.shape[1], pixels.shape[0], len(channels), kind)
    spec.channelnames = tuple(channels)
    spec.attribute("compression", "zip")
    out = oiio.ImageOutput.create(str(file))
    assert out.open(str(file), spec) and out.write_image(np.ascontiguousarray(pixels, "float32")) and out.close()


def read_exr(file):
    image = oiio.ImageBuf(str(file))
    assert not image.has_error, image.geterror()
    return image.get_pixels("float")


class Pictures:
    """picture(node, frame) is (H, W, 4) float32. `given` replaces the pictures of nodes by name."""

    def __init__(self, **given):
        self.given, self.written = given, []

    def paint(self, write, frame, file):
        """A Write: what it would write, without loss where it is told to."""
        assert write["raw"].value() or write.parent().Class() == "Root"  # the plug-in's own convert nothing
        self.written.append((write.fullName(), frame))
        channels = "RGBA" if write["channels"].value() == "rgba" else "RGB"
        kind = {"32 bit float": "float", "16 bit half": "half"}[write["datatype"].value()]
        write_exr(file, self.picture(write.input(0), frame)[..., : len(channels)], kind, channels)

    def picture(self, node, frame):
        if node.name() in self.given:
            return self.given[node.name()]
        kind = node.Class()
        if kind in ("Group", "VeraEdit"):
            if node["disable"].value():
                return self.picture(node.input(0), frame)
            return self.picture(node.node("Output1"), frame)
        if kind == "Input":
            return self.picture(node.parent().input(int(node["number"].value())), frame)
        form = node.format()
        return getattr(self, "_" + kind)(node, frame, (form.height(), form.width()))

    def _Read(self, node, frame, size):
        if not node["first"].value() <= frame <= node["last"].value():
            assert node["before"].value() == node["after"].value() == "black"
            return np.zeros((*size, 4), "float32")
        pixels = read_exr(node["file"].evaluate().replace("####", f"{frame:04d}"))
        return np.concatenate([pixels, np.zeros((*pixels.shape[:2], 4 - pixels.shape[2]), "float32")], axis=-1)

    def _CheckerBoard2(self, node, frame, size):
        y, x = np.indices(size)
        return np.repeat(
            (((x // 8 + y // 8) % 2) * 0.4 + 0.1 + frame % 7 * 0.01).astype("float32")[..., None], 4, axis=-1
        )

    def _Constant(self, node, frame, size):
        return np.broadcast_to(np.float32(node["color"].value()), (*size, 4))

    def _Roto(self, node, frame, size):
        drawn = np.zeros((*size, 4), "float32")
        drawn[:, size[1] // 2 :] = 1
        return drawn

    def _Crop(self, node, frame, size):
        """`box` from the bottom left, black outside."""
        ends = {"{input.width}": size[1], "{input.height}": size[0]}
        x, y, r, t = (int(ends.get(v, v)) for v in node["box"].value())
        made = np.zeros((*size, 4), "float32")
        inside = np.s_[size[0] - t : size[0] - y, x:r]
        made[inside] = self.picture(node.input(0), frame)[inside]
        return made

    def _Grade(self, node, frame, size):
        picture = self.picture(node.input(0), frame).copy()
        picture[..., :3] *= np.float32(node["white"].value())
        return picture

    def _Multiply(self, node, frame, size):
        assert node["channels"].value() == "rgba"
        return self.picture(node.input(0), frame) * np.float32(node["value"].value())

    def _Remove(self, node, frame, size):
        assert node["channels"].value() == "all" and node["operation"].value() == "remove"
        return np.zeros((*size, 4), "float32")

    def _Copy(self, node, frame, size):
        made, source = self.picture(node.input(0), frame).copy(), self.picture(node.input(1), frame)
        for i in range(4):
            made[..., CHANNELS.index(node[f"to{i}"].value())] = source[..., CHANNELS.index(node[f"from{i}"].value())]
        return made

    def _Switch(self, node, frame, size):
        return self.picture(node.input(int(node["which"].value())), frame)

    def _Shuffle(self, node, frame, size):
        names = ["red", "green", "blue", "alpha"]
        source = self.picture(node.input(0), frame)
        return np.stack([source[..., names.index(node[name].value())] for name in names], axis=-1)

    def _Merge2(self, node, frame, size):
        b, a = (self.picture(node.input(i), frame) for i in (0, 1))
        with np.errstate(invalid="ignore"):
            made = a + b * (1 - a[..., 3:]) if node["operation"].value() == "over" else np.abs(a - b)
        assert node["output"].value() == "rgb"
        return np.concatenate([made[..., :3], b[..., 3:]], axis=-1)

    def _Output(self, node, frame, size):
        return self.picture(node.input(0), frame)

    _Dot = _Output
