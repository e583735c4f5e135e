"""The delivery: edit layer, composite, manifest, preview. Resumable, never half-written.

    DIR/edit/edit.####.exr            RGBA, premultiplied, the plate's numbering; on request a part with matte.A
    DIR/composite/composite.####.*    the plate's type, its bits where alpha is 0
    DIR/png/edit.####.png, edit.mov   on request: the layer, straight and encoded
    DIR/recipe.json                   what was asked for; written first
    DIR/preview.mp4, contact_sheet.png
    DIR/manifest.json                 a pixel hash a frame; written last
    DIR/.job/frames/*.json            a note for each frame that is done, until the manifest
    DIR/.job/preview/*.png            the frame's picture for preview.mp4, until the manifest
    DIR/.job/latents/, DIR/kept/      what was generated, see `vera.core.sampling.latent_store`; `kept` stays
"""

import hashlib
import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np

from vera.core.errors import InputError
from vera.core import files as exact_file
from vera.core.layer import also, preview
from vera.core.layer.header import Formats, composite_header, layer_headers
from vera.kernels.pixel_hash import pixel_hash

SCHEMA = "vera.manifest/1"

# What a killed write can have left behind.
_PARTS = (
    "edit/edit.*.part.exr", "composite/composite.*.part.*", "png/edit.*.part.png", "edit.part.mov",
    ".job/frames/*.part.json", ".job/preview/*.part.png", ".job/prores.part.json",
    ".job/latents/*.part.safetensors", "kept/*.part.safetensors",
    "recipe.part.json", "manifest.part.json", "preview.part.mp4", "contact_sheet.part.png",
)  # fmt: skip

# Estimated bytes on the disk for a byte of pixels, compressed.
_LAYER_PACKS_TO, _COMPOSITE_PACKS_TO = 0.4, 0.7
_PRORES_BYTES_A_PIXEL = 2.0


class Delivery:
    """One job's files in one directory.

    plate: see `vera.core.plate.source.Plate`. recipe: what was asked for, as JSON
    can hold it; recipe_hash: the job's identity. blending: how a host lays the layer
    over (`vera.core.layer.blend_space.Blending`). color: of the plate (`vera.core.plate.color.PlateColor`).
    generation: the identity of what the layers are made from. A delivery of the same one
    beside its kept latents is replaced; any other is refused.
    formats: of the files.

    Call `preflight`, `start`, then `done` and `write` a frame, `finish` at the
    end. A job killed anywhere goes on from there when the same is called again.
    """

    def __init__(self, out_dir, plate, recipe, recipe_hash, blending, color, generation=None, formats=Formats()):
        self.dir = Path(out_dir)
        self.plate = plate
        self.recipe = recipe
        self.recipe_hash = recipe_hash
        self.blending = blending
        self.color = color
        self.generation = generation
        self.formats = formats
        self.composite_extension = _composite_extension(plate)
        self.job_dir = self.dir / ".job"
        self.kept_dir = self.dir / "kept"

    def preflight(self, more=0):
        """Refuse what cannot end well. more: bytes that will be written there beside the files of the
        delivery. Writes nothing. Raises InputError."""
        ground = _nearest_there(self.dir)
        if not ground.is_dir():
            raise InputError(f"--out {self.dir}: {ground} is not a directory; choose another --out")
        if not os.access(ground, os.W_OK | os.X_OK):
            raise InputError(f"--out {self.dir}: {ground} is not writable; choose another --out")
        self._refuse_other_work()
        need, free = self._bytes_to_write() + more, shutil.disk_usage(ground).free
        if need > free:
            raise InputError(
                f"--out {self.dir}: about {_size(need)} will be written and {_size(free)} are free;"
                " make room or choose another --out"
            )

    def start(self):
        """Make the directory ready. Raises OSError."""
        self.dir.mkdir(parents=True, exist_ok=True)
        if _read_json(self.dir / "recipe.json").get("recipe_hash") not in (None, self.recipe_hash):
            (self.dir / "manifest.json").unlink(missing_ok=True)
            for folder in (".job/frames", ".job/preview", "png"):
                shutil.rmtree(self.dir / folder, ignore_errors=True)
            self.movie_path.unlink(missing_ok=True)
        hashes = {"recipe_hash": self.recipe_hash} | ({"generation": self.generation} if self.generation else {})
        exact_file.write_json(self.dir / "recipe.json", {**self.recipe, **hashes})
        for folder in (*self._images, ".job/frames", ".job/preview"):
            (self.dir / folder).mkdir(parents=True, exist_ok=True)
        for pattern in _PARTS:
            for path in self.dir.glob(pattern):
                path.unlink()
        self._reopen_manifest()

    def complete(self):
        """Whether this job's whole delivery is there, every pixel as the manifest says."""
        manifest = _read_json(self.dir / "manifest.json")
        entries = {entry["frame"]: entry for entry in manifest.get("frames", [])}
        return (
            manifest.get("recipe_hash") == self.recipe_hash
            and all((self.dir / name).is_file() for name in ("preview.mp4", "contact_sheet.png"))
            and ("prores" not in self.formats.also or self._holds_prores(manifest.get("prores", {}), entries))
            and set(entries) == set(self.plate.frames)
            and all(self._holds(frame, _note_of(entry)) for frame, entry in entries.items())
        )

    def done(self, frame):
        """Whether the files of the frame are there and hold the pixels noted, and
        the plate's frame is still the one they were made from."""
        return self._holds(frame, _read_json(self._note_path(frame)))

    def facts(self, frame):
        """What `write` was told about a frame that is done."""
        return _read_json(self._note_path(frame))["facts"]

    def _holds(self, frame, note):
        try:
            return note["plate"] == self.plate.fingerprint(frame) and all(
                note[name] == _file_hash(path(frame)) for name, path in self._images.items()
            )
        except (OSError, KeyError):
            return False

    def write(self, frame, layer, composite, facts, matte=None, filmed=None):
        """Deliver one frame: layer (H, W, 4) premultiplied, of the formats' type, composite
        (H, W, C) of the plate's type and channels; facts, as JSON can hold them, go
        into the manifest beside its hashes. matte: (H, W) in [0, 1], the model's alpha
        before it was made for the blending space; needed where the formats have one.
        filmed: the plate's pixels, where they are at hand: then `finish` need not read the frame again.

        Raises OSError when a file cannot be written whole; it is then not there.
        """
        size = (self.plate.height, self.plate.width)
        if layer.shape != (*size, 4) or layer.dtype != self.formats.dtype:
            raise ValueError(f"frame {frame}: the layer is {layer.shape} {layer.dtype}")
        if composite.shape != (*size, len(self.plate.channels)) or composite.dtype != self.plate.dtype:
            raise ValueError(f"frame {frame}: the composite is {composite.shape} {composite.dtype}")
        headers = layer_headers(self.plate, frame, self.recipe_hash, self.blending, self.formats)
        behind = composite_header(self.plate, frame, self.composite_extension, self.formats.compression)
        images = {
            "edit": (self._as_delivered(frame, layer, matte), *headers),
            "composite": (composite, behind),
        }
        if "png" in self.formats.also:
            images["png"] = (also.png_codes(layer, self.blending), also.png_header(self.plate))
        if filmed is not None:
            self._write_picture(frame, filmed, layer, composite)
        # The note comes last, so that a frame with a note is whole.
        note = {
            name: pixel_hash(exact_file.write_image(self._images[name](frame), *image))
            for name, image in images.items()
        }
        self._write_note(frame, {**note, "plate": self.plate.fingerprint(frame), "facts": facts})

    def _as_delivered(self, frame, layer, matte):
        if "matte" in self.formats.also:
            if matte is None or matte.shape != layer.shape[:2]:
                raise ValueError(f"frame {frame}: the matte lacks, or is not of the layer's size")
            matte = np.where(layer[..., 3] == 0, 0, matte).astype(layer.dtype)
            layer = np.concatenate([layer, matte[..., None]], -1)
        return layer

    def read_layer(self, frame):
        """Of a delivered frame, what `write` was given: the layer, and the matte or None."""
        pixels = exact_file.read_image(self.edit_path(frame))
        return pixels[..., :4], pixels[..., 4] if pixels.shape[-1] > 4 else None

    def read_composite(self, frame):
        return exact_file.read_image(self.composite_path(frame))

    def finish(self, extra):
        """Preview, contact sheet and, last, the manifest, which carries `extra`; what is to be
        looked at has the exposure that `extra` says the model had.

        Raises RuntimeError if a frame is missing, OSError if a write fails.
        """
        missing = [frame for frame in self.plate.frames if not self._note_path(frame).exists()]
        if missing:
            raise RuntimeError(f"frames not delivered yet: {missing}")
        self.color = replace(self.color, exposure=extra.get("color", {}).get("exposure", 0.0))
        preview.write_movie(self.dir / "preview.mp4", self._pictures(), self.plate)
        preview.write_contact_sheet(self.dir / "contact_sheet.png", self._shown_from_files, self.plate)
        if "prores" in self.formats.also:
            self._write_prores()
        exact_file.write_json(self.dir / "manifest.json", self._manifest(extra))
        shutil.rmtree(self.job_dir)

    def edit_path(self, frame):
        return self.dir / "edit" / f"edit.{_number(frame)}.exr"

    def composite_path(self, frame):
        return self.dir / "composite" / f"composite.{_number(frame)}.{self.composite_extension}"

    def png_path(self, frame):
        return self.dir / "png" / f"edit.{_number(frame)}.png"

    @property
    def movie_path(self):
        return self.dir / "edit.mov"

    @property
    def _images(self):
        """The images of a frame, by what notes and the manifest call them."""
        images = {"edit": self.edit_path, "composite": self.composite_path, "png": self.png_path}
        return {name: path for name, path in images.items() if name != "png" or "png" in self.formats.also}

    def _write_prores(self):
        """The movie, unless it is there, of these very layers."""
        notes = {frame: _read_json(self._note_path(frame)) for frame in self.plate.frames}
        edits = {frame: {"edit": {"pixels": note["edit"]}} for frame, note in notes.items()}
        if self._holds_prores(_read_json(self._prores_note), edits):
            return
        layers = (self.read_layer(frame)[0] for frame in self.plate.frames)
        also.write_prores(self.movie_path, layers, self.plate, self.blending)
        note = {"file": self.movie_path.name, "sha256": _sha256(self.movie_path), "of": _hash_of_edits(edits)}
        exact_file.write_json(self._prores_note, note)

    def _holds_prores(self, note, entries):
        try:
            return note["of"] == _hash_of_edits(entries) and note["sha256"] == _sha256(self.movie_path)
        except (OSError, KeyError):
            return False

    @property
    def _prores_note(self):
        return self.job_dir / "prores.json"

    def _shown(self, frame, filmed, layer, composite):
        """Plate, layer and composite for display, no larger than the preview needs them."""
        filmed, layer, composite = preview.thinned(self.plate, filmed, layer, composite)
        filmed, composite = self.color.for_display(filmed), self.color.for_display(composite)
        return preview.Shown(frame, filmed, layer.astype("float32"), composite, self.blending, self.color.gain)

    def _shown_from_files(self, frame):
        return self._shown(frame, self.plate.read(frame), self.read_layer(frame)[0], self.read_composite(frame))

    def _pictures(self):
        """The preview's pictures, as they were written with the frames; from the files where there is none."""
        for frame in self.plate.frames:
            picture = preview.read_picture(self._picture_path(frame))
            yield preview.movie_picture(self._shown_from_files(frame), self.plate) if picture is None else picture

    def _write_picture(self, frame, filmed, layer, composite):
        picture = preview.movie_picture(self._shown(frame, filmed, layer, composite), self.plate)
        preview.write_picture(self._picture_path(frame), picture)

    def _picture_path(self, frame):
        return self.job_dir / "preview" / f"{frame}.png"

    def _manifest(self, extra):
        movie = {"prores": _read_json(self._prores_note)} if "prores" in self.formats.also else {}
        return {
            "schema": SCHEMA,
            "recipe_hash": self.recipe_hash,
            "size": [self.plate.width, self.plate.height],
            "blend_space": self.blending.name,
            "plate": {
                "path": str(self.plate.path),
                "pixel_type": self.plate.pixel_type,
                "channels": list(self.plate.channels),
                "space": self.color.space.name,
                "config": self.color.space.config,
            },
            "edit": {
                "pixel_type": self.formats.layer_type,
                "channels": list(self.formats.channels),
                "compression": self.formats.compression,
                "premultiplied": True,
                "space": "srgb" if self.blending.name == "encoded" else self.blending.space.name,
            },
            "composite": {
                "pixel_type": self.plate.pixel_type,
                "channels": list(self.plate.channels),
                "format": self.composite_extension,
            },
            "frames": [self._manifest_frame(frame) for frame in self.plate.frames],
            **movie,
            "extra": extra,
        }

    def _manifest_frame(self, frame):
        note = _read_json(self._note_path(frame))
        images = {
            name: {"file": self._within(path(frame)), "pixels": note[name]} for name, path in self._images.items()
        }
        return {"frame": frame, **images, "plate": note["plate"], "facts": note["facts"]}

    def _reopen_manifest(self):
        """A finished job begun again: back to notes, until it is finished again."""
        path = self.dir / "manifest.json"
        manifest = _read_json(path)
        for entry in manifest.get("frames", []):
            self._write_note(entry["frame"], _note_of(entry))
        if "prores" in manifest:
            exact_file.write_json(self._prores_note, manifest["prores"])
        path.unlink(missing_ok=True)

    def _refuse_other_work(self):
        generation = _read_json(self.dir / "recipe.json").get("generation")
        if self.generation and generation == self.generation and self.kept_dir.is_dir():
            return
        for name in ("manifest.json", "recipe.json"):
            theirs = _read_json(self.dir / name).get("recipe_hash")
            if theirs not in (None, self.recipe_hash):
                raise InputError(
                    f"--out {self.dir}: holds another job's delivery (recipe {theirs}, this is"
                    f" {self.recipe_hash}); choose another --out"
                )
        if (self.dir / "recipe.json").exists():
            return
        for folder in self._images:
            if (self.dir / folder).exists() and any((self.dir / folder).iterdir()):
                raise InputError(
                    f"--out {self.dir}: {folder}/ holds files of an unknown job;"
                    " choose another --out"
                )

    def _bytes_to_write(self):
        todo = sum(
            not all(path(frame).exists() for path in self._images.values()) for frame in self.plate.frames
        )
        packed = self.formats.compression != "none"
        layer = len(self.formats.channels) * (4 if self.formats.layer_type == "float" else 2)
        composite = len(self.plate.channels) * self.plate.dtype.itemsize
        a_pixel = layer * (_LAYER_PACKS_TO if packed else 1) + composite * (_COMPOSITE_PACKS_TO if packed else 1)
        a_pixel += 8 * _LAYER_PACKS_TO * ("png" in self.formats.also)
        a_pixel += _PRORES_BYTES_A_PIXEL * ("prores" in self.formats.also)
        return int(todo * self.plate.width * self.plate.height * a_pixel)

    def _note_path(self, frame):
        return self.job_dir / "frames" / f"{frame}.json"

    def _write_note(self, frame, note):
        exact_file.write_json(self._note_path(frame), note)

    def _within(self, path):
        return path.relative_to(self.dir).as_posix()


def _note_of(entry):
    """A frame's note, from its entry in a manifest."""
    pixels = {key: entry[key]["pixels"] for key in ("edit", "composite", "png") if key in entry}
    return {**pixels, "plate": entry["plate"], "facts": entry["facts"]}


def _composite_extension(plate):
    """A format that holds the plate's type exactly: its own where that does."""
    if plate.pixel_type in ("half", "float"):
        return "exr"
    extension = plate.extension.lstrip(".").lower()
    holders = {
        "uint8": ("png", "tif", "tiff", "dpx"),
        "uint16": ("png", "tif", "tiff", "dpx"),
        "uint10": ("dpx", "tif", "tiff"),
        "uint12": ("dpx", "tif", "tiff"),
        "uint32": ("tif", "tiff"),
    }[plate.pixel_type]
    return extension if extension in holders else holders[0]


def _number(frame):
    """Four digits at least, the sign apart: 1001, 0007, -0005."""
    return f"{'-' if frame < 0 else ''}{abs(frame):04d}"


def _file_hash(path):
    return pixel_hash(exact_file.read_codes(path))


def _sha256(path):
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _hash_of_edits(entries):
    """One name for all frames' layers, from entries as the manifest has them."""
    pixels = "".join(f"{frame} {entries[frame]['edit']['pixels']}\n" for frame in sorted(entries))
    return hashlib.sha256(pixels.encode()).hexdigest()


def _nearest_there(path):
    path = path.absolute()
    while not path.exists() and path != path.parent:
        path = path.parent
    return path


def _read_json(path):
    """A JSON object, or an empty one if there is none to be read."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return data if isinstance(data, dict) else {}


def _size(count):
    return f"{count / 2**30:.1f} GiB" if count >= 2**30 else f"{count / 2**20:.0f} MiB"
