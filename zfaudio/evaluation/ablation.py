"""What a model's latents carry, and how much the bound loses without them or without the recurrent state.

All numbers are in nats per frame in standardized space, averaged over the scored frames of whole utterances, with one
draw of the latents (the first one of `zfaudio evaluate`). Three passes with the same noise are compared:

    full          z ~ q:  E_q[log p(x | z)] - KL(q || p)              the bound itself
    prior_drawn   z ~ p:  E_p[log p(x | z)]                           without what the posterior knows
    state_cut     z ~ q:  E_q[log p(x | z, state 0)] - KL(q || p)     without what the state h_t knows

The second pass is also a bound, that of a posterior equal to the prior, whose KL is 0. All three passes read the true
frames, so the prior still knows the past; and in the third pass the networks of the latents still read the state.

A loss is given in nats, and as a fraction of what the model gains over the i.i.d. Gaussian. A fraction of the density
itself would mean nothing, because its value depends on the unit of the samples.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from zfaudio.data.batches import Batch, LongUtterance
from zfaudio.distributions import DiagonalGaussian, gaussian_kl
from zfaudio.evaluation.collapse import has_collapsed
from zfaudio.evaluation.scoring import first_latent_noise, latent_generator
from zfaudio.evaluation.units import Interval, average_per_frame, bootstrap_interval
from zfaudio.models.base import Ablation, FrameModel, FrameTerms, Latents, scored_steps
from zfaudio.models.chunks import ChunkedUtterance, is_long
from zfaudio.text import format_number

ACTIVE_VARIANCE = 0.01  # variance over frames of a unit's posterior mean (Burda et al., 2016, section 5.2)
ACTIVE_KL = 0.01  # nats per frame
MOST_OF_KL = 0.9


@dataclass
class LatentUsage:
    """What the latents carry, in nats per frame.

    Active units are counted in two ways, because the prior is learned. The usual count is by the variance of the
    posterior mean. But a posterior mean that follows a moving prior varies without carrying information, so units are
    also counted by their KL, which measures only what the prior did not know.
    """

    latent_size: int
    kl_per_frame: float
    kl_per_dimension: list[float]  # in decreasing order
    dimensions_of_90_percent: int  # number of dimensions, largest first, that carry 90 % of the KL
    active_by_variance: int  # units whose posterior mean has a variance above 0.01 over frames
    active_by_kl: int  # units whose average KL is above 0.01 nats
    collapsed: bool


@dataclass
class AblationLoss:
    """The bound without one part of the model, and what it loses; see the docstring of this file."""

    nats_per_frame: float
    lost_nats_per_frame: float
    lost_nats_per_frame_ci95: Interval | None  # bootstrap over utterances, of the difference; None for one utterance
    lost_median_frame_nats: float  # shows whether a few frames that a narrow density misses make up the average
    lost_fraction: float | None  # of the gain over the i.i.d. Gaussian; None if there is no gain, or no recordings

    @property
    def change(self) -> float:
        """How much higher the bound is without the part: negative for a loss, in nats per frame."""
        return -self.lost_nats_per_frame

    @property
    def change_ci95(self) -> Interval | None:
        """The interval of `change`."""
        lost = self.lost_nats_per_frame_ci95
        return None if lost is None else (-lost[1], -lost[0])

    @property
    def change_at_median(self) -> float:
        """`change` at the median frame."""
        return -self.lost_median_frame_nats

    @property
    def share_lost(self) -> str:
        """`lost_fraction` in words; empty if there is none."""
        if self.lost_fraction is None:
            return ""
        if self.lost_fraction > 1:
            return "all and more"
        return "none" if self.lost_fraction <= 0 else f"{format_number(100 * self.lost_fraction, 1)} %"


class UtteranceTerms(NamedTuple):
    """The terms at the scored frames of an utterance, [frames] in nats."""

    log_likelihood: np.ndarray
    kl: np.ndarray
    prior_drawn: np.ndarray | None  # log p(x | z) with z drawn from the prior; None without latents
    state_cut: np.ndarray | None  # log p(x | z) without the state; None without a state


@dataclass
class LatentTotals:
    """Totals over scored frames for each dimension of the latents, [latent] in float64."""

    frames: int
    kl: np.ndarray  # nats
    mean: np.ndarray  # of the posterior mean
    squared_mean: np.ndarray  # of the square of the posterior mean

    def __add__(self, other: "LatentTotals") -> "LatentTotals":
        return LatentTotals(
            frames=self.frames + other.frames,
            kl=self.kl + other.kl,
            mean=self.mean + other.mean,
            squared_mean=self.squared_mean + other.squared_mean,
        )


@torch.inference_mode()
def run_passes(
    model: FrameModel, batch: Batch | LongUtterance, seed: int, frames_at_once: int = 32_768
) -> tuple[list[UtteranceTerms], LatentTotals | None]:
    """Score a batch in the three passes.

    A model without a state (`FrameTerms.hidden` is None) has no pass without it; a model without latents has no pass
    with latents drawn from the prior.

    Args:
        model: the model, in evaluation mode.
        batch: whole utterances, or one that is read in chunks.
        seed: seed of the latents.
        frames_at_once: number of frames above which a single utterance is read in chunks.

    Returns:
        The terms of each utterance, and the totals of the latents, None without latents.
    """
    if isinstance(batch, LongUtterance) or is_long(batch, frames_at_once):
        terms_of_long, totals = _run_passes_in_chunks(model, batch, seed, frames_at_once)
        return [terms_of_long], totals
    device = next(model.parameters()).device
    frames, lengths = batch.frames.to(device), batch.lengths.to(device)
    noise = first_latent_noise(model, batch, seed).to(device)
    full = model(frames, lengths, noise=noise)
    prior_drawn = state_cut = totals = None
    if full.latents is not None:
        prior_drawn = model(frames, lengths, noise=noise, ablation="posterior").log_likelihood
        totals = total_latents(full.latents, scored_steps(lengths, frames.shape[1] - 1))
    if full.hidden is not None:
        state_cut = model(frames, lengths, noise=noise, ablation="state").log_likelihood
    terms = [
        UtteranceTerms(
            log_likelihood=_scored_values(full.log_likelihood, row, steps),
            kl=_scored_values(full.kl, row, steps),
            prior_drawn=None if prior_drawn is None else _scored_values(prior_drawn, row, steps),
            state_cut=None if state_cut is None else _scored_values(state_cut, row, steps),
        )
        for row, steps in enumerate((batch.lengths - 1).tolist())
    ]
    return terms, totals


def _run_passes_in_chunks(
    model: FrameModel, source: Batch | LongUtterance, seed: int, frames_at_once: int
) -> tuple[UtteranceTerms, LatentTotals | None]:
    """Score a long utterance in the three passes; the arguments are those of `run_passes`."""
    utterance = ChunkedUtterance(model, source, frames_at_once)

    def run_pass(ablation: Ablation) -> Iterator[FrameTerms]:
        return (terms for terms, _ in utterance.terms(latent_generator(seed, source.utterances[0]), ablation))

    def log_likelihood(ablation: Ablation) -> np.ndarray:
        return np.concatenate([_values(terms.log_likelihood[0]) for terms in run_pass(ablation)])

    full, kl = [], []
    totals: LatentTotals | None = None
    for terms in run_pass("none"):
        full.append(_values(terms.log_likelihood[0]))
        kl.append(_values(terms.kl[0]))
        if terms.latents is not None:
            chunk_totals = total_latents(terms.latents, torch.ones_like(terms.kl, dtype=torch.bool))
            totals = chunk_totals if totals is None else totals + chunk_totals
        has_state = terms.hidden is not None
    return UtteranceTerms(
        log_likelihood=np.concatenate(full),
        kl=np.concatenate(kl),
        prior_drawn=None if totals is None else log_likelihood("posterior"),
        state_cut=log_likelihood("state") if has_state else None,
    ), totals


def _scored_values(values: Tensor, row: int, steps: int) -> np.ndarray:
    return _values(values[row, :steps])


def _values(values: Tensor) -> np.ndarray:
    array: np.ndarray = values.double().cpu().numpy()
    return array


def total_latents(latents: Latents, scored: Tensor) -> LatentTotals:
    """Totals over the steps that score a frame; `scored` is bool, [batch, steps]."""
    prior, posterior = (
        # The last axis of length one keeps the dimensions apart, because gaussian_kl sums over the last axis.
        DiagonalGaussian(
            distribution.mean[scored].double().unsqueeze(-1),
            distribution.log_variance[scored].double().unsqueeze(-1),
        )
        for distribution in (latents.prior, latents.posterior)
    )
    mean = posterior.mean.squeeze(-1).cpu().numpy()  # [frames, latent]
    return LatentTotals(
        frames=len(mean),
        kl=gaussian_kl(posterior, prior).sum(0).cpu().numpy(),
        mean=mean.sum(0),
        squared_mean=np.square(mean).sum(0),
    )


def latent_usage(totals: LatentTotals, frames: float | None = None) -> LatentUsage:
    """What the latents carry, from totals over frames; `frames` of a picture or sentence, see `frames_judged`."""
    kl = np.sort(totals.kl / totals.frames)[::-1]
    kl_per_frame = float(kl.sum())
    variance = totals.squared_mean / totals.frames - np.square(totals.mean / totals.frames)
    return LatentUsage(
        latent_size=len(kl),
        kl_per_frame=kl_per_frame,
        kl_per_dimension=kl.tolist(),
        dimensions_of_90_percent=(
            1 + int(np.searchsorted(kl.cumsum(), MOST_OF_KL * kl_per_frame)) if kl_per_frame > 0 else 0
        ),
        active_by_variance=int((variance > ACTIVE_VARIANCE).sum()),
        active_by_kl=int((kl > ACTIVE_KL).sum()),
        collapsed=has_collapsed(kl_per_frame, frames=frames),
    )


def ablation_loss(bound: list[np.ndarray], ablated: list[np.ndarray], gaussian: float | None) -> AblationLoss:
    """Compare a pass with the bound.

    Args:
        bound: the bound at the frames of each utterance, [frames] in nats.
        ablated: the same without one part of the model.
        gaussian: score of the i.i.d. Gaussian, in nats per frame; None for pixels and words.
    """
    frames = np.array([len(nats) for nats in bound])
    lost = [nats - ablated_nats for nats, ablated_nats in zip(bound, ablated, strict=True)]
    lost_by_utterance = np.array([nats.sum() for nats in lost])
    average, lost_average = float(np.concatenate(bound).mean()), average_per_frame(lost_by_utterance, frames)
    return AblationLoss(
        nats_per_frame=average - lost_average,
        lost_nats_per_frame=lost_average,
        lost_nats_per_frame_ci95=bootstrap_interval(lost_by_utterance, frames),
        lost_median_frame_nats=float(np.median(np.concatenate(lost))),
        lost_fraction=None if gaussian is None or average <= gaussian else lost_average / (average - gaussian),
    )
