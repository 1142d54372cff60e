"""Score whole utterances: the bound of each, whatever batch it stands in."""

import hashlib
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from zfaudio.loader import Batch
from zfaudio.models import FrameModel
from zfaudio.objective import elbo


@dataclass
class UtteranceScore:
    """The bound on one utterance's log-likelihood, in nats in standardised space."""

    utterance: str
    frames: int  # scored frames
    nats: float  # the bound, summed over them
    kl: float  # KL(q || p), summed over them
    frame_nats: np.ndarray  # ELBO of each frame, averaged over draws, [frames]


@torch.inference_mode()
def score_utterances(
    model: FrameModel,
    batches: Iterable[Batch],
    device: torch.device,
    draws: int = 1,
    importance_weighted: bool = False,
    seed: int = 0,
    frames_per_pass: int = 32_768,
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
        frames_per_pass: frames that go through the model at once, which bounds the memory.
    """
    for batch in batches:
        generators = [utterance_generator(seed, utterance) for utterance in batch.utterances]
        draws_per_pass = max(1, frames_per_pass // batch.frames[..., 0].numel())
        passes = [
            _terms_of_draws(model, batch, generators, device, min(draws_per_pass, draws - first))
            for first in range(0, draws, draws_per_pass)
        ]
        frame_nats, kl, log_weights = (torch.cat(parts) for parts in zip(*passes, strict=True))
        iwae = torch.logsumexp(log_weights, 0) - math.log(draws)  # [batch]
        nats = iwae if importance_weighted else frame_nats.sum(-1).mean(0)
        for row, utterance in enumerate(batch.utterances):
            frames = int(batch.lengths[row]) - 1
            yield UtteranceScore(
                utterance=utterance,
                frames=frames,
                nats=float(nats[row]),
                kl=float(kl[:, row].mean()),
                frame_nats=frame_nats[:, row, :frames].mean(0).numpy(),
            )


def utterance_generator(seed: int, utterance: str) -> torch.Generator:
    """A generator that depends on the seed and the utterance's name alone."""
    digest = hashlib.sha256(f"{seed} {utterance}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "little") >> 1)


def _terms_of_draws(
    model: FrameModel, batch: Batch, generators: list[torch.Generator], device: torch.device, draws: int
) -> tuple[Tensor, Tensor, Tensor]:
    """ELBO [draws, batch, steps], KL [draws, batch] and log importance weight [draws, batch], float64 on the CPU."""
    size, time, _ = batch.frames.shape
    noise = [
        [pad_steps(model.latent_noise(int(length) - 1, generator), time - 1) for _ in range(draws)]
        for generator, length in zip(generators, batch.lengths, strict=True)
    ]  # an utterance's draws come one after another from its generator, however many a pass takes
    noise_by_draw = torch.stack([noise[row][draw] for draw in range(draws) for row in range(size)])
    terms = model(
        batch.frames.to(device).repeat(draws, 1, 1),
        batch.lengths.to(device).repeat(draws),
        noise=noise_by_draw.to(device),
    )

    def by_draw(values: Tensor) -> Tensor:
        return values.double().cpu().unflatten(0, (draws, size))

    return (
        by_draw(elbo(terms)),
        by_draw(terms.kl).sum(-1),
        by_draw(terms.log_likelihood + terms.log_latent_ratio).sum(-1),
    )


def pad_steps(values: Tensor, steps: int) -> Tensor:
    """[n, ...] -> [steps, ...], zeros behind."""
    return torch.nn.functional.pad(values, (0, 0, 0, steps - len(values)))
