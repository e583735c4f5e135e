"""How the benchmarks measure, and how they report.

Contenders take turns, round after round, so that a change of clocks meets them all
alike. Each call starts with a cold L2 and is timed by device events. The median is
reported with the spread between the 10th and the 90th percentile.
"""

import argparse
import json
import platform
import sys
import time
from pathlib import Path

import torch

FLUSH_BYTES = 256 * 2**20  # more than any L2


def arguments(description):
    """Parsed (dry_run, rounds, only, json) of a benchmark; ends the program where there is nothing to measure on."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--dry-run", action="store_true", help="tiny shapes on the CPU, to see that everything runs")
    parser.add_argument("--rounds", type=int, default=20, help="timed calls of each contender (default 20)")
    parser.add_argument("--only", default="", help="only the clip whose name holds this text")
    parser.add_argument("--json", type=Path, help="also write the results here")
    given = parser.parse_args()
    if not given.dry_run and not torch.cuda.is_available():
        sys.exit("no CUDA device: nothing to measure on; --dry-run goes through the motions on the CPU")
    return given


def measure(contenders, device, rounds, warm_up=3):
    """{name: call} -> {name: sorted seconds, or the reason it could not run}."""
    flush = torch.empty(FLUSH_BYTES if device == "cuda" else 8, dtype=torch.uint8, device=device)
    seconds = {}
    for name, call in contenders.items():
        try:
            for _ in range(warm_up):
                call()
            seconds[name] = []
        except (RuntimeError, ValueError, NotImplementedError) as error:  # no memory, no such attention here
            seconds[name] = str(error).splitlines()[0]
        if device == "cuda":
            torch.cuda.empty_cache()
    for _ in range(rounds):
        for name, call in contenders.items():
            if not isinstance(seconds[name], str):
                flush.zero_()
                seconds[name].append(once(call, device))
    return {name: taken if isinstance(taken, str) else sorted(taken) for name, taken in seconds.items()}


def once(call, device):
    if device != "cuda":
        start = time.perf_counter()
        call()
        return time.perf_counter() - start
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    begin.record()
    call()
    end.record()
    end.synchronize()
    return begin.elapsed_time(end) / 1000


def quantile(ordered, share):
    return ordered[round(share * (len(ordered) - 1))]


def machine(device):
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
        facts |= {"device": "CPU, dry run: no figure here means anything"}
    return facts


def limits(device, dtype, rounds):
    """Of this device, in this run: (FLOP/s of a large matrix product, bytes/s of a copy)."""
    side, size = (8192, 2**30) if device == "cuda" else (64, 2**16)
    a, b = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    source, target = (torch.empty(size, dtype=torch.uint8, device=device) for _ in range(2))
    taken = measure({"product": lambda: a @ b, "copy": lambda: target.copy_(source)}, device, rounds)
    return 2 * side**3 / quantile(taken["product"], 0.5), 2 * size / quantile(taken["copy"], 0.5)


class Report:
    """Prints tables as they come and keeps everything for the JSON file."""

    def __init__(self, device):
        self.facts = machine(device)
        self.rows = []
        print(", ".join(f"{name} {value}" for name, value in self.facts.items()))

    def table(self, title, columns):
        print(f"\n{title}\n| " + " | ".join(("contender", "median ms", "10-90 % ms", *columns)) + " |")
        print("|" + "---|" * (3 + len(columns)))

    def row(self, table, name, taken, **figures):
        """One contender: sorted seconds, or why there are none, and what follows from the median."""
        if isinstance(taken, str):
            print(f"| {name} | did not run: {taken[:90]} |" + " |" * (1 + len(figures)), flush=True)
            self.rows.append({"table": table, "contender": name, "failed": taken})
            return
        median, low, high = (1000 * quantile(taken, share) for share in (0.5, 0.1, 0.9))
        cells = [f"{value:.3g}" if isinstance(value, float) else str(value) for value in figures.values()]
        print("| " + " | ".join((name, f"{median:.3f}", f"{low:.3f}-{high:.3f}", *cells)) + " |", flush=True)
        self.rows.append({"table": table, "contender": name, "milliseconds": [1000 * t for t in taken], **figures})

    def save(self, path):
        if path:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps({"machine": self.facts, "rows": self.rows}, indent=1) + "\n", encoding="utf-8")


def ratio(taken, base):
    """How many times faster than base, by the medians; None where one did not run."""
    if isinstance(taken, str) or isinstance(base, str):
        return None
    return quantile(base, 0.5) / quantile(taken, 0.5)
