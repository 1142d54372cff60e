"""Whole utterances through a trained model, each with latents of its own, whatever batch it stands in."""

import dataclasses
from collections.abc import Iterator

import torch
from torch import Tensor

from zfaudio.data.loader import Batch, whole_utterances
from zfaudio.data.manifest import read_manifest
from zfaudio.evaluation.scoring import latent_generator, pad_steps
from zfaudio.experiment.checkpoint import Checkpoint
from zfaudio.models import FrameModel


def utterance_batches(
    trained: Checkpoint, location: str, split: str, frames_per_batch: int, seed: int, every: int = 1
) -> Iterator[Batch]:
    """Utterances of a split, standardized as the model was trained.

    Args:
        trained: whose standardization and settings of data hold.
        location: folder or address of the shards.
        split: of them.
        frames_per_batch: batch x time of a batch stays within this, unless one utterance alone is longer.
        seed: of the dequantization noise.
        every: 3 takes every third utterance.
    """
    manifest = dataclasses.replace(
        read_manifest(location), mean=trained.manifest.mean, deviation=trained.manifest.deviation
    )
    return whole_utterances(location, manifest, split, trained.config.data, frames_per_batch, seed, world=every)


def draw_latents(model: FrameModel, batch: Batch, seed: int) -> Tensor:
    """What `model` draws its latents with, [batch, time - 1, latent]; the first draw that `zfaudio evaluate` takes."""
    steps = batch.frames.shape[1] - 1
    return torch.stack(
        [
            pad_steps(model.latent_noise(int(length) - 1, latent_generator(seed, utterance)), steps)
            for utterance, length in zip(batch.utterances, batch.lengths, strict=True)
        ]
    )
