"""Score whole utterances: the bound of each, whatever batch it stands in."""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from zfaudio.data.loader import Batch
from zfaudio.models import FrameModel
from zfaudio.models.base import on, scored_steps
from zfaudio.seeds import cpu_generator


@dataclass
class UtteranceScore:
    """The bound on one utterance's log-likelihood, in nats in standardized space."""

    utterance: str
    frames: int  # scored frames
    nats: float  # the bound, summed over them
    kl: float  # KL(q || p), summed over them
    frame_nats: np.ndarray  # ELBO of each frame, averaged over draws, [frames]


@dataclass(frozen=True)
class Cut:
    """The segments that the published evaluation of Z-forcing scores each from a state of zeros.

    So does eval_timit.py of the published code: it goes through a batch of utterances, padded with frames of zeros to
    the longest of the test part, `steps` frames at a time. Forward and backward LSTM start every segment from zeros; a
    segment's input frame is the last scored frame of the one before. Padding is not scored, but the backward LSTM
    reads the padding of an utterance's last segment before the utterance itself.
    """

    longest: int  # scored frames of the longest utterance, where the padding ends
    steps: int = 40  # scored frames of a segment


@torch.inference_mode()
def score_utterances(
    model: FrameModel,
    batches: Iterable[Batch],
    device: torch.device,
    draws: int = 1,
    importance_weighted: bool = False,
    seed: int = 0,
    frames_per_pass: int = 32_768,
    cut: Cut | None = None,
) -> Iterator[UtteranceScore]:
    """Scores, in the order of the batches.

    Latents are drawn from a generator of each utterance's own, so that a score does not depend on the batch.

    Args:
        model: in evaluation mode, on `device`.
        batches: whole utterances.
        device: where to compute.
        draws: posterior draws of an utterance's latents.
        importance_weighted: combine the draws to the importance-weighted bound, log of the mean weight (Burda et
            al., 2016, equation 8), instead of averaging the ELBO over them.
        seed: of the draws.
        frames_per_pass: frames that go through the model at once, which bounds the memory: draws are taken in as many
            passes as it asks for, and of a pass nothing is kept but sums and the draws' weights.
        cut: score segments instead of whole utterances.
    """
    for batch in batches:
        generators = [latent_generator(seed, utterance) for utterance in batch.utterances]
        draws_per_pass = max(1, frames_per_pass // batch.frames[..., 0].numel())
        frame_nats = torch.zeros(batch.frames.shape[0], batch.frames.shape[1] - 1, dtype=torch.float64)
        kl = torch.zeros(len(batch.utterances), dtype=torch.float64)
        log_weights = []
        for first in range(0, draws, draws_per_pass):
            terms = _terms_of_draws(model, batch, generators, device, min(draws_per_pass, draws - first), cut)
            frame_nats += terms.elbo.sum(0) / draws
            kl += terms.kl.sum(0) / draws
            log_weights.append(terms.log_weight)
        if importance_weighted:
            nats = torch.logsumexp(torch.cat(log_weights), 0) - math.log(draws)  # [batch]
        else:
            nats = frame_nats.sum(-1)
        for row, utterance in enumerate(batch.utterances):
            frames = int(batch.lengths[row]) - 1
            yield UtteranceScore(utterance, frames, float(nats[row]), float(kl[row]), frame_nats[row, :frames].numpy())


def latent_generator(seed: int, utterance: str) -> torch.Generator:
    """What an utterance's latents are drawn with; it depends on the seed and the utterance's id alone."""
    return cpu_generator(seed, "latents", utterance)


@dataclass
class _DrawTerms:
    """What some draws score, float64 on the CPU."""

    elbo: Tensor  # of each frame, [draws, batch, steps]
    kl: Tensor  # [draws, batch]
    log_weight: Tensor  # importance weight, [draws, batch]


def _terms_of_draws(
    model: FrameModel,
    batch: Batch,
    generators: list[torch.Generator],
    device: torch.device,
    draws: int,
    cut: Cut | None,
) -> _DrawTerms:
    """The next `draws` draws of each utterance."""
    size, time, _ = batch.frames.shape
    noise = [
        [pad_steps(model.latent_noise(int(length) - 1, generator), time - 1) for _ in range(draws)]
        for generator, length in zip(generators, batch.lengths, strict=True)
    ]  # an utterance's draws come one after another from its generator, however many a pass takes
    noise_by_draw = torch.stack([noise[row][draw] for draw in range(draws) for row in range(size)]).to(device)
    frames, lengths = batch.frames.to(device).repeat(draws, 1, 1), batch.lengths.to(device).repeat(draws)
    if cut is None:
        terms = model(frames, lengths, noise=noise_by_draw)
    else:
        segments, segment_lengths = cut_frames(frames, cut)
        terms = model(segments, segment_lengths, noise=cut_noise(noise_by_draw, cut))
    scored = scored_steps(lengths, time - 1)

    def by_draw(values: Tensor) -> Tensor:
        if cut is not None:
            values = on(scored, values.reshape(len(frames), -1)[:, : time - 1])
        return values.double().cpu().unflatten(0, (draws, size))

    return _DrawTerms(
        by_draw(terms.elbo),
        by_draw(terms.kl).sum(-1),
        by_draw(terms.log_likelihood + terms.log_latent_ratio).sum(-1),
    )


def pad_steps(values: Tensor, steps: int) -> Tensor:
    """[n, ...] -> [steps, ...], zeros behind."""
    return F.pad(values, (0, 0, 0, steps - len(values)))


def cut_frames(frames: Tensor, cut: Cut) -> tuple[Tensor, Tensor]:
    """The segments of rows [rows, time, size]: [rows * segments, cut.steps + 1, size], and their lengths in frames.

    A row's segments follow one another. All are of full length but the longest utterance's last.
    """
    rows, time, _ = frames.shape
    starts = torch.arange(0, time - 1, cut.steps, device=frames.device)  # [segments]
    padded = F.pad(frames, (0, 0, 0, len(starts) * cut.steps + 1 - time))
    segments = padded.unfold(1, cut.steps + 1, cut.steps).transpose(2, 3)  # [rows, segments, cut.steps + 1, size]
    return segments.flatten(0, 1), (cut.longest - starts).clamp(max=cut.steps).add(1).repeat(rows)


def cut_noise(noise: Tensor, cut: Cut) -> Tensor:
    """The segments' noise: [rows, steps, latent] -> [rows * segments, cut.steps, latent]."""
    segments = -(-noise.shape[1] // cut.steps)
    padded = F.pad(noise, (0, 0, 0, segments * cut.steps - noise.shape[1]))
    return padded.unflatten(1, (segments, cut.steps)).flatten(0, 1)
