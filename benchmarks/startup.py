"""Time of `zfaudio --help`, and of training up to its first batch and step, compared with importing torch.

python -m benchmarks.startup [--json FILE]
"""

import contextlib
import io
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.corpus import recordings
from benchmarks.timing import load_before, medians_in_alternation, processor, report
from zfaudio.command import run_command
from zfaudio.config import DataConfig, RunConfig, TrainConfig, ZForcingConfig
from zfaudio.data.shard import shard
from zfaudio.experiment.config_file import write_config

# Small, so that a step takes almost no time.
SMALL = ZForcingConfig(hidden_size=64, latent_size=16, embedding_size=32, mlp_size=32)

# torch.optim imports torch._dynamo when the first optimizer is constructed.
ADAM = "import torch; torch.optim.Adam([torch.zeros(1, requires_grad=True)])"

# What `zfaudio train` does until its first batch or step, without the command line.
TRAINING = """
from pathlib import Path
from tempfile import TemporaryDirectory
from zfaudio.experiment.config_file import read_config
from zfaudio.training.run import Training
with TemporaryDirectory() as exp:
    training = Training(read_config(Path("{config}")), Path(exp) / "exp", resume=False)
    {action}
"""


def startup(json: str = "", turns: int = 5) -> None:
    """Time fresh Python processes from start to end.

    Args:
        json: file to write the results to as well.
        turns: how often each process is timed; the medians are reported.
    """
    load = load_before()
    with tempfile.TemporaryDirectory() as temporary:
        work = Path(temporary)
        recordings(work / "recordings", count=40, seconds=4.0)
        with contextlib.redirect_stdout(io.StringIO()):
            shard(work / "recordings", work / "shards")
        config = work / "config.yaml"
        write_config(RunConfig(SMALL, data=DataConfig(str(work / "shards")), train=TrainConfig(device="cpu")), config)
        seconds = medians_in_alternation(
            {
                "python": lambda: python("-c", "pass"),
                "zfaudio --help": lambda: python("-m", "zfaudio", "--help"),
                "import torch": lambda: python("-c", "import torch"),
                "the same and Adam": lambda: python("-c", ADAM),
                "first batch": lambda: python("-c", TRAINING.format(config=config, action="next(training.stream)")),
                "first step": lambda: python("-c", TRAINING.format(config=config, action="training.train_step()")),
            },
            turns,
        )
    imported = seconds["import torch"]
    results: dict[str, Any] = {
        "load_before": load,
        "processor": processor(),
        "seconds": {name: round(value, 3) for name, value in seconds.items()},
        "help_s": round(seconds["zfaudio --help"], 3),
        "first_batch_vs_torch_import": round(seconds["first batch"] / imported, 3),
        "first_step_vs_torch_import": round(seconds["first step"] / imported, 3),
        "first_batch_vs_torch_and_adam": round(seconds["first batch"] / seconds["the same and Adam"], 3),
    }
    rows = [(name, value, f"{value / imported:.2f}") for name, value in seconds.items()]
    report(results, [("", "s", "of torch's import"), *rows], json)


def python(*arguments: str) -> None:
    """Run a fresh Python interpreter with these arguments."""
    subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL)


if __name__ == "__main__":
    run_command(startup, sys.argv[1:], "python -m benchmarks.startup")
