"""Scores of whole utterances. The score of an utterance does not depend on the batch it is computed in."""

import dataclasses
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from zfaudio.data.batches import Batch, FrameWriter, LongUtterance
from zfaudio.data.loader import batch_of_utterances, utterances_of_batches
from zfaudio.data.manifest import read_manifest
from zfaudio.experiment.checkpoint import Checkpoint
from zfaudio.models.base import FrameModel, FrameTerms, scored_steps
from zfaudio.models.chunks import BLOCK_STEPS, ChunkedUtterance, Chunks, chunk_borders, is_long
from zfaudio.seeds import cpu_generator, derive_seed

DRAWS_TOGETHER = 10  # draws of an utterance in a pass, where they share much of the work


@dataclass
class UtteranceScore:
    """The bound on the log-likelihood of one utterance, in nats; of a recording in standardized space."""

    utterance: str
    frames: int  # number of scored frames
    nats: float  # the bound, summed over the scored frames
    kl: float  # KL(q || p), summed over the scored frames
    frame_nats: np.ndarray  # the ELBO of each frame, averaged over the draws, [frames]


@dataclass(frozen=True)
class Segments:
    """How the published evaluation of Z-forcing cuts utterances into segments.

    eval_timit.py of the published code pads a batch of utterances with zero frames to the longest utterance of the test
    split and scores it in segments of 40 frames. The forward and the backward LSTM start every segment from a zero
    state, and the input frame of a segment is the last scored frame of the segment before it. Padding is not scored,
    but the backward LSTM reads the padding behind an utterance before it reads the utterance's last segment.
    """

    longest: int  # scored frames of the longest utterance, where the padding ends
    steps: int = 40  # scored frames of a segment


# Utterances


def utterance_batches(
    trained: Checkpoint, location: str, split: str, frames_per_batch: int, seed: int, every: int = 1
) -> Iterator[Batch | LongUtterance]:
    """Whole utterances of a split, recordings standardized as in training. The frames of long ones are made in parts.

    Args:
        trained: the checkpoint whose standardization and data settings apply.
        location: folder or address of the shards.
        split: train, valid or test.
        frames_per_batch: largest batch x time of a batch; a longer utterance comes as a `LongUtterance`.
        seed: seed of the dequantization noise.
        every: read only every n-th utterance.
    """
    manifest = dataclasses.replace(
        read_manifest(location), mean=trained.manifest.mean, deviation=trained.manifest.deviation
    )
    writer, size = FrameWriter(manifest, trained.config.data), manifest.frame_size
    for utterances in utterances_of_batches(location, manifest, split, writer, frames_per_batch, world=every):
        if writer.length(utterances[0]) > frames_per_batch:
            yield LongUtterance(utterances[0], writer, size, derive_seed(seed, utterances[0].id))
        else:
            yield batch_of_utterances(utterances, writer, size, seed)


# Latent noise


def latent_generator(seed: int, utterance: str) -> torch.Generator:
    """The generator of an utterance's latent noise, which depends only on the seed and the utterance's id."""
    return cpu_generator(seed, "latents", utterance)


def first_latent_noise(model: FrameModel, batch: Batch, seed: int) -> Tensor:
    """The noise of the first draw of `score_utterances`, [batch, time - 1, latent], on the CPU."""
    steps = batch.frames.shape[1] - 1
    return torch.stack(
        [
            _pad_steps(model.latent_noise(int(length) - 1, latent_generator(seed, utterance)), steps)
            for utterance, length in zip(batch.utterances, batch.lengths, strict=True)
        ]
    )


def _pad_steps(values: Tensor, steps: int) -> Tensor:
    """[n, ...] -> [steps, ...], zeros at the end."""
    return F.pad(values, (0, 0, 0, steps - len(values)))


# Scores


@torch.inference_mode()
def score_utterances(
    model: FrameModel,
    batches: Iterable[Batch | LongUtterance],
    device: torch.device,
    draws: int = 1,
    importance_weighted: bool = False,
    seed: int = 0,
    frames_per_pass: int = 32_768,
    segments: Segments | None = None,
) -> Iterator[UtteranceScore]:
    """Score utterances, in the order of the batches.

    Args:
        model: the model, in evaluation mode, on `device`.
        batches: whole utterances.
        device: where to compute.
        draws: number of posterior draws of each utterance's latents.
        importance_weighted: combine the draws into the importance-weighted bound, the log of the mean weight (Burda et
            al., 2016, equation 8), instead of averaging the ELBO over them.
        seed: seed of the draws.
        frames_per_pass: largest number of frames that go through the model at once, which bounds the memory. Draws are
            computed in as many passes as this needs. A longer utterance is scored in chunks, if the model can read
            chunks (`FrameModel.future_states`).
        segments: score segments as the published evaluation does, instead of whole utterances.
    """
    for batch in batches:
        if is_long(batch, frames_per_pass) or isinstance(batch, LongUtterance):
            yield _score_long(model, batch, device, draws, importance_weighted, seed, frames_per_pass, segments)
            continue
        parts = [batch] if segments is not None or not model.many_draws else split_batch(batch, draws, frames_per_pass)
        for part in parts:
            yield from _score_batch(model, part, device, draws, importance_weighted, seed, frames_per_pass, segments)


def split_batch(batch: Batch, draws: int, frames_per_pass: int) -> Iterator[Batch]:
    """Parts of a batch, so small that a pass takes several draws of a part: what they share is then computed once."""
    rows, time, _ = batch.frames.shape
    passes = -(-draws // DRAWS_TOGETHER)
    at_once = max(1, frames_per_pass // time // -(-draws // passes))
    for first in range(0, rows, at_once):
        part = slice(first, first + at_once)
        lengths = batch.lengths[part]
        frames = batch.frames[part, : int(lengths.max())]
        yield Batch(frames, lengths, batch.starts[part], batch.utterances[part])


def _score_batch(
    model: FrameModel,
    batch: Batch,
    device: torch.device,
    draws: int,
    importance_weighted: bool,
    seed: int,
    frames_per_pass: int,
    segments: Segments | None,
) -> Iterator[UtteranceScore]:
    """Score the utterances of a batch; the arguments are those of `score_utterances`."""
    generators = [latent_generator(seed, utterance) for utterance in batch.utterances]
    draws_per_pass = max(1, frames_per_pass // batch.frames[..., 0].numel())
    frame_nats = torch.zeros(batch.frames.shape[0], batch.frames.shape[1] - 1, dtype=torch.float64)
    kl = torch.zeros(len(batch.utterances), dtype=torch.float64)
    log_weights = []
    for first in range(0, draws, draws_per_pass):
        scores = _score_draws(model, batch, generators, device, min(draws_per_pass, draws - first), segments)
        frame_nats += scores.elbo.sum(0) / draws
        kl += scores.kl.sum(0) / draws
        log_weights.append(scores.log_weight)
    weighted = torch.logsumexp(torch.cat(log_weights), 0) - math.log(draws)  # [batch]
    nats = weighted if importance_weighted else frame_nats.sum(-1)
    for row, utterance in enumerate(batch.utterances):
        frames = int(batch.lengths[row]) - 1
        yield UtteranceScore(utterance, frames, float(nats[row]), float(kl[row]), frame_nats[row, :frames].numpy())


@dataclass
class _DrawScores:
    """Scores of a batch under several draws, float64 on the CPU, in nats."""

    elbo: Tensor  # of each frame, [draws, batch, steps]
    kl: Tensor  # summed over frames, [draws, batch]
    log_weight: Tensor  # logarithm of the importance weight, [draws, batch]


def _score_draws(
    model: FrameModel,
    batch: Batch,
    generators: list[torch.Generator],
    device: torch.device,
    draws: int,
    segments: Segments | None,
) -> _DrawScores:
    """Score a batch under the next draws of each utterance's generator."""
    size, time, _ = batch.frames.shape
    # The draws of an utterance come one after another from its generator, however many of them a pass computes.
    noise = [
        [_pad_steps(model.latent_noise(int(length) - 1, generator), time - 1) for _ in range(draws)]
        for generator, length in zip(generators, batch.lengths, strict=True)
    ]
    noise_by_draw = torch.stack([noise[row][draw] for draw in range(draws) for row in range(size)]).to(device)
    frames, lengths = batch.frames.to(device), batch.lengths.to(device)
    if segments is None and model.many_draws:
        terms = model(frames, lengths, noise=noise_by_draw)
        lengths = lengths.repeat(draws)
    elif segments is None:
        lengths = lengths.repeat(draws)
        terms = model(frames.repeat(draws, 1, 1), lengths, noise=noise_by_draw)
    else:
        frames, lengths = frames.repeat(draws, 1, 1), lengths.repeat(draws)
        segment_frames, segment_lengths = cut_frames(frames, segments)
        terms = model(segment_frames, segment_lengths, noise=_cut_noise(noise_by_draw, segments))
    scored = scored_steps(lengths, time - 1)

    def by_draw(values: Tensor) -> Tensor:
        """[draws * batch, steps], or the same in segments -> [draws, batch, steps]."""
        if segments is not None:
            values = torch.where(scored, values.reshape(len(lengths), -1)[:, : time - 1], 0)
        return values.double().cpu().reshape(draws, size, time - 1)

    return _DrawScores(
        elbo=by_draw(terms.elbo),
        kl=by_draw(terms.kl).sum(-1),
        log_weight=by_draw(terms.log_likelihood + terms.log_latent_ratio).sum(-1),
    )


def _score_long(
    model: FrameModel,
    source: Batch | LongUtterance,
    device: torch.device,
    draws: int,
    importance_weighted: bool,
    seed: int,
    frames_per_pass: int,
    segments: Segments | None,
) -> UtteranceScore:
    """Score a long utterance chunk by chunk; the arguments are those of `score_utterances`."""
    name, steps = source.utterances[0], int(source.lengths[0]) - 1
    generator = latent_generator(seed, name)
    if segments is None:
        utterance = ChunkedUtterance(model, source, frames_per_pass)
    else:
        borders = chunk_borders(steps, frames_per_pass, math.lcm(BLOCK_STEPS, segments.steps))
        chunks = Chunks(source, borders, device)
    frame_nats, kl = torch.zeros(steps, dtype=torch.float64), 0.0
    log_weights = torch.zeros(draws, dtype=torch.float64)
    for draw in range(draws):
        first = 0
        passes = utterance.terms(generator) if segments is None else _segment_terms(model, chunks, generator, segments)
        for terms, scored in passes:
            last = first + scored
            frame_nats[first:last] += _first_steps(terms.elbo, scored) / draws
            kl += float(_first_steps(terms.kl, scored).sum()) / draws
            log_weights[draw] += _first_steps(terms.log_likelihood + terms.log_latent_ratio, scored).sum()
            first = last
    nats = torch.logsumexp(log_weights, 0) - math.log(draws) if importance_weighted else frame_nats.sum()
    return UtteranceScore(name, steps, float(nats), kl, frame_nats.numpy())


def _first_steps(values: Tensor, steps: int) -> Tensor:
    """The terms of the first steps of an utterance, from [1, steps] or from its segments: float64 on the CPU."""
    return values.flatten()[:steps].double().cpu()


# Segments of the published evaluation


def _segment_terms(
    model: FrameModel, chunks: Chunks, generator: torch.Generator, segments: Segments
) -> Iterator[tuple[FrameTerms, int]]:
    """The terms of the segments in each chunk of an utterance, and the number of its steps."""
    for first, frames in zip(chunks.borders, chunks, strict=False):
        steps = frames.shape[1] - 1
        noise = model.latent_noise(steps, generator).unsqueeze(0).to(frames.device)
        in_chunk = dataclasses.replace(segments, longest=segments.longest - first)
        segment_frames, segment_lengths = cut_frames(frames, in_chunk)
        yield model(segment_frames, segment_lengths, noise=_cut_noise(noise, segments)), steps


def cut_frames(frames: Tensor, segments: Segments) -> tuple[Tensor, Tensor]:
    """Cut rows of frames into segments.

    Args:
        frames: padded utterances, [rows, time, frame_size].
        segments: how to cut them.

    Returns:
        The segments, [rows * segments, steps + 1, frame_size], those of a row one after another, and the length of each
        in frames. Every segment has the full length except the last one of the longest utterance.
    """
    rows, time, _ = frames.shape
    starts = torch.arange(0, time - 1, segments.steps, device=frames.device)  # [segments]
    padded = F.pad(frames, (0, 0, 0, len(starts) * segments.steps + 1 - time))
    cut = padded.unfold(1, segments.steps + 1, segments.steps).transpose(2, 3)  # [rows, segments, steps + 1, size]
    return cut.flatten(0, 1), (segments.longest - starts).clamp(max=segments.steps).add(1).repeat(rows)


def _cut_noise(noise: Tensor, segments: Segments) -> Tensor:
    """The noise of each segment: [rows, steps, latent] -> [rows * segments, segment steps, latent]."""
    rows, steps, latent_size = noise.shape
    count = -(-steps // segments.steps)
    padded = F.pad(noise, (0, 0, 0, count * segments.steps - steps))
    return padded.reshape(rows * count, segments.steps, latent_size)
