"""What a person wants to hear and see while a model trains: a few samples, and a reconstruction."""

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zfaudio.data.manifest import Manifest
from zfaudio.data.shard_reader import read_utterances
from zfaudio.experiment.checkpoint import Checkpoint
from zfaudio.generation.pictures import size_of
from zfaudio.generation.sentences import as_text
from zfaudio.trained_model import Speech, TrainedModel

SECONDS = 2.0  # of each piece of speech

Content = NDArray[np.int16] | NDArray[np.uint8] | str  # speech [samples], a picture [rows, columns], or a sentence


@dataclass(frozen=True)
class Heard:
    """Something to listen to, to look at or to read, and what it is."""

    name: str
    content: Content


def hear(trained: Checkpoint, num: int) -> Iterator[Heard]:
    """Samples of a model in training, and what its latents tell of the beginning of the first validation utterance.

    The samples are drawn with the same seed each time, so that one can follow how they change.

    Args:
        trained: the model, in evaluation mode.
        num: number of samples.
    """
    model: TrainedModel[Any] = TrainedModel(trained)
    speech = trained.manifest.kind == "waveform"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that a sample diverged, as those of the first steps do
        drawn = model.sample(num, seconds=SECONDS if speech else None)
        yield from (Heard(f"sample {index}", one) for index, one in enumerate(contents(drawn)))
        given = first_of_validation(trained) if trained.model.bound == "elbo" else None
        if given is not None:
            yield Heard("original", given)
            again = model.reconstruct((given, model.sample_rate) if speech else given)
            yield Heard("reconstruction", contents(again)[0])


def contents(drawn: Any) -> list[Content]:
    """What a model has generated, one by one."""
    return list(drawn.waveforms if isinstance(drawn, Speech) else drawn)


def first_of_validation(trained: Checkpoint) -> Content | None:
    """The first seconds of the first validation recording, or the first picture or sentence; None if there is none."""
    utterances = read_utterances(trained.config.data.shards, "valid")
    return next((content_of(one.frames, trained.manifest) for one in islice(utterances, 1) if len(one.frames)), None)


def content_of(frames: NDArray[np.int16], manifest: Manifest) -> Content:
    """An utterance [frames, frame_size] as a person takes it in."""
    if manifest.kind == "waveform":
        most = max(1, round(SECONDS * manifest.waveform.sample_rate) // manifest.frame_size)
        return frames[:most].ravel()
    if manifest.kind == "tokens":
        return as_text(frames.ravel(), manifest)
    return frames.reshape(size_of(manifest)).astype(np.uint8)
