"""A model set free: frames drawn one after another, from the prior or through given backward states."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Generator, Tensor

from zfaudio.frames import standardise, to_frames
from zfaudio.manifest import Manifest
from zfaudio.models import FrameModel
from zfaudio.ops.cells import State

# Sequences stepped side by side. Always so many, the surplus thrown away: a matrix product over fewer rows rounds
# differently, and a sample must not depend on how many others were asked for.
LANES = 16

# Steps whose noise is drawn, and whose frames leave the device, at once.
BLOCK = 64

Noise = Iterator[tuple[Tensor, Tensor]]  # of each step: for the latents [lanes, latent], the frames [lanes, frame_size]
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
    first: int = 0,
    prompt: np.ndarray | None = None,
    progress: Progress = lambda steps, total: steps,
) -> list[Take]:
    """Ancestral samples first..first+LANES-1 of a seed, after a prompt if there is one.

    Args:
        model: in evaluation mode.
        manifest: of the shards it was trained on.
        samples: length of each, the prompt not counted; what exceeds whole frames is cut off.
        temperatures: of latents and frames.
        seed: of the draws; sample i depends on the seed and on i alone.
        first: number of the first sample.
        prompt: int16 [n], at least one frame. The model reads its last whole frames, with latents from the posterior.
        progress: wraps the steps, to show how far they are.
    """
    device = next(model.parameters()).device
    noise = draw_noise(model, seed, first, device)
    state = model.initial_state(LANES)
    frame = torch.zeros(LANES, model.frame_size, device=device)  # the corpus mean
    if prompt is not None:
        frames = standardised_frames(prompt[len(prompt) % model.frame_size :], manifest, device)
        frame, state = read_in(model, frames, state, noise, temperatures.latent)
    steps = -(-samples // model.frame_size)
    run = free_run(model, frame, state, noise, temperatures, steps)
    return record(progress(run, total=steps), samples, manifest)


@torch.inference_mode()
def reconstruct_speech(
    model: FrameModel,
    manifest: Manifest,
    recording: np.ndarray,
    temperatures: Temperatures,
    seed: int,
    first: int = 0,
    progress: Progress = lambda steps, total: steps,
) -> list[Take]:
    """Reconstructions first..first+LANES-1 of a recording, int16 [n], at least one frame, each as long as it is.

    The posterior's latents are all that tells of the recording: the decoder reads what it made itself.
    """
    device = next(model.parameters()).device
    padding = -len(recording) % model.frame_size
    frames = standardised_frames(np.pad(recording, (0, padding)), manifest, device)
    backward = read_backward(model, frames)
    noise = draw_noise(model, seed, first, device)
    frame = torch.zeros(LANES, model.frame_size, device=device)
    run = free_run(model, frame, model.initial_state(LANES), noise, temperatures, len(frames), backward)
    return record(progress(run, total=len(frames)), len(recording), manifest)


def free_run(
    model: FrameModel,
    frame: Tensor,
    state: State,
    noise: Noise,
    temperatures: Temperatures,
    steps: int,
    backward: Tensor | None = None,
) -> Iterator[Tensor]:
    """Frames [lanes, frame_size] that follow `frame`, each drawn from the model that has read those before.

    Args:
        model: in evaluation mode.
        frame: the first input, [lanes, frame_size].
        state: before it.
        noise: of each step.
        temperatures: of latents and frames.
        steps: how many frames.
        backward: b_t of each step, [steps, hidden]; latents are drawn from the posterior with it, else from the prior.
    """
    for step, (latent_noise, frame_noise) in zip(range(steps), noise, strict=False):
        future = None if backward is None else backward[step].expand(len(frame), -1)
        distribution, state = model.step(frame, state, temperatures.latent, future, latent_noise)
        frame = distribution.at(frame_noise, temperatures.observation)
        yield frame


def read_in(
    model: FrameModel, frames: Tensor, state: State, noise: Noise, latent_temperature: float
) -> tuple[Tensor, State]:
    """Read a prompt, standardised frames [time, frame_size], with latents from the posterior.

    Returns:
        The prompt's last frame [lanes, frame_size] and the state before it. The step that reads it draws from the
        prior, for what follows is not known.
    """
    backward = read_backward(model, frames)
    lanes = len(state.hidden)
    inputs = torch.cat([torch.zeros_like(frames[:1]), frames])
    for frame, future, (latent_noise, _) in zip(inputs[:-1], backward, noise, strict=False):
        _, state = model.step(
            frame.expand(lanes, -1), state, latent_temperature, future.expand(lanes, -1), latent_noise
        )
    return frames[-1].expand(lanes, -1), state


def read_backward(model: FrameModel, frames: Tensor) -> Tensor:
    """b_t of the steps that predict standardised frames [time, frame_size], the first from a zero frame: [time, H]."""
    inputs = torch.cat([torch.zeros_like(frames[:1]), frames])
    lengths = torch.tensor([len(inputs)], device=frames.device)
    return model.read_backward(inputs.unsqueeze(0), lengths).squeeze(0)


def draw_noise(model: FrameModel, seed: int, first: int, device: torch.device) -> Noise:
    """Standard normal draws for each step of lanes first..first+LANES-1, without end.

    Each lane has a generator of its own, on the CPU, where the draws are the same on every machine.
    """
    generators = [lane_generator(seed, first + lane) for lane in range(LANES)]
    while True:
        latent = torch.stack([model.latent_noise(BLOCK, generator) for generator in generators], 1)
        frame = torch.stack([torch.randn(BLOCK, model.frame_size, generator=generator) for generator in generators], 1)
        yield from zip(latent.to(device), frame.to(device), strict=True)


def lane_generator(seed: int, index: int) -> Generator:
    """The source of sample `index`'s draws."""
    mixed = np.random.SeedSequence([seed, index]).generate_state(1, np.uint64)[0]
    return Generator().manual_seed(int(mixed))


def standardised_frames(waveform: np.ndarray, manifest: Manifest, device: torch.device) -> Tensor:
    """int16 [n] -> float32 [n // frame_size, frame_size], as the model was trained on."""
    frames = standardise(to_frames(waveform, manifest.frame_size), manifest.mean, manifest.deviation)
    return torch.from_numpy(frames).to(device)


def record(frames: Iterable[Tensor], samples: int, manifest: Manifest) -> list[Take]:
    """Turn steps of standardised frames [lanes, frame_size] into waveforms of so many samples, a block at a time."""
    waveforms = np.zeros((LANES, samples), np.int16)
    clipped = np.zeros(LANES, np.int64)
    diverged_at: list[int | None] = [None] * LANES
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
