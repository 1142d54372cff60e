"""What the benchmarks share: medians of alternating runs, the processor's name, and the printed results."""

import json as json_format
import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any


def medians_in_alternation(
    tasks: Mapping[str, Callable[[], Any]], turns: int, between: Callable[[], Any] = lambda: None
) -> dict[str, float]:
    """Run all tasks once per turn, one after the other, and return the median seconds of each.

    Args:
        tasks: the tasks by name.
        turns: number of turns that count. One more turn comes before them; it counts only if `turns` is 0.
        between: called before each task, without being timed.
    """
    seconds: dict[str, list[float]] = {name: [] for name in tasks}
    for _ in range(turns + 1):
        for name, task in tasks.items():
            between()
            start = time.perf_counter()
            task()
            seconds[name].append(time.perf_counter() - start)
    return {name: statistics.median(values[1:] or values) for name, values in seconds.items()}


def load_before() -> float:
    """The average number of running programs in the last minute."""
    return round(os.getloadavg()[0], 2)


def processor() -> str:
    """The processor's name, and whether it has AVX-512 and multiplies bfloat16, on which the figures depend."""
    cpuinfo = Path("/proc/cpuinfo")  # of Linux
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    fields = {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    name = fields.get("model name") or platform.processor() or platform.machine()
    if "cpu family" in fields:  # virtual machines often hide the full name
        name += f" (family {fields['cpu family']}, model {fields.get('model')})"
    flags = fields.get("flags", "").split()
    features = [
        "AVX-512" if "avx512f" in flags else "no AVX-512",
        "bfloat16" if {"avx512_bf16", "amx_bf16"} & set(flags) else "no bfloat16",
    ]
    limits = [f"{key}={os.environ[key]}" for key in ("ONEDNN_MAX_CPU_ISA", "ATEN_CPU_CAPABILITY") if key in os.environ]
    return ", ".join([name, *features, *limits])


def report(results: Mapping[str, Any], rows: Sequence[Sequence[object]], json: str) -> None:
    """Print a table, whose first row holds the titles, and the results as one JSON object.

    Args:
        results: the JSON object.
        rows: the rows of the table.
        json: file to write the JSON object to as well; none if empty.
    """
    cells = [[f"{cell:.3g}" if isinstance(cell, float) else str(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    for first, *others in cells:
        row = [first.ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True))]
        print("  ".join(row))
    if json:
        Path(json).write_text(json_format.dumps(results, indent=1) + "\n")
    print(json_format.dumps(results))
