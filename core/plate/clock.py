"""Find which stored frame of a movie a host shows at each tick of the stated rate, from the frames' time stamps."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import pairwise

# Largest distance of a frame from its tick, as a share of a frame's duration: containers round time stamps (mkv to
# milliseconds). Raising it accepts more uneven movies unchanged; at 1/2 a frame could belong to the next tick.
MAX_JITTER = Fraction(2, 5)
# Improvement, as a share of a frame's duration, by which a later rate must fit better than the first one. At 0, the
# rounding of time stamps would decide between similar rates.
CLEARLY_BETTER = Fraction(1, 10)
MAX_FRAMES = 1_000_000  # frames of a conformed movie; bounds the effect of a broken time stamp


@dataclass(frozen=True)
class Clock:
    """shown[n] is the stored frame (from 0) that a host shows at tick n of `rate`; held, dropped: frames shown again,
    and never. is_timed: False if the time stamps fall, so that they say nothing."""

    rate: Fraction | None
    shown: tuple[int, ...]
    held: int = 0
    dropped: int = 0
    is_timed: bool = True

    @property
    def is_even(self) -> bool:
        """Whether every stored frame is shown once."""
        return not self.held and not self.dropped


def conform(times: Sequence[Fraction | None], rates: Sequence[Fraction | None], end: Fraction | None = None) -> Clock:
    """The clock of frames with these time stamps (seconds, in order of decoding).

    rates: those that the container states, the likeliest first; the first that fits every stamp is taken as it is,
    unless another fits clearly better.
    If none fits, frames are held and dropped at the last one, as hosts do; of frames with one stamp the last is shown.
    end: when the last frame ends, if it is longer than others. Stamps that are missing or fall say nothing: then every
    frame is shown once, at the first rate.
    """
    known = [rate for rate in rates if rate]
    plain = Clock(known[0] if known else None, tuple(range(len(times))))
    stamps = [t for t in times if t is not None]
    if len(stamps) < len(times) or not known or (len(stamps) > 1 and stamps[-1] == stamps[0]):
        return plain
    if any(b < a for a, b in pairwise(stamps)):
        return replace(plain, is_timed=False)
    off = {rate: max(abs((t - stamps[0]) * rate - n) for n, t in enumerate(stamps)) for rate in known}
    fitting = [rate for rate in known if off[rate] <= MAX_JITTER]
    if fitting and end is not None and (end - stamps[-1]) * fitting[-1] > 1 + MAX_JITTER:
        return _held(stamps, fitting[-1], end)
    if fitting:
        # Of an uneven movie a few frames may fit the average rate too, but not as well as the rate that is meant.
        better = [rate for rate in fitting if off[rate] < off[fitting[0]] - CLEARLY_BETTER]
        return Clock((better or fitting)[0], plain.shown)
    return _held(stamps, known[-1], end)


def _held(stamps: Sequence[Fraction], rate: Fraction, end: Fraction | None) -> Clock:
    last = round((stamps[-1] - stamps[0]) * rate)
    ticks = max(last + 1, round((end - stamps[0]) * rate)) if end is not None else last + 1
    shown, at = [], 0
    for tick in range(min(ticks, MAX_FRAMES)):
        # The last frame whose stamp, rounded to a tick, is not after this one.
        while at + 1 < len(stamps) and round((stamps[at + 1] - stamps[0]) * rate) <= tick:
            at += 1
        shown.append(at)
    used = len(set(shown))
    return Clock(rate, tuple(shown), len(shown) - used, len(stamps) - used)
