"""A model set free: frames drawn one after another, from the prior or through given backward states."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from torch import Tensor

from zfaudio.data.frames import standardize, to_frames
from zfaudio.data.manifest import Manifest
from zfaudio.models import FrameModel
from zfaudio.models.base import FrameDistribution, RecurrentState
from zfaudio.ops.cuda_graph import Recorded, Recorder
from zfaudio.seeds import cpu_generator

# How many sequences are stepped side by side. A matrix product over another number of rows may round differently, and
# a sample must not depend on how many others were asked for: see `side_by_side`.
LANES = (1, 2, 4, 8, 16, 32, 64)
REFERENCE = 16  # lanes whose rounding the others must have
TRIAL_STEPS = 8

# Steps whose noise is drawn, and whose frames leave the device, at once.
BLOCK = 64

Step = Callable[..., tuple[FrameDistribution, RecurrentState]]  # what `FrameModel.stepper` gives
# Of each step: for the latents [lanes, latent], for the frames [lanes, frame_noise_size].
Noise = Iterator[tuple[Tensor, Tensor]]
Progress = Callable[..., Iterable[Tensor]]  # wraps an iterator of steps, as tqdm does: (steps, total=) -> steps


@dataclass(frozen=True)
class Temperatures:
    """Factors on the deviations that latents and frames are drawn with; 0 takes the mean."""

    latent: float = 1.0
    observation: float = 1.0


@dataclass
class Take:
    """What one lane produced."""

    waveform: np.ndarray  # int16 [samples]
    clipped: int  # samples that lay outside 16 bits
    diverged_at: int | None  # first sample that was not a finite number


@torch.inference_mode()
def sample_speech(
    model: FrameModel,
    manifest: Manifest,
    samples: int,
    temperatures: Temperatures,
    seed: int,
    count: int,
    prompt: np.ndarray | None = None,
    progress: Progress = lambda steps, total: steps,
    record: Recorder | None = None,
) -> Iterator[Take]:
    """Ancestral samples 0..count-1 of a seed, after a prompt if there is one.

    Args:
        model: in evaluation mode.
        manifest: of the shards it was trained on.
        samples: length of each, the prompt not counted; what exceeds whole frames is cut off.
        temperatures: of latents and frames.
        seed: of the draws; sample i depends on the seed and on i alone.
        count: how many.
        prompt: int16 [n], at least one frame. The model reads its last whole frames, with latents from the posterior.
        progress: wraps the steps of those made side by side, to show how far they are.
        record: makes one recording of the steps that are made side by side, see cuda_graph.py.
    """
    device = next(model.parameters()).device
    steps = -(-samples // model.frame_size)
    frames = backward = None
    if prompt is not None:
        frames = standardized_frames(prompt[len(prompt) % model.frame_size :], manifest, device)
        backward = read_backward(model, frames)
    step = model.stepper()
    for first, lanes in side_by_side(model, step, count, backward):
        noise = draw_noise(model, seed, first, lanes)
        frame, state = model_start(model, lanes)
        if frames is not None:
            frame, state = read_in(step, frames, backward, state, noise, temperatures.latent, lanes)
        run = free_run(step, frame, state, noise, temperatures, steps, record=record)
        yield from to_waveforms(progress(run, total=steps), lanes, samples, manifest)[: count - first]


@torch.inference_mode()
def reconstruct_speech(
    model: FrameModel,
    manifest: Manifest,
    recording: np.ndarray,
    temperatures: Temperatures,
    seed: int,
    count: int,
    progress: Progress = lambda steps, total: steps,
    record: Recorder | None = None,
) -> Iterator[Take]:
    """Reconstructions 0..count-1 of a recording, int16 [n], at least one frame, each as long as it is.

    The posterior's latents are all that tells of the recording: the decoder reads what it made itself.
    """
    device = next(model.parameters()).device
    padding = -len(recording) % model.frame_size
    frames = standardized_frames(np.pad(recording, (0, padding)), manifest, device)
    backward = read_backward(model, frames)
    step = model.stepper()
    for first, lanes in side_by_side(model, step, count, backward):
        noise = draw_noise(model, seed, first, lanes)
        run = free_run(step, *model_start(model, lanes), noise, temperatures, len(frames), backward, record)
        yield from to_waveforms(progress(run, total=len(frames)), lanes, len(recording), manifest)[: count - first]


def side_by_side(model: FrameModel, step: Step, count: int, backward: Tensor | None) -> Iterator[tuple[int, int]]:
    """Deal out samples 0..count-1: the first of those stepped together and how many lanes that takes.

    As many of LANES as are needed, or else the most, of those that round as REFERENCE lanes do. Whether they do depends
    on the sizes and on the machine's matrix products, so it is tried: a few steps must give the same bits. Where a sum
    is taken in another order, it shows in nearly all of their thousands of values.

    Args:
        model: in evaluation mode.
        step: its stepper.
        count: how many samples are wanted.
        backward: b_t of some steps, [steps, hidden], where latents are drawn from the posterior too.
    """

    def trial(first: int, lanes: int) -> list[Tensor]:
        frames: list[Tensor] = []
        for future in (None,) if backward is None else (None, backward):
            steps = TRIAL_STEPS if future is None else min(TRIAL_STEPS, len(future))
            noise = draw_noise(model, 0, first, lanes)
            frames += free_run(step, *model_start(model, lanes), noise, Temperatures(), steps, future)
        return frames

    @cache
    def rounds_alike(lanes: int) -> bool:
        if lanes == REFERENCE:
            return True
        blocks = [trial(first, REFERENCE) for first in range(0, lanes, REFERENCE)]
        expected = [torch.cat(parts)[:lanes] for parts in zip(*blocks, strict=True)]
        return all(torch.equal(ours, theirs) for ours, theirs in zip(trial(0, lanes), expected, strict=True))

    first = 0
    while first < count:
        enough = [lanes for lanes in LANES if lanes >= count - first]
        fewer = [lanes for lanes in reversed(LANES) if lanes < count - first]
        lanes = next(lanes for lanes in (*enough, *fewer, REFERENCE) if rounds_alike(lanes))
        yield first, lanes
        first += lanes


def model_start(model: FrameModel, lanes: int) -> tuple[Tensor, RecurrentState]:
    """The first input, the corpus mean [lanes, frame_size], and the state before it."""
    device = next(model.parameters()).device
    return torch.zeros(lanes, model.frame_size, device=device), model.initial_state(lanes)


def free_run(
    step: Step,
    frame: Tensor,
    state: RecurrentState,
    noise: Noise,
    temperatures: Temperatures,
    steps: int,
    backward: Tensor | None = None,
    record: Recorder | None = None,
) -> Iterator[Tensor]:
    """Frames [lanes, frame_size] that follow `frame`, each drawn from the model that has read those before.

    Args:
        step: the model's stepper.
        frame: the first input, [lanes, frame_size].
        state: before it.
        noise: of each step.
        temperatures: of latents and frames.
        steps: how many frames.
        backward: b_t of each step, [steps, hidden]; latents are drawn from the posterior with it, else from the prior.
        record: makes a recording of a step, see cuda_graph.py.
    """
    size = len(state)

    def advance(frame: Tensor, latent_noise: Tensor, frame_noise: Tensor, *others: Tensor) -> tuple[Tensor, ...]:
        before, future = others[:size], next(iter(others[size:]), None)
        distribution, after = step(frame, before, temperatures.latent, future, latent_noise)
        return distribution.at(frame_noise, temperatures.observation), *after

    advanced = advance if record is None else Recorded(advance, record)
    for t, draws in zip(range(steps), noise, strict=False):
        future = () if backward is None else (backward[t].expand(len(frame), -1),)
        frame, *after = advanced(frame, *draws, *state, *future)
        state = tuple(after)
        yield frame if record is None else frame.clone()


def read_in(
    step: Step,
    frames: Tensor,
    backward: Tensor | None,
    state: RecurrentState,
    noise: Noise,
    latent_temperature: float,
    lanes: int,
) -> tuple[Tensor, RecurrentState]:
    """Read a prompt, standardized frames [time, frame_size] with their b_t, with latents from the posterior.

    Returns:
        The prompt's last frame [lanes, frame_size] and the state before it. The step that reads it draws from the
        prior, for what follows is not known.
    """
    inputs = torch.cat([torch.zeros_like(frames[:1]), frames[:-1]])
    for t, (frame, (latent_noise, _)) in enumerate(zip(inputs, noise, strict=False)):
        future = None if backward is None else backward[t].expand(lanes, -1)
        _, state = step(frame.expand(lanes, -1), state, latent_temperature, future, latent_noise)
    return frames[-1].expand(lanes, -1), state


def read_backward(model: FrameModel, frames: Tensor) -> Tensor | None:
    """b_t of the steps that predict standardized frames [time, frame_size], the first from a zero frame: [time, H].

    None of a model without latents.
    """
    inputs = torch.cat([torch.zeros_like(frames[:1]), frames])
    lengths = torch.tensor([len(inputs)], device=frames.device)
    backward = model.read_backward(inputs.unsqueeze(0), lengths)
    return None if backward is None else backward.squeeze(0)


def draw_noise(model: FrameModel, seed: int, first: int, lanes: int) -> Noise:
    """Standard normal draws for each step of samples first..first+lanes-1, without end.

    Each has a generator of its own, on the CPU, where the draws are the same on every machine.
    """
    device = next(model.parameters()).device
    generators = [cpu_generator(seed, "sample", first + lane) for lane in range(lanes)]
    while True:
        latent = torch.stack([model.latent_noise(BLOCK, generator) for generator in generators], 1)
        frame = torch.stack(
            [torch.randn(BLOCK, model.frame_noise_size, generator=generator) for generator in generators], 1
        )
        yield from zip(latent.to(device), frame.to(device), strict=True)


def standardized_frames(waveform: np.ndarray, manifest: Manifest, device: torch.device) -> Tensor:
    """int16 [n] -> float32 [n // frame_size, frame_size], as the model was trained on."""
    frames = standardize(to_frames(waveform, manifest.frame_size), manifest.mean, manifest.deviation)
    return torch.from_numpy(frames).to(device)


def to_waveforms(frames: Iterable[Tensor], lanes: int, samples: int, manifest: Manifest) -> list[Take]:
    """Turn steps of standardized frames [lanes, frame_size] into waveforms of so many samples, a block at a time."""
    waveforms = np.zeros((lanes, samples), np.int16)
    clipped = np.zeros(lanes, np.int64)
    diverged_at: list[int | None] = [None] * lanes
    done = 0
    for block in blocks(frames):
        values = torch.stack(block, 1).flatten(1).cpu().double().numpy()[:, : samples - done]
        values = np.rint(values * manifest.deviation + manifest.mean)
        for lane, finite in enumerate(np.isfinite(values)):
            if diverged_at[lane] is None and not finite.all():
                diverged_at[lane] = done + int(finite.argmin())
        clipped += ((values < -32768) | (values > 32767)).sum(1)
        waveforms[:, done : done + values.shape[1]] = np.clip(np.nan_to_num(values), -32768, 32767)
        done += values.shape[1]
    return [Take(*take) for take in zip(waveforms, clipped.tolist(), diverged_at, strict=True)]


def blocks(steps: Iterable[Tensor]) -> Iterator[list[Tensor]]:
    """BLOCK steps at a time; the last may be fewer."""
    block: list[Tensor] = []
    for step in steps:
        block.append(step)
        if len(block) == BLOCK:
            yield block
            block = []
    if block:
        yield block
