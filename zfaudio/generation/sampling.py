"""Generate frames one after another, with latents drawn from the prior, or from the posterior of a recording."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from zfaudio.data.frames import standardize, to_frames
from zfaudio.data.manifest import Manifest
from zfaudio.generation.batch_sizes import plan_batches
from zfaudio.models import FrameModel
from zfaudio.models.base import RecurrentState
from zfaudio.models.frame_likelihoods import FrameDistribution
from zfaudio.ops.cuda_graph import Recorded, Recorder
from zfaudio.seeds import cpu_generator

BLOCK = 64  # number of steps whose noise is drawn together, and whose frames leave the device together
TRIAL_STEPS = 8

Step = Callable[..., tuple[FrameDistribution, RecurrentState]]  # what `FrameModel.stepper` returns
# For each step, standard normal numbers for the latents [batch, latent] and for the frame [batch, frame_noise_size].
Noise = Iterator[tuple[Tensor, Tensor]]
Progress = Callable[..., Iterable[Tensor]]  # wraps an iterator of steps, as tqdm does: (steps, total=) -> steps
FrameRecorder = Recorder[tuple[Tensor, ...]]


@dataclass(frozen=True)
class Temperatures:
    """Factors on the deviations with which latents and frames are drawn; with 0 the mean is taken."""

    latent: float = 1.0
    observation: float = 1.0


@dataclass
class GeneratedWaveform:
    """One generated waveform."""

    waveform: NDArray[np.int16]  # [samples]
    clipped: int  # number of samples that lay outside 16 bits
    diverged_at: int | None  # index of the first sample that was NaN or infinite; None if there is none


@torch.inference_mode()
def sample_speech(
    model: FrameModel,
    manifest: Manifest,
    samples: int,
    temperatures: Temperatures,
    seed: int,
    count: int,
    prompt: NDArray[np.int16] | None = None,
    progress: Progress = lambda steps, total: steps,
    record: FrameRecorder | None = None,
) -> Iterator[GeneratedWaveform]:
    """Generate waveforms 0..count-1 of a seed from the prior, after a prompt if there is one.

    Args:
        model: the model, in evaluation mode.
        manifest: of the shards that the model was trained on.
        samples: length of each waveform in samples, without the prompt.
        temperatures: of latents and frames.
        seed: of the noise. Waveform i depends on the seed and on i, not on `count`.
        count: number of waveforms.
        prompt: int16 [samples], at least one frame. The model reads its last whole frames, with latents drawn from
            the posterior.
        progress: wraps the iterator over the steps of each batch, to show progress.
        record: records the step of a batch, see ops/cuda_graph.py.
    """
    steps = -(-samples // model.frame_size)
    step = model.stepper()
    frames = future = None
    if prompt is not None:
        whole_frames = prompt[len(prompt) % model.frame_size :]
        frames = standardized_frames(whole_frames, manifest, device_of(model))
        future = read_future(model, frames)
    for first, batch in plan_batches(count, trial_of(model, step, future)):
        noise = draw_noise(model, seed, first, batch)
        frame, state = zero_frame(model, batch), model.initial_state(batch)
        if frames is not None:
            frame, state = read_prompt(step, frames, future, state, noise, temperatures.latent, batch)
        generated = generate_frames(step, frame, state, noise, temperatures, steps, record=record)
        yield from to_waveforms(progress(generated, total=steps), batch, samples, manifest)[: count - first]


@torch.inference_mode()
def reconstruct_speech(
    model: FrameModel,
    manifest: Manifest,
    recording: NDArray[np.int16],
    temperatures: Temperatures,
    seed: int,
    count: int,
    progress: Progress = lambda steps, total: steps,
    record: FrameRecorder | None = None,
) -> Iterator[GeneratedWaveform]:
    """Generate reconstructions 0..count-1 of a recording, each as long as the recording.

    Only the latents, drawn from the posterior, know the recording: the decoder reads the frames that it generated. A
    model without latents therefore generates the same as from the prior.

    Args:
        model: the model, in evaluation mode.
        manifest: of the shards that the model was trained on.
        recording: int16 [samples], at least one frame.
        temperatures: of latents and frames.
        seed: of the noise. Reconstruction i depends on the seed and on i, not on `count`.
        count: number of reconstructions.
        progress: wraps the iterator over the steps of each batch, to show progress.
        record: records the step of a batch, see ops/cuda_graph.py.
    """
    padding = -len(recording) % model.frame_size
    frames = standardized_frames(np.pad(recording, (0, padding)), manifest, device_of(model))
    future = read_future(model, frames)
    step = model.stepper()
    for first, batch in plan_batches(count, trial_of(model, step, future)):
        noise = draw_noise(model, seed, first, batch)
        frame, state = zero_frame(model, batch), model.initial_state(batch)
        generated = generate_frames(step, frame, state, noise, temperatures, len(frames), future, record)
        yield from to_waveforms(progress(generated, total=len(frames)), batch, len(recording), manifest)[
            : count - first
        ]


def trial_of(model: FrameModel, step: Step, future: Tensor | None) -> Callable[[int, int], list[Tensor]]:
    """A short generation for `plan_batches`: from the prior, and also from the posterior if there are b_t."""

    def trial(first: int, batch: int) -> list[Tensor]:
        frames: list[Tensor] = []
        for states in (None,) if future is None else (None, future[:TRIAL_STEPS]):
            steps = TRIAL_STEPS if states is None else len(states)
            noise = draw_noise(model, 0, first, batch)
            frame, state = zero_frame(model, batch), model.initial_state(batch)
            frames += generate_frames(step, frame, state, noise, Temperatures(), steps, states)
        return frames

    return trial


def generate_frames(
    step: Step,
    frame: Tensor,
    state: RecurrentState,
    noise: Noise,
    temperatures: Temperatures,
    steps: int,
    future: Tensor | None = None,
    record: FrameRecorder | None = None,
) -> Iterator[Tensor]:
    """Generate frames [batch, frame_size], each drawn from the model after it has read the one before.

    Args:
        step: the model's stepper.
        frame: the first input, [batch, frame_size].
        state: the state before the first input.
        noise: the noise of each step.
        temperatures: of latents and frames.
        steps: number of frames.
        future: b_t of each step, [steps, size], to draw the latents from the posterior; by default they are
            drawn from the prior.
        record: records a step, see ops/cuda_graph.py.
    """

    # A recording takes and returns plain tensors: b_t without elements stands for none.
    def advance(
        frame: Tensor, latent_noise: Tensor, frame_noise: Tensor, future_t: Tensor, *state: Tensor
    ) -> tuple[Tensor, ...]:
        known_future = future_t if future_t.numel() else None
        distribution, new_state = step(frame, state, temperatures.latent, known_future, latent_noise)
        return distribution.at(frame_noise, temperatures.observation), *new_state

    next_frame = advance if record is None else Recorded(advance, record)
    future_t = frame.new_empty(0)
    for t, (latent_noise, frame_noise) in zip(range(steps), noise, strict=False):
        if future is not None:
            future_t = future[t].expand(len(frame), -1)
        frame, *new_state = next_frame(frame, latent_noise, frame_noise, future_t, *state)
        state = tuple(new_state)
        # The next replay of a recording overwrites its result.
        yield frame if record is None else frame.clone()


def read_prompt(
    step: Step,
    frames: Tensor,
    future: Tensor | None,
    state: RecurrentState,
    noise: Noise,
    latent_temperature: float,
    batch: int,
) -> tuple[Tensor, RecurrentState]:
    """Read a prompt, standardized frames [time, frame_size] and their b_t, with latents from the posterior.

    Returns:
        The last frame of the prompt, [batch, frame_size], and the state before it. The step that reads this frame
        draws from the prior, because what follows it is not known.
    """
    inputs = torch.cat([torch.zeros_like(frames[:1]), frames[:-1]])
    for t, (frame, (latent_noise, _)) in enumerate(zip(inputs, noise, strict=False)):
        future_t = None if future is None else future[t].expand(batch, -1)
        _, state = step(frame.expand(batch, -1), state, latent_temperature, future_t, latent_noise)
    return frames[-1].expand(batch, -1), state


def read_future(model: FrameModel, frames: Tensor) -> Tensor | None:
    """b_t of the steps that predict standardized frames [time, frame_size], the first of them after a zero frame.

    Returns:
        [time, size]; None for a model without latents.
    """
    inputs = torch.cat([torch.zeros_like(frames[:1]), frames])
    lengths = torch.tensor([len(inputs)], device=frames.device)
    future = model.read_future(inputs.unsqueeze(0), lengths)
    return None if future is None else future.squeeze(0)


def draw_noise(model: FrameModel, seed: int, first: int, batch: int) -> Noise:
    """Draw noise for the steps of samples first..first+batch-1, without end.

    Each sample has its own generator, on the CPU, where it draws the same numbers on every machine.
    """
    device = device_of(model)
    generators = [cpu_generator(seed, "sample", first + row) for row in range(batch)]
    while True:
        latent_noise = torch.stack([model.latent_noise(BLOCK, generator) for generator in generators], 1)
        frame_noise = torch.stack(
            [torch.randn(BLOCK, model.frame_noise_size, generator=generator) for generator in generators], 1
        )
        yield from zip(latent_noise.to(device), frame_noise.to(device), strict=True)


def whole_frames(seconds: float, manifest: Manifest) -> int:
    """The number of samples in that many seconds, rounded to whole frames, at least one."""
    return max(1, round(seconds * manifest.sample_rate / manifest.frame_size)) * manifest.frame_size


def standardized_frames(waveform: NDArray[np.int16], manifest: Manifest, device: torch.device) -> Tensor:
    """int16 [samples] -> float32 [samples // frame_size, frame_size], standardized as in training."""
    frames = standardize(to_frames(waveform, manifest.frame_size), manifest.mean, manifest.deviation)
    return torch.from_numpy(frames).to(device)


def zero_frame(model: FrameModel, batch: int) -> Tensor:
    """The first input, [batch, frame_size]: zeros, which is the mean of the corpus."""
    return torch.zeros(batch, model.frame_size, device=device_of(model))


def device_of(model: FrameModel) -> torch.device:
    """The device of the model's weights."""
    return next(model.parameters()).device


def to_waveforms(frames: Iterable[Tensor], batch: int, samples: int, manifest: Manifest) -> list[GeneratedWaveform]:
    """Turn steps of standardized frames, [batch, frame_size] each, into waveforms of so many samples."""
    waveforms = np.zeros((batch, samples), np.int16)
    clipped = np.zeros(batch, np.int64)
    diverged_at: list[int | None] = [None] * batch
    done = 0
    for block in blocks(frames):
        values = torch.stack(block, 1).flatten(1).cpu().double().numpy()[:, : samples - done]
        values = np.rint(values * manifest.deviation + manifest.mean)
        for row, finite in enumerate(np.isfinite(values)):
            if diverged_at[row] is None and not finite.all():
                diverged_at[row] = done + int(finite.argmin())
        clipped += ((values < -32768) | (values > 32767)).sum(1)
        waveforms[:, done : done + values.shape[1]] = np.clip(np.nan_to_num(values), -32768, 32767)
        done += values.shape[1]
    return [
        GeneratedWaveform(waveforms[row], clipped=int(clipped[row]), diverged_at=diverged_at[row])
        for row in range(batch)
    ]


def blocks(steps: Iterable[Tensor]) -> Iterator[list[Tensor]]:
    """Group steps into lists of BLOCK; the last list may be shorter."""
    block: list[Tensor] = []
    for step in steps:
        block.append(step)
        if len(block) == BLOCK:
            yield block
            block = []
    if block:
        yield block
