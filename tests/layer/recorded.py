"""The frames of a delivery that a resumed job may not make again."""

from pathlib import Path

from vera.core.layer import out_folder


def recorded_edits(out: Path) -> dict[Path, int]:
    """Modification time in nanoseconds of each edit whose frame has its record; of all once the manifest is there.

    Several frames are written at once, so a killed job may leave files without a record: those are made again.
    """
    # The records are listed first: a file may be replaced only before its record is written.
    records = {int(note.stem) for note in (out / out_folder.NOTES).glob("*.json") if note.stem.isdigit()}
    whole = (out / "manifest.json").exists()
    edits = (out / "edit").glob("edit.????.exr")
    return {edit: edit.stat().st_mtime_ns for edit in edits if whole or int(edit.name.split(".")[1]) in records}
