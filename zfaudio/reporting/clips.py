"""Sound clips with their pictures, as data URIs inside a page."""

import base64
import io
import itertools
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from zfaudio.corpus.audio import RejectedRecording, read_audio, to_mono, wav_bytes
from zfaudio.data.frames import from_frames
from zfaudio.data.manifest import read_manifest
from zfaudio.data.shard_format import FramedUtterance
from zfaudio.data.shard_reader import read_utterances
from zfaudio.errors import UserError
from zfaudio.figures import draw_speech
from zfaudio.generation.samples import Sample

# The clips' length keeps a page at a few megabytes: a 16-bit sample takes 2.7 bytes in base64.
CLIP_SAMPLES = 80_000  # 5 s at 16 kHz
PROMPT_SECONDS = 2.0  # of a prompt in the clip of a continuation, if the whole continuation is too long

CANDIDATE_UTTERANCES = 200  # first utterances of a split, from which clips of different speakers are chosen


@dataclass(frozen=True)
class Clip:
    """A sound, and a picture of its waveform and spectrogram."""

    medium: ClassVar[str] = "sound"
    title: str
    caption: str
    audio: str  # data URI of a WAV
    picture: str  # data URI of a WebP


def make_clip(
    title: str,
    facts: list[str],
    waveform: np.ndarray,
    rate: int,
    deviation: float,
    starts_at: float = 0.0,
    first: int = 0,
) -> Clip:
    """A clip of a waveform. Of a long waveform, it is a part.

    Args:
        title: text above the clip.
        facts: texts below the clip.
        waveform: int16 [n], at least one sample.
        rate: sample rate in Hz.
        deviation: standard deviation of the corpus, in 16-bit steps, which sets the scales of the picture.
        starts_at: time in seconds at which generated speech begins, after a prompt.
        first: first sample of the part of a long waveform.
    """
    length = f"{len(waveform) / rate:.1f} s"
    if len(waveform) > CLIP_SAMPLES:
        waveform = waveform[first : first + CLIP_SAMPLES]
        length = f"{first / rate:.1f} to {(first + len(waveform)) / rate:.1f} s of {length}"
    else:
        first = 0
    picture = io.BytesIO()
    figure = draw_speech(waveform, rate, deviation, mark=max(0.0, starts_at - first / rate))
    # As PNG, a noisy spectrogram takes as much space as its sound; as WebP, a tenth of it.
    figure.savefig(picture, format="webp", transparent=True, pil_kwargs={"quality": 85})
    image = data_uri("image/webp", picture.getvalue())
    return Clip(title, " · ".join([length, *facts]), data_uri("audio/wav", wav_bytes(waveform, rate)), image)


def data_uri(media_type: str, content: bytes) -> str:
    """The content of a file as a data URI."""
    return f"data:{media_type};base64,{base64.b64encode(content).decode()}"


def real_clips(location: str, split: str, number: int) -> list[Clip]:
    """Clips of real utterances of a split, by different speakers if possible.

    Args:
        location: folder or address of the shards.
        split: train, valid or test.
        number: number of clips.

    Raises:
        UserError: the shards cannot be read.
    """
    manifest = read_manifest(location)
    rate, deviation = manifest.waveform.sample_rate, manifest.waveform.deviation
    utterances = list(itertools.islice(read_utterances(location, split, manifest), CANDIDATE_UTTERANCES))
    clips = []
    for utterance in one_of_each_speaker(utterances)[:number]:
        waveform = from_frames(utterance.frames)
        facts = [] if utterance.speaker == utterance.id else [f"speaker {utterance.speaker}"]
        clips.append(make_clip(utterance.id, facts, waveform, rate, deviation, first=loudest_part(waveform)))
    return clips


def loudest_part(waveform: np.ndarray) -> int:
    """The first sample of the part of a waveform, int16 [n], with the most energy; 0 if the whole fits into a clip."""
    if len(waveform) <= CLIP_SAMPLES:
        return 0
    energy = np.concatenate([[0], np.cumsum(waveform.astype(np.int64) ** 2)])
    return int(np.argmax(energy[CLIP_SAMPLES:] - energy[:-CLIP_SAMPLES]))


def one_of_each_speaker(utterances: list[FramedUtterance]) -> list[FramedUtterance]:
    """The utterances that have frames, in an order that begins with the first utterance of each speaker."""
    seen: set[str] = set()
    firsts: list[FramedUtterance] = []
    repeats: list[FramedUtterance] = []
    for utterance in utterances:
        if len(utterance.frames):
            (repeats if utterance.speaker in seen else firsts).append(utterance)
            seen.add(utterance.speaker)
    return firsts + repeats


def sample_clip(folder: Path, sample: Sample, deviation: float | None) -> Clip:
    """A clip of a file of `zfaudio generate`. Raises UserError if it cannot be read."""
    path = folder / sample.file
    try:
        samples, rate = read_audio(path)
    except RejectedRecording as rejection:
        raise UserError(f"{path}: {rejection.reason}") from None
    waveform = to_mono(samples)
    scale = deviation or float(waveform.std()) or 1.0
    first = max(0, round((sample.starts_at - PROMPT_SECONDS) * rate))
    title = path.stem
    if sample.kind == "interpolation" and sample.index is not None:
        title = f"step {sample.index + 1}"
    return make_clip(title, sample_facts(sample), waveform, rate, scale, sample.starts_at, first)


def sample_facts(sample: Sample) -> list[str]:
    """The facts about a sample that stand below it."""
    ends = sample.source.split(" to ") if sample.kind == "interpolation" else [sample.source]
    facts = [" to ".join(Path(end).name for end in ends)] if sample.source else []
    if sample.kind == "continuation" and sample.starts_at:
        facts.append(f"generated from {sample.starts_at:.2f} s on")
    if sample.seed is not None:
        facts.append(f"seed {sample.seed}")
    if sample.latent_temperature is not None and sample.latent_temperature == sample.observation_temperature:
        facts.append(f"temperature {sample.latent_temperature:g}")
    elif sample.latent_temperature is not None and sample.observation_temperature is not None:
        facts.append(
            f"temperature {sample.latent_temperature:g} of latents, {sample.observation_temperature:g} of frames"
        )
    elif sample.observation_temperature is not None:
        facts.append(f"temperature {sample.observation_temperature:g} of frames")
    if sample.clipped_samples:
        facts.append(f"{sample.clipped_samples} samples at full scale")
    return facts
