"""Print an experiment's result in a few lines, and where its samples and report are."""

import json
import sys
from pathlib import Path

from zfaudio.command import run_command


def show_result(exp: Path) -> None:
    """Print the test result of an experiment beside its reference, and where to look and listen.

    Args:
        exp: the experiment's folder.
    """
    result = exp / "results" / "test.json"
    if result.is_file():
        scores = json.loads(result.read_text(encoding="utf-8"))
        gaussian = scores["references"]["iid_gaussian_nats_per_frame"]
        sign = "" if scores["bound"] == "exact" else ">= "
        print(f"\naverage log-likelihood per frame: {sign}{scores['nats_per_frame']:.2f} nats")
        print(f"of an i.i.d. Gaussian:            {gaussian:.2f} nats")
    print(f"samples: {exp / 'samples'}")
    print(f"report:  {exp / 'report.html'}")


if __name__ == "__main__":
    run_command(show_result, sys.argv[1:], prog="show_result.py")
