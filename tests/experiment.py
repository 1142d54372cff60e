"""A small experiment, as training, scoring and generation leave it, without training anything."""

from pathlib import Path

import torch
from speech import make_shards
from tiny_models import config_of

from zfaudio.config import DataConfig, RunConfig, TrainConfig
from zfaudio.data.manifest import read_manifest
from zfaudio.distributions import Quantizer
from zfaudio.experiment.checkpoint import save_checkpoint
from zfaudio.experiment.config_file import write_config
from zfaudio.models import build_model

FRAME_SIZE = 20
RATE = 16000


def make_experiment(folder: Path, bias: float = 0.0, shards: str = "", model: str = "zforcing", seed: int = 0) -> Path:
    """A checkpoint of a model with 8 units and random weights, and the shards it claims to be trained on.

    Args:
        folder: for both; the experiment is FOLDER/exp.
        bias: added to the mean of every sample the model predicts, in deviations of the corpus.
        shards: where the shards are; small ones are made when left out.
        model: which; one whose frames are Gaussian.
        seed: of the weights, which the configuration names as that of training.
    """
    shards = shards or make_shards(folder / "shards", frames=60, frame_size=FRAME_SIZE)
    manifest = read_manifest(shards)
    config = RunConfig(
        model=config_of(model, {"hidden_size": 8, "latent_size": 4, "embedding_size": 8, "mlp_size": 8}),
        data=DataConfig(shards=shards),
        train=TrainConfig(seed=seed),
    )
    torch.manual_seed(seed)
    built = build_model(config.model, manifest.frame_size, Quantizer(manifest.mean, manifest.deviation))
    with torch.no_grad():
        built.output.linear.bias[: manifest.frame_size] += bias
        built.output.linear.bias[manifest.frame_size :] -= 3
    exp = folder / "exp"
    exp.mkdir(parents=True)
    write_config(config, exp / "config.yaml")
    save_checkpoint(exp, 500, built.state_dict(), config, manifest, training={}, is_best=True)
    return exp
