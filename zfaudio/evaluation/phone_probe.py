"""What latents and states tell of phones: a linear classifier on each, fitted on one split and scored on another.

Step t reads frame t and scores frame t + 1, which its latent explains. So what step t holds is labeled with the phone
at the center of frame t + 1. Posterior means have heard that frame; prior means have not; a state has what its model
lets it have (h_t of zforcing holds z_t, the states of vrnn and srnn do not).
"""

import math
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from zfaudio.data.manifest import read_manifest
from zfaudio.errors import UserError
from zfaudio.evaluation.passes import draw_latents, utterance_batches
from zfaudio.experiment.checkpoint import Checkpoint
from zfaudio.models.base import FrameTerms
from zfaudio.seeds import derive_seed

ALIGNMENT = "phones.ctm"

FRAMES = 20_000  # at most, to fit and to score; as many from each utterance
UTTERANCES = 500  # at most, that they are taken from, spread over the whole split
ITERATIONS = 300  # of L-BFGS; where it stops short, the accuracy has long settled
INVERSE_PENALTY = 0.1  # scikit-learn's C, on standardized features

# TIMIT's 61 labels as the 39 classes that are scored (Lee and Hon, 1989, "Speaker-Independent Phone Recognition Using
# Hidden Markov Models", table 2). The glottal stop q is left out there and here; labels not named stay as they are.
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


@dataclass(frozen=True)
class Phone:
    """A stretch of an utterance, in seconds from its start."""

    start: float
    end: float
    label: str


Alignment = dict[str, list[Phone]]  # by utterance, in order of time


@dataclass
class LabeledFrames:
    """What a model holds at some frames, and their phones."""

    split: str
    utterances: int  # that they are from
    phones: np.ndarray  # folded labels, [frames]
    features: dict[str, np.ndarray]  # by kind, float32 [frames, size]


@dataclass
class ProbeResult:
    """Accuracy of each probe: the fraction of scored frames whose phone it names."""

    accuracy: dict[str, float]  # by kind of features
    majority_accuracy: float  # of always naming the commonest phone of the fitted frames
    majority_phone: str
    phones: int  # different ones in the fitted frames
    fitted_split: str
    fitted_utterances: int
    fitted_frames: int
    scored_split: str
    scored_utterances: int
    scored_frames: int


def fold(label: str) -> str | None:
    """The class that a label counts as; None where frames of it are left out."""
    return None if label == LEFT_OUT else FOLDED.get(label, label)


def read_alignment(path: Path) -> Alignment:
    """The alignment in a CTM file (utterance, channel, start, duration, phone; seconds).

    Raises:
        UserError: the file is missing, holds nothing, or a line is not like that.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read ({error}); phone alignments are written by data_prep.timit") from None
    alignment: Alignment = {}
    for number, line in enumerate(lines, 1):
        fields = line.split()
        if not fields or line.startswith(";;"):
            continue
        try:
            start, duration, label = float(fields[2]), float(fields[3]), fields[4]
        except (IndexError, ValueError):
            raise UserError(f"{path}:{number}: {line!r} is not UTTERANCE CHANNEL START DURATION PHONE") from None
        alignment.setdefault(fields[0], []).append(Phone(start, start + duration, label))
    if not alignment:
        raise UserError(f"{path}: holds no phones")
    for phones in alignment.values():
        phones.sort(key=lambda phone: phone.start)
    return alignment


def frame_labels(phones: list[Phone], first: int, count: int, frame_seconds: float) -> list[str | None]:
    """The folded phone at the center of frames first..first+count-1 of an utterance; None where there is none."""
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
    """Fit probes on the training utterances (or validation's) and score them on a split.

    Args:
        trained: the model.
        location: folder or address of the shards.
        data_dirs: folder with SPLIT/phones.ctm, that the shards were made from.
        split: to score on.
        frames_per_batch: frames through the model at once, padding included.
        seed: of noise, latents and the choice of frames.

    Raises:
        UserError: alignments are missing or are not of these shards.
    """
    splits = read_manifest(location).splits
    usable = [name for name in ("train", "valid") if name in splits and (data_dirs / name / ALIGNMENT).is_file()]
    fitting = next((name for name in usable if name != split), None)
    if fitting is None:
        raise UserError(
            f"--phones {data_dirs}: no train/{ALIGNMENT} or valid/{ALIGNMENT} there to fit a probe on; "
            "give the folder that data_prep.timit wrote"
        )
    alignments = {name: read_alignment(data_dirs / name / ALIGNMENT) for name in (fitting, split)}
    fitted, scored = (
        collect_frames(trained, location, name, alignment, frames_per_batch, seed)
        for name, alignment in alignments.items()
    )
    return score_probes(fitted, scored)


@torch.inference_mode()
def collect_frames(
    trained: Checkpoint, location: str, split: str, alignment: Alignment, frames_per_batch: int, seed: int
) -> LabeledFrames:
    """What the model holds at some frames of aligned utterances, drawn at random, as many of each utterance.

    Raises:
        UserError: no utterance has a phone at a frame that is scored.
    """
    model, manifest, data = trained.model, trained.manifest, trained.config.data
    device = next(model.parameters()).device
    utterances = read_manifest(location).split(split).utterances
    every = math.ceil(utterances / UTTERANCES)
    share = math.ceil(FRAMES / min(math.ceil(utterances / every), len(alignment)))
    features: dict[str, list[np.ndarray]] = {}
    phones: list[str] = []
    used = 0
    batches = utterance_batches(trained, location, split, frames_per_batch, seed, every)
    for batch in tqdm(batches, unit="batch", desc=f"reading {split}", disable=None):
        if len(phones) >= FRAMES or not any(utterance in alignment for utterance in batch.utterances):
            continue
        terms = model(
            batch.frames.to(device), batch.lengths.to(device), noise=draw_latents(model, batch, seed).to(device)
        )
        held = step_features(terms)
        for row, utterance in enumerate(batch.utterances):
            # Step s scores frame s + 1 of the row, which begins with the frame of zeros where there is one.
            labels = frame_labels(
                alignment.get(utterance, []),
                first=0 if data.score_first_frame else 1,
                count=int(batch.lengths[row]) - 1,
                frame_seconds=manifest.frame_size / manifest.sample_rate,
            )
            labeled = [step for step, label in enumerate(labels) if label is not None]
            draws = np.random.default_rng(derive_seed(seed, utterance))
            steps = np.sort(draws.permutation(labeled)[: min(share, FRAMES - len(phones))]).astype(np.int64)
            if len(steps):
                for kind, values in held.items():
                    features.setdefault(kind, []).append(values[row, steps].float().cpu().numpy())
                phones += [str(labels[step]) for step in steps]
                used += 1
    if not phones:
        raise UserError(
            f"--phones: none of the {len(alignment)} aligned utterances is among the shards' split {split!r}; "
            "give the data directories that the shards were made from"
        )
    kept = {kind: np.concatenate(parts) for kind, parts in features.items()}
    return LabeledFrames(split, used, np.array(phones), kept)


def step_features(terms: FrameTerms) -> dict[str, torch.Tensor]:
    """What a probe may read, by kind: [batch, steps, size]."""
    features: dict[str, torch.Tensor] = {}
    if terms.latents is not None:
        features |= {"posterior mean": terms.latents.posterior.mean, "prior mean": terms.latents.prior.mean}
    if terms.hidden is not None:
        features["state"] = terms.hidden
    return features


def score_probes(fitted: LabeledFrames, scored: LabeledFrames) -> ProbeResult:
    """Fit a multinomial logistic regression on each kind of features of some frames and score it on others.

    Raises:
        UserError: the fitted frames are all of one phone.
    """
    phones, counts = np.unique(fitted.phones, return_counts=True)
    majority = str(phones[counts.argmax()])
    if len(phones) < 2:
        raise UserError(
            f"--phones: all frames of split {fitted.split!r} are of the phone {majority!r}; nothing to tell"
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
    """The fraction of `scored` [frames, size] whose phone a probe names that was fitted on `fitted` [frames, size]."""
    # Imported here: it takes a second that commands without a probe need not wait.
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    probe = make_pipeline(StandardScaler(), LogisticRegression(C=INVERSE_PENALTY, max_iter=ITERATIONS))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        probe.fit(fitted, fitted_phones)
    return float(probe.score(scored, scored_phones))
