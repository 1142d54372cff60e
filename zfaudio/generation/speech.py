"""Generate speech: WAV files, written while they are generated, each with a picture."""

import contextlib
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from zfaudio.errors import UserError
from zfaudio.experiment.checkpoint import Checkpoint
from zfaudio.generation.recordings import AudioInput, read_recording
from zfaudio.generation.request import Request
from zfaudio.generation.samples import Sample, read_sample_list, write_sample_list
from zfaudio.generation.sampling import (
    FrameRecorder,
    GeneratedBatch,
    reconstruct_batches,
    sample_batches,
    whole_frames,
)
from zfaudio.generation.writing import SampleWriter, Stopwatch


def generate_speech(
    trained: Checkpoint,
    folder: Path,
    request: Request,
    given: AudioInput | None,
    seconds: float,
    record: FrameRecorder | None,
    precision: contextlib.AbstractContextManager[object],
) -> list[Sample]:
    """Generate waveforms, and list them in samples.json.

    Args:
        trained: the model.
        folder: for the files.
        request: what to generate.
        given: the recording to continue or to reconstruct, if there is one.
        seconds: length of each waveform, without its prompt.
        record: records a step, see ops/cuda_graph.py.
        precision: entered while the model computes.

    Returns:
        The samples that were written, without those that diverged.

    Raises:
        UserError: the recording cannot be read, a file cannot be written, or every sample diverged.
    """
    manifest = trained.manifest
    rate = manifest.waveform.sample_rate
    recording = None if given is None else read_recording(given, rate, manifest.frame_size)
    listed = read_sample_list(folder)
    folder.mkdir(parents=True, exist_ok=True)
    beginning = np.empty(0, np.int16)  # of every file
    if request.kind == "continuation" and recording is not None:
        beginning = recording
    if request.kind == "reconstruction" and recording is not None:
        original = Sample("recording", "recording.wav", source=request.source)
        with SampleWriter(folder, original, listed, manifest) as writer:
            writer.write(recording)
            writer.keep()
    template = replace(request.sample(trained.step), starts_at=len(beginning) / rate)

    written: list[Sample] = []
    speech_seconds = 0.0
    stopwatch = Stopwatch(precision)
    for batch in stopwatch.time(run_model(trained, request, recording, seconds, record)):
        with contextlib.ExitStack() as stack:
            writers = []
            for index in range(batch.first, batch.first + batch.count):
                sample = replace(template, file=f"{request.kind}-{index:03d}.wav", index=index)
                writers.append(stack.enter_context(SampleWriter(folder, sample, listed, manifest)))
                writers[-1].write(beginning)
            for block in stopwatch.time(batch.blocks):
                for writer, waveform, clipped, diverged_at in zip(
                    writers, block.waveforms, block.clipped, block.diverged_at, strict=False
                ):
                    writer.write(waveform, int(clipped), diverged_at)
                speech_seconds += batch.count * block.waveforms.shape[1] / rate
            written += [sample for sample in (writer.keep() for writer in writers) if sample is not None]
    computing_per_second = stopwatch.seconds / speech_seconds
    written = [replace(sample, computing_per_second=computing_per_second) for sample in written]
    write_sample_list(folder, listed | {sample.file: sample for sample in written})
    print(
        f"{len(written)} of {request.num} written to {folder}, {sum(sample.clipped_samples for sample in written)} "
        f"samples at full scale; {computing_per_second:.2f} s of computing per second of speech "
        f"({speech_seconds:.1f} s in {stopwatch.seconds:.1f} s)"
    )
    if not written:
        raise UserError(
            f"{trained.path}: every sample diverged; lower --temperature, or train with a floor on the "
            "deviation (model.min_deviation)"
        )
    return written


def run_model(
    trained: Checkpoint,
    request: Request,
    recording: NDArray[np.int16] | None,
    seconds: float,
    record: FrameRecorder | None,
) -> Iterator[GeneratedBatch]:
    """Generate the waveforms of a request, several at a time."""
    model, manifest = trained.model, trained.manifest
    temperatures, seed, count = request.temperatures, request.seed, request.num
    progress = partial(tqdm, desc=request.kind, unit="frame", disable=None)
    if request.kind == "reconstruction" and recording is not None:
        return reconstruct_batches(model, manifest, recording, temperatures, seed, count, progress, record)
    samples = whole_frames(seconds, manifest)
    return sample_batches(model, manifest, samples, temperatures, seed, count, recording, progress, record)
