"""Frames on their way out: read as filmed, made into a layer and written, a few at a time."""

import os
from collections import deque
from concurrent.futures import ThreadPoolExecutor

from vera.core.errors import InputError, Stopped


def as_filmed(plate, frame: int, fingerprint: str):
    """The frame's pixels, of the file as it was when the job began. Raises InputError if it has changed."""
    pixels, where = plate.read(frame), f"frame {frame}: {plate.file(frame)}"
    try:
        same = plate.fingerprint(frame) == fingerprint
    except OSError as error:
        raise InputError(f"{where}: cannot be read ({error.strerror}); supply the file") from None
    if not same:
        raise InputError(f"{where}: has changed since the job began; start again with another --out")
    return pixels


def delivered_frames(job, layers, deliver, stopping):
    """Yield each frame once its files are there, in order; a few are worked on at a time.

    layers: of each frame what deliver(job, frame, pixels, *layers) takes.
    """
    workers = min(4, os.cpu_count() or 1)
    with ThreadPoolExecutor(workers) as pool:
        pending = deque()
        for frame, parts in zip(job.plate.frames, layers, strict=True):
            if stopping():
                for _, work in pending:  # those that no thread has begun
                    if work is not None:
                        work.cancel()
                raise Stopped(f"stopped before frame {frame}")
            if job.delivery.done(frame):
                pending.append((frame, None))
            else:
                pending.append((frame, pool.submit(deliver, job, frame, job.pixels(frame), *parts)))
            while len(pending) > workers:
                yield _finished(*pending.popleft())
        while pending:
            yield _finished(*pending.popleft())


def _finished(frame, work):
    if work is not None:
        work.result()
    return frame
