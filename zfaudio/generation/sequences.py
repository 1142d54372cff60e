"""Generate pictures and sentences: sequences that are drawn whole."""

from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from zfaudio.data.manifest import Manifest
from zfaudio.errors import UserError
from zfaudio.experiment.checkpoint import Checkpoint
from zfaudio.generation.request import Request
from zfaudio.generation.sampling import FrameRecorder, GeneratedWaveform, Progress, reconstruct_speech, sample_speech
from zfaudio.seeds import derive_seed

Values = NDArray[np.int16]  # pixels row by row, or ids of words, [n]


@dataclass(frozen=True)
class Given:
    """A picture or a sentence that is continued or reconstructed."""

    name: str
    values: Values
    whole: bool = True  # false for the beginning of a sentence


@dataclass(frozen=True)
class Drawn:
    """A picture or a sentence that was generated."""

    given: Given | None  # what it continues or reconstructs
    known: int  # how many of the values were given
    values: Values


@torch.inference_mode()
def draw_sequences(
    trained: Checkpoint, request: Request, given: list[Given], length: int, record: FrameRecorder | None
) -> list[Drawn]:
    """Generate sequences.

    Args:
        trained: the model.
        request: what to generate. Of several given sequences, each is continued or reconstructed once; of a single one,
            as often as the request says.
        given: whole sequences, of which the first half of the frames is continued, or beginnings; none for samples.
        length: of whole sequences, in values.
        record: records a step, see ops/cuda_graph.py.
    """
    if not given:
        return [Drawn(None, 0, one.waveform) for one in _draw(trained, request, None, length, record)]
    once = len(given) > 1
    drawn = []
    for one in given:
        part = request if not once else _once(request, one.name)
        if request.kind == "reconstruction":
            known = 0
            results = _reconstruct(trained, part, one.values, record)
        else:
            known = first_half(one, trained.manifest)
            if known >= length:
                raise UserError(f"{known} words are given, and a sentence may have {length}; give more --words")
            results = _draw(trained, part, one.values[:known], length - known, record)
        drawn += [Drawn(one, known, np.concatenate([one.values[:known], each.waveform])) for each in results]
    return drawn


def first_half(given: Given, manifest: Manifest) -> int:
    """How many values of a given sequence are continued: half of its frames, but at least one; all of a beginning."""
    if not given.whole:
        return len(given.values)
    frames = len(given.values) // manifest.frame_size
    return max(1, frames // 2) * manifest.frame_size


def _once(request: Request, name: str) -> Request:
    """The request for one of several sequences, whose draws depend on its name."""
    return Request(request.kind, 1, request.temperatures, derive_seed(request.seed, name))


def _draw(
    trained: Checkpoint, request: Request, beginning: Values | None, length: int, record: FrameRecorder | None
) -> list[GeneratedWaveform]:
    model, manifest, bar = trained.model, trained.manifest, _progress(request)
    temperatures, seed, num = request.temperatures, request.seed, request.num
    return list(sample_speech(model, manifest, length, temperatures, seed, num, beginning, bar, record))


def _reconstruct(
    trained: Checkpoint, request: Request, values: Values, record: FrameRecorder | None
) -> list[GeneratedWaveform]:
    model, manifest, bar = trained.model, trained.manifest, _progress(request)
    return list(
        reconstruct_speech(model, manifest, values, request.temperatures, request.seed, request.num, bar, record)
    )


def _progress(request: Request) -> Progress:
    return partial(tqdm, desc=request.kind, unit="frame", disable=None, leave=False)
