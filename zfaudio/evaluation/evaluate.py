"""`zfaudio evaluate`: average log-likelihood per frame of whole utterances, with its interval and its references."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from zfaudio.command import command_line
from zfaudio.data.manifest import Manifest, read_manifest
from zfaudio.data.shard_reader import read_utterances
from zfaudio.device import DeviceName, pick_device
from zfaudio.errors import UserError
from zfaudio.evaluation.passes import utterance_batches
from zfaudio.evaluation.references import ScoredAudio, measure_scored_audio
from zfaudio.evaluation.scoring import Cut, UtteranceScore, score_utterances
from zfaudio.evaluation.units import (
    Units,
    average_per_frame,
    bootstrap_interval,
    sequence_conventions,
    worst_permille_share,
)
from zfaudio.experiment.checkpoint import Checkpoint, load_checkpoint
from zfaudio.experiment.results import EvaluationResult, Protocol, Score, write_result


@dataclass
class Estimate:
    """How the bound is estimated."""

    draws: int  # posterior draws of each utterance
    importance_weighted: bool  # combined to the importance-weighted bound instead of averaged to the ELBO
    protocol: Protocol
    seed: int
    frames_per_batch: int


def evaluate(
    checkpoint: Path,
    *,
    shards: str = "",
    split: str = "test",
    json: Path | None = None,
    draws: int = 4,
    importance_samples: int = 1,
    protocol: Protocol = "whole",
    dequantize: bool | None = None,
    seed: int = 0,
    device: DeviceName = "auto",
    frames_per_batch: int = 32_768,
) -> None:
    """Score a split with a trained model and print the result.

    Args:
        checkpoint: a checkpoint, or an experiment, whose best checkpoint is taken.
        shards: folder or address of the shards; those the model was trained on when left out.
        split: which part of them.
        json: write the result there.
        draws: posterior draws of each utterance that the ELBO is averaged over. An exact likelihood needs none.
        importance_samples: more than 1: the importance-weighted bound with so many draws, instead of the ELBO.
        protocol: whole utterances; or what the published code of Z-forcing does, to see what it changes: utterances
            cut every 40 frames, the state restarted at each cut, and rows of padding counted in the average.
        dequantize: score with uniform noise of one 16-bit step; as in training when left out.
        seed: of noise and draws.
        device: where to compute.
        frames_per_batch: frames at once, padding included; bounds the memory.
    """
    if min(draws, importance_samples, frames_per_batch) < 1:
        raise UserError("--draws, --importance-samples and --frames-per-batch must be at least 1")
    trained = load_checkpoint(checkpoint, pick_device(device))
    if dequantize is not None:
        trained.config.data.dequantize = dequantize
    location = shards or trained.config.data.shards
    manifest = read_manifest(location)
    check_fit(trained, manifest, location, split)
    weighted = importance_samples > 1 and trained.model.bound == "elbo"
    if trained.model.bound == "exact":
        draws = 1  # the noise of dequantization is fixed for each utterance, so that every draw would be the same
    estimate = Estimate(importance_samples if weighted else draws, weighted, protocol, seed, frames_per_batch)
    audio = measure_audio(trained, location, split)
    scores = score_split(trained, location, split, estimate, audio)
    result = summarize(trained, split, estimate, audio, scores)
    print(describe(result))
    if json is not None:
        write_result(json, result)


def check_fit(trained: Checkpoint, manifest: Manifest, location: str, split: str) -> None:
    """Raises UserError where the model cannot score the shards."""
    for name in ("frame_size", "sample_rate"):
        ours, theirs = getattr(trained.manifest, name), getattr(manifest, name)
        if ours != theirs:
            raise UserError(
                f"{location}: shards of {name} {theirs}, but {trained.path} was trained at {ours}; "
                f"make them again with zfaudio shard --{name.replace('_', '-')} {ours}"
            )
    manifest.split(split)


def measure_audio(trained: Checkpoint, location: str, split: str) -> ScoredAudio:
    """What stands in a split to be scored. Raises UserError where there is nothing."""
    manifest, data = trained.manifest, trained.config.data
    audio = measure_scored_audio(
        scored_integers(location, split, data.score_first_frame),
        manifest.mean,
        manifest.deviation,
        manifest.frame_size,
        manifest.sample_rate,
        data.dequantize,
    )
    if not audio.longest:
        raise UserError(f"{location}: split {split!r} has no utterance with a frame to score")
    return audio


def score_split(
    trained: Checkpoint, location: str, split: str, estimate: Estimate, audio: ScoredAudio
) -> list[UtteranceScore]:
    """Score every utterance of a split, standardized as the model was trained."""
    batches = utterance_batches(trained, location, split, estimate.frames_per_batch, estimate.seed)
    scored = score_utterances(
        trained.model,
        batches,
        next(trained.model.parameters()).device,
        draws=estimate.draws,
        importance_weighted=estimate.importance_weighted,
        seed=estimate.seed,
        frames_per_pass=estimate.frames_per_batch,
        cut=Cut(audio.longest) if estimate.protocol == "zforcing2017" else None,
    )
    total = read_manifest(location).split(split).utterances
    return list(tqdm(scored, total=total, unit="utt", desc=f"scoring {split}", disable=None))


def summarize(
    trained: Checkpoint, split: str, estimate: Estimate, audio: ScoredAudio, scores: list[UtteranceScore]
) -> EvaluationResult:
    """Averages over all frames, and what they stand beside."""
    manifest, data = trained.manifest, trained.config.data
    nats = np.array([score.nats for score in scores])
    frames = np.array([score.frames for score in scores])
    frame_nats = np.concatenate([score.frame_nats for score in scores])
    average = average_per_frame(nats, frames)
    if not np.isfinite(average):
        broken = [score.utterance for score in scores if not np.isfinite(score.nats)]
        raise UserError(
            f"{trained.path}: the score of {len(broken)} utterances is not finite ({broken[0]}, ...); "
            "train with a floor on the deviation (model.min_deviation) or with dequantization"
        )
    units = Units(manifest.frame_size, manifest.deviation)
    return EvaluationResult(
        model=trained.config.model.name,
        likelihood=trained.config.model.likelihood,
        head=trained.config.model.head,
        parameters=sum(weights.numel() for weights in trained.model.parameters()),
        checkpoint_step=trained.step,
        split=split,
        utterances=len(scores),
        frames=int(frames.sum()),
        frame_size=manifest.frame_size,
        sample_rate=manifest.sample_rate,
        bound="iwae" if estimate.importance_weighted else trained.model.bound,
        importance_samples=estimate.draws if estimate.importance_weighted else 1,
        draws=estimate.draws,
        seed=estimate.seed,
        protocol=estimate.protocol,
        dequantized=data.dequantize,
        score_first_frame=data.score_first_frame,
        mean=manifest.mean,
        deviation=manifest.deviation,
        audio_sha256=audio.sha256,
        constant_frames=audio.constant_frames,
        nats_per_frame=average,
        nats_per_frame_ci95=bootstrap_interval(nats, frames),
        nats_per_sample=units.nats_per_sample(average),
        nats_per_waveform_sample=units.nats_per_waveform_sample(average),
        nats_per_utterance=float(nats.mean()),
        conventions=sequence_conventions(
            nats, frames, manifest.frame_size, manifest.sample_rate, padded=estimate.protocol == "zforcing2017"
        ),
        bits_per_sample=units.bits_per_sample(average) if data.dequantize else None,
        kl_per_frame=float(sum(score.kl for score in scores) / frames.sum()),
        median_frame_nats=float(np.median(frame_nats)),
        worst_permille_share=worst_permille_share(frame_nats),
        references=audio.references,
        command=command_line(),
        scores=[Score(score.utterance, score.frames, score.nats) for score in scores],
    )


def scored_integers(location: str, split: str, score_first_frame: bool) -> Iterator[np.ndarray]:
    """The frames of each utterance that a score counts, int16 [frames, frame_size]."""
    first = 0 if score_first_frame else 1
    for utterance in read_utterances(location, split):
        if len(utterance.frames) > first:
            yield utterance.frames[first:]


def describe(result: EvaluationResult) -> str:
    """A few lines for the terminal."""
    low, high = result.nats_per_frame_ci95
    sign = "" if result.bound == "exact" else ">= "
    lines = [
        f"{result.model}, {result.split}: {result.utterances} utterances, {result.frames} frames "
        f"of {result.frame_size} samples at {result.sample_rate} Hz",
        f"average log-likelihood per frame   {sign}{result.nats_per_frame:.2f} nats "
        f"(95 % {low:.2f} to {high:.2f}; {result.bound}, {result.draws} draw{'s' if result.draws > 1 else ''})",
        f"    i.i.d. Gaussian                {result.references.iid_gaussian_nats_per_frame:.2f}",
        f"    KL per frame                   {result.kl_per_frame:.2f} nats",
        f"    median frame                   {result.median_frame_nats:.2f} nats; "
        f"the worst 0.1 % of frames make up {100 * result.worst_permille_share:.1f} % of the average",
    ]
    if result.bits_per_sample is None:
        lines.append(
            f"published protocol (no dequantization): a density on integers, unbounded on the "
            f"{result.constant_frames} constant frames; no bits per sample"
        )
    else:
        lines.append(
            f"bits per 16-bit sample             <= {result.bits_per_sample:.3f}   "
            f"(FLAC on the same audio: {result.references.flac_bits_per_sample:.3f})"
        )
    lines.append("nats per sequence, as published tables count")
    lines += [f"    {name:<68} {sign}{value:,.1f}" for name, value in result.conventions.items()]
    if result.protocol == "zforcing2017":
        lines.append("protocol zforcing2017: cut every 40 frames, the state restarted at each cut")
    return "\n".join(lines)
