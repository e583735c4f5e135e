"""SMPTE timecode of a movie's frames in the form of EXR and DPX headers (SMPTE 12M-1: binary coded decimals)."""

import re
from fractions import Fraction

_TEXT = re.compile(r"(\d{2}):(\d{2}):(\d{2})([:;.])(\d{2})")
MOST_COUNTED = 30  # frames a second that the field for frames can count; of faster movies it counts pairs of frames
_DROP_FRAME, _SECOND_OF_PAIR = 1 << 6, 1 << 15  # flags of the first word
DROPPED_PER_MINUTE = {30: 2, 60: 4}  # frame numbers left out each minute but every tenth, at 29.97 and 59.94


def timecode_words(text: str, rate: Fraction | None, later: int) -> tuple[int, int] | None:
    """The two words of `smpte:TimeCode`, `later` frames after the timecode in `text` ("01:00:00:00", ";" for
    drop-frame).

    Above 30 frames a second, the field for frames counts pairs, and a flag marks the second frame of a pair (SMPTE
    12M-1, section 12). None if the text is no timecode, or if the rate is unknown or above 60.
    """
    match = _TEXT.fullmatch(text.strip())
    if not match or not rate:
        return None
    hours, minutes, seconds, frames = (int(match[i]) for i in (1, 2, 3, 5))
    base = round(rate)
    if hours > 23 or minutes > 59 or seconds > 59 or frames >= base or base > 2 * MOST_COUNTED:
        return None
    dropped = DROPPED_PER_MINUTE.get(base, 0) if match[4] in ";." else 0
    count = ((hours * 60 + minutes) * 60 + seconds) * base + frames
    total_minutes = hours * 60 + minutes
    count += later - dropped * (total_minutes - total_minutes // 10)
    per_ten_minutes = 600 * base - 9 * dropped
    count %= 144 * per_ten_minutes  # a day
    if dropped:
        tens, rest = divmod(count, per_ten_minutes)
        count += 9 * dropped * tens + dropped * max(0, (rest - dropped) // (60 * base - dropped))
    pairs = base > MOST_COUNTED
    second_of_pair = pairs and count % base % 2 == 1
    fields = (count % base // (1 + pairs), count // base % 60, count // (60 * base) % 60, count // (3600 * base) % 24)
    tens_of = [field // 10 << 4 | field % 10 for field in fields]
    flags = (_DROP_FRAME if dropped else 0) | (_SECOND_OF_PAIR if second_of_pair else 0)
    return (tens_of[0] | flags | tens_of[1] << 8 | tens_of[2] << 16 | tens_of[3] << 24), 0
