"""`zfaudio quality`: generated speech beside real speech, by statistics that need no trained network.

All sets of speech are equally long and cut into pieces as long as the samples: generated speech; real speech of the
test split, which it is compared with; and real speech of the training split, compared likewise. The last comparison is
the floor. A Frechet distance that is estimated from few frames comes out too large, and other speakers say other words:
no model need come below what real speech gets from as much of it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from zfaudio.command import command_line
from zfaudio.corpus.audio import RejectedRecording, read_audio, resample, to_mono
from zfaudio.data.frames import from_frames
from zfaudio.data.manifest import Manifest, read_manifest
from zfaudio.data.shard_reader import read_shard
from zfaudio.errors import UserError
from zfaudio.evaluation.speech_statistics import (
    BANDS,
    MelStatistics,
    Voice,
    frechet_distance,
    measure_voice,
    mel_statistics,
    spectral_distance,
)
from zfaudio.experiment.config_file import read_config
from zfaudio.experiment.results import write_result
from zfaudio.generation.samples import read_sample_list
from zfaudio.seeds import derive_seed

RESULT = "quality.json"

FLOOR_SPLIT = "train"
LEAST_SECONDS = 30.0  # fewer frames say too little of covariances, and of voices
MOST_SECONDS = 300.0  # more takes long and tells no more
SPREAD = 10  # times as much speech is read as is taken from it, so that it is of many speakers


@dataclass
class Measures:
    """Of a set of speech; distances are from the real speech of the split."""

    frechet_distance: float  # of log-mel frames (natural logarithm of power), squared
    ltas_distance_db: float  # of long-term average spectra, RMS over mel bands
    voice: Voice


@dataclass
class QualityResult:
    """The content of quality.json."""

    split: str
    floor_split: str
    seconds: float  # of speech, in each of the three sets
    samples: int  # files that the generated speech is from
    piece_seconds: float  # longest piece of real speech
    sample_rate: int
    mel_bands: int
    seed: int
    checkpoint_steps: list[int]  # of the samples, in order; one, if they are to say something of a model
    temperatures: list[tuple[float, float]]  # of the samples' latents and frames, likewise
    generated: Measures
    real: Measures
    floor: Measures
    command: str


@dataclass(frozen=True)
class QualityRow:
    """A line of the table, as text."""

    name: str
    generated: str
    real: str
    floor: str


def quality(
    exp: Path,
    *,
    samples: Path | None = None,
    shards: str = "",
    split: str = "test",
    json: Path | None = None,
    seed: int = 0,
) -> None:
    """Compare samples of a model with real speech: spectra, voicing, F0, each beside what real speech gets.

    Takes what zfaudio generate made without a prompt, and as much real speech of the split and of the training split,
    drawn at random: at least 30 s, at most 300 s of each.

    Args:
        exp: an experiment.
        samples: folder of the samples; EXP/samples when left out.
        shards: folder or address of the shards; those the model was trained on when left out.
        split: whose speech to compare with.
        json: write the result there; EXP/quality.json when left out, where zfaudio report looks.
        seed: of the choice of real speech.
    """
    if split == FLOOR_SPLIT:
        raise UserError(
            f"--split {split}: the floor is what {FLOOR_SPLIT} gets against another split; give test or valid"
        )
    location = shards or read_config(exp / "config.yaml").data.shards
    result = compare(exp / "samples" if samples is None else samples, location, split, seed)
    print(describe(result))
    write_result(exp / RESULT if json is None else json, result)


def compare(folder: Path, location: str, split: str, seed: int) -> QualityResult:
    """Measure the three sets of speech.

    Args:
        folder: of the samples.
        location: of the shards.
        split: whose speech to compare with.
        seed: of the choice of real speech.

    Raises:
        UserError: too little speech, or it cannot be read.
    """
    manifest = read_manifest(location)
    rate = manifest.sample_rate
    made = [sample for _, sample in sorted(read_sample_list(folder).items()) if sample.kind == "sample"]
    spoken = [read_sample(folder / sample.file, rate) for sample in made]
    check_length(
        spoken, rate, f"{folder}: {{}} of samples; make more: zfaudio generate EXP --out {folder} --num 16 --seconds 4"
    )
    piece = max(len(waveform) for waveform in spoken)
    wanted = min(length_of(spoken), round(MOST_SECONDS * rate))
    real, rest = (real_pieces(location, manifest, name, piece, wanted, seed) for name in (split, FLOOR_SPLIT))
    for name, pieces in ((split, real), (FLOOR_SPLIT, rest)):
        check_length(pieces, rate, f"{location}: {{}} in split {name!r}; give --shards with more, or another --split")
    length = min(wanted, length_of(real), length_of(rest))
    generated, real, rest = (take(pieces, length) for pieces in (spoken, real, rest))

    spectra = mel_statistics(real, rate)
    sets = tqdm((generated, real, rest), unit="set", desc="tracking F0", disable=None)
    measures = [measure(pieces, rate, spectra) for pieces in sets]
    used = made[: len(generated)]
    return QualityResult(
        split=split,
        floor_split=FLOOR_SPLIT,
        seconds=length / rate,
        samples=len(used),
        piece_seconds=piece / rate,
        sample_rate=rate,
        mel_bands=BANDS,
        seed=seed,
        checkpoint_steps=sorted({sample.checkpoint_step or 0 for sample in used}),
        temperatures=sorted({(sample.latent_temperature or 0, sample.observation_temperature or 0) for sample in used}),
        generated=measures[0],
        real=measures[1],
        floor=measures[2],
        command=command_line(),
    )


def measure(pieces: Sequence[np.ndarray], rate: int, real: MelStatistics) -> Measures:
    """A set of speech, int16 [n] each, beside the spectra of real speech."""
    own = mel_statistics(pieces, rate)
    return Measures(
        frechet_distance=frechet_distance(own.mean, own.covariance, real.mean, real.covariance),
        ltas_distance_db=spectral_distance(own.spectrum, real.spectrum),
        voice=measure_voice(pieces, rate),
    )


# Speech


def read_sample(path: Path, rate: int) -> np.ndarray:
    """A file of `zfaudio generate`, int16 [n] at `rate` Hz. Raises UserError where it cannot be read."""
    try:
        samples, own_rate = read_audio(path)
    except RejectedRecording as rejection:
        raise UserError(f"{path}: {rejection.reason}") from None
    return resample(to_mono(samples), own_rate, rate)


def real_pieces(location: str, manifest: Manifest, split: str, piece: int, wanted: int, seed: int) -> list[np.ndarray]:
    """Stretches of a split's utterances in random order, int16 [n] each.

    Args:
        location: of the shards.
        manifest: theirs.
        split: of them.
        piece: samples a stretch; the last of an utterance may have fewer.
        wanted: samples in all that will be taken; shards are read, at random, until there are SPREAD times as many.
        seed: of the order.
    """
    draws = np.random.default_rng(derive_seed(seed, split))
    pieces: list[np.ndarray] = []
    shards = manifest.split(split).shards
    for index in draws.permutation(len(shards)):
        for utterance in read_shard(location, shards[index]):
            waveform = from_frames(utterance.frames)
            pieces += [waveform[start : start + piece] for start in range(0, len(waveform), piece)]
        if length_of(pieces) >= SPREAD * wanted:
            break
    return [pieces[index] for index in draws.permutation(len(pieces))]


def length_of(pieces: Sequence[np.ndarray]) -> int:
    """Samples in all."""
    return sum(map(len, pieces))


def take(pieces: Sequence[np.ndarray], length: int) -> list[np.ndarray]:
    """The first pieces, the last of them cut, so that they are `length` samples in all."""
    taken: list[np.ndarray] = []
    for piece in pieces:
        if length <= 0:
            break
        taken.append(piece[:length])
        length -= len(piece)
    return taken


def check_length(pieces: Sequence[np.ndarray], rate: int, complaint: str) -> None:
    """Raises UserError, with the seconds where `complaint` has braces, where there is too little speech."""
    seconds = length_of(pieces) / rate
    if seconds < LEAST_SECONDS:
        raise UserError(complaint.format(f"{seconds:.1f} s (at least {LEAST_SECONDS:.0f} s are needed)"))


# Text


def tabulate_quality(result: QualityResult) -> list[QualityRow]:
    """The result as lines of a table."""

    def text(value: float | None, digits: int, factor: float = 1) -> str:
        return "–" if value is None else f"{factor * value:.{digits}f}"

    sets = (result.generated, result.real, result.floor)
    frechet = [text(measures.frechet_distance, 2) for measures in sets]
    ltas = [text(measures.ltas_distance_db, 2) for measures in sets]
    voices = [measures.voice for measures in sets]
    return [
        QualityRow("Fréchet distance, log-mel", *frechet),
        QualityRow("long-term spectrum, dB apart", *ltas),
        QualityRow("voiced frames, %", *(text(voice.voiced_fraction, 1, 100) for voice in voices)),
        QualityRow("median F0, Hz", *(text(voice.median_f0_hz, 1) for voice in voices)),
        QualityRow("spread of F0, semitones", *(text(voice.f0_deviation_semitones, 2) for voice in voices)),
    ]


def describe(result: QualityResult) -> str:
    """A table for the terminal."""
    floor = f"{result.floor_split} (floor)"
    lines = [
        f"{result.seconds:.1f} s each of generated speech ({result.samples} samples), of {result.split} and of "
        f"{result.floor_split}, in pieces of at most {result.piece_seconds:.1f} s; distances are from {result.split}",
        f"{'':<30}{'generated':>12}{result.split:>12}{floor:>16}",
        *(f"{row.name:<30}{row.generated:>12}{row.real:>12}{row.floor:>16}" for row in tabulate_quality(result)),
    ]
    if len(result.checkpoint_steps) > 1 or len(result.temperatures) > 1:
        lines.append(
            f"note: the samples are of checkpoints {result.checkpoint_steps} and temperatures (latents, frames) "
            f"{result.temperatures} together; generate into a folder of their own what is to be compared"
        )
    return "\n".join(lines)
