"""Stretches of sound with their pictures, as data that stands inside a page."""

import base64
import io
import itertools
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

from zfaudio.audio import RejectedRecording, read_audio, to_mono
from zfaudio.errors import UserError
from zfaudio.figures import write_speech_picture
from zfaudio.frames import from_frames
from zfaudio.generate import Sample
from zfaudio.manifest import read_manifest
from zfaudio.shard_files import FramedUtterance
from zfaudio.shard_reading import read_utterances

# What keeps a page at a few megabytes: a 16-bit sample takes 2.7 bytes in base64.
CLIP_SAMPLES = 80_000  # 5 s at 16 kHz
PROMPT_SECONDS = 2.0  # of a prompt, where it and what follows do not fit whole

LOOKED_AT = 200  # utterances of a split among which speakers are looked for


@dataclass(frozen=True)
class Clip:
    """A stretch of sound, and its waveform and spectrogram."""

    title: str
    caption: str
    audio: str  # data URI of a WAV
    picture: str  # data URI of a PNG


def make_clip(
    title: str, facts: list[str], waveform: np.ndarray, rate: int, deviation: float, starts_at: float = 0.0
) -> Clip:
    """A clip of a waveform, int16 [n]; of a long one, its first seconds or those around `starts_at`.

    Args:
        title: above it.
        facts: below it.
        waveform: int16 [n], at least one sample.
        rate: Hz.
        deviation: of the corpus, in 16-bit steps; sets the picture's scales.
        starts_at: seconds; where a prompt ends and generated speech starts.
    """
    first = 0
    if len(waveform) > CLIP_SAMPLES:
        first = max(0, round((starts_at - PROMPT_SECONDS) * rate))
        seconds = len(waveform) / rate
        waveform = waveform[first : first + CLIP_SAMPLES]
        facts = [*facts, f"{first / rate:.1f} to {(first + len(waveform)) / rate:.1f} s of {seconds:.1f} s"]
    sound, picture = io.BytesIO(), io.BytesIO()
    soundfile.write(sound, waveform, rate, subtype="PCM_16", format="WAV")
    write_speech_picture(picture, waveform, rate, deviation, mark=max(0.0, starts_at - first / rate), transparent=True)
    return Clip(title, " · ".join(facts), data_uri("audio/wav", sound), data_uri("image/png", picture))


def data_uri(media_type: str, file: io.BytesIO) -> str:
    """The content of a file as an address that holds it."""
    return f"data:{media_type};base64,{base64.b64encode(file.getvalue()).decode()}"


def real_clips(location: str, split: str, number: int) -> list[Clip]:
    """Utterances of a split, of as many speakers as there are.

    Args:
        location: of the shards.
        split: of them.
        number: of clips.

    Raises:
        UserError: the shards cannot be read.
    """
    manifest = read_manifest(location)
    utterances = list(itertools.islice(read_utterances(location, split, manifest), LOOKED_AT))
    return [
        make_clip(
            utterance.id,
            [f"{utterance.samples / manifest.sample_rate:.1f} s"],
            from_frames(utterance.frames),
            manifest.sample_rate,
            manifest.deviation,
        )
        for utterance in one_of_each_speaker(utterances)[:number]
    ]


def one_of_each_speaker(utterances: list[FramedUtterance]) -> list[FramedUtterance]:
    """The same utterances, the first of each speaker before all others; those without a whole frame left out."""
    seen: set[str] = set()
    firsts: list[FramedUtterance] = []
    others: list[FramedUtterance] = []
    for utterance in utterances:
        if len(utterance.frames):
            (others if utterance.speaker in seen else firsts).append(utterance)
            seen.add(utterance.speaker)
    return firsts + others


def sample_clip(folder: Path, sample: Sample, deviation: float | None) -> Clip:
    """A file of `zfaudio generate`.

    Raises:
        UserError: the file cannot be read.
    """
    path = folder / sample.file
    try:
        samples, rate = read_audio(path)
    except RejectedRecording as rejection:
        raise UserError(f"{path}: {rejection.reason}") from None
    waveform = to_mono(samples)
    scale = deviation or float(waveform.std()) or 1.0
    return make_clip(path.stem, sample_facts(sample), waveform, rate, scale, sample.starts_at)


def sample_facts(sample: Sample) -> list[str]:
    """What to say of a sample below its player."""
    facts = [f"{sample.seconds:.1f} s"]
    if sample.source:
        facts.insert(0, Path(sample.source).name)
    if sample.kind == "continuation":
        facts.append(f"generated from {sample.starts_at:.2f} s on")
    if sample.seed is not None:
        facts.append(f"seed {sample.seed}")
    if sample.latent_temperature is not None and sample.latent_temperature == sample.observation_temperature:
        facts.append(f"temperature {sample.latent_temperature:g}")
    elif sample.latent_temperature is not None and sample.observation_temperature is not None:
        facts.append(
            f"temperature {sample.latent_temperature:g} of latents, {sample.observation_temperature:g} of frames"
        )
    if sample.clipped_samples:
        facts.append(f"{sample.clipped_samples} samples clipped")
    return facts
