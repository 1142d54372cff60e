"""`zfaudio quality`: generated speech compared with real speech, by statistics, and by the words recognized in it.

There are three equally long sets of speech, in pieces at most as long as the samples: generated speech, real speech of
the test split, and real speech of the training split. The first and the last are compared with the second. The
comparison of real speech with real speech is the floor: a Frechet distance estimated from few frames comes out too
large, and other speakers say other words, so a model need not come below it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from tqdm import tqdm

from zfaudio.command import command_line
from zfaudio.data.frames import from_frames
from zfaudio.data.known_shards import choose_shards
from zfaudio.data.manifest import Manifest, read_manifest
from zfaudio.data.shard_reader import read_shard
from zfaudio.errors import UserError
from zfaudio.evaluation.folder_facts import QUALITY_FILE as QUALITY_FILE
from zfaudio.evaluation.recognition import CONFIDENT, WordMeasures, measure_words
from zfaudio.evaluation.speech_statistics import (
    BANDS,
    LEAST_VOICED,
    Drift,
    MelStatistics,
    Voice,
    frechet_distance,
    measure_drift,
    mel_statistics,
    root_mean_square,
    spectral_distance,
    summarize_voice,
    track_f0,
)
from zfaudio.experiment.checkpoint_record import CONFIG
from zfaudio.experiment.config_file import read_config
from zfaudio.experiment.own_files import own_file
from zfaudio.generation.recordings import read_recording
from zfaudio.generation.samples import read_sample_list
from zfaudio.hub import on_hub
from zfaudio.seeds import derive_seed
from zfaudio.text import format_number
from zfaudio.typed_json import read_json, write_json

FORMAT_VERSION = 2

FLOOR_SPLIT = "train"
LEAST_SECONDS = 30.0  # covariances and voices cannot be estimated from less
MOST_SECONDS = 300.0  # more takes long and changes little
POOL_FACTOR = 10  # real speech is drawn from a pool this many times as long, so that it is of many speakers


@dataclass
class SpeechMeasures:
    """Measures of a set of speech. Distances are from the real speech of the split."""

    frechet_distance: float  # squared, of log-mel frames (natural logarithm of the power)
    ltas_distance_db: float  # of long-term average spectra, root mean square over mel bands
    voice: Voice
    # Files of version 1 have none of these.
    level_ratio: float | None = None  # root mean square, relative to that of the real speech
    drift: Drift | None = None


@dataclass
class QualityResult:
    """The content of quality.json."""

    format_version: int = field(default=FORMAT_VERSION, kw_only=True)
    split: str
    floor_split: str
    seconds: float  # of speech in each of the three sets
    samples: int  # number of files that the generated speech is from
    piece_seconds: float  # of the longest piece of real speech
    sample_rate: int
    mel_bands: int
    seed: int
    checkpoint_steps: list[int]  # of the samples, in order; more than one if the samples are of several checkpoints
    temperatures: list[tuple[float, float]]  # of the samples' latents and frames, in order
    generated: SpeechMeasures
    real: SpeechMeasures
    floor: SpeechMeasures
    command: str
    words: WordMeasures | None = None  # only with --words


def quality(
    exp: str | Path,
    *,
    samples: str | Path | None = None,
    shards: str | Path = "",
    split: str = "test",
    words: str | Path | None = None,
    json: str | Path | None = None,
    seed: int = 0,
) -> QualityResult:
    """Compare samples with real speech: spectra, level, voicing, F0 and words, each next to what real speech gets.

    Uses what zfaudio generate made without a prompt, and random real speech of the same length from the split and from
    the training split: at least 30 s and at most 300 s of each.

    Args:
        exp: an experiment; or hub:user/name, a model on the Hugging Face hub, together with --samples, --shards and
            --json.
        samples: folder of the samples; by default EXP/samples.
        shards: folder or address of the shards; by default those that the model was trained on, if they were named on
            this machine before.
        split: the split to compare with: test or valid.
        words: what the shards were made from: the folder of the data directories, or manifests of lhotse. A small
            classifier is trained on the words of train, in half a minute, and counts the words that it recognizes in
            the samples and in real speech. SPLIT/ctm says when each word is spoken (python -m data_prep.digits writes
            it), or the manifests' alignment of kind word does, or each text is one word.
        json: file to write the result to; by default EXP/quality.json, where zfaudio report looks.
        seed: seed of the choice of real speech.

    Returns:
        The result, which the file holds too.

    Raises:
        UserError: there is too little speech, or a file cannot be read.
    """
    exp = Path(exp)
    if split == FLOOR_SPLIT:
        raise UserError(f"--split {split}: the floor compares {FLOOR_SPLIT} with another split; choose test or valid")
    if on_hub(exp) and (samples is None or json is None or not shards):
        raise UserError(f"{exp}: a model on the hub, with no files beside it; give --samples, --shards and --json")
    recorded = "" if shards else read_config(own_file(exp, CONFIG)).data.shards
    location = choose_shards(str(shards), recorded, exp)
    folder = own_file(exp, "samples") if samples is None else Path(samples)
    result = measure_quality(folder, location, split, seed, None if words is None else Path(words))
    try:
        write_json(exp / QUALITY_FILE if json is None else Path(json), result)
    finally:  # neither a full disk nor a closed terminal should lose the result
        print(describe(result))
    return result


def read_quality(path: str | Path) -> QualityResult:
    """Read quality.json. Raises UserError if the file is missing or is not one; the message names the wrong field."""
    return read_json(QualityResult, Path(path), "zfaudio quality", FORMAT_VERSION)


def measure_quality(folder: Path, location: str, split: str, seed: int, words: Path | None = None) -> QualityResult:
    """Measure the three sets of speech.

    Args:
        folder: folder of the samples.
        location: folder or address of the shards.
        split: the split to compare with.
        seed: seed of the choice of real speech.
        words: folder of data directories with words, if words are to be recognized.

    Raises:
        UserError: there is too little speech, or it or its words cannot be read.
    """
    manifest = read_manifest(location)
    rate = manifest.waveform.sample_rate
    listed = [sample for _, sample in sorted(read_sample_list(folder).items()) if sample.kind == "sample"]
    generated = [read_recording(folder / sample.file, rate, frame_size=1) for sample in listed]
    require_speech(
        generated,
        rate,
        f"{folder}: {{}} of samples; make more: zfaudio generate EXP --out {folder} --num 16 --seconds 4",
    )
    piece = max(len(waveform) for waveform in generated)
    wanted = min(total_samples(generated), round(MOST_SECONDS * rate))
    real = real_pieces(location, manifest, split, piece, wanted, seed)
    floor = real_pieces(location, manifest, FLOOR_SPLIT, piece, wanted, seed)
    for name, pieces in ((split, real), (FLOOR_SPLIT, floor)):
        require_speech(pieces, rate, f"{location}: {{}} in split {name!r}; give --shards with more, or another --split")
    length = min(wanted, total_samples(real), total_samples(floor))
    all_real = cut_to_length(real, round(MOST_SECONDS * rate))
    generated, real, floor = (cut_to_length(pieces, length) for pieces in (generated, real, floor))

    recognized = None
    if words is not None:
        recognized = measure_words(words, location, manifest, split, generated, all_real, floor, seed)
    statistics, level = mel_statistics(real, rate), root_mean_square(real)
    speech_sets = tqdm((generated, real, floor), unit="set", desc="tracking F0", disable=None)
    measures = [measure_speech(pieces, rate, statistics, level) for pieces in speech_sets]
    used = listed[: len(generated)]
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
        words=recognized,
    )


def measure_speech(pieces: Sequence[np.ndarray], rate: int, real: MelStatistics, real_level: float) -> SpeechMeasures:
    """Measure a set of speech, waveforms int16 [n], and compare it with the statistics and the level of real speech."""
    own = mel_statistics(pieces, rate)
    tracks = track_f0(pieces, rate)
    return SpeechMeasures(
        frechet_distance=frechet_distance(own.mean, own.covariance, real.mean, real.covariance),
        ltas_distance_db=spectral_distance(own.spectrum, real.spectrum),
        voice=summarize_voice(tracks),
        level_ratio=root_mean_square(pieces) / real_level if real_level else None,
        drift=measure_drift(pieces, tracks),
    )


# Speech


def real_pieces(location: str, manifest: Manifest, split: str, piece: int, wanted: int, seed: int) -> list[np.ndarray]:
    """Pieces of the utterances of a split in random order, int16 [n] each.

    Args:
        location: folder or address of the shards.
        manifest: manifest of the shards.
        split: train, valid or test.
        piece: samples of a piece; the last piece of an utterance may have fewer.
        wanted: total number of samples that will be used. Shards are read in random order until there are POOL_FACTOR
            times as many.
        seed: seed of the order.
    """
    rng = np.random.default_rng(derive_seed(seed, split))
    pieces: list[np.ndarray] = []
    shards = manifest.split(split).shards
    for index in rng.permutation(len(shards)):
        for utterance in read_shard(location, shards[index], manifest.frame_size):
            waveform = from_frames(utterance.frames)
            pieces += [waveform[start : start + piece] for start in range(0, len(waveform), piece)]
        if total_samples(pieces) >= POOL_FACTOR * wanted:
            break
    return [pieces[index] for index in rng.permutation(len(pieces))]


def total_samples(pieces: Sequence[np.ndarray]) -> int:
    """The number of samples of all pieces."""
    return sum(map(len, pieces))


def cut_to_length(pieces: Sequence[np.ndarray], length: int) -> list[np.ndarray]:
    """The first pieces up to a total of `length` samples; the last of them is cut."""
    cut: list[np.ndarray] = []
    for piece in pieces:
        if length <= 0:
            break
        cut.append(piece[:length])
        length -= len(piece)
    return cut


def require_speech(pieces: Sequence[np.ndarray], rate: int, message: str) -> None:
    """Raises UserError if there is too little speech; braces in `message` are replaced by how much there is."""
    seconds = total_samples(pieces) / rate
    if seconds < LEAST_SECONDS:
        raise UserError(message.format(f"{seconds:.1f} s (at least {LEAST_SECONDS:.0f} s are needed)"))


# Text


@dataclass(frozen=True)
class QualityRow:
    """A row of the table, as text."""

    name: str
    generated: str
    real: str
    floor: str


def tabulate_quality(result: QualityResult) -> list[QualityRow]:
    """The result as the rows of a table."""
    sets = (result.generated, result.real, result.floor)

    def row(name: str, values: Sequence[float | None], digits: int, factor: float = 1, sign: str = "") -> QualityRow:
        texts = ("–" if value is None else format_number(factor * value, digits, sign) for value in values)
        return QualityRow(name, *texts)

    # Files of earlier versions have F0 also of a few voiced frames.
    voices = [Voice(one.voice.voiced_fraction, None, None) if one.voice.few_voiced else one.voice for one in sets]
    rows = [
        row("Fréchet distance, log-mel", [one.frechet_distance for one in sets], digits=2),
        row("long-term spectrum, dB apart", [one.ltas_distance_db for one in sets], digits=2),
        row("voiced frames, %", [one.voiced_fraction for one in voices], digits=1, factor=100),
        row("median F0, Hz", [one.median_f0_hz for one in voices], digits=1),
        row("spread of F0, semitones", [one.f0_deviation_semitones for one in voices], digits=2),
    ]
    drifts = [one.drift for one in sets if one.drift is not None]
    if len(drifts) == len(sets):
        rows += [
            row("level, times real", [one.level_ratio for one in sets], digits=2),
            row("level, last third over first, dB", [one.level_db for one in drifts], digits=1, sign="+"),
            row("voiced, first third, %", [one.first_voiced_fraction for one in drifts], digits=1, factor=100),
            row("voiced, last third, %", [one.last_voiced_fraction for one in drifts], digits=1, factor=100),
            row("loudest clip over quietest, dB", [one.level_range_db for one in drifts], digits=1),
        ]
    words = result.words
    if words is not None:
        both = (words.generated, words.real)
        rows += [
            row("pieces recognized as words, %", [*(one.recognized_fraction for one in both), None], 1, factor=100),
            row("recognized words per second", [*(one.words_per_second for one in both), None], 2),
            row("inception score (IS)", [*(one.inception_score for one in both), None], 2),
            row("modified IS", [*(one.modified_inception_score for one in both), None], 1),
            row("AM score, nats", [*(one.am_score for one in both), None], 2),
            row(
                "Fréchet distance, of words",
                [*(one.frechet_distance for one in both), words.floor_frechet_distance],
                digits=2,
            ),
        ]
    return rows


def quality_notes(result: QualityResult) -> list[str]:
    """What there is to say about a table: why some F0 are not in it, and how good the classifier of words is."""
    notes = []
    if any(measures.voice.few_voiced for measures in (result.generated, result.real, result.floor)):
        notes.append(f"Where less than {LEAST_VOICED:.0%} of the frames are voiced, there is no F0.")
    words = result.words
    if words is not None:
        notes.append(
            f"Pieces are recognized with a confidence above {CONFIDENT}. Of {words.held_out_words} words of "
            f"{result.split}, cut as labeled, the classifier has {words.accuracy:.1%} right, "
            f"{words.confident_accuracy:.1%} with that confidence. It recognizes {words.backward_fraction:.1%} of the "
            f"pieces of real speech played backward, and {words.noise_fraction:.1%} of those of noise with the "
            "envelope of real speech."
        )
    return [note.replace("%", " %") for note in notes]


def describe(result: QualityResult) -> str:
    """The result as a table for the terminal."""
    floor = f"{result.floor_split} (floor)"
    lines = [
        f"{result.seconds:.1f} s each of generated speech ({result.samples} samples), of {result.split} and of "
        f"{result.floor_split}, in pieces of at most {result.piece_seconds:.1f} s; distances are from {result.split}",
        f"{'':<34}{'generated':>12}{result.split:>12}{floor:>16}",
        *(f"{row.name:<34}{row.generated:>12}{row.real:>12}{row.floor:>16}" for row in tabulate_quality(result)),
    ]
    lines += quality_notes(result)
    if len(result.checkpoint_steps) > 1 or len(result.temperatures) > 1:
        lines.append(
            f"note: the samples are of checkpoints {result.checkpoint_steps} and of temperatures (latents, frames) "
            f"{result.temperatures} together; generate each set that you want to compare into a folder of its own"
        )
    return "\n".join(lines)
