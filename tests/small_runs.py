"""Runs of training that take a second, and what they leave behind."""

import csv
from pathlib import Path

import torch
from safetensors.torch import load_file
from speech import make_shards
from tiny_models import config_of

from zfaudio.config import DataConfig, ObjectiveConfig, RunConfig, TrainConfig
from zfaudio.experiment.checkpoint import find_checkpoint
from zfaudio.training.run import Training

FRAME_SIZE = 20


def small_shards(folder: Path) -> str:
    """Nine utterances, some shorter than a run's segments."""
    return make_shards(folder, utterances=9, frames=[35, 12, 50], frame_size=FRAME_SIZE)


def small_run(shards: str, model__name: str = "zforcing", **options: object) -> RunConfig:
    """A run that takes a second; `options` are settings by dotted name."""
    config = RunConfig(
        model=config_of(model__name, {"hidden_size": 12, "latent_size": 4, "embedding_size": 8, "mlp_size": 8}),
        objective=ObjectiveConfig(aux_weight_step=1e-3),
        data=DataConfig(shards=shards),
        train=TrainConfig(
            max_steps=12,
            batch_size=3,
            segment_frames=10,
            validate_every=5,
            save_every=4,
            log_every=3,
            patience=0,
            device="cpu",
            samples=0,
        ),
    )
    for name, value in options.items():
        section, key = name.split("__")
        assert hasattr(getattr(config, section), key)
        setattr(getattr(config, section), key, value)
    return config


def run_here(config: RunConfig, exp: Path, resume: bool = False, **options: bool) -> Training:
    training = Training(config, exp, resume, **options)
    training.run()
    return training


def weights(exp: Path) -> dict[str, torch.Tensor]:
    return load_file(find_checkpoint(exp / "last") / "model.safetensors")


def assert_same_weights(one: Path, other: Path) -> None:
    first, second = weights(one), weights(other)
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)


def log_rows(exp: Path) -> list[dict[str, str]]:
    with (exp / "metrics.csv").open() as file:
        return list(csv.DictReader(file))
