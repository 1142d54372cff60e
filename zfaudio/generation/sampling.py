"""Generate frames one after another, with latents drawn from the prior, or from the posterior of a recording."""

import itertools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from zfaudio.data.manifest import Manifest
from zfaudio.generation.batch_sizes import plan_batches
from zfaudio.generation.posterior import RecordedSteps
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
    """How freely latents and frames are drawn: factors on deviations, divisors of logits; 0 takes the most probable."""

    latent: float = 1.0
    observation: float = 1.0


@dataclass
class GeneratedWaveform:
    """One generated waveform."""

    waveform: NDArray[np.int16]  # [samples]
    clipped: int  # number of samples at the limits of 16 bits, or beyond before they were clipped
    diverged_at: int | None  # index of the first sample that was NaN or infinite; None if there is none


@dataclass
class GeneratedBlock:
    """The next samples of the waveforms of a batch."""

    waveforms: NDArray[np.int16]  # [batch, samples]
    clipped: NDArray[np.int64]  # number of samples at the limits of 16 bits, [batch]
    diverged_at: list[int | None]  # as in `GeneratedWaveform`, counted from the start of the waveform


@dataclass
class GeneratedBatch:
    """Waveforms that are generated together, block by block."""

    first: int  # number of the first waveform
    count: int  # number of waveforms that were asked for; the blocks may have further rows
    blocks: Iterator[GeneratedBlock]


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
    """Generate waveforms 0..count-1 of a seed from the prior; the arguments are those of `sample_batches`."""
    batches = sample_batches(model, manifest, samples, temperatures, seed, count, prompt, progress, record)
    for batch in batches:
        yield from join_blocks(batch.blocks, samples, batch.count)


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
    """Generate reconstructions 0..count-1 of a recording; the arguments are those of `reconstruct_batches`."""
    batches = reconstruct_batches(model, manifest, recording, temperatures, seed, count, progress, record)
    for batch in batches:
        yield from join_blocks(batch.blocks, len(recording), batch.count)


@torch.inference_mode()
def sample_batches(
    model: FrameModel,
    manifest: Manifest,
    samples: int,
    temperatures: Temperatures,
    seed: int,
    count: int,
    prompt: NDArray[np.int16] | None = None,
    progress: Progress = lambda steps, total: steps,
    record: FrameRecorder | None = None,
) -> Iterator[GeneratedBatch]:
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
    step = model.stepper()
    recorded = first_future = None
    if prompt is not None:
        recorded = RecordedSteps(model, prompt[len(prompt) % model.frame_size :], manifest)
        first_future = recorded.first_future
    for first, batch in plan_batches(count, trial_of(model, step, first_future)):
        noise = draw_noise(model, seed, first, batch)
        frame, state = zero_frame(model, batch), model.initial_state(batch)
        if recorded is not None:
            frame, state = read_prompt(step, recorded, state, noise, temperatures.latent, batch)
        steps = -(-samples // model.frame_size)
        frames = generate_frames(step, frame, state, noise, temperatures, steps, record=record)
        yield GeneratedBatch(
            first, min(batch, count - first), to_blocks(progress(frames, total=steps), samples, manifest)
        )


@torch.inference_mode()
def reconstruct_batches(
    model: FrameModel,
    manifest: Manifest,
    recording: NDArray[np.int16],
    temperatures: Temperatures,
    seed: int,
    count: int,
    progress: Progress = lambda steps, total: steps,
    record: FrameRecorder | None = None,
) -> Iterator[GeneratedBatch]:
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
    samples = len(recording)
    padded = np.pad(recording, (0, -samples % model.frame_size))
    recorded = RecordedSteps(model, padded, manifest)
    step = model.stepper()
    for first, batch in plan_batches(count, trial_of(model, step, recorded.first_future)):
        noise = draw_noise(model, seed, first, batch)
        frame, state = zero_frame(model, batch), model.initial_state(batch)
        steps = len(recorded)
        frames = generate_frames(step, frame, state, noise, temperatures, steps, recorded.future(), record)
        yield GeneratedBatch(
            first, min(batch, count - first), to_blocks(progress(frames, total=steps), samples, manifest)
        )


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
    future: Iterable[Tensor] | None = None,
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
        future: b_t of each step, [size] each, to draw the latents from the posterior; by default they are drawn from
            the prior.
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
    futures = itertools.repeat(None) if future is None else future
    no_future = frame.new_empty(0)
    for _, (latent_noise, frame_noise), future_t in zip(range(steps), noise, futures, strict=False):
        known_future = no_future if future_t is None else future_t.expand(len(frame), -1)
        frame, *new_state = next_frame(frame, latent_noise, frame_noise, known_future, *state)
        state = tuple(new_state)
        # The next replay of a recording overwrites its result.
        yield frame if record is None else frame.clone()


def read_prompt(
    step: Step,
    recorded: RecordedSteps,
    state: RecurrentState,
    noise: Noise,
    latent_temperature: float,
    batch: int,
) -> tuple[Tensor, RecurrentState]:
    """Read a prompt, with latents from the posterior.

    Returns:
        The last frame of the prompt, [batch, frame_size], and the state before it. The step that reads this frame
        draws from the prior, because what follows it is not known.
    """
    for (frame, future_t), (latent_noise, _) in zip(recorded, noise, strict=False):
        known_future = None if future_t is None else future_t.expand(batch, -1)
        _, state = step(frame.expand(batch, -1), state, latent_temperature, known_future, latent_noise)
    return recorded.last_frame.expand(batch, -1), state


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
    return max(1, round(seconds * manifest.waveform.sample_rate / manifest.frame_size)) * manifest.frame_size


def zero_frame(model: FrameModel, batch: int) -> Tensor:
    """The first input, [batch, frame_size]: zeros, which is the mean of the corpus."""
    return torch.zeros(batch, model.frame_size, device=device_of(model))


def device_of(model: FrameModel) -> torch.device:
    """The device of the model's weights."""
    return next(model.parameters()).device


@torch.inference_mode()
def to_blocks(frames: Iterable[Tensor], samples: int, manifest: Manifest) -> Iterator[GeneratedBlock]:
    """Turn steps of frames, [batch, frame_size] each, into the blocks of waveforms of so many samples.

    Those of recordings are standardized; pixels and ids are as they are.
    """
    done = 0
    for steps in groups_of_steps(frames):
        values = torch.stack(steps, 1).flatten(1).cpu().double().numpy()[:, : samples - done]
        if manifest.kind == "waveform":
            values = values * manifest.waveform.deviation + manifest.waveform.mean
        values = np.rint(values)
        finite = np.isfinite(values)
        yield GeneratedBlock(
            waveforms=np.clip(np.nan_to_num(values), -32768, 32767).astype(np.int16),
            clipped=((values <= -32768) | (values >= 32767)).sum(1),
            diverged_at=[None if row.all() else done + int(row.argmin()) for row in finite],
        )
        done += values.shape[1]


def join_blocks(blocks: Iterable[GeneratedBlock], samples: int, count: int) -> list[GeneratedWaveform]:
    """The first `count` waveforms of a batch, each of so many samples."""
    joined = [GeneratedWaveform(np.zeros(samples, np.int16), clipped=0, diverged_at=None) for _ in range(count)]
    done = 0
    for block in blocks:
        for row, one in enumerate(joined):
            one.waveform[done : done + block.waveforms.shape[1]] = block.waveforms[row]
            one.clipped += int(block.clipped[row])
            if one.diverged_at is None:
                one.diverged_at = block.diverged_at[row]
        done += block.waveforms.shape[1]
    return joined


def groups_of_steps(steps: Iterable[Tensor]) -> Iterator[list[Tensor]]:
    """Group steps into lists of BLOCK; the last list may be shorter."""
    block: list[Tensor] = []
    for step in steps:
        block.append(step)
        if len(block) == BLOCK:
            yield block
            block = []
    if block:
        yield block
