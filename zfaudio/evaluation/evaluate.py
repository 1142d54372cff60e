"""`zfaudio evaluate`: the average log-likelihood per frame of whole utterances, with its interval and references."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from zfaudio.command import command_line
from zfaudio.data.known_shards import choose_shards
from zfaudio.data.manifest import read_manifest
from zfaudio.device import DeviceName, pick_device
from zfaudio.errors import UserError
from zfaudio.evaluation.description import describe
from zfaudio.evaluation.kept_frames import KeptFrames
from zfaudio.evaluation.references import ScoredAudio, ScoredFrames, ScoredLevels, ScoredWords, measure_split
from zfaudio.evaluation.scoring import Segments, UtteranceScore, score_utterances, utterance_batches
from zfaudio.evaluation.units import (
    Interval,
    Units,
    average_per_frame,
    bootstrap_interval,
    sequence_conventions,
    word_perplexity,
    worst_permille_share,
)
from zfaudio.experiment.checkpoint import Checkpoint, load_checkpoint
from zfaudio.experiment.results import EvaluationResult, Protocol, Score, WaveformScore, write_result
from zfaudio.experiment.shards_fit import check_shards_fit
from zfaudio.observations import describe as describe_kind


@dataclass
class Estimator:
    """How the bound is estimated."""

    draws: int  # posterior draws of each utterance
    importance_weighted: bool  # combine the draws into the importance-weighted bound, instead of averaging the ELBO
    protocol: Protocol
    seed: int
    frames_per_batch: int


def evaluate(
    checkpoint: str | Path,
    *,
    shards: str | Path = "",
    split: str = "test",
    json: str | Path | None = None,
    draws: int = 4,
    importance_samples: int = 1,
    protocol: Protocol = "whole",
    dequantize: bool | None = None,
    seed: int = 0,
    device: DeviceName = "auto",
    frames_per_batch: int = 32_768,
) -> EvaluationResult:
    """Score a split with a trained model, and print the result.

    Args:
        checkpoint: a checkpoint, or an experiment, whose best checkpoint is used; or hub:user/name, a model on the
            Hugging Face hub.
        shards: folder or address of the shards; by default those that the model was trained on, if they were named on
            this machine before.
        split: the part of the shards to score: train, valid or test.
        json: file to write the result to.
        draws: number of posterior draws of each utterance over which the ELBO is averaged. An exact likelihood needs
            none.
        importance_samples: if more than 1, compute the importance-weighted bound with this number of draws instead of
            the ELBO.
        protocol: whole scores whole utterances. zforcing2017 does what the published code of Z-forcing does, to show
            what that changes: it cuts utterances every 40 frames, restarts the state at each cut, and counts rows of
            padding in the average.
        dequantize: score with uniform noise of one 16-bit step added; by default as in training.
        seed: seed of the noise and the draws.
        device: where to compute; auto takes a GPU if there is one.
        frames_per_batch: largest number of frames that are scored at once, including padding. It bounds the memory:
            longer utterances are read in chunks, with the same result.

    Returns:
        The result, which `json` holds too.

    Raises:
        UserError: the checkpoint or the shards cannot be read or do not fit each other, or an option is out of range.
    """
    if min(draws, importance_samples, frames_per_batch) < 1:
        raise UserError("--draws, --importance-samples and --frames-per-batch must be at least 1")
    trained = load_checkpoint(Path(checkpoint), pick_device(device))
    if trained.manifest.kind != "waveform" and (dequantize is not None or protocol != "whole"):
        raise UserError(
            f"{'--dequantize' if dequantize is not None else '--protocol ' + protocol}: for recordings, but "
            f"{trained.path} was trained on {describe_kind(trained.manifest.kind)}"
        )
    if trained.manifest.encoding == "mulaw" and dequantize:
        raise UserError(f"--dequantize true: for 16-bit samples, but {trained.path} was trained on 8-bit mu-law")
    if dequantize is not None:
        trained.config.data.dequantize = dequantize
    location = choose_shards(str(shards), trained.config.data.shards, Path(checkpoint))
    check_shards_fit(trained, location, split)
    importance_weighted = importance_samples > 1 and trained.model.bound == "elbo"
    if trained.model.bound == "exact":
        draws = 1  # the dequantization noise of an utterance is fixed, so every draw would give the same score
    estimator = Estimator(
        draws=importance_samples if importance_weighted else draws,
        importance_weighted=importance_weighted,
        protocol=protocol,
        seed=seed,
        frames_per_batch=frames_per_batch,
    )
    measured = measure_split(trained, location, split)
    scores = score_split(trained, location, split, estimator, measured.longest)
    result = summarize(trained, split, estimator, measured, scores)
    try:
        if json is not None:
            write_result(Path(json), result)
    finally:  # neither a full disk nor a closed terminal should lose the result
        print(describe(result))
    return result


def score_split(
    trained: Checkpoint, location: str, split: str, estimator: Estimator, longest: int
) -> list[UtteranceScore]:
    """Score every utterance of a split; `longest` is the number of scored frames of the longest one."""
    scores = score_utterances(
        trained.model,
        utterance_batches(trained, location, split, estimator.frames_per_batch, estimator.seed),
        next(trained.model.parameters()).device,
        draws=estimator.draws,
        importance_weighted=estimator.importance_weighted,
        seed=estimator.seed,
        frames_per_pass=estimator.frames_per_batch,
        segments=Segments(longest) if estimator.protocol == "zforcing2017" else None,
    )
    part = read_manifest(location).split(split)
    kept = KeptFrames(part.frames)
    return [
        replace(score, frame_nats=kept.keep(score.frame_nats))
        for score in tqdm(scores, total=part.utterances, unit="utt", desc=f"scoring {split}", disable=None)
    ]


def summarize(
    trained: Checkpoint, split: str, estimator: Estimator, measured: ScoredFrames, scores: list[UtteranceScore]
) -> EvaluationResult:
    """The result of a scored split. Raises UserError if a score is not finite."""
    manifest, data, model = trained.manifest, trained.config.data, trained.config.model
    nats = np.array([score.nats for score in scores])
    frames = np.array([score.frames for score in scores])
    frame_nats = np.concatenate([score.frame_nats for score in scores])
    average = average_per_frame(nats, frames)
    if not np.isfinite(average):
        broken = [score.utterance for score in scores if not np.isfinite(score.nats)]
        remedy = "train with a floor on the deviation (model.min_deviation) or with dequantization"
        if manifest.encoding == "mulaw":
            remedy = "train with a lower learning rate"
        raise UserError(
            f"{trained.path}: the score of {len(broken)} utterances is not finite ({broken[0]}, ...); "
            f"{remedy if manifest.kind == 'waveform' else 'train with a lower learning rate'}"
        )
    interval = bootstrap_interval(nats, frames)
    of_kind: dict[str, Any]
    if isinstance(measured, ScoredAudio | ScoredLevels):
        of_kind = score_of_recordings(trained, estimator, measured, nats, frames)
    else:
        of_kind = {"nats_per_utterance_ci95": bootstrap_interval(nats, np.ones_like(frames))}
        if isinstance(measured, ScoredWords):
            of_kind |= score_of_words(trained, measured, average, interval)
        else:
            of_kind |= {"image_size": manifest.image_size}
    return EvaluationResult(
        kind=manifest.kind,
        model=model.name,
        likelihood=getattr(model, "likelihood", None),
        head=getattr(model, "head", None),
        parameters=sum(weights.numel() for weights in trained.model.parameters()),
        checkpoint_step=trained.step,
        split=split,
        utterances=len(scores),
        frames=int(frames.sum()),
        frame_size=manifest.frame_size,
        bound="iwae" if estimator.importance_weighted else trained.model.bound,
        importance_samples=estimator.draws if estimator.importance_weighted else 1,
        draws=estimator.draws,
        seed=estimator.seed,
        protocol=estimator.protocol,
        score_first_frame=data.score_first_frame,
        audio_sha256=measured.sha256,
        nats_per_frame=average,
        nats_per_frame_ci95=interval,
        nats_per_utterance=float(nats.mean()),
        kl_per_frame=float(sum(score.kl for score in scores) / frames.sum()),
        median_frame_nats=float(np.median(frame_nats)),
        worst_permille_share=worst_permille_share(frame_nats),
        command=command_line(),
        scores=[Score(score.utterance, score.frames, score.nats) for score in scores],
        **of_kind,
    )


def score_of_recordings(
    trained: Checkpoint, estimator: Estimator, audio: ScoredAudio | ScoredLevels, nats: np.ndarray, frames: np.ndarray
) -> dict[str, Any]:
    """The fields of a result that only recordings have, from the nats and frames of each utterance."""
    manifest, waveform = trained.manifest, trained.manifest.waveform
    dequantized = manifest.is_dequantized(trained.config.data)
    units, average = Units(manifest.frame_size, waveform.deviation), average_per_frame(nats, frames)
    padded = estimator.protocol == "zforcing2017"
    score = WaveformScore(
        sample_rate=waveform.sample_rate,
        encoding=manifest.encoding,
        dequantized=dequantized,
        mean=waveform.mean,
        deviation=waveform.deviation,
        constant_frames=audio.constant_frames,
        nats_per_sample=units.nats_per_sample(average),
        nats_per_waveform_sample=units.nats_per_waveform_sample(average),
        conventions=sequence_conventions(nats, frames, manifest.frame_size, waveform.sample_rate, padded),
        bits_per_sample=units.bits_per_sample(average) if dequantized or manifest.encoding == "mulaw" else None,
        references=audio.references if isinstance(audio, ScoredAudio) else None,
        iid_levels_nats_per_frame=audio.iid_levels_nats_per_frame if isinstance(audio, ScoredLevels) else None,
    )
    return vars(score)


def score_of_words(
    trained: Checkpoint, words: ScoredWords, nats_per_word: float, interval: Interval | None
) -> dict[str, Any]:
    """The fields of a result that only sentences have, from the nats per word and their interval."""
    return {
        "vocabulary": len(trained.manifest.vocabulary),
        "word_perplexity": word_perplexity(nats_per_word),
        "word_perplexity_ci95": interval and (word_perplexity(interval[1]), word_perplexity(interval[0])),
        "unknown_share": words.unknown_share,
    }
