"""A trained model in Python: load it, let it speak, draw or write, score recordings, pictures or sentences."""

import base64
import math
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, cast

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
from zfaudio.experiment.hub_checkpoint import choose_local_or_hub
from zfaudio.generation.generate import DEFAULT_SECONDS
from zfaudio.generation.given import Source, read_given, read_values
from zfaudio.generation.interpolate import check_options, default_temperature, draw_mixtures
from zfaudio.generation.pictures import Pictures, size_of
from zfaudio.generation.request import Request
from zfaudio.generation.samples import Kind
from zfaudio.generation.sampling import GeneratedWaveform, Temperatures, reconstruct_speech, sample_speech, whole_frames
from zfaudio.generation.sentences import MOST_WORDS, as_text
from zfaudio.generation.sequences import Values, draw_sequences
from zfaudio.observations import describe


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


if TYPE_CHECKING:
    from typing_extensions import TypeVar  # with a default, as Python 3.13 has it

    Output = TypeVar("Output", default=Speech)
else:
    from typing import TypeVar

    Output = TypeVar("Output")


@dataclass(frozen=True)
class RecordingScore:
    """The score of one recording, picture or sentence. Nats of a recording are in standardized space."""

    nats_per_frame: float
    bits_per_sample: float | None  # of the samples as the shards hold them; None where nothing bounds them
    bound: str  # what nats_per_frame is: elbo (a lower bound) or exact
    frame_nats: NDArray[np.float64]  # score of each scored frame, [frames]
    kl_per_frame: float  # nats; 0 for a model without latents

    @property
    def nats(self) -> float:
        """The score of the whole: the log-probability of a picture or sentence, or a lower bound on it."""
        return float(self.frame_nats.sum())


class TrainedModel(Generic[Output]):
    """A trained model: `zfaudio.load` makes one. What it generates is what it was trained on.

    - Recordings are the path of an audio file, or (waveform, rate): int16, or floating point in [-1, 1), of shape
      [samples] or [samples, channels], at any rate in Hz. They are mixed to one channel and resampled. What is
      generated is `Speech`.
    - Pictures are the path of a picture file, or an array [rows, columns] of 0 and 1. What is generated is `Pictures`,
      an array uint8 [n, rows, columns].
    - Sentences are words between blanks. What is generated is a list of str.

    Pictures and sentences may also be those of a split of the shards: test, or test:12 for the one with that number.
    A type checker knows what is generated if it is told: `model: TrainedModel[Pictures] = load(...)`.
    """

    def __init__(self, checkpoint: Checkpoint) -> None:
        self.checkpoint = checkpoint

    @property
    def sample_rate(self) -> int:
        """Sample rate of a model of recordings in Hz."""
        return self.checkpoint.manifest.waveform.sample_rate

    def __repr__(self) -> str:
        model, manifest = self.checkpoint.model, self.checkpoint.manifest
        parameters = sum(weights.numel() for weights in model.parameters())
        return (
            f"TrainedModel({self.checkpoint.config.model.name}, {parameters / 1e6:.2f} M parameters, "
            f"{frames_in_short(manifest)}, step {self.checkpoint.step})"
        )

    def sample(
        self,
        num: int = 1,
        seconds: float | None = None,
        seed: int = 0,
        temperature: float = 1.0,
        observation_temperature: float | None = None,
        words: int = MOST_WORDS,
    ) -> Output:
        """Generate speech, pictures or sentences from the prior.

        Args:
            num: how many.
            seconds: of speech: length of each waveform, rounded to whole frames; 3 by default.
            seed: seed of all draws. Sample i depends on the seed and on i, not on `num`.
            temperature: how freely latents and frames are drawn; 0 takes what is most probable.
            observation_temperature: the same for the frames only.
            words: the most words of a sentence, with its end.
        """
        temperatures = temperatures_of(temperature, observation_temperature)
        return self._generate("sample", None, num, seconds, seed, temperatures, words)

    def continue_from(
        self,
        recording: Source,
        seconds: float | None = None,
        num: int = 1,
        seed: int = 0,
        temperature: float = 1.0,
        observation_temperature: float | None = None,
        words: int = MOST_WORDS,
    ) -> Output:
        """Continue a recording, the upper half of a picture, or the first words of a sentence.

        Continued speech does not contain the recording itself; pictures and sentences are whole.

        Args:
            recording: what to continue; speech of at least one frame. Of a split, the first half of each of the first
                `num` is continued once.
            seconds: of speech: length of each continuation, rounded to whole frames; 3 by default.
            num: number of continuations.
            seed: seed of all draws.
            temperature: how freely latents and frames are drawn; 0 takes what is most probable.
            observation_temperature: the same for the frames only.
            words: the most words of a sentence, with its end.

        Raises:
            UserError: what is given cannot be read, or does not fit the model.
        """
        temperatures = temperatures_of(temperature, observation_temperature)
        return self._generate("continuation", recording, num, seconds, seed, temperatures, words)

    def reconstruct(
        self,
        recording: Source,
        num: int = 1,
        seed: int = 0,
        temperature: float = 1.0,
        observation_temperature: float | None = None,
    ) -> Output:
        """Reconstruct from the latents alone. The decoder reads the frames that it has generated itself.

        Args:
            recording: what to reconstruct; speech of at least one frame. Of a split, each of the first `num` once.
            num: number of reconstructions, each as long as what is given.
            seed: seed of all draws.
            temperature: how freely latents and frames are drawn; 0 takes what is most probable.
            observation_temperature: the same for the frames only.

        Raises:
            UserError: what is given cannot be read, or does not fit the model.
        """
        temperatures = temperatures_of(temperature, observation_temperature)
        return self._generate("reconstruction", recording, num, None, seed, temperatures, words=1)

    def interpolate(
        self,
        first: Source | None = None,
        last: Source | None = None,
        steps: int = 7,
        seed: int = 0,
        temperature: float | None = None,
    ) -> Output:
        """Go from one to another through the latents of both, as `zfaudio interpolate` does.

        Args:
            first: where to begin; by default a sample of the model.
            last: where to end, likewise. The latents of the shorter one are stretched in time.
            steps: number of mixtures, with both ends.
            seed: seed of all draws.
            temperature: of the frames; by default 1 for speech and 0, the most probable, otherwise.

        Raises:
            UserError: the model has no latents, or what is given cannot be read.
        """
        check_options(steps, temperature, seed)
        if temperature is None:
            temperature = default_temperature(self.checkpoint)
        mixtures = draw_mixtures(self.checkpoint, first, last, steps, temperature, seed)
        if self.checkpoint.manifest.kind == "waveform":
            return cast(Output, self._speech(iter(mixtures)))
        return self._shown([mixture.waveform for mixture in mixtures])

    def score(self, recording: Source, draws: int = 4, seed: int = 0) -> RecordingScore:
        """The log-likelihood of one recording, picture or sentence, or a lower bound, as `zfaudio evaluate` has it.

        Args:
            recording: what to score; speech of at least two frames.
            draws: posterior draws that the bound is averaged over; an exact likelihood needs none.
            seed: seed of the draws and of the dequantization noise.

        Raises:
            UserError: what is given cannot be read, or holds no frame to score.
        """
        model, manifest, data = self.checkpoint.model, self.checkpoint.manifest, self.checkpoint.config.data
        values = read_values(recording, self.checkpoint)
        frames = to_frames(values, manifest.frame_size)
        if len(frames) + data.score_first_frame < 2:
            raise UserError(f"{len(values)} samples hold no frame to score; give a longer recording")
        utterance = FramedUtterance("recording", "", 0.0, len(values), frames)
        batch = batch_of_utterances([utterance], FrameWriter(manifest, data), manifest.frame_size, seed)
        device = next(model.parameters()).device
        (score,) = score_utterances(model, [batch], device, draws if model.bound == "elbo" else 1, seed=seed)
        nats = score.nats / score.frames
        bits = None
        if manifest.kind == "waveform" and (data.dequantize or manifest.encoding == "mulaw"):
            bits = Units(manifest.frame_size, manifest.waveform.deviation).bits_per_sample(nats)
        return RecordingScore(
            nats_per_frame=nats,
            bits_per_sample=bits,
            bound=model.bound,
            frame_nats=score.frame_nats,
            kl_per_frame=score.kl / score.frames,
        )

    def _generate(
        self,
        kind: Kind,
        given: Source | None,
        num: int,
        seconds: float | None,
        seed: int,
        temperatures: Temperatures,
        words: int,
    ) -> Output:
        manifest = self.checkpoint.manifest
        if manifest.kind == "waveform":
            recording = None if given is None else read_values(given, self.checkpoint)
            return cast(Output, self._speak(kind, recording, num, seconds or DEFAULT_SECONDS, seed, temperatures))
        if seconds is not None:
            raise UserError(f"seconds is for speech, and the model generates {describe(manifest.kind)}; leave it out")
        whole = kind == "reconstruction"
        sources = [] if given is None else read_given(given, self.checkpoint, "", num, whole)
        length = words if manifest.kind == "tokens" else math.prod(size_of(manifest))
        drawn = draw_sequences(self.checkpoint, Request(kind, num, temperatures, seed), sources, length, None)
        return self._shown([one.values for one in drawn])

    def _speak(
        self,
        kind: Kind,
        recording: NDArray[np.int16] | None,
        num: int,
        seconds: float,
        seed: int,
        temperatures: Temperatures,
    ) -> Speech:
        model, manifest = self.checkpoint.model, self.checkpoint.manifest
        if kind == "reconstruction" and recording is not None:
            return self._speech(reconstruct_speech(model, manifest, recording, temperatures, seed, num))
        samples = whole_frames(seconds, manifest)
        return self._speech(sample_speech(model, manifest, samples, temperatures, seed, num, recording))

    def _speech(self, generated: Iterator[GeneratedWaveform]) -> Speech:
        waveforms = []
        for index, one in enumerate(generated):
            if one.diverged_at is not None:
                seconds = one.diverged_at / self.sample_rate
                warnings.warn(f"waveform {index} diverged after {seconds:.2f} s; lower the temperature", stacklevel=5)
            waveforms.append(one.waveform)
        return Speech(np.stack(waveforms), self.sample_rate)

    def _shown(self, drawn: list[Values]) -> Output:
        """Pictures or sentences."""
        manifest = self.checkpoint.manifest
        if manifest.kind == "tokens":
            return cast(Output, [as_text(values, manifest) for values in drawn])
        rows, columns = size_of(manifest)
        pictures = np.stack(drawn).reshape(-1, rows, columns).astype(np.uint8)
        return cast(Output, pictures.view(Pictures))


def frames_in_short(manifest: Manifest) -> str:
    """What the frames of shards are, in words."""
    if manifest.kind == "tokens":
        return f"words of a vocabulary of {len(manifest.vocabulary)}"
    if manifest.kind == "binary":
        return f"frames of {manifest.frame_size} pixels"
    return f"frames of {manifest.frame_size} samples at {manifest.waveform.sample_rate} Hz"


def load(path: str | Path, device: DeviceName = "auto") -> TrainedModel[Any]:
    """Load a trained model.

    Args:
        path: an experiment, of which the best checkpoint is taken, or a checkpoint; or the name of a model on the
            Hugging Face hub: "user/name", if there is no such folder here, or "hub:user/name" in any case.
            "user/name@revision" is a branch, a tag or a commit of it.
        device: where to compute: cpu, cuda, or auto, which takes a GPU if there is one.

    Raises:
        UserError: there is no checkpoint, or it cannot be read or downloaded.
    """
    return TrainedModel(load_checkpoint(choose_local_or_hub(path), pick_device(device)))


def temperatures_of(temperature: float, observation_temperature: float | None) -> Temperatures:
    """One temperature for latents and frames, or another one for the frames."""
    return Temperatures(temperature, temperature if observation_temperature is None else observation_temperature)
