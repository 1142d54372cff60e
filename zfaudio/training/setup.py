"""What a training run needs before its first step: devices and processes, the optimizer, its schedule."""

import dataclasses
import importlib.util
from pathlib import Path

import torch
from accelerate import Accelerator
from torch import nn
from torch.optim.lr_scheduler import ReduceLROnPlateau

from zfaudio.config import RNNConfig, RunConfig, TrainConfig
from zfaudio.data.manifest import Manifest
from zfaudio.device import allow_tf32, pick_device
from zfaudio.errors import UserError
from zfaudio.observations import describe


def start_accelerator(options: TrainConfig, exp: Path) -> Accelerator:
    """Accelerate with the requested device and precision, logging to `exp`.

    Raises:
        UserError: there is no GPU, a CUDA graph is wanted where there can be none, or the tracker is not installed.
    """
    if options.tracker == "wandb" and importlib.util.find_spec("wandb") is None:
        raise UserError("train.tracker wandb is not installed; install it with: pip install 'zfaudio[wandb]'")
    device = pick_device(options.device)
    allow_tf32(options.precision == "tf32")
    accelerator = Accelerator(
        cpu=device.type == "cpu",
        mixed_precision="bf16" if options.precision == "bf16" else "no",
        log_with=options.tracker,
        project_dir=str(exp),
    )
    if options.cuda_graph and (device.type != "cuda" or accelerator.num_processes > 1):
        raise UserError("train.cuda_graph is for training by one process on a GPU; set it to false")
    return accelerator


def with_sample_rate(config: RunConfig, manifest: Manifest) -> RunConfig:
    """The configuration with the sample rate of the shards in it, if its model has that setting.

    Raises:
        UserError: another sample rate was given.
    """
    model, rate = config.model, manifest.sample_rate
    if not isinstance(model, RNNConfig):
        return config
    if rate is None:
        if model.sample_rate:
            raise UserError(
                f"model.sample_rate is {model.sample_rate}, but {config.data.shards} holds {describe(manifest.kind)}; "
                "leave it out"
            )
        return config
    if model.sample_rate not in (0, rate):
        raise UserError(
            f"model.sample_rate is {model.sample_rate}, but the shards in {config.data.shards} are at {rate} Hz; leave "
            "it out, and it is theirs"
        )
    return dataclasses.replace(config, model=dataclasses.replace(model, sample_rate=rate))


def build_optimizer(model: nn.Module, options: TrainConfig) -> torch.optim.Adam:
    """Adam over all parameters of a model."""
    return torch.optim.Adam(model.parameters(), lr=float(options.learning_rate), eps=options.adam_eps, fused=True)


def build_schedule(optimizer: torch.optim.Adam, options: TrainConfig) -> ReduceLROnPlateau:
    """Halves the learning rate when validation stops improving."""
    return ReduceLROnPlateau(
        optimizer,
        mode="max",
        factor=0.5,
        patience=options.patience,
        threshold=0.0,
        min_lr=options.min_learning_rate,
    )
