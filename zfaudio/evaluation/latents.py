"""`zfaudio latents`: what a model's latents carry, and how much the bound loses without them or without the state."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from tqdm import tqdm

from zfaudio.command import command_line
from zfaudio.data.known_shards import choose_shards
from zfaudio.data.manifest import read_manifest
from zfaudio.device import DeviceName, pick_device
from zfaudio.errors import UserError
from zfaudio.evaluation.ablation import (
    ACTIVE_KL,
    ACTIVE_VARIANCE,
    AblationLoss,
    LatentTotals,
    LatentUsage,
    UtteranceTerms,
    ablation_loss,
    latent_usage,
    run_passes,
)
from zfaudio.evaluation.collapse import collapse_warning, frames_judged
from zfaudio.evaluation.kept_frames import KeptFrames
from zfaudio.evaluation.phone_probe import ProbeResult, probe_phones
from zfaudio.evaluation.references import ScoredAudio, measure_split
from zfaudio.evaluation.scoring import utterance_batches
from zfaudio.evaluation.units import describe_interval
from zfaudio.experiment.checkpoint import Checkpoint, load_checkpoint
from zfaudio.experiment.shards_fit import check_shards_fit
from zfaudio.observations import Encoding, Kind, of_recordings, sequence_word
from zfaudio.text import format_number
from zfaudio.typed_json import read_json, write_json

LATENTS_FILE = "latents.json"
FORMAT_VERSION = 1

OF_RECORDINGS = ("dequantized", "iid_gaussian_nats_per_frame")  # fields that results of pixels and words lack


@dataclass
class LatentsResult:
    """The content of latents.json. Nats of recordings are in standardized space, others are of probabilities."""

    format_version: int = field(default=FORMAT_VERSION, kw_only=True)
    kind: Kind = field(default="waveform", kw_only=True)  # what a frame holds
    model: str  # its name in the configuration: a short name or an import path
    checkpoint_step: int
    split: str
    utterances: int
    frames: int
    seed: int
    encoding: Encoding = field(default="linear", kw_only=True)  # of the samples of recordings
    dequantized: bool | None = field(default=None, kw_only=True)
    bound: str  # elbo or exact
    nats_per_frame: float
    log_likelihood: float  # the term log p(x | z) of the bound, nats per frame
    iid_gaussian_nats_per_frame: float | None = field(default=None, kw_only=True)  # of 16-bit samples alone
    usage: LatentUsage | None  # None without latents
    prior_drawn: AblationLoss | None  # None without latents
    state_cut: AblationLoss | None  # None without a state
    probe: ProbeResult | None  # None without --phones
    command: str

    def __post_init__(self) -> None:
        for name in OF_RECORDINGS:
            if self.kind == "waveform" and self.encoding == "linear" and getattr(self, name) is None:
                raise ValueError(f"{name} is None, which a result of recordings must have")

    @property
    def digits(self) -> int:
        """Decimals to show nats a frame with: a pixel or a word has few."""
        return 2 if self.kind == "waveform" else 4


def latents(
    exp: str | Path,
    *,
    shards: str | Path = "",
    split: str = "test",
    json: str | Path | None = None,
    phones: str | Path | None = None,
    seed: int = 0,
    device: DeviceName = "auto",
    frames_per_batch: int = 32_768,
) -> LatentsResult:
    """Measure what a model's latents carry, and what is lost without them or without the state.

    With --phones, also measure what they tell about phones: a linear classifier is fitted on the posterior means, the
    prior means and the states at up to 20,000 training frames, scored on as many frames of the split, and compared with
    always naming the most common phone.

    Args:
        exp: an experiment, whose best checkpoint is used, or a checkpoint; or hub:user/name, a model on the Hugging
            Face hub.
        shards: folder or address of the shards; by default those that the model was trained on, if they were named on
            this machine before.
        split: the part of the shards to score: train, valid or test.
        json: file to write the result to; by default EXP/latents.json if exp is an experiment. zfaudio report looks
            there.
        phones: what the shards were made from: the folder of data directories with phone alignments (train/phones.ctm
            and so on), as data_prep.timit writes them, or manifests of lhotse that have an alignment of kind phone.
        seed: seed of the noise and the draws.
        device: where to compute; auto takes a GPU if there is one.
        frames_per_batch: largest number of frames that are scored at once, including padding. It bounds the memory:
            longer utterances are read in chunks, with the same result.

    Returns:
        The result, which the file holds too.

    Raises:
        UserError: the model has neither latents nor a state, a file cannot be read, or an option is out of range.
    """
    exp = Path(exp)
    if frames_per_batch < 1:
        raise UserError("--frames-per-batch must be at least 1")
    trained = load_checkpoint(exp, pick_device(device))
    if phones is not None:
        of_recordings(trained.manifest.observation, "--phones")
    location = choose_shards(str(shards), trained.config.data.shards, Path(exp))
    check_shards_fit(trained, location, split)
    result = measure_latents(trained, location, split, seed, frames_per_batch)
    if phones is not None:
        result.probe = probe_phones(trained, location, Path(phones), split, frames_per_batch, seed)
    if json is None and exp.is_dir() and trained.path != exp.resolve():
        json = exp / LATENTS_FILE
    try:
        if json is not None:
            write_json(Path(json), result, left_out=() if result.kind == "waveform" else OF_RECORDINGS)
    finally:  # neither a full disk nor a closed terminal should lose the result
        print(describe(result))
    return result


def read_latents(path: str | Path) -> LatentsResult:
    """Read latents.json. Raises UserError if the file is missing or is not one; the message names the wrong field."""
    return read_json(LatentsResult, Path(path), "zfaudio latents", FORMAT_VERSION)


def measure_latents(trained: Checkpoint, location: str, split: str, seed: int, frames_per_batch: int) -> LatentsResult:
    """Run the passes over a split. The result has no probe.

    Raises:
        UserError: the model has neither latents nor a state, or the split has nothing to score.
    """
    manifest = trained.manifest
    measured = measure_split(trained, location, split)
    gaussian = measured.references.iid_gaussian_nats_per_frame if isinstance(measured, ScoredAudio) else None
    terms: list[UtteranceTerms] = []
    totals: LatentTotals | None = None
    part = read_manifest(location).split(split)
    kept = KeptFrames(len(UtteranceTerms._fields) * part.frames)
    with tqdm(total=part.utterances, unit="utt", desc=split, disable=None) as bar:
        for batch in utterance_batches(trained, location, split, frames_per_batch, seed):
            batch_terms, batch_totals = run_passes(trained.model, batch, seed, frames_per_batch)
            if batch_totals is None and batch_terms[0].state_cut is None:
                name = trained.config.model.name
                raise UserError(
                    f"{trained.path}: {name} has neither latents nor a state h_t among its terms "
                    "(FrameTerms.latents, FrameTerms.hidden); there is nothing to leave out"
                )
            terms += [keep_terms(utterance, kept) for utterance in batch_terms]
            totals = batch_totals if totals is None or batch_totals is None else totals + batch_totals
            bar.update(len(batch.utterances))
    bound = [term.log_likelihood - term.kl for term in terms]
    prior_drawn = [term.prior_drawn for term in terms if term.prior_drawn is not None]
    state_cut = [term.state_cut - term.kl for term in terms if term.state_cut is not None]
    return LatentsResult(
        kind=manifest.kind,
        model=trained.config.model.name,
        checkpoint_step=trained.step,
        split=split,
        utterances=len(terms),
        frames=sum(len(nats) for nats in bound),
        seed=seed,
        encoding=manifest.encoding,
        dequantized=trained.manifest.is_dequantized(trained.config.data)
        if trained.manifest.kind == "waveform"
        else None,
        bound=trained.model.bound,
        nats_per_frame=float(np.concatenate(bound).mean()),
        log_likelihood=float(np.concatenate([term.log_likelihood for term in terms]).mean()),
        iid_gaussian_nats_per_frame=gaussian,
        usage=latent_usage(totals, frames_judged(read_manifest(location), split)) if totals else None,
        prior_drawn=ablation_loss(bound, prior_drawn, gaussian) if prior_drawn else None,
        state_cut=ablation_loss(bound, state_cut, gaussian) if state_cut else None,
        probe=None,
        command=command_line(),
    )


def keep_terms(terms: UtteranceTerms, kept: KeptFrames) -> UtteranceTerms:
    """Terms that may stay when their batch is gone."""
    return UtteranceTerms(
        log_likelihood=kept.keep(terms.log_likelihood),
        kl=kept.keep(terms.kl),
        prior_drawn=None if terms.prior_drawn is None else kept.keep(terms.prior_drawn),
        state_cut=None if terms.state_cut is None else kept.keep(terms.state_cut),
    )


# Text


def describe(result: LatentsResult) -> str:
    """The result in a few lines for the terminal."""
    sign, digits = "" if result.bound == "exact" else ">= ", result.digits
    lines = [
        f"{result.model}, {result.split}: {result.utterances} {sequence_word(result.kind)}s, {result.frames} frames",
        f"log-likelihood                     {sign}{format_number(result.nats_per_frame, digits)} nats a frame",
    ]
    if result.prior_drawn is not None:
        lines.append(f"    latents drawn from the prior   {_describe_loss(result.prior_drawn, digits)}")
    if result.state_cut is not None:
        lines.append(f"    without the state              {_describe_loss(result.state_cut, digits)}")
    if result.usage is None:
        lines.append(f"{result.model} has no latents: no KL, no active units")
    else:
        usage = result.usage
        largest = ", ".join(format_number(kl, digits) for kl in usage.kl_per_dimension[:8])
        lines += [
            f"KL                                 {format_number(usage.kl_per_frame, digits)} nats a frame; 90 % of it "
            f"in {usage.dimensions_of_90_percent} of {usage.latent_size} dimensions (largest: {largest})",
            f"active units                       {usage.active_by_variance} by the variance of the posterior mean "
            f"(> {ACTIVE_VARIANCE}), {usage.active_by_kl} by KL (> {ACTIVE_KL} nats a frame)",
        ]
        if usage.collapsed:
            lines.append(f"warning: {collapse_warning(usage.kl_per_frame, _frames(result))}")
    if result.probe is not None:
        lines += _describe_probe(result.probe)
    return "\n".join(lines)


def _frames(result: LatentsResult) -> float | None:
    return None if result.kind == "waveform" else result.frames / result.utterances


def _describe_loss(loss: AblationLoss, digits: int) -> str:
    share = f"; {loss.share_lost} of the gain over an i.i.d. Gaussian lost" if loss.share_lost else ""
    return (
        f"{format_number(loss.nats_per_frame, digits)} (change {format_number(loss.change, digits, '+')}, "
        f"{describe_interval(loss.change_ci95, digits, '+')}, at the median frame "
        f"{format_number(loss.change_at_median, digits, '+')}{share})"
    )


def _describe_probe(probe: ProbeResult) -> list[str]:
    return [
        f"linear probe of {probe.phones} phones: fitted on {probe.fitted_frames} frames of {probe.fitted_utterances} "
        f"utterances of {probe.fitted_split}, scored on {probe.scored_frames} frames of {probe.scored_utterances} "
        f"utterances of {probe.scored_split}",
        f"    always {probe.majority_phone:<23} {100 * probe.majority_accuracy:.1f} % correct",
        *(f"    {features:<30} {100 * accuracy:.1f} %" for features, accuracy in probe.accuracy.items()),
    ]
