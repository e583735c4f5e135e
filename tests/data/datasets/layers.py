"""Writes a tiny dataset in the public format: 49 frames of 32x32, encoded with PyAV."""

import json
from pathlib import Path

import av
import numpy as np

TRAIN = {
    "edit_instruction": "Add a red ball",
    "input_video_path": "media/source.mp4",
    "edit_rgb_path": "media/edit.mp4",
    "edit_alpha_path": "media/alpha.mp4",
    "mask_path": "media/mask.mp4",
    "composite_path": "media/composite.mp4",
}
PREVIEW = {k: v for k, v in TRAIN.items() if k not in ("mask_path", "composite_path")} | {
    "target_composite_path": "media/composite.mp4",
    "video_id": "v1",
    "dataset_name": "realistic-set1",
}
TEST = {
    "video_id": "v1",
    "input_path": "media/source.mp4",
    "subject_type": "person",
    "prompt_id": "p1",
    "prompt": "Add a boat",
    "target_caption": "a boat",
    "source_caption": "the sea",
    "edit_type": "obj_add",
    "mask_path": "media/mask.mp4",
    "alpha_path": "media/alpha.mp4",
}


def write_movie(file: Path, frames, rate=16, codec="libx264", faststart=True) -> Path:
    """Encode frames (T, H, W, 3) in [0, 1] as 4:2:0 video of good quality."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(file), "w", options={"movflags": "faststart"} if faststart else {}) as out:
        stream = out.add_stream(codec, rate=rate)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "yuv420p" if not any(s % 2 for s in frames.shape[1:3]) else "yuv444p"
        stream.options = {"crf": "12", "preset": "ultrafast"} if codec == "libx264" else {}
        for frame in frames:
            picture = av.VideoFrame.from_ndarray(np.rint(np.clip(frame, 0, 1) * 255).astype(np.uint8), "rgb24")
            out.mux(stream.encode(picture.reformat(format=stream.pix_fmt)))
        out.mux(stream.encode())
    return file


def make_layers(seed: int, frames=49, size=32, drift=0.2) -> dict:
    """A smooth plate and a coloured square that drifts over it: layer -> (T, H, W, 3)."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:size, :size] / size
    turn = rng.uniform(0, 6, 3)
    source = np.stack([0.5 + 0.3 * np.sin(3 * x + 2 * y + t) for t in turn], -1)[None].repeat(frames, 0)
    colour, (left, top) = rng.uniform(0.1, 0.9, 3), rng.uniform(0.1, 0.5, 2)
    drift = np.linspace(0, drift, frames)[:, None, None]
    inside = (abs(x - left - drift - 0.15) < 0.15) & (abs(y - top - 0.15) < 0.15)
    alpha = inside[..., None].astype(float).repeat(3, -1)
    edit = np.broadcast_to(colour, source.shape) * alpha
    mask = np.broadcast_to(alpha.max(0, keepdims=True), alpha.shape)
    return {"source": source, "edit": edit, "alpha": alpha, "composite": edit + (1 - alpha) * source, "mask": mask}


def write_layers(folder: Path, made: dict) -> None:
    for name, frames in made.items():
        write_movie(folder / f"{name}.mp4", frames)


def write_rows(file: Path, *rows) -> Path:
    """Write a JSONL file; each row is a dict, or a line as bytes."""
    file.parent.mkdir(parents=True, exist_ok=True)
    lines = [row if isinstance(row, bytes) else json.dumps(row).encode() for row in rows]
    file.write_bytes(b"\n".join(lines) + b"\n")
    return file


def write_dataset(root: Path, count=8, size=32) -> Path:
    """`count` train rows with different static layers, which a tiny model overfits quickly."""
    rows = []
    for i in range(count):
        write_layers(root / f"clip{i}", make_layers(i, size=size, drift=0.0))
        paths = {k: v.replace("media", f"clip{i}") for k, v in TRAIN.items() if k.endswith("_path")}
        rows.append(
            paths | {"edit_instruction": ["Add a red boat", "Add snow to the sea", "Add a boat"][i % 3] + " a" * i}
        )
    write_rows(root / "train.jsonl", *rows)
    return root
