"""What was scored, and scores of recordings that need no model: an i.i.d. Gaussian, FLAC and WavPack; i.i.d. levels."""

import hashlib
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from zfaudio.config import DataConfig
from zfaudio.data.frames import Moments, count_constant, from_frames, moments
from zfaudio.data.manifest import Manifest
from zfaudio.data.shard_reader import read_utterances
from zfaudio.errors import UserError
from zfaudio.evaluation.lossless_coders import WavPack, flac_size
from zfaudio.evaluation.units import gaussian_nats_per_frame
from zfaudio.experiment.checkpoint import Checkpoint
from zfaudio.experiment.results import References
from zfaudio.mulaw import CODES, encode
from zfaudio.observations import UNKNOWN, Kind


@dataclass
class ScoredFrames:
    """Facts about the frames that were scored."""

    sha256: str  # of the values of all utterances, in any order; the same for the same frames
    longest: int  # frames of the longest utterance


@dataclass
class ScoredAudio(ScoredFrames):
    """Facts about the 16-bit samples that were scored."""

    constant_frames: int  # frames whose samples are all equal, where a density has no upper bound
    references: References


@dataclass
class ScoredLevels(ScoredFrames):
    """Facts about the levels of 8-bit mu-law that were scored."""

    constant_frames: int  # frames whose samples are all equal
    iid_levels_nats_per_frame: float


@dataclass
class ScoredWords(ScoredFrames):
    """Facts about the words that were scored, of which the ends of sentences are some."""

    unknown_share: float  # those that are <unk>


def measure_split(trained: Checkpoint, location: str, split: str) -> ScoredFrames:
    """Measure the frames of a split that a model scores: `ScoredAudio` of recordings, `ScoredWords` of tokens.

    Raises:
        UserError: there are none.
    """
    manifest, first = trained.manifest, trained.config.data.score_first_frame
    measured: ScoredFrames
    if manifest.kind == "waveform":
        measured = measure_recordings(trained, location, split)
    else:
        measured = measure_values(scored_frames(location, split, first), manifest.kind)
    if not measured.longest:
        raise UserError(f"{location}: split {split!r} has no utterance with a frame to score")
    return measured


def measure_recordings(trained: Checkpoint, location: str, split: str) -> ScoredAudio | ScoredLevels:
    """Measure the recordings of a split. Raises UserError if the model is of other frames."""
    data = trained.config.data
    return measure_waveforms(scored_frames(location, split, data.score_first_frame), trained.manifest, data)


def measure_waveforms(
    utterances: Iterable[np.ndarray], manifest: Manifest, data: DataConfig
) -> ScoredAudio | ScoredLevels:
    """Measure utterances of recordings, by the samples that the shards hold.

    Args:
        utterances: the scored frames of each, int16 [frames, frame_size].
        manifest: of the shards.
        data: settings of the data.

    Raises:
        UserError: the shards are of other frames.
    """
    if manifest.encoding == "mulaw":
        return measure_levels(utterances, manifest.waveform.deviation, manifest.frame_size)
    return measure_scored_audio(
        utterances,
        mean=manifest.waveform.mean,
        deviation=manifest.waveform.deviation,
        frame_size=manifest.frame_size,
        sample_rate=manifest.waveform.sample_rate,
        dequantized=manifest.is_dequantized(data),
    )


def measure_values(utterances: Iterable[np.ndarray], kind: Kind) -> ScoredFrames:
    """Measure pixels or ids: the scored frames of each utterance, int16 [frames, frame_size]."""
    digests, longest, values, unknown = [], 0, 0, 0
    for frames in utterances:
        digests.append(digest_of(frames))
        longest = max(longest, len(frames))
        values += frames.size
        unknown += int((frames == UNKNOWN).sum())
    if kind == "tokens":
        return ScoredWords(digest_of_all(digests), longest, unknown / max(values, 1))
    return ScoredFrames(digest_of_all(digests), longest)


def digest_of(frames: np.ndarray) -> str:
    """A hash of the int16 values of an utterance."""
    return hashlib.sha256(np.ascontiguousarray(frames, "<i2").data).hexdigest()


def digest_of_all(digests: list[str]) -> str:
    """A hash of the utterances with these hashes, in any order."""
    return hashlib.sha256("".join(sorted(digests)).encode()).hexdigest()


def scored_frames(location: str, split: str, score_first_frame: bool) -> Iterator[np.ndarray]:
    """The frames of each utterance that are scored, int16 [frames, frame_size]."""
    first = 0 if score_first_frame else 1
    for utterance in read_utterances(location, split):
        if len(utterance.frames) > first:
            yield utterance.frames[first:]


def measure_scored_audio(
    utterances: Iterable[np.ndarray],
    mean: float,
    deviation: float,
    frame_size: int,
    sample_rate: int,
    dequantized: bool,
) -> ScoredAudio:
    """Measure utterances and compute the reference scores on them.

    Args:
        utterances: the scored frames of each utterance, int16 [frames, frame_size].
        mean: mean of the training split, in 16-bit steps.
        deviation: standard deviation of the training split, in 16-bit steps.
        frame_size: samples per frame.
        sample_rate: Hz.
        dequantized: whether the model scores samples with uniform noise of one step added.
    """
    total, constant, longest, flac_bytes = Moments(), 0, 0, 0
    digests = []
    with WavPack(sample_rate) as wavpack:
        for frames in utterances:
            waveform = from_frames(frames)
            total = total.merge(moments(waveform))
            constant += count_constant(frames)
            longest = max(longest, len(frames))
            digests.append(digest_of(waveform))
            flac_bytes += flac_size(waveform, sample_rate)
            wavpack.add(waveform)
        wavpack_bytes = wavpack.size()
    noise_variance = 1 / 12 if dequantized else 0.0
    gaussian = gaussian_nats_per_frame(
        mean=mean,
        deviation=deviation,
        scored_mean=total.mean,
        scored_deviation=float(np.sqrt(total.deviation**2 + noise_variance)),
        frame_size=frame_size,
    )
    return ScoredAudio(
        constant_frames=constant,
        sha256=digest_of_all(digests),
        longest=longest,
        references=References(
            iid_gaussian_nats_per_frame=gaussian,
            flac_bits_per_sample=8 * flac_bytes / max(total.count, 1),
            wavpack_bits_per_sample=None if wavpack_bytes is None else 8 * wavpack_bytes / max(total.count, 1),
        ),
    )


def measure_levels(utterances: Iterable[np.ndarray], deviation: float, frame_size: int) -> ScoredLevels:
    """Measure utterances of 8-bit mu-law; the arguments are those of `measure_scored_audio`."""
    counts, constant, longest = np.zeros(CODES, np.int64), 0, 0
    digests = []
    for frames in utterances:
        counts += np.bincount(encode(frames).ravel(), minlength=CODES)
        constant += count_constant(frames)
        longest = max(longest, len(frames))
        digests.append(digest_of(frames))
    shares = counts[counts > 0] / max(counts.sum(), 1)
    nats_per_sample = float((shares * np.log(shares)).sum()) + math.log(deviation)
    return ScoredLevels(digest_of_all(digests), longest, constant, frame_size * nats_per_sample)
