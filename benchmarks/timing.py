"""How contenders are measured on a GPU, and how that is reported.

Contenders take turns, round after round, in balanced order: within two cycles each follows each other one equally
often (Williams, 1949), so that neither a change of clocks nor what ran just before favours any. Each call starts with
a cold L2 and is timed by device events; the GPU sleeps before it, so that its launches are queued by then and are not
measured. Ratios are of two calls of one round, with their spread, and how many rounds were won.
"""

import json
import os
import platform
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import torch

FLUSH_BYTES = 256 * 2**20  # more than any L2

# Clock cycles that the GPU sleeps before a timed call, some 2 ms: time for the CPU to queue it. Fewer would measure
# launches; more lengthen every round.
HEAD_START = 4_000_000


@dataclass(frozen=True)
class Contender:
    """call: the timed function. turn(): a context around it. routes: parts of names of GPU kernels (on the CPU, of
    torch's operations), one of which must run; an empty tuple checks nothing."""

    name: str
    call: Callable[[], object]
    routes: tuple[str, ...] = ()


class Rows:
    """Every row, printed and written the moment it is known: JSON lines, on the disk before the next call is made."""

    def __init__(self, path: Path | None, device: str):
        self.path = path
        if path:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.unlink(missing_ok=True)
        self.write({"machine": machine(device)})

    def write(self, row: dict, text: str | None = None) -> None:
        print(text if text is not None else json.dumps(row), flush=True)
        self.keep(row)

    def keep(self, row: dict) -> None:
        """Write it, and print nothing."""
        if self.path:
            with open(self.path, "a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")
                file.flush()
                os.fsync(file.fileno())


@dataclass
class Taken:
    """Seconds of each round by contender, in the order of rounds, and the reasons of contenders that could not run."""

    seconds: dict[str, list[float]] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)

    def median(self, name: str) -> float | None:
        return quantile(self.seconds[name], 0.5) if self.seconds.get(name) else None

    def against(self, name: str, base: str) -> dict | None:
        """How many times faster than `base`, paired by round: median, 10th and 90th percentile, wins of how many."""
        if not self.seconds.get(name) or not self.seconds.get(base) or name == base:
            return None
        ratios = [b / a for a, b in zip(self.seconds[name], self.seconds[base])]
        spread = {"median": quantile(ratios, 0.5), "p10": quantile(ratios, 0.1), "p90": quantile(ratios, 0.9)}
        return spread | {"wins": sum(r > 1 for r in ratios), "rounds": len(ratios)}


def balanced_orders(count: int) -> list[list[int]]:
    """Orders of `count` contenders in which each stands at each place, and follows each other one, equally often."""
    first = [0]
    for i in range(1, count):
        first.append((i + 1) // 2 if i % 2 else count - i // 2)
    rows = [[(x + shift) % count for x in first] for shift in range(count)]
    return rows if count % 2 == 0 else rows + [row[::-1] for row in rows]


def measure(title: str, contenders: list[Contender], rows: Rows, device: str, rounds: int, left=lambda: 1.0) -> Taken:
    """Time the contenders in turns and write a row per call. A contender that cannot run, or whose kernels are not
    those of its routes, gets a row with the reason.

    left(): seconds of the time budget that remain; at zero the rounds end, with a message.
    """
    taken = Taken()
    for contender in contenders:
        problem = obstacle_to(contender, device)
        if problem:
            taken.failed[contender.name] = problem
            rows.write(
                {"table": title, "contender": contender.name, "failed": problem},
                f"{contender.name}: did not run: {problem}",
            )
        else:
            taken.seconds[contender.name] = []
    running = [c for c in contenders if c.name in taken.seconds]
    flush = torch.empty(FLUSH_BYTES if device == "cuda" else 8, dtype=torch.uint8, device=device)
    orders = balanced_orders(len(running)) if running else []
    for round_ in range(rounds if running else 0):
        if left() <= 0:
            rows.write({"table": title, "stopped_after_rounds": round_}, f"{title}: out of time after {round_} rounds")
            break
        for index in orders[round_ % len(orders)]:
            contender = running[index]
            seconds = once(contender.call, device, flush)
            taken.seconds[contender.name].append(seconds)
            rows.keep({"table": title, "contender": contender.name, "round": round_, "milliseconds": 1000 * seconds})
    whole = min(map(len, taken.seconds.values()), default=0)
    taken.seconds = {name: seconds[:whole] for name, seconds in taken.seconds.items() if whole}
    return taken


def obstacle_to(contender: Contender, device: str) -> str | None:
    """Warm it up and look which way it ran; why it cannot be measured, or None."""
    try:
        for _ in range(2):
            contender.call()
        names = route_of(contender.call, device) if contender.routes else set()
    except (RuntimeError, ValueError, NotImplementedError, ImportError) as error:  # no memory, no such attention here
        return str(error).splitlines()[0][:200]
    if contender.routes and not names:
        return "the profiler saw no kernel, so its route is not known"
    if contender.routes and not any(route in name for route in contender.routes for name in names):
        return f"ran another way: {', '.join(sorted(names))[:200]}"
    return None


def route_of(call, device: str) -> set[str]:
    """Names, in lower case, of what a call runs: kernels of a GPU, torch's operations on the CPU."""
    from torch.profiler import DeviceType, ProfilerActivity, profile

    activities = [ProfilerActivity.CPU] + ([ProfilerActivity.CUDA] if device == "cuda" else [])
    with profile(activities=activities) as seen:
        call()
        if device == "cuda":
            torch.cuda.synchronize()
    kind = DeviceType.CUDA if device == "cuda" else DeviceType.CPU
    return {event.name.lower() for event in seen.events() if event.device_type == kind}


def once(call, device: str, flush: torch.Tensor) -> float:
    """Seconds of one call."""
    flush.zero_()
    if device != "cuda":
        start = time.perf_counter()
        call()
        return time.perf_counter() - start
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    torch.cuda._sleep(HEAD_START)
    begin.record()
    call()
    end.record()
    end.synchronize()
    return begin.elapsed_time(end) / 1000


def quantile(values, share: float) -> float:
    ordered = sorted(values)
    return ordered[round(share * (len(ordered) - 1))]


def machine(device: str) -> dict:
    """Device and versions, for the report."""
    try:
        import triton

        triton_version = triton.__version__
    except ImportError:
        triton_version = None
    facts = {"torch": torch.__version__, "triton": triton_version, "python": platform.python_version()}
    if device == "cuda":
        properties = torch.cuda.get_device_properties(0)
        facts |= {"device": properties.name, "cuda": torch.version.cuda, "cudnn": torch.backends.cudnn.version()}
        facts["memory_gib"] = round(properties.total_memory / 2**30, 1)
        facts["processors"] = properties.multi_processor_count
    else:
        facts |= {"device": "CPU, tiny shapes: no figure here means anything"}
    return facts


def report(
    title: str, taken: Taken, rows: Rows, bases: tuple[str, ...], **figures: Callable[[str, float], float]
) -> None:
    """A row of each contender: median and spread, ratios to the bases, and figures that follow from (name, median)."""
    for name, seconds in taken.seconds.items():
        median = quantile(seconds, 0.5)
        row = {"table": title, "contender": name, "median_ms": 1000 * median}
        row |= {f"p{q}_ms": 1000 * quantile(seconds, q / 100) for q in (10, 90)}
        row |= {figure: count(name, median) for figure, count in figures.items()}
        row["against"] = {base: found for base in bases if (found := taken.against(name, base))}
        parts = [f"{name}: {row['median_ms']:.3f} ms ({row['p10_ms']:.3f}-{row['p90_ms']:.3f})"]
        parts += [f"{figure} {row[figure]:.3g}" for figure in figures]
        for base, r in row["against"].items():
            parts.append(f"{r['median']:.2f}x {base} ({r['p10']:.2f}-{r['p90']:.2f}, won {r['wins']} of {r['rounds']})")
        rows.write(row, "; ".join(parts))
