"""`zfaudio generate`: speech from a trained model, by itself, after a prompt, or through the latents of a recording."""

import contextlib
import math
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from zfaudio.command import command_line
from zfaudio.device import DeviceName, pick_device
from zfaudio.errors import UserError
from zfaudio.experiment.checkpoint import Checkpoint, load_checkpoint
from zfaudio.generation.recordings import AudioInput, read_recording
from zfaudio.generation.samples import Kind, Sample, read_sample_list, write_sample_list
from zfaudio.generation.sampling import GeneratedBatch, Temperatures, reconstruct_batches, sample_batches, whole_frames
from zfaudio.generation.writing import SampleWriter, Stopwatch
from zfaudio.ops.cuda_graph import record_cuda_graph


def generate(
    checkpoint: str | Path,
    *,
    out: str | Path,
    num: int = 4,
    seconds: float = 3.0,
    temperature: float = 1.0,
    latent_temperature: float | None = None,
    observation_temperature: float | None = None,
    seed: int = 0,
    prompt: AudioInput | None = None,
    reconstruct: AudioInput | None = None,
    device: DeviceName = "auto",
    precision: Literal["fp32", "bf16"] = "fp32",
    cuda_graph: bool = False,
) -> list[Sample]:
    """Generate speech as WAV files, with a picture of each, and list in samples.json how they were made.

    Sample i depends on the seed and on i, not on how many samples are made. Files of earlier calls stay in the folder
    unless they have the same names. From Python, `prompt` and `reconstruct` may also be tuples (waveform, sample rate),
    see `read_recording`.

    Args:
        checkpoint: a checkpoint, or an experiment, of which the best checkpoint is taken.
        out: folder for the files.
        num: number of samples, continuations or reconstructions.
        seconds: length of each sample, or of each continuation without its prompt, rounded to whole frames. A
            reconstruction is as long as its recording.
        temperature: factor on the deviations with which latents and frames are drawn; with 0 the mean is taken.
        latent_temperature: the same factor for the latents only; by default `temperature`.
        observation_temperature: the same factor for the frames only; by default `temperature`.
        seed: seed of all random draws.
        prompt: a recording to continue, of any format, sample rate and number of channels.
        reconstruct: a recording to reconstruct. The latents are drawn from the posterior, which knows the recording;
            the decoder reads the frames that it generated.
        device: where to compute; auto takes a GPU if there is one.
        precision: precision of the matrix products, float32 or bfloat16. bfloat16 is faster on a GPU, and on a CPU
            with AVX512-BF16 or AMX.
        cuda_graph: launch the kernels of each frame as one CUDA graph. Needs a GPU; not yet tried on one.

    Returns:
        The samples that were written, without those that diverged.

    Raises:
        UserError: an option makes no sense, a file cannot be read or written, or every sample diverged.
    """
    temperatures = Temperatures(
        latent=temperature if latent_temperature is None else latent_temperature,
        observation=temperature if observation_temperature is None else observation_temperature,
    )
    check_options(num, seconds, temperatures, seed, prompt, reconstruct)
    torch_device = pick_device(device)
    if cuda_graph and torch_device.type != "cuda":
        raise UserError("--cuda_graph is for a GPU, and this runs on the CPU; leave it out")
    trained = load_checkpoint(Path(checkpoint), torch_device)
    manifest = trained.manifest
    source = reconstruct if prompt is None else prompt
    recording = None if source is None else read_recording(source, manifest.waveform.sample_rate, manifest.frame_size)
    folder = Path(out)
    listed = read_sample_list(folder)
    folder.mkdir(parents=True, exist_ok=True)

    beginning = recording if prompt is not None and recording is not None else np.empty(0, np.int16)  # of every file
    template = Sample(
        kind="continuation" if prompt is not None else "reconstruction" if reconstruct is not None else "sample",
        seed=seed,
        latent_temperature=temperatures.latent,
        observation_temperature=temperatures.observation,
        source=str(source) if isinstance(source, str | Path) else "",
        starts_at=len(beginning) / manifest.waveform.sample_rate,
        checkpoint_step=trained.step,
        command=command_line(),
    )
    if template.kind == "reconstruction" and recording is not None:
        original = Sample("recording", "recording.wav", source=template.source)
        with SampleWriter(folder, original, listed, manifest) as writer:
            writer.write(recording)
            writer.keep()

    written: list[Sample] = []
    speech_seconds = 0.0
    stopwatch = Stopwatch(torch.autocast(torch_device.type, torch.bfloat16, enabled=precision == "bf16"))
    batches = run_model(trained, template.kind, recording, seconds, temperatures, seed, num, cuda_graph)
    for batch in stopwatch.time(batches):
        with contextlib.ExitStack() as stack:
            writers = []
            for index in range(batch.first, batch.first + batch.count):
                sample = replace(template, file=f"{template.kind}-{index:03d}.wav", index=index)
                writers.append(stack.enter_context(SampleWriter(folder, sample, listed, manifest)))
                writers[-1].write(beginning)
            for block in stopwatch.time(batch.blocks):
                for writer, waveform, clipped, diverged_at in zip(
                    writers, block.waveforms, block.clipped, block.diverged_at, strict=False
                ):
                    writer.write(waveform, int(clipped), diverged_at)
                speech_seconds += batch.count * block.waveforms.shape[1] / manifest.waveform.sample_rate
            written += [sample for sample in (writer.keep() for writer in writers) if sample is not None]
    computing_per_second = stopwatch.seconds / speech_seconds
    written = [replace(sample, computing_per_second=computing_per_second) for sample in written]
    write_sample_list(folder, listed | {sample.file: sample for sample in written})
    print(
        f"{len(written)} of {num} written to {folder}, {sum(sample.clipped_samples for sample in written)} samples at "
        f"full scale; {computing_per_second:.2f} s of computing per second of speech "
        f"({speech_seconds:.1f} s in {stopwatch.seconds:.1f} s)"
    )
    if not written:
        raise UserError(
            f"{trained.path}: every sample diverged; lower --temperature, or train with a floor on the "
            "deviation (model.min_deviation)"
        )
    return written


def check_options(
    num: int,
    seconds: float,
    temperatures: Temperatures,
    seed: int,
    prompt: AudioInput | None,
    reconstruct: AudioInput | None,
) -> None:
    """Raises UserError if an option makes no sense."""
    if num < 1:
        raise UserError(f"--num {num}: must be 1 or more")
    if not (math.isfinite(seconds) and seconds > 0):
        raise UserError(f"--seconds {seconds}: must be more than 0")
    for name, value in (("latent", temperatures.latent), ("observation", temperatures.observation)):
        if not (math.isfinite(value) and value >= 0):
            raise UserError(f"--temperature or --{name}-temperature {value}: must be 0 or more")
    if seed < 0:
        raise UserError(f"--seed {seed}: must be 0 or more")
    if prompt is not None and reconstruct is not None:
        raise UserError("--prompt and --reconstruct: give only one of them")


def run_model(
    trained: Checkpoint,
    kind: Kind,
    recording: NDArray[np.int16] | None,
    seconds: float,
    temperatures: Temperatures,
    seed: int,
    count: int,
    cuda_graph: bool,
) -> Iterator[GeneratedBatch]:
    """Generate waveforms 0..count-1 of the seed, several at a time."""
    model, manifest = trained.model, trained.manifest
    progress = partial(tqdm, desc=kind, unit="frame", disable=None)
    record = record_cuda_graph if cuda_graph else None
    if kind == "reconstruction" and recording is not None:
        return reconstruct_batches(model, manifest, recording, temperatures, seed, count, progress, record)
    samples = whole_frames(seconds, manifest)
    return sample_batches(model, manifest, samples, temperatures, seed, count, recording, progress, record)
