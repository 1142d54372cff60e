"""What the benchmarks share: medians in alternation, what the machine can do at most, the table and the JSON object."""

import json as json_format
import os
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any


def medians_in_alternation(
    tasks: Mapping[str, Callable[[], Any]], turns: int, between: Callable[[], Any] = lambda: None
) -> dict[str, float]:
    """Median seconds of each task, one of each after the other in every turn; the first turn is not counted.

    Args:
        tasks: by name.
        turns: that are counted; with 0 the first one is.
        between: called before each task, and not timed.
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
    """How many programs were running, on average over the last minute."""
    return round(os.getloadavg()[0], 2)


def report(results: Mapping[str, Any], rows: Sequence[Sequence[object]], json: str) -> None:
    """Print a table, its first row the heads, and the results as one JSON object; FILE gets the object too."""
    cells = [[f"{cell:.3g}" if isinstance(cell, float) else str(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    for first, *others in cells:
        row = [first.ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True))]
        print("  ".join(row))
    if json:
        Path(json).write_text(json_format.dumps(results, indent=1) + "\n")
    print(json_format.dumps(results))
