"""What the buttons of the page do: speech out of a model, and what is to be seen of it."""

import base64
import io
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from zfaudio.figures import draw_scored_speech
from zfaudio.generation import read_recording
from zfaudio.observations import sample_words
from zfaudio.text import format_number
from zfaudio.trained_model import RecordingScore, Speech, TrainedModel
from zfaudio.web.uploads import read_upload

NO_BREAK = "\N{NO-BREAK SPACE}"
MIXTURES = 5  # of an interpolation, with both ends

SpeechModel = TrainedModel[Speech]


@dataclass(frozen=True)
class Played:
    """Speech and what is shown beside it."""

    rate: int  # Hz
    waveform: NDArray[np.int16]  # [samples]
    picture: str  # HTML: waveform, spectrogram, and log-likelihood of each frame


def sample(model: SpeechModel, seconds: float, temperature: float, seed: int) -> Played:
    """Speech from the prior."""
    speech = model.sample(seconds=seconds, seed=seed, temperature=temperature)
    return show(model, speech.waveforms[0], "Sample")


def continue_upload(model: SpeechModel, path: str | None, seconds: float, temperature: float, seed: int) -> Played:
    """A recording and its continuation, with a line between them. Raises UserError for a bad file."""
    recording = hear(model, path)
    speech = model.continue_from((recording, model.sample_rate), seconds=seconds, seed=seed, temperature=temperature)
    whole = np.concatenate([recording, speech.waveforms[0]])
    return show(model, whole, "Recording and continuation", mark=len(recording) / model.sample_rate)


def reconstruct_upload(model: SpeechModel, path: str | None, temperature: float, seed: int) -> tuple[Played, Played]:
    """The reconstruction of a recording, and the recording as the model hears it. Raises UserError for a bad file."""
    recording = hear(model, path)
    speech = model.reconstruct((recording, model.sample_rate), seed=seed, temperature=temperature)
    return show(model, speech.waveforms[0], "Reconstruction"), show(model, recording, "Recording")


def interpolate_uploads(
    model: SpeechModel, first: str | None, last: str | None, temperature: float, seed: int
) -> NDArray[np.int16]:
    """Mixtures of two recordings, [MIXTURES, samples]; a sample stands in for one that is missing.

    Raises:
        UserError: a file is bad, or the model has no latents.
    """
    begin, end = (None if path is None else (hear(model, path), model.sample_rate) for path in (first, last))
    return model.interpolate(begin, end, steps=MIXTURES, seed=seed, temperature=temperature).waveforms


def hear(model: SpeechModel, path: str | None) -> NDArray[np.int16]:
    """An uploaded recording as the model hears it, int16 [samples]. Raises UserError for a bad file."""
    return read_recording(read_upload(path), model.sample_rate, model.checkpoint.manifest.frame_size)


def show(model: SpeechModel, waveform: NDArray[np.int16], title: str, mark: float = 0.0) -> Played:
    """Score a waveform, int16 [samples], and draw it, with a line at `mark` seconds. Raises UserError if too short."""
    rate, manifest = model.sample_rate, model.checkpoint.manifest
    score = model.score((waveform, rate))
    figure = draw_scored_speech(
        waveform, rate, manifest.waveform.deviation, score.frame_nats, manifest.frame_size, mark
    )
    file = io.BytesIO()
    figure.savefig(file, format="png", transparent=True)
    data = base64.b64encode(file.getvalue()).decode()
    facts = f"{title}: {len(waveform) / rate:.2f} s, {describe_score(score, sample_words(manifest.encoding))}"
    alternative = f"{title}: waveform, spectrogram, and log-likelihood of each frame over time"
    return Played(
        rate,
        waveform,
        f'<figure><img alt="{alternative}" src="data:image/png;base64,{data}">'
        f"<figcaption>{facts}</figcaption></figure>",
    )


def describe_score(score: RecordingScore, sample: str) -> str:
    """A score in words; `sample` says what its bits are of."""
    at_least, at_most = ("", "") if score.bound == "exact" else (f"≥{NO_BREAK}", f"≤{NO_BREAK}")
    words = f"{at_least}{format_number(score.nats_per_frame, 1)} nats per frame"
    if score.bits_per_sample is not None:
        words += f", {at_most}{format_number(score.bits_per_sample, 2)} bits per {sample}"
    return words
