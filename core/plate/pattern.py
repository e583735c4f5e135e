"""Frame ranges and padded file names: `1001-1049`, `plate.####.exr`."""

import os
import re
import unicodedata
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

from vera.core.errors import InputError

# Other programs' notations for frame numbers and views -> the notation to use here.
_OTHER_TOKENS = (
    (re.compile(r"\$F\d?|<frame\d*>|<f\d*>|\[[0-9]+-[0-9]+\]", re.IGNORECASE), "write the frame number as ####"),
    (re.compile(r"%[vV]"), "write the view's name in its place"),
    (re.compile(r"\s\d+-\d+$"), "give the range with --frames"),
)
_RANGE = re.compile(r"(-?[0-9]{1,9})(?:-(-?[0-9]{1,9}))?")
_TOKEN = re.compile(r"#+|@+|%(?:0[0-9]{1,2})?d")
# A frame number is between a separator and the extension; "v002" and dates are none.
_NUMBERED = re.compile(r".*[._](-?[0-9]{1,7})")


def parse_frames(text: str) -> range:
    """Parse `"1001-1049"`, `"1001"` or `"-5-10"` (from -5 to 10) into a range of step 1.

    Raises InputError for anything else, a reversed range among it.
    """
    match = _RANGE.fullmatch(text.strip())
    if not match:
        raise InputError(
            f"frames {text!r}: not a frame range; write 1001-1049, 1001 or -5-10"
            " (steps and lists are not supported yet)"
        )
    first = int(match[1])
    last = first if match[2] is None else int(match[2])
    if last < first:
        raise InputError(f"frames {text!r}: the range runs backwards; write {last}-{first}")
    return range(first, last + 1)


def show_frames(frames: range) -> str:
    """`1001-1049`, or `1001` for one frame: what `parse_frames` reads."""
    return str(frames[0]) if len(frames) == 1 else f"{frames[0]}-{frames[-1]}"


def hint(path: Path) -> str:
    """The probable error in a name that does not exist, such as another program's notation; "" if none is found."""
    return next((text for token, text in _OTHER_TOKENS if token.search(path.name)), "")


def frame_in_name(file: Path) -> int | None:
    """The frame number that ends a file's stem (`plate.1001.exr`, `plate_-5.exr`), or None."""
    match = _NUMBERED.fullmatch(file.stem)
    return int(match[1]) if match else None


@dataclass(frozen=True)
class Pattern:
    """A file name with a frame number in it: `prefix`, the number in `width` characters, `suffix`.

    As in printf and Nuke, a minus sign is one of the characters: frame -5 of `####` is `-005`.
    """

    folder: Path
    prefix: str
    suffix: str
    width: int

    def file(self, frame: int) -> Path:
        return self.folder / self.name(frame)

    def name(self, frame: int) -> str:
        """The file's name without its folder."""
        return f"{self.prefix}{frame:0{self.width}d}{self.suffix}"

    def frames(self) -> list[int]:
        """The frame numbers of all matching files, in order. Raises OSError."""
        return sorted(n for n, name in self._numbered() if _same_name(name, self.name(n)))

    def badly_padded(self) -> str | None:
        """A file that matches except for its padding, or None. Raises OSError."""
        return next((name for n, name in self._numbered() if not _same_name(name, self.name(n))), None)

    def in_other_case(self) -> str | None:
        """A file that would fit but for capitals, "plate.0002.EXR" beside "plate.0001.exr", or None. Raises OSError."""
        fit = re.compile(re.escape(self.prefix) + r"-?[0-9]{1,9}" + re.escape(self.suffix), re.IGNORECASE)
        fitting = {os.path.normcase(name) for _, name in self._numbered()}
        return next(
            (n for n in sorted(os.listdir(self.folder)) if fit.fullmatch(n) and os.path.normcase(n) not in fitting),
            None,
        )

    def in_other_form(self) -> str | None:
        """A file that would fit if its name had the same Unicode form (letters composed alike), or None. Raises
        OSError."""
        folded = replace(self, prefix=same_unicode(self.prefix), suffix=same_unicode(self.suffix))
        fit = re.compile(re.escape(folded.prefix) + r"-?[0-9]{1,9}" + re.escape(folded.suffix))
        fitting = {name for _, name in self._numbered()}
        names = sorted(os.listdir(self.folder))
        return next((n for n in names if fit.fullmatch(same_unicode(n)) and os.path.normcase(n) not in fitting), None)

    def _numbered(self) -> list[tuple[int, str]]:
        fit = re.compile(
            re.escape(os.path.normcase(self.prefix)) + r"(-?[0-9]{1,9})" + re.escape(os.path.normcase(self.suffix))
        )
        matches = ((fit.fullmatch(os.path.normcase(name)), name) for name in os.listdir(self.folder))
        return sorted((int(match[1]), name) for match, name in matches if match)


def find_pattern(path: Path) -> Pattern | None:
    """The pattern in a path's last part: `####` and `@@@@` mean four digits, `%04d` as in printf.

    None if it has none. Of several, it is the only one that fits a file: of `cam#2.####.exr` the last. Raises
    InputError if none or more than one does.
    """
    patterns = [_pattern_at(path, token) for token in _TOKEN.finditer(path.name)]
    if len(patterns) > 1:
        patterns = [pattern for pattern in patterns if _fits_a_file(pattern)]
        if len(patterns) != 1:
            raise InputError(f"{path}: several frame patterns in one name; keep one, such as plate.####.exr")
    return patterns[0] if patterns else None


def _pattern_at(path: Path, token: re.Match[str]) -> Pattern:
    # "%04d" -> 4, "%d" -> 1; "####" and "@@@@" count themselves.
    width = int(token[0][1:-1] or 1) if token[0].startswith("%") else len(token[0])
    return Pattern(path.parent, path.name[: token.start()], path.name[token.end() :], width)


def _fits_a_file(pattern: Pattern) -> bool:
    try:
        return bool(pattern.frames())
    except OSError:
        return False


def choose_frames(asked: range | None, there: list[int], what: str) -> range:
    """The frames to use of the existing ones: all, or the requested range.

    `what` names the sequence in messages. Raises InputError if a frame is missing.
    """
    span = range(there[0], there[-1] + 1)
    frames = span if asked is None else asked
    if frames[0] < span[0] or frames[-1] > span[-1]:
        raise InputError(
            f"{what}: frames {show_frames(frames)} asked for, but only {show_frames(span)} are there;"
            " ask for a range within"
        )
    present = set(there)
    missing = len(frames) - sum(frame in frames for frame in present)
    if missing:
        # Counted first: two files may lie a billion frames apart.
        named = ", ".join(str(f) for f in islice((f for f in frames if f not in present), 5))
        more = ", ..." if missing > 5 else ""
        raise InputError(
            f"{what}: frame {named}{more} missing ({missing} in {show_frames(frames)});"
            " supply the files or ask for a range without a gap"
        )
    return frames


def same_unicode(name: str) -> str:
    """The name in one Unicode form, for comparison."""
    return unicodedata.normalize("NFC", name)


def same_letters(name: str) -> str:
    """The name in one Unicode form and in small letters, for comparison."""
    return same_unicode(name).casefold()


def _same_name(a: str, b: str) -> bool:
    return os.path.normcase(a) == os.path.normcase(b)
