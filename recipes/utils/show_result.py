"""Print the result of an experiment, and where its samples and its report are."""

import sys
from pathlib import Path

from zfaudio.command import run_command
from zfaudio.evaluation.description import describe
from zfaudio.experiment.results import read_result


def show_result(exp: Path) -> None:
    """Print the test result of an experiment beside a reference, and the paths of its samples and report.

    Args:
        exp: folder of the experiment.
    """
    path = exp / "results" / "test.json"
    if path.is_file():
        result = read_result(path)
        if result.references is None:
            print(f"\n{describe(result)}")
        else:
            sign = "" if result.bound == "exact" else ">= "
            print(f"\naverage log-likelihood per frame: {sign}{result.nats_per_frame:.2f} nats")
            print(f"of an i.i.d. Gaussian:            {result.references.iid_gaussian_nats_per_frame:.2f} nats")
    print(f"samples: {exp / 'samples'}")
    print(f"report:  {exp / 'report.html'}")


if __name__ == "__main__":
    run_command(show_result, sys.argv[1:], prog="show_result.py")
