"""A trained model in Python: load it, let it speak, score recordings."""

import base64
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from zfaudio.corpus.audio import wav_bytes, write_wav
from zfaudio.data.batches import FrameWriter
from zfaudio.data.frames import to_frames
from zfaudio.data.loader import batch_of_utterances
from zfaudio.data.manifest import Manifest
from zfaudio.data.shard_format import FramedUtterance
from zfaudio.device import DeviceName, pick_device
from zfaudio.errors import UserError
from zfaudio.evaluation.scoring import score_utterances
from zfaudio.evaluation.units import Units
from zfaudio.experiment.checkpoint import Checkpoint, load_checkpoint
from zfaudio.generation.recordings import AudioInput, read_recording
from zfaudio.generation.sampling import GeneratedWaveform, Temperatures, reconstruct_speech, sample_speech, whole_frames


class Speech(NamedTuple):
    """Generated speech. It unpacks into waveforms and rate, and a notebook shows it as audio players."""

    waveforms: NDArray[np.int16]  # [num, samples]
    rate: int  # Hz

    def save(self, folder: str | Path) -> list[Path]:
        """Write each waveform to FOLDER/speech-000.wav and so on; returns the paths."""
        paths = [Path(folder) / f"speech-{index:03d}.wav" for index in range(len(self.waveforms))]
        for path, waveform in zip(paths, self.waveforms, strict=True):
            write_wav(path, waveform, self.rate)
        return paths

    def _repr_html_(self) -> str:
        """An audio player for each waveform, for a notebook."""
        players = []
        for waveform in self.waveforms:
            data = base64.b64encode(wav_bytes(waveform, self.rate)).decode()
            players.append(f'<audio controls src="data:audio/wav;base64,{data}"></audio>')
        return "<br>".join(players)


@dataclass(frozen=True)
class RecordingScore:
    """The score of one recording. Nats are in standardized space."""

    nats_per_frame: float
    bits_per_sample: float | None  # of the 16-bit signal; None if the model was trained without dequantization
    bound: str  # what nats_per_frame is: elbo (a lower bound) or exact
    frame_nats: NDArray[np.float64]  # score of each scored frame, [frames]
    kl_per_frame: float  # nats; 0 for a model without latents


class TrainedModel:
    """A trained model: `zfaudio.load` makes one.

    Recordings are the path of an audio file, or (waveform, rate): int16, or floating point in [-1, 1), of shape
    [samples] or [samples, channels], at any rate in Hz. They are mixed to one channel and resampled.
    """

    def __init__(self, checkpoint: Checkpoint) -> None:
        self.checkpoint = checkpoint

    @property
    def sample_rate(self) -> int:
        """Sample rate of the model in Hz."""
        return self.checkpoint.manifest.waveform.sample_rate

    def __repr__(self) -> str:
        model, manifest = self.checkpoint.model, self.checkpoint.manifest
        parameters = sum(weights.numel() for weights in model.parameters())
        return (
            f"TrainedModel({self.checkpoint.config.model.name}, {parameters / 1e6:.2f} M parameters, "
            f"{describe_frames(manifest)}, step {self.checkpoint.step})"
        )

    def sample(
        self,
        num: int = 1,
        seconds: float = 3.0,
        seed: int = 0,
        temperature: float = 1.0,
        observation_temperature: float | None = None,
    ) -> Speech:
        """Generate speech from the prior.

        Args:
            num: number of waveforms.
            seconds: length of each, rounded to whole frames.
            seed: seed of all draws. Waveform i depends on the seed and on i, not on `num`.
            temperature: factor on the deviations with which latents and frames are drawn; 0 takes the mean.
            observation_temperature: the same for the frames only.

        Returns:
            Waveforms int16 [num, samples] and their rate.
        """
        return self._generate(None, num, seconds, seed, temperature, observation_temperature)

    def continue_from(
        self,
        recording: AudioInput,
        seconds: float = 3.0,
        num: int = 1,
        seed: int = 0,
        temperature: float = 1.0,
        observation_temperature: float | None = None,
    ) -> Speech:
        """Continue a recording. The result does not contain the recording itself.

        Args:
            recording: what to continue, at least one frame long.
            seconds: length of each continuation, rounded to whole frames.
            num: number of continuations.
            seed: seed of all draws.
            temperature: factor on the deviations with which latents and frames are drawn; 0 takes the mean.
            observation_temperature: the same for the frames only.

        Raises:
            UserError: the recording cannot be read, or is shorter than one frame.
        """
        return self._generate(self._read(recording), num, seconds, seed, temperature, observation_temperature)

    def reconstruct(
        self,
        recording: AudioInput,
        num: int = 1,
        seed: int = 0,
        temperature: float = 1.0,
        observation_temperature: float | None = None,
    ) -> Speech:
        """Reconstruct a recording from its latents. The decoder reads the frames that it has generated itself.

        Args:
            recording: what to reconstruct, at least one frame long.
            num: number of reconstructions, each as long as the recording.
            seed: seed of all draws.
            temperature: factor on the deviations with which latents and frames are drawn; 0 takes the mean.
            observation_temperature: the same for the frames only.

        Raises:
            UserError: the recording cannot be read, or is shorter than one frame.
        """
        model, manifest = self.checkpoint.model, self.checkpoint.manifest
        temperatures = temperatures_of(temperature, observation_temperature)
        return self._speech(reconstruct_speech(model, manifest, self._read(recording), temperatures, seed, num))

    def score(self, recording: AudioInput, draws: int = 4, seed: int = 0) -> RecordingScore:
        """The log-likelihood of a recording, or a lower bound on it, as `zfaudio evaluate` computes it.

        Args:
            recording: what to score, at least two frames long.
            draws: posterior draws that the bound is averaged over; an exact likelihood needs none.
            seed: seed of the draws and of the dequantization noise.

        Raises:
            UserError: the recording cannot be read, or holds no frame to score.
        """
        model, manifest, data = self.checkpoint.model, self.checkpoint.manifest, self.checkpoint.config.data
        waveform = self._read(recording)
        frames = to_frames(waveform, manifest.frame_size)
        if len(frames) + data.score_first_frame < 2:
            raise UserError(f"{len(waveform)} samples hold no frame to score; give a longer recording")
        utterance = FramedUtterance("recording", "", 0.0, len(waveform), frames)
        batch = batch_of_utterances([utterance], FrameWriter(manifest, data), manifest.frame_size, seed)
        device = next(model.parameters()).device
        (score,) = score_utterances(model, [batch], device, draws if model.bound == "elbo" else 1, seed=seed)
        nats = score.nats / score.frames
        units = Units(manifest.frame_size, manifest.waveform.deviation)
        return RecordingScore(
            nats_per_frame=nats,
            bits_per_sample=units.bits_per_sample(nats) if data.dequantize else None,
            bound=model.bound,
            frame_nats=score.frame_nats,
            kl_per_frame=score.kl / score.frames,
        )

    def _read(self, recording: AudioInput) -> NDArray[np.int16]:
        manifest = self.checkpoint.manifest
        return read_recording(recording, manifest.waveform.sample_rate, manifest.frame_size)

    def _generate(
        self,
        prompt: NDArray[np.int16] | None,
        num: int,
        seconds: float,
        seed: int,
        temperature: float,
        observation_temperature: float | None,
    ) -> Speech:
        model, manifest = self.checkpoint.model, self.checkpoint.manifest
        samples = whole_frames(seconds, manifest)
        temperatures = temperatures_of(temperature, observation_temperature)
        return self._speech(sample_speech(model, manifest, samples, temperatures, seed, num, prompt))

    def _speech(self, generated: Iterator[GeneratedWaveform]) -> Speech:
        waveforms = []
        for index, one in enumerate(generated):
            if one.diverged_at is not None:
                seconds = one.diverged_at / self.sample_rate
                warnings.warn(f"waveform {index} diverged after {seconds:.2f} s; lower the temperature", stacklevel=3)
            waveforms.append(one.waveform)
        return Speech(np.stack(waveforms), self.sample_rate)


def describe_frames(manifest: Manifest) -> str:
    """What the frames of shards are, in words."""
    if manifest.kind == "tokens":
        return f"words of a vocabulary of {len(manifest.vocabulary)}"
    if manifest.kind == "binary":
        return f"frames of {manifest.frame_size} pixels"
    return f"frames of {manifest.frame_size} samples at {manifest.waveform.sample_rate} Hz"


def load(path: str | Path, device: DeviceName = "auto") -> TrainedModel:
    """Load a trained model.

    Args:
        path: an experiment, of which the best checkpoint is taken, or a checkpoint.
        device: where to compute: cpu, cuda, or auto, which takes a GPU if there is one.

    Raises:
        UserError: there is no checkpoint, or it cannot be read.
    """
    return TrainedModel(load_checkpoint(Path(path), pick_device(device)))


def temperatures_of(temperature: float, observation_temperature: float | None) -> Temperatures:
    """One temperature for latents and frames, or another one for the frames."""
    return Temperatures(temperature, temperature if observation_temperature is None else observation_temperature)
