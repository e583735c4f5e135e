"""The delivery: edit layer, composite, manifest, preview. Resumable, never half-written.

    DIR/edit/edit.####.exr            RGBA, premultiplied, the plate's numbering; on request a part with matte.A
    DIR/composite/composite.####.*    the plate's type, its bits where alpha is 0
    DIR/png/edit.####.png, edit.mov   on request: the layer, straight and encoded
    DIR/recipe.json                   what was asked for; written first
    DIR/preview.mp4, contact_sheet.png
    DIR/manifest.json                 a hash of each image's pixels, a digest of each file; written last
    DIR/.job/                         until the manifest: notes and pictures of the frames that are done, and
                                      latents (`vera.core.sampling.latent_store`)
    DIR/kept/                         latents that stay

The formats are in `vera.core.layer.outputs`, one module each.
"""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from vera.core.errors import InputError
from vera.core.files import (
    JsonError,
    file_digest,
    is_regular,
    make_folder,
    read_json_or,
    read_sealed_json,
    write_json,
    write_sealed_json,
)
from vera.core.layer import image_file, out_folder
from vera.core.layer.frame_record import FrameNotes, FrameRecord
from vera.core.layer.manifest import SCHEMA, Manifest, hash_of_edits, read_manifest
from vera.core.layer.outputs import ALL_OUTPUTS, COMPOSITE, EDIT, outputs_of
from vera.core.layer.outputs.output import FrameOutput, FramePixels, LayerPart, Shot, ShotOutput
from vera.core.layer.shot_pictures import FILES as PICTURES
from vera.core.layer.shot_pictures import Column, ShotPictures
from vera.core.plate.color import PlateColor
from vera.kernels.pixel_hash import pixel_hash

RECIPE, MANIFEST = "recipe.json", "manifest.json"
# What a killed write can have left behind, beside what the outputs name.
_UNFINISHED = (
    ".job/*.part.*",
    ".job/frames/*.part.json",
    ".job/preview/*.part.rgb",
    ".job/latents/*.part.safetensors",
    "kept/*.part.safetensors",
    "recipe.part.json",
    "manifest.part.json",
    "preview.part.mp4",
    "contact_sheet.part.png",
    "report.part.png",
)


class Delivery:
    """One job's files in one directory.

    shot: folder, plate, identity and formats
    color: of the plate, see core/plate/color.py
    recipe: the request, as JSON values
    generation: identity of the generated layers. A delivery of the same generation beside its kept latents is replaced;
        any other delivery is refused.

    Call `preflight`. Then, with the folder `claimed`, call `start`, for each frame `done` and `write`, and `finish`.
    After a kill at any point, the same calls resume the job.
    """

    def __init__(self, shot: Shot, color: PlateColor, recipe: dict[str, Any], generation: str | None = None) -> None:
        self.outputs = outputs_of(shot.formats)
        self.shot = replace(shot, parts=tuple(output for output in self.outputs if isinstance(output, LayerPart)))
        self.dir, self.plate, self.formats, self.recipe_hash = shot.dir, shot.plate, shot.formats, shot.recipe_hash
        self.color = color
        self.recipe = recipe
        self.generation = generation
        self.job_dir = self.dir / out_folder.JOB
        self.kept_dir = self.dir / out_folder.KEPT
        self.notes = FrameNotes(self.dir / out_folder.NOTES)
        self._report_note = self.job_dir / "report.json"
        self._more_files: tuple[str, ...] = ()
        self._columns: dict[int, Column] = {}

    # Before the work.

    def preflight(self, more: int = 0) -> None:
        """Refuse a folder into which the delivery cannot be written. Writes nothing. Raises InputError.

        more: bytes that the job writes there besides the delivery's files
        """
        out_folder.refuse_unwritable(self.dir)
        out_folder.refuse_misplaced(self.dir, self._files(), self._unfinished())
        self._refuse_other_work()
        out_folder.refuse_too_small(self.dir, self.bytes_to_write() + more)

    @contextmanager
    def claimed(self, wait: bool = False, **watching: Any) -> Iterator[None]:
        """Hold the folder exclusively from `start` to `finish`; see `claimed` in core/layer/out_folder.py.

        Files that another job has written since `preflight` are refused. An input that turns out to be wrong before a
        frame is delivered leaves nothing behind. Raises InputError, StoppedError, OSError.
        """
        there = out_folder.nearest_there(self.dir)
        try:
            with out_folder.claimed(self.dir, wait, **watching):
                out_folder.refuse_misplaced(self.dir, self._files(), self._unfinished())
                self._refuse_other_work()
                try:
                    yield
                except InputError:
                    self._withdraw()
                    raise
        except InputError:
            out_folder.remove_empty(self.dir, there)
            raise

    def complete(self) -> bool:
        """Whether the delivery of this job is complete and every file matches the manifest."""
        manifest = self.manifest()
        return (
            manifest is not None
            and set(manifest.records) == set(self.plate.frames)
            and self._holds_files(manifest)
            and all(self._holds_shot_file(output, manifest) for output in self._of_kind(ShotOutput))
            and all(self._holds(frame, record) for frame, record in manifest.records.items())
        )

    def manifest(self) -> Manifest | None:
        """The folder's manifest; None if it is missing, damaged or of another job."""
        manifest = read_manifest(self.dir / MANIFEST)
        return manifest if manifest is not None and manifest.recipe_hash == self.recipe_hash else None

    def start(self) -> None:
        """Make the directory ready. Raises OSError."""
        make_folder(self.dir)
        if read_json_or(self.dir / RECIPE, {}, {"recipe_hash?": str}).get("recipe_hash") not in (
            None,
            self.recipe_hash,
        ):
            self._remove_former()
        hashes = {"recipe_hash": self.recipe_hash} | ({"generation": self.generation} if self.generation else {})
        write_json(self.dir / RECIPE, {**self.recipe, **hashes})
        for folder in (
            *(output.folder for output in self._of_kind(FrameOutput)),
            out_folder.NOTES,
            out_folder.PICTURES,
        ):
            make_folder(self.dir, folder)
        for pattern in self._unfinished():
            for path in self.dir.glob(pattern):
                path.unlink()
        self._reopen_manifest()

    # A frame.

    def done(self, frame: int) -> bool:
        """Whether the frame's files match its record and the plate's frame has not changed since."""
        record = self.notes.read(frame)
        return record is not None and self._holds(frame, record)

    def facts(self, frame: int) -> dict[str, Any]:
        """The facts that `write` was given for a finished frame."""
        record = self.notes.read(frame)
        if record is None:
            raise RuntimeError(f"frame {frame} is not delivered yet")
        return record.facts

    def write(self, frame: int, pixels: FramePixels, facts: dict[str, Any], filmed: np.ndarray | None = None) -> None:
        """Deliver one frame.

        pixels: with matte and split layers if the formats have them
        facts: JSON values for the manifest
        filmed: the plate's pixels, if known; `finish` then need not read the frame again

        Raises ValueError for pixels of a wrong size or type, and OSError if a file cannot be written completely; no
        part of the file then exists.
        """
        layer, composite = pixels.layer, pixels.composite
        size = (self.plate.height, self.plate.width)
        if layer.shape != (*size, 4) or layer.dtype != self.formats.dtype:
            raise ValueError(f"frame {frame}: the layer is {layer.shape} {layer.dtype}")
        if composite.shape != (*size, len(self.plate.channels)) or composite.dtype != self.plate.dtype:
            raise ValueError(f"frame {frame}: the composite is {composite.shape} {composite.dtype}")
        images = {output: output.image(self.shot, frame, pixels) for output in self._of_kind(FrameOutput)}
        hashes: dict[str, str] = {}
        digests: dict[str, str] = {}
        if filmed is not None:
            digests["preview"] = self._pictures().keep(frame, filmed, layer, composite)
        for output, image in images.items():
            path = output.path(self.shot, frame)
            hashes[output.name] = pixel_hash(
                image_file.write_image(path, image.pixels, *image.headers, with_loss=image.with_loss)
            )
            digests[output.name] = file_digest(path)
        # The note comes last, so that a frame with a note is whole.
        self.notes.write(frame, FrameRecord(self.plate.fingerprint(frame), facts, hashes, digests))

    def read_frame(self, frame: int) -> FramePixels:
        """A delivered frame as its files hold it. Raises OSError or ValueError for files that do not hold it."""
        stored = image_file.read_image(self.edit_path(frame))
        pixels = FramePixels(stored[..., :4], self.read_composite(frame))
        first = 4
        for part in self.shot.parts:
            channels = stored[..., first : first + len(part.channels)]
            pixels = part.read_into(pixels, channels)
            first += len(part.channels)
        return pixels

    def read_layer(self, frame: int) -> np.ndarray:
        """The layer (H, W, 4) of a delivered frame. Raises OSError."""
        return image_file.read_image(self.edit_path(frame))[..., :4]

    def read_composite(self, frame: int) -> np.ndarray:
        """The composite (H, W, C) of a delivered frame. Raises OSError."""
        return image_file.read_image(self.composite_path(frame))

    def edit_path(self, frame: int) -> Path:
        return EDIT.path(self.shot, frame)

    def composite_path(self, frame: int) -> Path:
        return COMPOSITE.path(self.shot, frame)

    # The end.

    def report_to_restore(self) -> dict[str, Any] | None:
        """The report of a delivery whose frames and job files are complete but whose manifest is not; else None.

        `finish` restores the other files from the frames, without generating anything.
        """
        try:
            note = read_sealed_json(self._report_note, {"extra": dict, "more_files": dict})
        except (OSError, JsonError):
            return None
        files = note["more_files"]
        if not all(Path(name).name == name and self._has_digest(self.dir / name, d) for name, d in files.items()):
            return None
        self._more_files = tuple(files)
        return note["extra"] if all(self.done(frame) for frame in self.plate.frames) else None

    def finish(self, extra: dict[str, Any], more_files: tuple[str, ...] | None = None) -> None:
        """Write preview, contact sheet and, last, the manifest.

        extra: the job's report, stored in the manifest. Its exposure is applied to preview and contact sheet.
        more_files: names of further files that the job has written into the folder; None takes those that
            `report_to_restore` found
        Raises RuntimeError if a frame is missing, OSError if a write fails.
        """
        records = self._records()
        missing = [frame for frame in self.plate.frames if frame not in records]
        if missing:
            raise RuntimeError(f"frames not delivered yet: {missing}")
        self.color = replace(self.color, exposure=extra.get("color", {}).get("exposure", 0.0))
        self._pictures().write(self.dir, self._picture_digests())
        shot_files = {output.name: self._write_shot_file(output, records) for output in self._of_kind(ShotOutput)}
        more = self._more_files if more_files is None else more_files
        files = {name: file_digest(self.dir / name) for name in (RECIPE, *PICTURES, *more)}
        files |= {note["file"]: note["sha256"] for note in shot_files.values()}
        manifest = Manifest(self.recipe_hash, records, extra, shot_files, files)
        write_sealed_json(self.dir / MANIFEST, self._manifest_json(manifest))
        shutil.rmtree(self.job_dir)

    # What is there.

    def _holds(self, frame: int, record: FrameRecord) -> bool:
        """Whether a frame's images and the plate's frame match the record."""
        try:
            return record.plate == self.plate.fingerprint(frame) and all(
                self._holds_image(output, frame, record) for output in self._of_kind(FrameOutput)
            )
        except OSError:
            return False

    def _holds_image(self, output: FrameOutput, frame: int, record: FrameRecord) -> bool:
        """Whether an image matches its record: by the file's digest or, in records without digests, by its pixels."""
        path = output.path(self.shot, frame)
        if output.name not in record.pixels:
            return False
        if output.name in record.files:
            return record.files[output.name] == file_digest(path)
        return record.pixels[output.name] == pixel_hash(image_file.read_codes(path))

    def _holds_files(self, manifest: Manifest) -> bool:
        if manifest.files is None:  # written by a version without digests
            return all(is_regular(self.dir / name) for name in (RECIPE, *PICTURES))
        own = {name: digest for name, digest in manifest.files.items() if Path(name).name == name}
        if not {RECIPE, *PICTURES} <= set(own):
            return False
        return all(self._has_digest(self.dir / name, digest) for name, digest in own.items())

    def _holds_shot_file(self, output: ShotOutput, manifest: Manifest) -> bool:
        note = manifest.shot_files.get(output.name)
        if note is None or note["of"] != hash_of_edits(manifest.records):
            return False
        return self._has_digest(output.path(self.shot), note["sha256"])

    def _has_digest(self, path: Path, digest: str) -> bool:
        try:
            return file_digest(path) == digest
        except OSError:
            return False

    def _records(self) -> dict[int, FrameRecord]:
        records = {frame: self.notes.read(frame) for frame in self.plate.frames}
        return {frame: record for frame, record in records.items() if record is not None}

    def _of_kind(self, kind: type) -> list[Any]:
        return [output for output in self.outputs if isinstance(output, kind)]

    def _files(self) -> Iterator[Path]:
        """Every file that the complete delivery consists of."""
        yield from (self.dir / name for name in (RECIPE, MANIFEST, *PICTURES))
        yield from (output.path(self.shot) for output in self._of_kind(ShotOutput))
        for output in self._of_kind(FrameOutput):
            yield from (output.path(self.shot, frame) for frame in self.plate.frames)

    def _unfinished(self) -> tuple[str, ...]:
        outputs = [output for output in ALL_OUTPUTS if isinstance(output, (FrameOutput, ShotOutput))]
        return (*(output.unfinished for output in outputs), *_UNFINISHED)

    def _refuse_other_work(self) -> None:
        recipe = read_json_or(self.dir / RECIPE, {}, {"recipe_hash?": str, "generation?": str})
        generation = recipe.get("generation")
        if self.generation and generation == self.generation and self.kept_dir.is_dir():
            return
        manifest = read_manifest(self.dir / MANIFEST)
        owners = (manifest.recipe_hash if manifest else None, recipe.get("recipe_hash"))
        for theirs in owners:
            if theirs not in (None, self.recipe_hash):
                raise InputError(
                    f"--out {self.dir}: holds another job's delivery (recipe {theirs[:40]}, this is"
                    f" {self.recipe_hash}); choose another --out"
                )
        if self.recipe_hash in owners:
            return
        for output in self._of_kind(FrameOutput):
            folder = self.dir / output.folder
            if folder.exists() and any(folder.iterdir()):
                raise InputError(
                    f"--out {self.dir}: {output.folder}/ holds files of an unknown job; choose another --out"
                )

    def bytes_to_write(self) -> int:
        """Estimated size of the images that are not written yet."""
        images = self._of_kind(FrameOutput)
        todo = sum(not all(output.path(self.shot, f).exists() for output in images) for f in self.plate.frames)
        pixel = sum(output.bytes_per_pixel(self.shot) for output in self.outputs)
        return int(todo * (self.plate.width * self.plate.height * pixel + self._pictures().bytes_per_frame))

    # What is written.

    def _remove_former(self) -> None:
        """Remove files of an earlier delivery of the same generation that this one does not overwrite."""
        for file in (self.dir / MANIFEST, self._report_note):
            file.unlink(missing_ok=True)
        for folder in (out_folder.NOTES, out_folder.PICTURES):
            shutil.rmtree(self.dir / folder, ignore_errors=True)
        for output in ALL_OUTPUTS:
            if isinstance(output, ShotOutput):
                output.path(self.shot).unlink(missing_ok=True)
                self._shot_file_note(output).unlink(missing_ok=True)
            elif isinstance(output, FrameOutput) and output not in (EDIT, COMPOSITE):
                shutil.rmtree(self.dir / output.folder, ignore_errors=True)

    def _withdraw(self) -> None:
        """Take away what `start` and the work have made, unless a frame is delivered."""
        folders = [self.dir / output.folder for output in self._of_kind(FrameOutput)]
        if self._records() or any(path.is_dir() and any(path.iterdir()) for path in folders):
            return
        if read_json_or(self.dir / RECIPE, {}, {"recipe_hash?": str}).get("recipe_hash") == self.recipe_hash:
            (self.dir / RECIPE).unlink()
        shutil.rmtree(self.job_dir, ignore_errors=True)
        for folder in folders:
            out_folder.remove_empty(folder, self.dir)

    def _write_shot_file(self, output: ShotOutput, records: dict[int, FrameRecord]) -> dict[str, str]:
        """Write an output's file, unless it exists for these layers; return its note."""
        path, of = output.path(self.shot), hash_of_edits(records)
        note = self._read_shot_file_note(output)
        if note is None or note["of"] != of or not self._has_digest(path, note["sha256"]):
            output.write(self.shot, (self.read_layer(frame) for frame in self.plate.frames))
            note = {"file": output.file, "sha256": file_digest(path), "of": of}
            write_sealed_json(self._shot_file_note(output), note)
        return note

    def _shot_file_note(self, output: ShotOutput) -> Path:
        return self.job_dir / f"{output.name}.json"

    def _read_shot_file_note(self, output: ShotOutput) -> dict[str, str] | None:
        try:
            note = read_sealed_json(self._shot_file_note(output), {"file": str, "sha256": str, "of": str})
        except (OSError, JsonError):
            return None
        return {name: note[name] for name in ("file", "sha256", "of")}

    def _pictures(self) -> ShotPictures:
        def read(frame: int) -> tuple[np.ndarray, np.ndarray]:
            return self.read_layer(frame), self.read_composite(frame)

        return ShotPictures(
            self.dir / out_folder.PICTURES,
            self.plate,
            self.shot.blending,
            self.color,
            read,
            self.shot.origin,
            self._columns,
        )

    def _picture_digests(self) -> dict[int, str]:
        return {f: record.files["preview"] for f, record in self._records().items() if "preview" in record.files}

    def _manifest_json(self, manifest: Manifest) -> dict[str, Any]:
        images = self._of_kind(FrameOutput)
        names = {f: {o.name: self._within(o.path(self.shot, f)) for o in images} for f in self.plate.frames}
        return {
            "schema": SCHEMA,
            "recipe_hash": self.recipe_hash,
            "size": [self.plate.width, self.plate.height],
            "blend_space": self.shot.blending.name,
            "origin": self.shot.origin.to_json(),
            "plate": {
                "path": str(self.plate.path),
                "pixel_type": self.plate.pixel_type,
                "channels": list(self.plate.channels),
                "space": self.color.space.name,
                "config": self.color.space.config,
            },
            **{output.name: facts for output in self.outputs if (facts := output.manifest(self.shot))},
            "frames": [manifest.records[frame].entry(frame, names[frame]) for frame in self.plate.frames],
            **manifest.shot_files,
            "files": {**(manifest.files or {}), **self._image_digests(manifest.records, names)},
            "extra": manifest.extra,
        }

    def _image_digests(self, records: dict[int, FrameRecord], names: dict[int, dict[str, str]]) -> dict[str, str]:
        """Digest of each file. names: by frame, the files of its images by output."""
        return {
            name: records[frame].files[output]
            for frame, images in names.items()
            for output, name in images.items()
            if output in records[frame].files
        }

    def _reopen_manifest(self) -> None:
        """Turn the manifest of a finished job back into notes, until the job is finished again."""
        manifest = self.manifest()
        if manifest is not None:
            for frame in set(manifest.records) & set(self.plate.frames):
                self.notes.write(frame, manifest.records[frame])
            for output in self._of_kind(ShotOutput):
                if output.name in manifest.shot_files:
                    write_sealed_json(self._shot_file_note(output), manifest.shot_files[output.name])
            made_here = {RECIPE, *PICTURES, *(note["file"] for note in manifest.shot_files.values())}
            more = {n: d for n, d in (manifest.files or {}).items() if Path(n).name == n and n not in made_here}
            write_sealed_json(self._report_note, {"extra": manifest.extra, "more_files": more})
        (self.dir / MANIFEST).unlink(missing_ok=True)

    def _within(self, path: Path) -> str:
        return path.relative_to(self.dir).as_posix()
