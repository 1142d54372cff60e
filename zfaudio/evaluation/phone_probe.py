"""What latents and states tell about phones: a linear classifier on each, fitted on one split and scored on another.

Step t reads frame t and scores frame t + 1, which its latent explains. So the features of step t are labeled with the
phone at the center of frame t + 1. Posterior means depend on that frame; prior means do not; for states it depends on
the model (h_t of zforcing is computed from z_t, the states of vrnn and srnn are not).
"""

import math
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from zfaudio.corpus.lhotse import is_manifest
from zfaudio.corpus.splits import part_of
from zfaudio.data.batches import Batch, LongUtterance
from zfaudio.data.manifest import read_manifest
from zfaudio.errors import UserError
from zfaudio.evaluation.ctm import Alignment, TimedLabel, read_ctm
from zfaudio.evaluation.lhotse_labels import read_aligned
from zfaudio.evaluation.scoring import first_latent_noise, latent_generator, utterance_batches
from zfaudio.experiment.checkpoint import Checkpoint
from zfaudio.models.base import FrameModel, FrameTerms
from zfaudio.models.chunks import ChunkedUtterance, is_long
from zfaudio.seeds import derive_seed

ALIGNMENT = "phones.ctm"

MOST_FRAMES = 20_000  # to fit on, and to score; about equally many from each utterance
MOST_UTTERANCES = 500  # that the frames come from, spread over the whole split
ITERATIONS = 300  # of L-BFGS; the accuracy settles long before, even if L-BFGS does not converge
INVERSE_PENALTY = 0.1  # parameter C of scikit-learn, for standardized features

# The 61 labels of TIMIT are folded into the 39 classes that are usually scored (Lee and Hon, 1989, "Speaker-Independent
# Phone Recognition Using Hidden Markov Models", table 2). As there, the glottal stop q is left out. Labels that are not
# listed stay as they are.
FOLDED = {
    label: phone
    for phone, labels in {
        "aa": "ao",
        "ah": "ax ax-h",
        "er": "axr",
        "hh": "hv",
        "ih": "ix",
        "l": "el",
        "m": "em",
        "n": "en nx",
        "ng": "eng",
        "sh": "zh",
        "uw": "ux",
        "sil": "pcl tcl kcl bcl dcl gcl h# pau epi",
    }.items()
    for label in labels.split()
}
LEFT_OUT = "q"


Phone = TimedLabel


@dataclass
class LabeledFrames:
    """The phones of some frames, and the features of a model at them."""

    split: str
    utterances: int  # number of utterances that the frames are from
    phones: np.ndarray  # folded labels, [frames]
    features: dict[str, np.ndarray]  # by kind (posterior mean, prior mean, state), float32 [frames, size]


@dataclass
class ProbeResult:
    """The accuracy of each probe: the fraction of scored frames whose phone it predicts."""

    accuracy: dict[str, float]  # by kind of features
    majority_accuracy: float  # of always predicting the most common phone of the fitted frames
    majority_phone: str
    phones: int  # number of different phones in the fitted frames
    fitted_split: str
    fitted_utterances: int
    fitted_frames: int
    scored_split: str
    scored_utterances: int
    scored_frames: int


def fold(label: str) -> str | None:
    """The class that a label belongs to; None if frames with this label are left out."""
    return None if label == LEFT_OUT else FOLDED.get(label, label)


def read_phones(folder: Path) -> Alignment:
    """The phones of a data directory, FOLDER/phones.ctm, or else those that manifests of lhotse in it are aligned with.

    Raises:
        UserError: there are none, or they cannot be read.
    """
    if not is_manifest(folder) or (folder / ALIGNMENT).is_file():
        return read_ctm(folder / ALIGNMENT, "phone", "data_prep.timit")
    phones = read_aligned(folder, "phone")
    if not phones:
        raise UserError(f"{folder}: its manifests have no alignment of kind phone")
    return phones


def has_phones(folder: Path) -> bool:
    """Return whether a folder is one that may say which phones are spoken when."""
    return (folder / ALIGNMENT).is_file() or is_manifest(folder)


def frame_labels(phones: list[Phone], first: int, count: int, frame_seconds: float) -> list[str | None]:
    """The folded phone at the center of each of the frames first..first+count-1 of an utterance; None without one."""
    starts = np.array([phone.start for phone in phones])
    centers = (first + np.arange(count) + 0.5) * frame_seconds
    labels: list[str | None] = []
    for center, index in zip(centers, np.searchsorted(starts, centers, side="right") - 1, strict=True):
        inside = index >= 0 and center < phones[index].end
        labels.append(fold(phones[index].label) if inside else None)
    return labels


def probe_phones(
    trained: Checkpoint, location: str, data_dirs: Path, split: str, frames_per_batch: int, seed: int
) -> ProbeResult:
    """Fit probes on the training utterances, or else on the validation utterances, and score them on a split.

    Args:
        trained: the model.
        location: folder or address of the shards.
        data_dirs: what the shards were made from: data directories with SPLIT/phones.ctm, or manifests of lhotse that
            are aligned, in a folder for each split or all together.
        split: the split to score on.
        frames_per_batch: largest number of frames that go through the model at once, including padding.
        seed: seed of the noise, the latents and the choice of frames.

    Raises:
        UserError: alignments are missing or do not belong to these shards.
    """
    splits = read_manifest(location).splits
    parts = {name: part_of(data_dirs, name) for name in ("train", "valid", split)}
    usable = [name for name in ("train", "valid") if name in splits and has_phones(parts[name])]
    fitting = next((name for name in usable if name != split), None)
    if fitting is None:
        raise UserError(
            f"--phones {data_dirs}: no train/{ALIGNMENT} or valid/{ALIGNMENT} or manifests of lhotse in it to fit a "
            "probe on; give what the shards were made from, such as the folder that data_prep.timit wrote"
        )
    alignments = {name: read_phones(parts[name]) for name in (fitting, split)}
    fitted, scored = (
        collect_frames(trained, location, name, alignment, frames_per_batch, seed)
        for name, alignment in alignments.items()
    )
    return score_probes(fitted, scored)


@torch.inference_mode()
def collect_frames(
    trained: Checkpoint, location: str, split: str, alignment: Alignment, frames_per_batch: int, seed: int
) -> LabeledFrames:
    """Features and phones of random frames of the aligned utterances, about equally many from each utterance.

    Raises:
        UserError: no utterance has a phone at a scored frame.
    """
    model, manifest, data = trained.model, trained.manifest, trained.config.data
    utterances = read_manifest(location).split(split).utterances
    every = math.ceil(utterances / MOST_UTTERANCES)
    frames_per_utterance = math.ceil(MOST_FRAMES / min(math.ceil(utterances / every), len(alignment)))
    features: dict[str, list[np.ndarray]] = {}
    phones: list[str] = []
    used_utterances = 0
    batches = utterance_batches(trained, location, split, frames_per_batch, seed, every)
    for batch in tqdm(batches, unit="batch", desc=f"reading {split}", disable=None):
        if len(phones) >= MOST_FRAMES or not any(utterance in alignment for utterance in batch.utterances):
            continue
        steps_of_rows = []
        for row, utterance in enumerate(batch.utterances):
            # Step s scores frame s + 1 of the row. If the first frame of the utterance is scored too, the row starts
            # with a zero frame, and step s scores frame s of the utterance.
            labels = frame_labels(
                alignment.get(utterance, []),
                first=0 if data.score_first_frame else 1,
                count=int(batch.lengths[row]) - 1,
                frame_seconds=manifest.frame_size / manifest.waveform.sample_rate,
            )
            labeled = [step for step, label in enumerate(labels) if label is not None]
            wanted = min(frames_per_utterance, MOST_FRAMES - len(phones))
            rng = np.random.default_rng(derive_seed(seed, utterance))
            steps = np.sort(rng.permutation(labeled)[:wanted]).astype(np.int64)
            steps_of_rows.append(steps)
            phones += [str(labels[step]) for step in steps]
            used_utterances += len(steps) > 0
        for kind, values in features_at(model, batch, steps_of_rows, seed, frames_per_batch):
            features.setdefault(kind, []).append(values)
    if not phones:
        raise UserError(
            f"--phones: none of the {len(alignment)} aligned utterances is in the split {split!r} of the shards; "
            "give what the shards were made from"
        )
    return LabeledFrames(
        split=split,
        utterances=used_utterances,
        phones=np.array(phones),
        features={kind: np.concatenate(parts) for kind, parts in features.items()},
    )


def features_at(
    model: FrameModel, batch: Batch | LongUtterance, steps: list[np.ndarray], seed: int, frames_at_once: int
) -> Iterator[tuple[str, np.ndarray]]:
    """The features at some steps of the utterances of a batch.

    Args:
        model: the model, in evaluation mode.
        batch: whole utterances, or one that is read in chunks.
        steps: the steps of each utterance, in order.
        seed: seed of the latents.
        frames_at_once: number of frames above which a single utterance is read in chunks.

    Yields:
        Kinds of features, and their values, float32 [steps, size].
    """
    if isinstance(batch, LongUtterance) or is_long(batch, frames_at_once):
        first = 0
        utterance = ChunkedUtterance(model, batch, frames_at_once)
        for terms, count in utterance.terms(latent_generator(seed, batch.utterances[0])):
            inside = steps[0][(steps[0] >= first) & (steps[0] < first + count)] - first
            for kind, values in step_features(terms).items():
                yield kind, values[0, inside].float().cpu().numpy()
            first += count
        return
    device = next(model.parameters()).device
    noise = first_latent_noise(model, batch, seed).to(device)
    features = step_features(model(batch.frames.to(device), batch.lengths.to(device), noise=noise))
    for row, steps_of_row in enumerate(steps):
        for kind, values in features.items():
            yield kind, values[row, steps_of_row].float().cpu().numpy()


def step_features(terms: FrameTerms) -> dict[str, torch.Tensor]:
    """The features that a probe can read, by kind, [batch, steps, size]; only those that the model has."""
    features: dict[str, torch.Tensor] = {}
    if terms.latents is not None:
        features |= {"posterior mean": terms.latents.posterior.mean, "prior mean": terms.latents.prior.mean}
    if terms.hidden is not None:
        features["state"] = terms.hidden
    return features


def score_probes(fitted: LabeledFrames, scored: LabeledFrames) -> ProbeResult:
    """Fit a multinomial logistic regression on each kind of features, and score it on other frames.

    Raises:
        UserError: all frames to fit on have the same phone.
    """
    phones, counts = np.unique(fitted.phones, return_counts=True)
    majority = str(phones[counts.argmax()])
    if len(phones) < 2:
        raise UserError(
            f"--phones: all frames of split {fitted.split!r} are of the phone {majority!r}; there is nothing to tell "
            "apart"
        )
    return ProbeResult(
        accuracy={
            kind: probe_accuracy(fitted.features[kind], fitted.phones, scored.features[kind], scored.phones)
            for kind in tqdm(fitted.features, unit="probe", desc="fitting", disable=None)
        },
        majority_accuracy=float((scored.phones == majority).mean()),
        majority_phone=majority,
        phones=len(phones),
        fitted_split=fitted.split,
        fitted_utterances=fitted.utterances,
        fitted_frames=len(fitted.phones),
        scored_split=scored.split,
        scored_utterances=scored.utterances,
        scored_frames=len(scored.phones),
    )


def probe_accuracy(
    fitted: np.ndarray, fitted_phones: np.ndarray, scored: np.ndarray, scored_phones: np.ndarray
) -> float:
    """Fit a probe on the features `fitted` [frames, size]; the fraction of `scored` whose phone it predicts."""
    # Imported here because it takes a second, which commands without a probe should not have to wait.
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    probe = make_pipeline(StandardScaler(), LogisticRegression(C=INVERSE_PENALTY, max_iter=ITERATIONS))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        probe.fit(fitted, fitted_phones)
    return float(probe.score(scored, scored_phones))
