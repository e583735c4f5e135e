"""Writes a small test set in the published format."""

import json
from fractions import Fraction

import av
import numpy as np
from scipy import ndimage

SIZE, FRAMES, FPS = (48, 64), 9, 16


def movie(path, pictures, fps=FPS, lossless=True):
    """Encode pictures (H, W, 3) or (H, W) in [0, 1]; lossless movies keep their 8-bit codes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264rgb" if lossless else "libx264", rate=Fraction(fps))
        stream.height, stream.width = pictures[0].shape[:2]
        stream.pix_fmt = "rgb24" if lossless else "yuv420p"
        stream.options = {"qp": "0"} if lossless else {"crf": "18"}
        for picture in pictures:
            picture = picture if picture.ndim == 3 else picture[..., None].repeat(3, -1)
            frame = av.VideoFrame.from_ndarray(np.rint(np.clip(picture, 0, 1) * 255).astype(np.uint8), "rgb24")
            out.mux(stream.encode(frame))
        out.mux(stream.encode())
    return path


def plate(seed, frames=FRAMES, size=SIZE):
    """Frames of a panning texture, 8-bit codes over 255."""
    rng = np.random.default_rng(seed)
    wide = ndimage.gaussian_filter(rng.normal(0.5, 2, (size[0], size[1] + frames, 3)), (2, 2, 0))
    wide = np.rint(np.clip(wide, 0, 1) * 255) / 255
    return [wide[:, k : k + size[1]] for k in range(frames)]


def disc(k, size=SIZE):
    """The true alpha of frame k: a moving soft disc, 8-bit codes over 255."""
    y, x = np.mgrid[: size[0], : size[1]]
    return np.rint(255 * np.clip(9 - np.hypot(y - size[0] / 2, x - 20 - 2 * k), 0, 1)) / 255


def edited(plates, alphas):
    return [a[..., None] * [0.9, 0.1, 0.1] + (1 - a[..., None]) * p for p, a in zip(plates, alphas)]


def make_set(folder, clips=2, kinds=("obj_add", "background_replace"), **more):
    """Write `clips` rows; return the JSONL file and {key: (plates, alphas)} as pictures."""
    lines, truth = [], {}
    for n in range(clips):
        plates, alphas = plate(n), [disc(k) for k in range(FRAMES)]
        movie(folder / f"videos/v{n}.mp4", plates)
        movie(folder / f"alphas/v{n}.mp4", alphas)
        lines.append(
            {
                "video_id": f"v{n}",
                "input_path": f"videos/v{n}.mp4",
                "subject_type": "human",
                "prompt_id": f"p{n}",
                "prompt": "Add a red ball",
                "target_caption": "A red ball.",
                "source_caption": "A texture.",
                "edit_type": kinds[n % len(kinds)],
                "mask_path": None,
                "alpha_path": f"alphas/v{n}.mp4",
                **more,
            }
        )
        truth[f"v{n}_p{n}"] = (plates, alphas)
    (folder / "test.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder / "test.jsonl", truth
