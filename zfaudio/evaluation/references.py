"""What was scored, and the scores of references that need no model: an i.i.d. Gaussian and FLAC on the same frames."""

import hashlib
import io
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import soundfile

from zfaudio.data.frames import Moments, count_constant, from_frames, moments
from zfaudio.data.shard_reader import read_utterances
from zfaudio.errors import UserError
from zfaudio.evaluation.units import gaussian_nats_per_frame
from zfaudio.experiment.checkpoint import Checkpoint
from zfaudio.experiment.results import References


@dataclass
class ScoredAudio:
    """Facts about the 16-bit samples that were scored."""

    constant_frames: int  # frames whose samples are all equal, where a density has no upper bound
    sha256: str  # of the samples of all utterances, in any order; the same for the same audio
    longest: int  # frames of the longest utterance
    references: References


def measure_split(trained: Checkpoint, location: str, split: str) -> ScoredAudio:
    """Measure the frames of a split that a model scores. Raises UserError if there are none."""
    manifest, data = trained.manifest, trained.config.data
    audio = measure_scored_audio(
        scored_frames(location, split, data.score_first_frame),
        mean=manifest.waveform.mean,
        deviation=manifest.waveform.deviation,
        frame_size=manifest.frame_size,
        sample_rate=manifest.waveform.sample_rate,
        dequantized=data.dequantize,
    )
    if not audio.longest:
        raise UserError(f"{location}: split {split!r} has no utterance with a frame to score")
    return audio


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
    for frames in utterances:
        waveform = from_frames(frames)
        total = total.merge(moments(waveform))
        constant += count_constant(frames)
        longest = max(longest, len(frames))
        digests.append(hashlib.sha256(np.ascontiguousarray(waveform, "<i2").data).hexdigest())
        flac_bytes += flac_size(waveform, sample_rate)
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
        sha256=hashlib.sha256("".join(sorted(digests)).encode()).hexdigest(),
        longest=longest,
        references=References(
            iid_gaussian_nats_per_frame=gaussian,
            flac_bits_per_sample=8 * flac_bytes / max(total.count, 1),
        ),
    )


def flac_size(waveform: np.ndarray, sample_rate: int) -> int:
    """Size in bytes of int16 samples [n] as a FLAC file at the strongest compression, including the header."""
    file = _Size()
    soundfile.write(file, waveform, sample_rate, format="FLAC", subtype="PCM_16", compression_level=1.0)
    return file.size


class _Size(io.RawIOBase):
    """A file of which only the size is kept."""

    def __init__(self) -> None:
        self.size = self.position = 0

    def write(self, data: Any) -> int:
        self.position += len(data)
        self.size = max(self.size, self.position)
        return len(data)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self.position = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self.position, io.SEEK_END: self.size}[whence]
        return self.position

    def tell(self) -> int:
        return self.position
