"""Experiments side by side: what each scored on the same utterances, and by how much they differ."""

import os
import re
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from itertools import takewhile
from pathlib import Path
from statistics import fmean, median

import numpy as np

from zfaudio.errors import UserError
from zfaudio.evaluation.references import References
from zfaudio.evaluation.units import Units, average_per_frame, bootstrap_interval, paired_interval
from zfaudio.experiment.config_file import read_config
from zfaudio.experiment.folder import flatten
from zfaudio.experiment.metrics import read_metrics
from zfaudio.experiment.results import EvaluationResult, read_result
from zfaudio.generation.samples import read_sample_list

# Scores compare where these agree: field of the result, and what to call it.
CONDITIONS = {
    "split": "split",
    "protocol": "protocol",
    "dequantized": "dequantization",
    "frame_size": "frame size",
    "sample_rate": "sample rate",
    "score_first_frame": "scoring of first frames",
    "audio_sha256": "audio",
    "mean": "standardization",
    "deviation": "standardization",
}

# Settings that leave a model what it is.
INCIDENTAL = {"train.seed", "train.device", "train.log_every"}


@dataclass
class Scored:
    """An experiment and its result."""

    name: str
    exp: Path
    result: EvaluationResult


@dataclass
class Row:
    """An experiment of the table, or several that differ in their seed alone, averaged.

    None stands for what it does not have. Nats are in standardized space.
    """

    name: str
    model: str
    likelihood: str
    head: str
    seeds: list[int] | None  # of training, where several are averaged
    bound: str
    importance_samples: int
    nats_per_frame: float
    nats_per_frame_ci95: tuple[float, float]  # bootstrap over utterances
    seed_range: tuple[float, float] | None  # lowest and highest nats per frame of the seeds
    difference: float | None  # nats per frame above the reference
    difference_ci95: tuple[float, float] | None  # paired bootstrap over utterances
    bits_per_sample: float | None
    bits_per_sample_ci95: tuple[float, float] | None
    flac_bits_per_sample: float
    kl_per_frame: float | None
    parameters: int
    steps: float  # of training, at the checkpoint that was scored
    training_frames_per_second: float | None
    computing_per_second: float | None  # seconds of computing per second of generated speech
    remark: str = ""  # why it has no difference, where that is for another reason than being the reference


@dataclass
class Comparison:
    """The table and what holds for all of it."""

    rows: list[Row]
    reference: str  # name of the row that others are compared with
    conditions: EvaluationResult  # of the reference: audio, protocol and units of every row without a remark
    references: References


def compare_experiments(
    experiments: Sequence[Path], split: str = "test", reference: Path | None = None, group_seeds: bool = False
) -> Comparison:
    """Read what experiments scored and put it side by side.

    Args:
        experiments: folders of experiments, whose EXP/results/SPLIT.json is taken, or such files themselves.
        split: which result of an experiment.
        reference: the experiment that others are compared with, one of `experiments`; the first when left out.
        group_seeds: average experiments whose configurations differ in train.seed alone.

    Raises:
        UserError: a result is missing, or two of the same audio are not of the same utterances.
    """
    if not experiments:
        raise UserError("nothing to compare; give experiments")
    names = name_experiments(experiments)
    scored = [
        Scored(name, *read_scored(experiment, split)) for name, experiment in zip(names, experiments, strict=True)
    ]
    groups = group_by_seed(scored) if group_seeds else [[one] for one in scored]
    chosen = scored[index_of(reference, experiments)]
    against = next(group for group in groups if chosen in group)
    rows = [make_row(group, against) for group in groups]
    return Comparison(rows, name_group(against), chosen.result, chosen.result.references)


# Reading


def index_of(reference: Path | None, experiments: Sequence[Path]) -> int:
    """Where the reference stands among the experiments. Raises UserError where it does not."""
    resolved = [experiment.resolve() for experiment in experiments]
    if reference is None:
        return 0
    if reference.resolve() not in resolved:
        raise UserError(f"--reference {reference}: not among the experiments to compare; give it as one of them too")
    return resolved.index(reference.resolve())


def read_scored(experiment: Path, split: str) -> tuple[Path, EvaluationResult]:
    """The folder of an experiment and its result. Raises UserError where it has none."""
    if experiment.suffix == ".json" and not experiment.is_dir():
        folder = experiment.parent
        return folder.parent if folder.name == "results" else folder, read_result(experiment)
    if not experiment.is_dir():
        raise UserError(f"{experiment}: no such experiment")
    path = experiment / "results" / f"{split}.json"
    make = f"zfaudio evaluate {experiment} --split {split} --json {path}"
    if not path.exists():
        raise UserError(f"{experiment}: no result on {split}; make it: {make}")
    try:
        return experiment, read_result(path)
    except UserError as error:
        raise UserError(f"{error}: {make}") from None


def name_experiments(experiments: Sequence[Path]) -> list[str]:
    """Their folders, without what all have in common; of a file that is not the usual one, its own name as well."""
    folders = [one.resolve() for one in experiments]
    plain = [one.parent.parent if one.suffix == ".json" and one.parent.name == "results" else one for one in folders]
    common = Path(os.path.commonpath([one.parent for one in plain]))
    return [
        str(one.relative_to(common)) + (f" ({folder.stem})" if folder != one else "")
        for one, folder in zip(plain, folders, strict=True)
    ]


def training_speed(exp: Path) -> float | None:
    """Frames per second in training, the median over the rows of metrics.csv."""
    rows = [row for row in read_metrics(exp / "metrics.csv") if row["split"] == "train" and row["frames_per_second"]]
    return median(float(row["frames_per_second"]) for row in rows) if rows else None


def generation_cost(exp: Path) -> float | None:
    """Seconds of computing per second of speech, over the samples of `zfaudio generate` in EXP/samples."""
    samples = read_sample_list(exp / "samples").values()
    costs = [(one.computing_per_second, one.seconds) for one in samples if one.kind == "sample"]
    timed = [(cost, seconds) for cost, seconds in costs if cost is not None]
    speech = sum(seconds for _, seconds in timed)
    return sum(cost * seconds for cost, seconds in timed) / speech if speech else None


# Seeds


def group_by_seed(scored: Sequence[Scored]) -> list[list[Scored]]:
    """Experiments that differ in their seed alone together, in the order of each group's first."""
    groups: dict[str, list[Scored]] = {}
    for one in scored:
        settings = flatten(asdict(read_config(one.exp / "config.yaml")))
        kept = {name: value for name, value in settings.items() if name not in INCIDENTAL}
        conditions = [getattr(one.result, name) for name in (*CONDITIONS, "bound", "importance_samples")]
        groups.setdefault(repr((sorted(kept.items()), conditions)), []).append(one)
    return list(groups.values())


def seed_of(one: Scored) -> int:
    """The seed of an experiment's training."""
    return read_config(one.exp / "config.yaml").train.seed


def name_group(group: Sequence[Scored]) -> str:
    """What the names of several experiments begin with, as srnn of srnn-s0 and srnn-s1; of one, its name."""
    if len(group) == 1:
        return group[0].name
    same = takewhile(lambda letters: len(set(letters)) == 1, zip(*(one.name for one in group), strict=False))
    shared = "".join(letters[0] for letters in same)
    return re.sub(r"[-_./ ]+(s|seed)?[-_./ ]*\d*$", "", shared) or group[0].name


# Rows


def differing_conditions(result: EvaluationResult, other: EvaluationResult) -> list[str]:
    """In what two results are not comparable."""
    differing = [what for name, what in CONDITIONS.items() if getattr(result, name) != getattr(other, name)]
    return list(dict.fromkeys(differing))


def scores_in_order(one: Scored, like: Scored) -> np.ndarray:
    """Nats of each utterance, [utterances], in the order of `like`. Raises UserError where the utterances differ."""
    nats = {(score.utterance, score.frames): score.nats for score in one.result.scores}
    wanted = [(score.utterance, score.frames) for score in like.result.scores]
    if set(nats) != set(wanted) or len(one.result.scores) != len(wanted):
        odd = sorted({name for name, _ in set(nats) ^ set(wanted)})
        raise UserError(
            f"{one.name} and {like.name} were not scored on the same utterances ({', '.join(odd[:3]) or 'repeated ids'}"
            f"{', ...' if len(odd) > 3 else ''}); score both on the same shards"
        )
    return np.array([nats[key] for key in wanted])


def average_scores(group: Sequence[Scored], like: Scored) -> np.ndarray:
    """Nats of each utterance averaged over the experiments of a group, [utterances], in the order of `like`."""
    return np.mean([scores_in_order(one, like) for one in group], axis=0)


def make_row(group: Sequence[Scored], against: Sequence[Scored]) -> Row:
    """One row: `group` averaged, beside the average of `against`."""
    first, results = group[0], [one.result for one in group]
    result = first.result
    frames = np.array([score.frames for score in result.scores])
    nats = average_scores(group, first)
    average, interval = average_per_frame(nats, frames), bootstrap_interval(nats, frames)
    units = Units(result.frame_size, result.deviation)
    each = [one.nats_per_frame for one in results]
    row = Row(
        name=name_group(group),
        model=result.model,
        likelihood=result.likelihood,
        head=result.head,
        seeds=sorted(seed_of(one) for one in group) if len(group) > 1 else None,
        bound=result.bound,
        importance_samples=result.importance_samples,
        nats_per_frame=average,
        nats_per_frame_ci95=interval,
        seed_range=(min(each), max(each)) if len(group) > 1 else None,
        difference=None,
        difference_ci95=None,
        bits_per_sample=units.bits_per_sample(average) if result.dequantized else None,
        bits_per_sample_ci95=(units.bits_per_sample(interval[1]), units.bits_per_sample(interval[0]))
        if result.dequantized
        else None,
        flac_bits_per_sample=result.references.flac_bits_per_sample,
        kl_per_frame=None if result.bound == "exact" else fmean(one.kl_per_frame for one in results),
        parameters=result.parameters,
        steps=fmean(one.checkpoint_step for one in results),
        training_frames_per_second=mean_of_known(training_speed, group),
        computing_per_second=mean_of_known(generation_cost, group),
    )
    differing = differing_conditions(result, against[0].result)
    if differing:
        row.remark = f"not comparable with {name_group(against)}: another {' and '.join(differing)}"
    elif group[0] is not against[0]:
        others = average_scores(against, first)
        row.difference = average - average_per_frame(others, frames)
        row.difference_ci95 = paired_interval(nats, others, frames)
    return row


def mean_of_known(measure: Callable[[Path], float | None], group: Sequence[Scored]) -> float | None:
    """The mean over a group's experiments that have such a number."""
    values = [value for value in map(measure, (one.exp for one in group)) if value is not None]
    return fmean(values) if values else None
