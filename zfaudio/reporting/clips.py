"""Stretches of sound with their pictures, as data that stands inside a page."""

import base64
import io
import itertools
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

from zfaudio.corpus.audio import RejectedRecording, read_audio, to_mono
from zfaudio.data.frames import from_frames
from zfaudio.data.manifest import read_manifest
from zfaudio.data.shard_format import FramedUtterance
from zfaudio.data.shard_reader import read_utterances
from zfaudio.errors import UserError
from zfaudio.figures import draw_speech
from zfaudio.generation.samples import Sample

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
    """A clip of a waveform, int16 [n]; of a long one, a part.

    Args:
        title: above it.
        facts: below it.
        waveform: int16 [n], at least one sample.
        rate: Hz.
        deviation: of the corpus, in 16-bit steps; sets the picture's scales.
        starts_at: seconds; where a prompt ends and generated speech starts.
        first: sample that the part of a long waveform begins with.
    """
    length = f"{len(waveform) / rate:.1f} s"
    if len(waveform) > CLIP_SAMPLES:
        waveform = waveform[first : first + CLIP_SAMPLES]
        length = f"{first / rate:.1f} to {(first + len(waveform)) / rate:.1f} s of {length}"
    else:
        first = 0
    sound, picture = io.BytesIO(), io.BytesIO()
    soundfile.write(sound, waveform, rate, subtype="PCM_16", format="WAV")
    figure = draw_speech(waveform, rate, deviation, mark=max(0.0, starts_at - first / rate))
    # Noise makes a PNG of a spectrogram as large as its sound; WebP takes a tenth.
    figure.savefig(picture, format="webp", transparent=True, pil_kwargs={"quality": 85})
    return Clip(title, " · ".join([length, *facts]), data_uri("audio/wav", sound), data_uri("image/webp", picture))


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
    if not location:
        raise UserError("real speech: no configuration says where the shards are")
    manifest = read_manifest(location)
    rate = manifest.sample_rate
    utterances = list(itertools.islice(read_utterances(location, split, manifest), LOOKED_AT))
    clips = []
    for utterance in one_of_each_speaker(utterances)[:number]:
        waveform = from_frames(utterance.frames)
        facts = [] if utterance.speaker == utterance.id else [f"speaker {utterance.speaker}"]
        clips.append(make_clip(utterance.id, facts, waveform, rate, manifest.deviation, first=loudest_part(waveform)))
    return clips


def loudest_part(waveform: np.ndarray) -> int:
    """First sample of the CLIP_SAMPLES of a waveform, int16 [n], that hold most of its energy; 0 for a short one."""
    if len(waveform) <= CLIP_SAMPLES:
        return 0
    energy = np.concatenate([[0], np.cumsum(waveform.astype(np.int64) ** 2)])
    return int(np.argmax(energy[CLIP_SAMPLES:] - energy[:-CLIP_SAMPLES]))


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
    first = max(0, round((sample.starts_at - PROMPT_SECONDS) * rate))
    return make_clip(path.stem, sample_facts(sample), waveform, rate, scale, sample.starts_at, first)


def sample_facts(sample: Sample) -> list[str]:
    """What to say of a sample below its player."""
    facts = [Path(sample.source).name] if sample.source else []
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
