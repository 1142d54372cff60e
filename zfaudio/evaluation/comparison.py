"""Compare experiments: what each of them scored on the same utterances, and by how much the scores differ."""

import os
import re
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from itertools import takewhile
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np

from zfaudio.errors import UserError
from zfaudio.evaluation.folder_facts import (
    generation_cost,
    mean_of_known,
    samples_quality,
    train_settings,
    training_speed,
)
from zfaudio.evaluation.units import (
    Interval,
    Units,
    average_per_frame,
    bootstrap_interval,
    paired_interval,
    word_perplexity,
)
from zfaudio.experiment.checkpoint_record import CONFIG
from zfaudio.experiment.config_file import read_config
from zfaudio.experiment.folder import flatten
from zfaudio.experiment.own_files import own_file
from zfaudio.experiment.results import Bound, EvaluationResult, read_result
from zfaudio.observations import Encoding, Kind, describe

# Two results of a kind are comparable if they agree in these fields, of those that the kind has. The values are words
# for messages. Pictures may be cut into frames of any size: what is compared is the score of a whole one.
CONDITIONS = {
    "split": "split",
    "protocol": "protocol",
    "encoding": "encoding of samples",
    "dequantized": "dequantization",
    "frame_size": "frame size",
    "sample_rate": "sample rate",
    "score_first_frame": "scoring of first frames",
    "audio_sha256": "audio",
    "image_size": "image size",
    "vocabulary": "vocabulary",
    "mean": "standardization",
    "deviation": "standardization",
}

CONDITIONS_OF_PICTURES = {name: words for name, words in CONDITIONS.items() if name != "frame_size"}
CONTENT: dict[Kind, str] = {"waveform": "audio", "binary": "set of images", "tokens": "set of sentences"}

# Settings in which the runs of a group may differ.
IGNORED_SETTINGS = {"train.seed", "train.device", "train.log_every"}


@dataclass
class ScoredExperiment:
    """An experiment and its result."""

    name: str
    folder: Path
    result: EvaluationResult


Group = Sequence[ScoredExperiment]  # one experiment, or several that differ only in their seed


@dataclass
class ComparisonRow:
    """An experiment, or the average of several that differ only in their seed.

    Nats of recordings are in standardized space, others are of probabilities. A field is None if the experiment has no
    such number.
    """

    name: str
    kind: Kind  # what a frame holds
    model: str
    likelihood: str | None
    head: str | None
    seeds: list[int] | None  # of training, if several experiments are averaged
    bound: Bound
    importance_samples: int
    frame_size: int
    nats_per_frame: float
    nats_per_frame_ci95: Interval | None  # bootstrap over utterances; None for a single utterance, as all intervals
    seed_range: Interval | None  # lowest and highest nats over seeds: per frame, or of pictures per image
    difference: float | None  # nats above the reference: per frame, or of pictures per image
    difference_ci95: Interval | None  # paired bootstrap over utterances
    nats_per_utterance: float | None = field(default=None, kw_only=True)  # per image or sentence
    nats_per_utterance_ci95: Interval | None = field(default=None, kw_only=True)
    word_perplexity: float | None = field(default=None, kw_only=True)
    word_perplexity_ci95: Interval | None = field(default=None, kw_only=True)
    encoding: Encoding | None = field(default=None, kw_only=True)  # of the samples of recordings
    bits_per_sample: float | None = field(default=None, kw_only=True)  # of such samples
    bits_per_sample_ci95: Interval | None = field(default=None, kw_only=True)
    flac_bits_per_sample: float | None = field(default=None, kw_only=True)
    kl_per_frame: float | None
    kl_per_utterance: float | None
    parameters: int
    steps: float  # training steps of the checkpoint that was scored
    batch_size: int | None  # of training
    learning_rate: float | None  # at the start of training
    draws: int  # of the posterior, in scoring
    training_frames_per_second: float | None
    computing_per_second: float | None  # seconds of computing per second of generated speech
    remark: str = ""  # why the row cannot be compared with the reference, if it cannot
    samples_frechet_distance: float | None = None  # of log-mel frames of the samples, according to quality.json
    samples_recognized_fraction: float | None = None  # of the pieces of the samples, as words
    samples_words_per_second: float | None = None  # recognized in the samples


@dataclass
class Comparison:
    """Experiments compared with one of them, the reference."""

    rows: list[ComparisonRow]
    reference: str  # name of the reference's row
    reference_result: EvaluationResult  # its audio, protocol and units apply to every row without a remark


def compare_experiments(
    experiments: Sequence[Path], split: str = "test", reference: Path | None = None, group_seeds: bool = False
) -> Comparison:
    """Read the results of experiments and compare them.

    Args:
        experiments: folders of experiments, whose EXP/results/SPLIT.json is read, or such files themselves.
        split: which result of an experiment to read.
        reference: the experiment to compare the others with, one of `experiments`; by default the first.
        group_seeds: average experiments whose configurations differ only in train.seed.

    Raises:
        UserError: a result is missing, results are of different kinds, or two results on the same audio are not on the
            same utterances.
    """
    if not experiments:
        raise UserError("nothing to compare; give experiments")
    reference_index = _index_of(reference, experiments)
    scored = []
    for name, path in zip(_name_experiments(experiments), experiments, strict=True):
        folder, result = _read_experiment(path, split)
        scored.append(ScoredExperiment(name, folder, result))
    chosen = scored[reference_index]
    for experiment in scored:
        kinds = [one.result.kind for one in (experiment, chosen)]
        if kinds[0] != kinds[1]:
            raise UserError(
                f"{experiment.name} is scored on {describe(kinds[0])} and {chosen.name} on {describe(kinds[1])}; "
                "compare experiments of one kind"
            )
    groups = _group_by_seed(scored) if group_seeds else [[experiment] for experiment in scored]
    reference_group = next(group for group in groups if chosen in group)
    return Comparison(
        rows=[_compare_group(group, reference_group) for group in groups],
        reference=_name_group(reference_group),
        reference_result=chosen.result,
    )


# Reading


def _index_of(reference: Path | None, experiments: Sequence[Path]) -> int:
    """The position of the reference among the experiments. Raises UserError if it is not one of them."""
    resolved = [experiment.resolve() for experiment in experiments]
    if reference is None:
        return 0
    if reference.resolve() not in resolved:
        raise UserError(f"--reference {reference}: not among the experiments to compare; list it among them too")
    return resolved.index(reference.resolve())


def _read_experiment(path: Path, split: str) -> tuple[Path, EvaluationResult]:
    """The folder of an experiment and its result. Raises UserError if it has none."""
    if path.suffix == ".json" and not path.is_dir():
        folder = path.parent
        return folder.parent if folder.name == "results" else folder, read_result(path)
    if not path.is_dir():
        raise UserError(f"{path}: no such experiment")
    file = own_file(path, f"results/{split}.json")
    command = f"zfaudio evaluate {path} --split {split} --json {file}"
    if not file.exists():
        raise UserError(f"{path}: no result on {split}; make it: {command}")
    try:
        return path, read_result(file)
    except UserError as error:
        raise UserError(f"{error}: {command}") from None


def _name_experiments(experiments: Sequence[Path]) -> list[str]:
    """Short names: the folders without the part that all of them share.

    A result other than the usual one is named after its folder and its file, as in "exp (cut)".
    """
    paths = [path.resolve() for path in experiments]
    folders = [
        path.parent.parent if path.suffix == ".json" and path.parent.name == "results" else path for path in paths
    ]
    common = Path(os.path.commonpath([folder.parent for folder in folders]))
    return [
        str(folder.relative_to(common)) + (f" ({path.stem})" if path != folder else "")
        for folder, path in zip(folders, paths, strict=True)
    ]


# Seeds


def _group_by_seed(scored: Sequence[ScoredExperiment]) -> list[list[ScoredExperiment]]:
    """Group experiments that differ only in their seed, in the order of each group's first experiment."""
    groups: dict[str, list[ScoredExperiment]] = {}
    for experiment in scored:
        settings = flatten(asdict(read_config(own_file(experiment.folder, CONFIG))))
        compared = {name: value for name, value in settings.items() if name not in IGNORED_SETTINGS}
        conditions = [
            getattr(experiment.result, name) for name in (*CONDITIONS, "bound", "importance_samples", "draws")
        ]
        groups.setdefault(repr((sorted(compared.items()), conditions)), []).append(experiment)
    return list(groups.values())


def _training_seed(experiment: ScoredExperiment) -> int:
    return read_config(own_file(experiment.folder, CONFIG)).train.seed


def _name_group(group: Group) -> str:
    """The common beginning of the names in a group, such as srnn for srnn-s0 and srnn-s1."""
    if len(group) == 1:
        return group[0].name
    letters = zip(*(experiment.name for experiment in group), strict=False)
    shared = "".join(same[0] for same in takewhile(lambda same: len(set(same)) == 1, letters))
    return re.sub(r"[-_./ ]+(s|seed)?[-_./ ]*\d*$", "", shared) or group[0].name


# Rows


def _differing_conditions(result: EvaluationResult, other: EvaluationResult) -> list[str]:
    """The conditions, in words, in which two results differ so that they cannot be compared."""
    names = _conditions(result)
    differing = [words for name, words in names.items() if getattr(result, name) != getattr(other, name)]
    return list(dict.fromkeys(differing))


def _conditions(result: EvaluationResult) -> dict[str, str]:
    """The fields in which results must agree with this one to be compared with it, and words for them."""
    fields = CONDITIONS_OF_PICTURES if result.kind == "binary" else CONDITIONS
    return fields | {"audio_sha256": CONTENT[result.kind]}


def _averaged(result: EvaluationResult) -> np.ndarray:
    """What the score of each utterance is divided by, [utterances]: its frames; one for a picture."""
    if result.kind == "binary":
        return np.ones(len(result.scores), int)
    return np.array([score.frames for score in result.scores])


def _utterances(result: EvaluationResult) -> list[tuple[str, int]]:
    """The name of each utterance, and what its score is divided by."""
    return [(score.utterance, int(parts)) for score, parts in zip(result.scores, _averaged(result), strict=True)]


def _scores_in_order(experiment: ScoredExperiment, ordered: ScoredExperiment) -> np.ndarray:
    """The nats of each utterance of an experiment, [utterances], in the order of another one.

    Raises:
        UserError: the two were scored on different utterances.
    """
    keys, order = _utterances(experiment.result), _utterances(ordered.result)
    nats = dict(zip(keys, (score.nats for score in experiment.result.scores), strict=True))
    if set(nats) != set(order) or len(keys) != len(order):
        differing = sorted({utterance for utterance, _ in set(nats) ^ set(order)})
        raise UserError(
            f"{experiment.name} and {ordered.name} were not scored on the same utterances "
            f"({', '.join(differing[:3]) or 'repeated ids'}{', ...' if len(differing) > 3 else ''}); "
            "score both on the same shards"
        )
    return np.array([nats[utterance] for utterance in order])


def _average_scores(group: Group, ordered: ScoredExperiment) -> np.ndarray:
    """The nats of each utterance averaged over a group, [utterances], in the order of an experiment."""
    scores: np.ndarray = np.mean([_scores_in_order(experiment, ordered) for experiment in group], axis=0)
    return scores


def _compare_group(group: Group, reference: Group) -> ComparisonRow:
    """The average of a group, compared with the average of the reference group."""
    first, results = group[0], [experiment.result for experiment in group]
    result = first.result
    nats, averaged = _average_scores(group, first), _averaged(result)
    averages = [average_per_frame(_scores_in_order(experiment, first), averaged) for experiment in group]
    frames = np.array([score.frames for score in result.scores])
    average, interval = average_per_frame(nats, frames), bootstrap_interval(nats, frames)
    kl = None if result.bound == "exact" else fmean(result.kl_per_frame for result in results)
    training, folders = train_settings(first.folder), [experiment.folder for experiment in group]
    row = ComparisonRow(
        name=_name_group(group),
        kind=result.kind,
        model=result.model,
        likelihood=result.likelihood,
        head=result.head,
        seeds=sorted(_training_seed(experiment) for experiment in group) if len(group) > 1 else None,
        bound=result.bound,
        importance_samples=result.importance_samples,
        frame_size=result.frame_size,
        nats_per_frame=average,
        nats_per_frame_ci95=interval,
        seed_range=(min(averages), max(averages)) if len(group) > 1 else None,
        difference=None,
        difference_ci95=None,
        **_units_of_kind(result, nats, average, interval),
        kl_per_frame=kl,
        kl_per_utterance=None if kl is None else kl * result.frames / result.utterances,
        parameters=result.parameters,
        steps=fmean(result.checkpoint_step for result in results),
        batch_size=training.batch_size if training else None,
        learning_rate=training.learning_rate if training else None,
        draws=result.draws,
        training_frames_per_second=mean_of_known(training_speed, folders),
        computing_per_second=mean_of_known(generation_cost, folders),
        samples_frechet_distance=mean_of_known(samples_quality(lambda one: one.generated.frechet_distance), folders),
        samples_recognized_fraction=mean_of_known(
            samples_quality(lambda one: one.words.generated.recognized_fraction if one.words else None), folders
        ),
        samples_words_per_second=mean_of_known(
            samples_quality(lambda one: one.words.generated.words_per_second if one.words else None), folders
        ),
    )
    differing = _differing_conditions(result, reference[0].result)
    if differing:
        row.remark = f"not comparable with {_name_group(reference)}: another {' and '.join(differing)}"
    elif first is not reference[0]:
        reference_nats = _average_scores(reference, first)
        row.difference = average_per_frame(nats - reference_nats, averaged)
        row.difference_ci95 = paired_interval(nats, reference_nats, averaged)
    return row


def _units_of_kind(
    result: EvaluationResult, nats: np.ndarray, average: float, interval: Interval | None
) -> dict[str, Any]:
    """The fields of a row that depend on its kind.

    Args:
        result: a result of the row.
        nats: score of each utterance, [utterances].
        average: nats per frame.
        interval: of `average`.
    """
    row: dict[str, Any] = {}

    def convert(unit: Callable[[float], float], name: str) -> None:
        row[name] = unit(average)
        row[f"{name}_ci95"] = None if interval is None else (unit(interval[1]), unit(interval[0]))

    if result.kind == "waveform":
        row["encoding"] = result.encoding
        row["flac_bits_per_sample"] = result.waveform.lossless_coders.get("FLAC")
        if result.bits_per_sample is not None:
            convert(Units(result.frame_size, result.waveform.deviation).bits_per_sample, "bits_per_sample")
        return row
    row["nats_per_utterance"] = float(nats.mean())
    row["nats_per_utterance_ci95"] = bootstrap_interval(nats, np.ones(len(nats), int))
    if result.kind == "tokens":
        convert(word_perplexity, "word_perplexity")
    return row
