"""What the folder of an experiment tells beside its result: how it was trained, speeds, and how its samples are."""

from collections.abc import Callable, Iterable
from pathlib import Path
from statistics import fmean, median
from typing import TYPE_CHECKING

from zfaudio.config import TrainConfig
from zfaudio.errors import UserError
from zfaudio.experiment.checkpoint_record import CONFIG
from zfaudio.experiment.config_file import read_config
from zfaudio.experiment.metrics import read_metrics
from zfaudio.experiment.own_files import own_file
from zfaudio.generation.samples import read_sample_list

if TYPE_CHECKING:
    from zfaudio.evaluation.quality import QualityResult

QUALITY_FILE = "quality.json"  # zfaudio quality writes it


def mean_of_known(measure: Callable[[Path], float | None], folders: Iterable[Path]) -> float | None:
    """The mean over the experiments that have such a number; None if none has."""
    values = [value for value in map(measure, folders) if value is not None]
    return fmean(values) if values else None


def train_settings(folder: Path) -> TrainConfig | None:
    """How an experiment was trained; None if its configuration is not there or cannot be read here."""
    try:
        return read_config(own_file(folder, CONFIG)).train
    except UserError:
        return None


def training_speed(folder: Path) -> float | None:
    """Frames per second in training: the median over the rows of an experiment's metrics.csv."""
    metrics = read_metrics(own_file(folder, "metrics.csv"))
    rows = [row for row in metrics if row["split"] == "train" and row["frames_per_second"]]
    return median(float(row["frames_per_second"]) for row in rows) if rows else None


def generation_cost(folder: Path) -> float | None:
    """Seconds of computing per second of generated speech, over the samples in an experiment's folder `samples`."""
    timed = [
        (sample.computing_per_second, sample.seconds)
        for sample in read_sample_list(own_file(folder, "samples")).values()
        if sample.kind == "sample" and sample.computing_per_second is not None
    ]
    speech = sum(seconds for _, seconds in timed)
    return sum(cost * seconds for cost, seconds in timed) / speech if speech else None


def samples_quality(measure: Callable[["QualityResult"], float | None]) -> Callable[[Path], float | None]:
    """A function that measures the quality of an experiment's samples; it gives None if there is no quality.json."""

    def measure_experiment(folder: Path) -> float | None:
        file = own_file(folder, QUALITY_FILE)
        if not file.exists():
            return None
        # Imported here because librosa takes seconds, which a comparison without quality should not have to wait.
        from zfaudio.evaluation.quality import read_quality

        return measure(read_quality(file))

    return measure_experiment
