"""`zfaudio generate`: speech from a trained model, by itself, after a prompt, or through the latents of a recording."""

import math
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from tqdm import tqdm

from zfaudio.command import command_line
from zfaudio.corpus.audio import RejectedRecording, read_audio, resample, to_mono, write_wav
from zfaudio.data.manifest import Manifest
from zfaudio.device import DeviceName, pick_device
from zfaudio.errors import UserError
from zfaudio.experiment.checkpoint import Checkpoint, load_checkpoint
from zfaudio.figures import draw_speech
from zfaudio.generation.samples import Kind, Sample, read_sample_list, write_sample_list
from zfaudio.generation.sampling import Take, Temperatures, reconstruct_speech, sample_speech
from zfaudio.ops.cuda_graph import record_cuda_graph


def generate(
    checkpoint: Path,
    *,
    out: Path,
    num: int = 4,
    seconds: float = 3.0,
    temperature: float = 1.0,
    latent_temperature: float | None = None,
    observation_temperature: float | None = None,
    seed: int = 0,
    prompt: Path | None = None,
    reconstruct: Path | None = None,
    device: DeviceName = "auto",
    precision: Literal["fp32", "bf16"] = "fp32",
    cuda_graph: bool = False,
) -> None:
    """Generate speech: WAV files, a picture of each, and samples.json, which says how each was made.

    Sample i depends on the seed and on i alone, not on how many are made. Files of an earlier call into the same
    folder stay, unless they have the same names.

    Args:
        checkpoint: a checkpoint, or an experiment, whose best checkpoint is taken.
        out: folder for the files.
        num: how many samples, continuations or reconstructions.
        seconds: length of each, rounded to whole frames; of a continuation, without its prompt. A reconstruction is
            as long as its recording.
        temperature: factor on the deviations that latents and frames are drawn with; 0 takes the mean.
        latent_temperature: the same for the latents alone.
        observation_temperature: the same for the frames alone.
        seed: of all draws.
        prompt: a recording to continue, in any format, rate or number of channels.
        reconstruct: a recording to reconstruct: the latents are drawn from the posterior, which has heard it; the
            decoder hears its own output only.
        device: where to compute.
        precision: of the products: float32, or bfloat16, which is faster on a GPU, and on a CPU that multiplies it
            (AVX512-BF16 or AMX).
        cuda_graph: launch the kernels of each frame as one CUDA graph. On a GPU; it has not run on one yet.
    """
    temperatures = Temperatures(
        temperature if latent_temperature is None else latent_temperature,
        temperature if observation_temperature is None else observation_temperature,
    )
    check_options(num, seconds, temperatures, seed, prompt, reconstruct)
    place = pick_device(device)
    if cuda_graph and place.type != "cuda":
        raise UserError("--cuda_graph is for a GPU, and this runs on the CPU; leave it out")
    trained = load_checkpoint(checkpoint, place)
    manifest, source = trained.manifest, prompt or reconstruct
    recording = None if source is None else read_recording(source, manifest)
    samples = read_sample_list(out)
    out.mkdir(parents=True, exist_ok=True)
    about = Sample(
        kind="reconstruction" if reconstruct else "continuation" if prompt else "sample",
        seed=seed,
        latent_temperature=temperatures.latent,
        observation_temperature=temperatures.observation,
        source="" if source is None else str(source),
        checkpoint_step=trained.step,
        command=command_line(),
    )
    if about.kind == "reconstruction" and recording is not None:
        original = Sample("recording", "recording.wav", source=about.source)
        samples[original.file] = save(out, original, recording, manifest)
        write_sample_list(out, samples)

    made, speech, computing = [], 0.0, 0.0
    takes = run_model(trained, about.kind, recording, seconds, temperatures, seed, num, cuda_graph)
    lower = partial(torch.autocast, place.type, torch.bfloat16, enabled=precision == "bf16")
    for index in range(num):
        began = time.perf_counter()
        with lower():
            take = next(takes)
        computing += time.perf_counter() - began
        speech += len(take.waveform) / manifest.sample_rate
        name = f"{about.kind}-{index:03d}.wav"
        if take.diverged_at is not None:
            print(f"{name}: diverged after {take.diverged_at / manifest.sample_rate:.2f} s, left out", file=sys.stderr)
            continue
        sample = replace(about, file=name, index=index, clipped_samples=take.clipped)
        made.append(save(out, *with_prompt(sample, take.waveform, recording, manifest.sample_rate), manifest))
        samples[name] = made[-1]
        write_sample_list(out, samples)
    samples |= {sample.file: replace(sample, computing_per_second=computing / speech) for sample in made}
    write_sample_list(out, samples)
    print(summary(made, num, speech, computing, out))
    if not made:
        raise UserError(
            f"{trained.path}: every sample diverged; lower --temperature, or train with a floor on the "
            "deviation (model.min_deviation)"
        )


def check_options(
    num: int,
    seconds: float,
    temperatures: Temperatures,
    seed: int,
    prompt: Path | None,
    reconstruct: Path | None,
) -> None:
    """Raises UserError for options that make no sense."""
    if num < 1:
        raise UserError(f"--num {num}: at least one must be asked for")
    if not (math.isfinite(seconds) and seconds > 0):
        raise UserError(f"--seconds {seconds}: must be more than 0")
    for name, value in (("latent", temperatures.latent), ("observation", temperatures.observation)):
        if not (math.isfinite(value) and value >= 0):
            raise UserError(f"--temperature or --{name}-temperature {value}: must be 0 or more")
    if seed < 0:
        raise UserError(f"--seed {seed}: must be 0 or more")
    if prompt is not None and reconstruct is not None:
        raise UserError("--prompt and --reconstruct: give one of them")


def read_recording(path: Path, manifest: Manifest) -> np.ndarray:
    """A recording as the model hears it: one channel at its rate, int16 [n], at least a frame.

    Raises:
        UserError: unreadable or too short.
    """
    try:
        samples, rate = read_audio(path)
    except RejectedRecording as rejection:
        raise UserError(f"{path}: {rejection.reason}") from None
    waveform = resample(to_mono(samples), rate, manifest.sample_rate)
    if len(waveform) < manifest.frame_size:
        raise UserError(
            f"{path}: {len(waveform)} samples at {manifest.sample_rate} Hz, shorter than one frame of the model "
            f"({manifest.frame_size}); give a longer recording"
        )
    return waveform


def run_model(
    trained: Checkpoint,
    kind: Kind,
    recording: np.ndarray | None,
    seconds: float,
    temperatures: Temperatures,
    seed: int,
    count: int,
    cuda_graph: bool,
) -> Iterator[Take]:
    """Takes 0..count-1 of the seed, several made side by side."""
    model, manifest = trained.model, trained.manifest
    progress = partial(tqdm, desc=kind, unit="frame", disable=None)
    record = record_cuda_graph if cuda_graph else None
    if kind == "reconstruction" and recording is not None:
        return reconstruct_speech(model, manifest, recording, temperatures, seed, count, progress, record)
    samples = max(1, round(seconds * manifest.sample_rate / manifest.frame_size)) * manifest.frame_size
    return sample_speech(model, manifest, samples, temperatures, seed, count, recording, progress, record)


def with_prompt(
    sample: Sample, waveform: np.ndarray, recording: np.ndarray | None, rate: int
) -> tuple[Sample, np.ndarray]:
    """A continuation with its prompt before it; anything else as it is."""
    if sample.kind == "continuation" and recording is not None:
        return replace(sample, starts_at=len(recording) / rate), np.concatenate([recording, waveform])
    return sample, waveform


def save(out: Path, sample: Sample, waveform: np.ndarray, manifest: Manifest) -> Sample:
    """Write a waveform, int16 [n], and its picture; the sample with what was measured on it."""
    path = out / sample.file
    write_wav(path, waveform, manifest.sample_rate)
    picture = draw_speech(waveform, manifest.sample_rate, manifest.deviation, mark=sample.starts_at)
    picture.savefig(path.with_suffix(".png"))
    values = waveform.astype(np.float64)
    sample = replace(
        sample,
        seconds=len(waveform) / manifest.sample_rate,
        peak=int(np.abs(values).max()),
        rms=float(np.sqrt(np.mean(values**2))),
    )
    print(f"{path}: {sample.seconds:.2f} s, peak {sample.peak}, rms {sample.rms:.0f}, {sample.clipped_samples} clipped")
    return sample


def summary(made: list[Sample], asked: int, speech: float, computing: float, out: Path) -> str:
    """One line on a whole call: files, clipped samples, and computing time, `speech` and `computing` in seconds."""
    clipped = sum(sample.clipped_samples for sample in made)
    return (
        f"{len(made)} of {asked} written to {out}, {clipped} samples clipped; "
        f"{computing / speech:.2f} s of computing per second of speech ({speech:.1f} s in {computing:.1f} s)"
    )
