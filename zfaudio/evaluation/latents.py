"""`zfaudio latents`: whether a model's latents are at work, and what they and its state are worth.

Everything is in nats a frame in standardized space, averaged over the scored frames of whole utterances, with one draw
of the latents (the first that `zfaudio evaluate` takes). Three passes with the same noise are compared:

    kept          z ~ q:  E_q[log p(x | z)] - KL(q || p)              the bound itself
    prior-drawn   z ~ p:  E_p[log p(x | z)]                           what the posterior knows is taken away
    state cut     z ~ q:  E_q[log p(x | z, state 0)] - KL(q || p)     what the state h_t knows is taken away

The second is a bound as well: that of a posterior which is the prior, whose KL is nothing. The model reads the true
frames in all three: z_t is drawn from a prior that knows the past, and in the third the network that z_t is drawn with
still reads the state. What a pass loses is a number of nats. Its fraction is of what the model gains over the i.i.d.
Gaussian, because a density's own value has no zero: it moves with the unit that samples are counted in.

A model without latents has the state cut alone.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from zfaudio.command import command_line
from zfaudio.data.loader import Batch
from zfaudio.data.manifest import read_manifest
from zfaudio.device import DeviceName, pick_device
from zfaudio.distributions import DiagonalGaussian, gaussian_kl
from zfaudio.errors import UserError
from zfaudio.evaluation.collapse import collapse_warning, has_collapsed
from zfaudio.evaluation.evaluate import check_fit, measure_audio
from zfaudio.evaluation.passes import draw_latents, utterance_batches
from zfaudio.evaluation.phone_probe import ProbeResult, probe_phones
from zfaudio.evaluation.units import average_per_frame, bootstrap_interval
from zfaudio.experiment.checkpoint import Checkpoint, load_checkpoint
from zfaudio.experiment.results import write_result
from zfaudio.models import FrameModel
from zfaudio.models.base import Latents, scored_steps

RESULT = "latents.json"

ACTIVE_VARIANCE = 0.01  # of a unit's posterior mean over frames (Burda et al., 2016, section 5.2)
ACTIVE_KL = 0.01  # nats a frame
BULK = 0.9  # of the KL


@dataclass
class Usage:
    """What the latents carry, in nats a frame.

    Two counts of active units, because the prior is learned. Variance of the posterior's mean over frames is the usual
    one, but a mean that follows a prior that moves with the state varies without telling anything new; KL counts only
    what the prior did not know.
    """

    latent_size: int
    kl_per_frame: float
    kl_per_dimension: list[float]  # largest first
    dimensions_of_90_percent: int  # as many of the largest carry 90 % of the KL
    active_by_variance: int  # variance over frames of the posterior's mean above 0.01
    active_by_kl: int  # average KL above 0.01 nats
    collapsed: bool


@dataclass
class Ablated:
    """The bound without something, see this file's docstring."""

    nats_per_frame: float
    lost_nats_per_frame: float
    lost_nats_per_frame_ci95: tuple[float, float]  # bootstrap over utterances, of the difference
    lost_median_frame_nats: float  # a few frames that a narrow density misses can make up the whole average
    lost_fraction: float | None  # of the gain over the i.i.d. Gaussian; None where there is no gain


@dataclass
class LatentsResult:
    """The content of latents.json."""

    model: str
    checkpoint_step: int
    split: str
    utterances: int
    frames: int
    seed: int
    dequantized: bool
    bound: str  # elbo or exact
    nats_per_frame: float
    log_likelihood: float  # its term log p(x | z), nats a frame
    iid_gaussian_nats_per_frame: float
    usage: Usage | None  # None without latents
    prior_drawn: Ablated | None  # None without latents
    state_cut: Ablated
    probe: ProbeResult | None  # None without --phones
    command: str


class UtteranceTerms(NamedTuple):
    """Terms at the scored frames of an utterance, [frames] in nats."""

    log_likelihood: np.ndarray
    kl: np.ndarray
    prior_drawn: np.ndarray  # log p(x | z) with z drawn from the prior
    state_cut: np.ndarray  # log p(x | z) with the state cut


class LatentSums(NamedTuple):
    """Sums over scored frames, of each dimension [latent] in float64."""

    frames: int
    kl: np.ndarray  # nats
    mean: np.ndarray  # of the posterior
    square: np.ndarray  # of the posterior's mean


def latents(
    exp: Path,
    *,
    shards: str = "",
    split: str = "test",
    json: Path | None = None,
    phones: Path | None = None,
    seed: int = 0,
    device: DeviceName = "auto",
    frames_per_batch: int = 32_768,
) -> None:
    """Say whether a model's latents are at work: what they carry, and what is lost without them or without the state.

    With --phones also what they tell of phones: a linear classifier on the posterior's means, the prior's means and the
    states, fitted on 20,000 training frames at most and scored on as many of the split, beside the commonest phone.

    Args:
        exp: an experiment, whose best checkpoint is taken, or a checkpoint.
        shards: folder or address of the shards; those the model was trained on when left out.
        split: which part of them.
        json: write the result there; EXP/latents.json of an experiment when left out, where zfaudio report looks.
        phones: folder of data directories with phone alignments, train/phones.ctm and so on, as data_prep.timit writes.
        seed: of noise and draws.
        device: where to compute.
        frames_per_batch: frames at once, padding included; bounds the memory.
    """
    if frames_per_batch < 1:
        raise UserError("--frames-per-batch must be at least 1")
    trained = load_checkpoint(exp, pick_device(device))
    if not trained.model.initial_state(1):
        name = trained.config.model.name
        raise UserError(f"{exp}: {name} has neither latents nor a state; there is nothing to take away from it")
    location = shards or trained.config.data.shards
    check_fit(trained, read_manifest(location), location, split)
    result = measure(trained, location, split, seed, frames_per_batch)
    if phones is not None:
        result.probe = probe_phones(trained, location, phones, split, frames_per_batch, seed)
    print(describe(result))
    if json is None and trained.path != exp.resolve():
        json = exp / RESULT
    if json is not None:
        write_result(json, result)


def measure(trained: Checkpoint, location: str, split: str, seed: int, frames_per_batch: int) -> LatentsResult:
    """Run the three passes over a split; the result without a probe.

    Raises:
        UserError: the split holds nothing to score.
    """
    audio = measure_audio(trained, location, split)
    terms: list[UtteranceTerms] = []
    sums: LatentSums | None = None
    with tqdm(total=read_manifest(location).split(split).utterances, unit="utt", desc=split, disable=None) as bar:
        for batch in utterance_batches(trained, location, split, frames_per_batch, seed):
            terms_of_batch, sums_of_batch = run_passes(trained.model, batch, seed)
            terms += terms_of_batch
            sums = sums_of_batch if sums is None or sums_of_batch is None else merge(sums, sums_of_batch)
            bar.update(len(batch.utterances))
    gaussian = audio.references.iid_gaussian_nats_per_frame
    bound = [one.log_likelihood - one.kl for one in terms]
    return LatentsResult(
        model=trained.config.model.name,
        checkpoint_step=trained.step,
        split=split,
        utterances=len(terms),
        frames=sum(len(one) for one in bound),
        seed=seed,
        dequantized=trained.config.data.dequantize,
        bound=trained.model.bound,
        nats_per_frame=float(np.concatenate(bound).mean()),
        log_likelihood=float(np.concatenate([one.log_likelihood for one in terms]).mean()),
        iid_gaussian_nats_per_frame=gaussian,
        usage=None if sums is None else usage_of(sums),
        prior_drawn=None if sums is None else compare(bound, [one.prior_drawn for one in terms], gaussian),
        state_cut=compare(bound, [one.state_cut - one.kl for one in terms], gaussian),
        probe=None,
        command=command_line(),
    )


@torch.inference_mode()
def run_passes(model: FrameModel, batch: Batch, seed: int) -> tuple[list[UtteranceTerms], LatentSums | None]:
    """The terms of each utterance under each pass, and what its latents did; None without latents."""
    device = next(model.parameters()).device
    frames, lengths = batch.frames.to(device), batch.lengths.to(device)
    noise = draw_latents(model, batch, seed).to(device)
    kept = model(frames, lengths, noise=noise)
    state_cut = model(frames, lengths, noise=noise, ablation="state").log_likelihood
    if kept.latents is None:
        prior_drawn, sums = kept.log_likelihood, None
    else:
        prior_drawn = model(frames, lengths, noise=noise, ablation="posterior").log_likelihood
        sums = sum_latents(kept.latents, scored_steps(lengths, frames.shape[1] - 1))
    terms = torch.stack([kept.log_likelihood, kept.kl, prior_drawn, state_cut], 1).double().cpu().numpy()
    return [UtteranceTerms(*row[:, : length - 1]) for row, length in zip(terms, batch.lengths, strict=True)], sums


def sum_latents(latents: Latents, scored: Tensor) -> LatentSums:
    """Sums over the steps of sequences that score a frame: bool `scored` [batch, steps]."""
    prior, posterior = (
        # A last axis of one, so that a sum over it leaves the dimensions apart.
        DiagonalGaussian(one.mean[scored].double().unsqueeze(-1), one.log_variance[scored].double().unsqueeze(-1))
        for one in (latents.prior, latents.posterior)
    )
    mean = posterior.mean.squeeze(-1).cpu().numpy()  # [frames, latent]
    return LatentSums(
        frames=len(mean),
        kl=gaussian_kl(posterior, prior).sum(0).cpu().numpy(),
        mean=mean.sum(0),
        square=np.square(mean).sum(0),
    )


def merge(one: LatentSums, other: LatentSums) -> LatentSums:
    """Sums over the frames of both."""
    return LatentSums(one.frames + other.frames, one.kl + other.kl, one.mean + other.mean, one.square + other.square)


def usage_of(sums: LatentSums) -> Usage:
    """What sums over frames say of the latents."""
    kl = np.sort(sums.kl / sums.frames)[::-1]
    total = float(kl.sum())
    variance = sums.square / sums.frames - np.square(sums.mean / sums.frames)
    return Usage(
        latent_size=len(kl),
        kl_per_frame=total,
        kl_per_dimension=kl.tolist(),
        dimensions_of_90_percent=1 + int(np.searchsorted(kl.cumsum(), BULK * total)) if total > 0 else 0,
        active_by_variance=int((variance > ACTIVE_VARIANCE).sum()),
        active_by_kl=int((kl > ACTIVE_KL).sum()),
        collapsed=has_collapsed(total),
    )


def compare(bound: list[np.ndarray], without: list[np.ndarray], gaussian: float) -> Ablated:
    """What a pass says beside the bound: both at the frames of each utterance, [frames] in nats.

    `gaussian` is what the i.i.d. Gaussian scores, in nats a frame.
    """
    frames = np.array([len(one) for one in bound])
    lost = [kept - left for kept, left in zip(bound, without, strict=True)]
    lost_by_utterance = np.array([one.sum() for one in lost])
    average, lost_average = float(np.concatenate(bound).mean()), average_per_frame(lost_by_utterance, frames)
    return Ablated(
        nats_per_frame=average - lost_average,
        lost_nats_per_frame=lost_average,
        lost_nats_per_frame_ci95=bootstrap_interval(lost_by_utterance, frames),
        lost_median_frame_nats=float(np.median(np.concatenate(lost))),
        lost_fraction=lost_average / (average - gaussian) if average > gaussian else None,
    )


def describe(result: LatentsResult) -> str:
    """A few lines for the terminal."""
    sign = "" if result.bound == "exact" else ">= "
    lines = [
        f"{result.model}, {result.split}: {result.utterances} utterances, {result.frames} frames",
        f"log-likelihood                     {sign}{result.nats_per_frame:.2f} nats a frame",
    ]
    if result.prior_drawn is not None:
        lines.append(f"    latents drawn from the prior   {describe_loss(result.prior_drawn)}")
    lines.append(f"    without the state              {describe_loss(result.state_cut)}")
    if result.usage is None:
        lines.append(f"{result.model} has no latents: no KL, no active units")
    else:
        usage = result.usage
        largest = ", ".join(f"{kl:.2f}" for kl in usage.kl_per_dimension[:8])
        lines += [
            f"KL                                 {usage.kl_per_frame:.2f} nats a frame; 90 % of it in "
            f"{usage.dimensions_of_90_percent} of {usage.latent_size} dimensions (largest: {largest})",
            f"active units                       {usage.active_by_variance} by the variance of the posterior's mean "
            f"(> {ACTIVE_VARIANCE}), {usage.active_by_kl} by KL (> {ACTIVE_KL} nats a frame)",
        ]
        if usage.collapsed:
            lines.append(f"warning: {collapse_warning(usage.kl_per_frame)}")
    if result.probe is not None:
        lines += describe_probe(result.probe)
    return "\n".join(lines)


def describe_loss(loss: Ablated) -> str:
    """A pass's bound and what it loses."""
    low, high = loss.lost_nats_per_frame_ci95
    share = ""
    if loss.lost_fraction is not None:
        share = f"{100 * loss.lost_fraction:.1f} %" if loss.lost_fraction <= 1 else "all and more"
        share = f"; {share} of the gain over an i.i.d. Gaussian"
    return (
        f"{loss.nats_per_frame:.2f} (95 % {low:.2f} to {high:.2f} lost, at the median frame "
        f"{loss.lost_median_frame_nats:.2f}{share})"
    )


def describe_probe(probe: ProbeResult) -> list[str]:
    """Lines on a probe."""
    return [
        f"linear probe of {probe.phones} phones: fitted on {probe.fitted_frames} frames of {probe.fitted_utterances} "
        f"utterances of {probe.fitted_split}, scored on {probe.scored_frames} of {probe.scored_utterances} of "
        f"{probe.scored_split}",
        f"    always {probe.majority_phone:<23} {100 * probe.majority_accuracy:.1f} % right",
        *(f"    {kind:<30} {100 * accuracy:.1f} %" for kind, accuracy in probe.accuracy.items()),
    ]
