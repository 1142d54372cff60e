"""Scores of whole utterances. The score of an utterance does not depend on the batch it is computed in."""

import dataclasses
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from zfaudio.data.batches import Batch
from zfaudio.data.loader import whole_utterances
from zfaudio.data.manifest import read_manifest
from zfaudio.errors import UserError
from zfaudio.experiment.checkpoint import Checkpoint
from zfaudio.models.base import FrameModel, scored_steps
from zfaudio.seeds import cpu_generator


@dataclass
class UtteranceScore:
    """The bound on the log-likelihood of one utterance, in nats in standardized space."""

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


def check_shards_fit(trained: Checkpoint, location: str, split: str) -> None:
    """Raises UserError if the model cannot score these shards, or if they have no such split."""
    manifest = read_manifest(location)
    for name in ("frame_size", "sample_rate"):
        trained_with, found = getattr(trained.manifest, name), getattr(manifest, name)
        if trained_with != found:
            raise UserError(
                f"{location}: shards of {name} {found}, but {trained.path} was trained at {trained_with}; "
                f"make them again with zfaudio shard --{name.replace('_', '-')} {trained_with}"
            )
    manifest.split(split)


def utterance_batches(
    trained: Checkpoint, location: str, split: str, frames_per_batch: int, seed: int, every: int = 1
) -> Iterator[Batch]:
    """Whole utterances of a split, standardized as in training.

    Args:
        trained: the checkpoint whose standardization and data settings apply.
        location: folder or address of the shards.
        split: train, valid or test.
        frames_per_batch: largest batch x time of a batch, unless a single utterance is longer.
        seed: seed of the dequantization noise.
        every: read only every n-th utterance.
    """
    manifest = dataclasses.replace(
        read_manifest(location), mean=trained.manifest.mean, deviation=trained.manifest.deviation
    )
    return whole_utterances(location, manifest, split, trained.config.data, frames_per_batch, seed, world=every)


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
    batches: Iterable[Batch],
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
            computed in as many passes as this needs.
        segments: score segments as the published evaluation does, instead of whole utterances.
    """
    for batch in batches:
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
        if importance_weighted:
            nats = torch.logsumexp(torch.cat(log_weights), 0) - math.log(draws)  # [batch]
        else:
            nats = frame_nats.sum(-1)
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
    frames, lengths = batch.frames.to(device).repeat(draws, 1, 1), batch.lengths.to(device).repeat(draws)
    if segments is None:
        terms = model(frames, lengths, noise=noise_by_draw)
    else:
        segment_frames, segment_lengths = cut_frames(frames, segments)
        terms = model(segment_frames, segment_lengths, noise=_cut_noise(noise_by_draw, segments))
    scored = scored_steps(lengths, time - 1)

    def by_draw(values: Tensor) -> Tensor:
        """[draws * batch, steps], or the same in segments -> [draws, batch, steps]."""
        if segments is not None:
            values = torch.where(scored, values.reshape(len(frames), -1)[:, : time - 1], 0)
        return values.double().cpu().reshape(draws, size, time - 1)

    return _DrawScores(
        elbo=by_draw(terms.elbo),
        kl=by_draw(terms.kl).sum(-1),
        log_weight=by_draw(terms.log_likelihood + terms.log_latent_ratio).sum(-1),
    )


# Segments of the published evaluation


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
