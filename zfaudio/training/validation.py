"""Scoring the validation part during training."""

from dataclasses import dataclass

from accelerate import Accelerator
from accelerate.utils import gather_object

from zfaudio.config import RunConfig
from zfaudio.data.loader import whole_utterances
from zfaudio.data.manifest import Manifest
from zfaudio.evaluation.scoring import score_utterances
from zfaudio.models.base import FrameModel

FRAMES_AT_ONCE = 8192  # at least, padding included


@dataclass(frozen=True)
class Validation:
    """The score of the validation part, over all processes."""

    frames: float
    nats_per_frame: float
    kl_per_frame: float  # nats


def has_validation(manifest: Manifest) -> bool:
    """Whether the shards have a part to validate on."""
    return "valid" in manifest.splits and manifest.splits["valid"].utterances > 0


def validate(model: FrameModel, manifest: Manifest, config: RunConfig, accelerator: Accelerator) -> Validation:
    """Score whole validation utterances, which the processes share.

    Args:
        model: on the device of `accelerator`; it is left in training mode.
        manifest: of the shards.
        config: of the run.
        accelerator: of the run.
    """
    batches = whole_utterances(
        config.data.shards,
        manifest,
        "valid",
        config.data,
        frames_per_batch=max(FRAMES_AT_ONCE, config.train.batch_size * config.train.segment_frames),
        seed=config.train.seed,
        rank=accelerator.process_index,
        world=accelerator.num_processes,
    )
    model.eval()
    scores = score_utterances(model, batches, accelerator.device, seed=config.train.seed)
    sums = gather_object([(score.frames, score.nats, score.kl) for score in scores])
    model.train()
    frames, nats, kl = (float(sum(column)) for column in zip(*sums, strict=True))
    return Validation(frames, nats / frames, kl / frames)
