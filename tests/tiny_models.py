"""Every model with every frame likelihood and head, at sizes at which a pass takes milliseconds."""

import dataclasses
from collections.abc import Iterable

import torch
from torch import Tensor

from zfaudio.config import FrameDensityConfig, LikelihoodConfig, ModelConfig, RNNConfig
from zfaudio.models import MODELS, FrameModel, find_model
from zfaudio.models.checks import FRAME_SIZE, QUANTIZER, random_batch, random_model, step_through
from zfaudio.models.heads import HEADS
from zfaudio.observations import MuLaw, Quantizer

__all__ = [
    "FRAME_SIZE",
    "LIKELIHOODS",
    "QUANTIZER",
    "build",
    "config_of",
    "every_combination",
    "far_hearing",
    "noise_for",
    "observed_by",
    "sequences",
    "step_through",
    "tiny",
]

build = random_model

LATENT_SIZE = 3
LIKELIHOODS = ("gaussian", "gaussian_mixture", "logistic_mixture", "mulaw")  # of recordings


def observed_by(likelihood: str, quantizer: Quantizer) -> Quantizer:
    """What frames hold for a likelihood of recordings: 16-bit integers, or levels of mu-law among these."""
    return MuLaw(quantizer.mean, quantizer.deviation) if likelihood == "mulaw" else quantizer


def tiny(name: str = "zforcing", **settings: object) -> LikelihoodConfig:
    """Settings of a tiny model, Gaussian and factorized unless `settings` say otherwise."""
    sizes: dict[str, object] = {
        "hidden_size": 5,
        "latent_size": LATENT_SIZE,
        "embedding_size": 4,
        "mlp_size": 6,
        "components": 2,
        "head_window": 4,
        "head_size": 5,
        "head_tier": 7,
        "head_tier_window": 18,
        "head_tier_size": 4,
        "head_lags": 2,
        "head_order": 3,
        "head_dilations": 2,
        "head_stacks": 2,
        "head_channels": 3,
        "middle_step": 1,
        "middle_size": 4,
        "sample_window": 4,
        "sample_size": 5,
        "encoder_bands": 3,
        "encoder_window": 16,
        "sample_rate": 16000,
    }
    return config_of(name, sizes, **settings)


def config_of(name: str, defaults: dict[str, object], /, **settings: object) -> LikelihoodConfig:
    """Settings of a model: those of `defaults` that it has, and `settings`, all of which it must have."""
    config_class = find_model(name).config_class
    own = {field.name for field in dataclasses.fields(config_class)}
    return config_class(**{key: value for key, value in defaults.items() if key in own} | settings)


def models_with(settings: type[ModelConfig]) -> list[str]:
    """The models that have these settings."""
    return [name for name in MODELS if issubclass(find_model(name).config_class, settings)]


def heads_of(name: str) -> Iterable[str]:
    """The heads that a model can have."""
    return getattr(find_model(name).config_class, "heads", HEADS)


def every_combination() -> dict[str, LikelihoodConfig]:
    """Settings by a name for each model x likelihood x head that there is, and for models without heads.

    The likelihood says what a frame holds, see `observation_of`.
    """
    with_heads = {
        f"{name} {likelihood} {head}": tiny(name, likelihood=likelihood, head=head)
        for name in models_with(FrameDensityConfig)
        for likelihood in LIKELIHOODS
        for head in heads_of(name)
    }
    without = {
        f"samplernn {likelihood}": tiny("samplernn", likelihood=likelihood, middle_step=step)
        for likelihood, step in zip(LIKELIHOODS, (1, 7, 1, 7), strict=True)
    }
    return with_heads | without | of_other_frames()


def of_other_frames() -> dict[str, LikelihoodConfig]:
    """Settings by a name for each model of pixels and of tokens."""
    pixels = {
        f"{name} bernoulli {head}": tiny(name, likelihood="bernoulli", head=head)
        for name in models_with(RNNConfig)
        for head in ("factorized", "autoregressive")
    }
    tokens = {
        f"{name} categorical": tiny(name, likelihood="categorical", encoder="lookup") for name in models_with(RNNConfig)
    }
    return pixels | tokens


def far_hearing() -> dict[str, LikelihoodConfig]:
    """Settings by a name for each model that hears further back than a frame, by its head, its encoder or its own."""
    windows = {
        f"{name} {likelihood} window {window}": tiny(
            name, likelihood=likelihood, head="autoregressive", head_window=window
        )
        for name in models_with(FrameDensityConfig)
        if "autoregressive" in heads_of(name)
        for likelihood, window in (("gaussian", 8), ("logistic_mixture", 24))
    }
    windows |= {
        f"{name} bernoulli window 17": tiny(name, likelihood="bernoulli", head="autoregressive", head_window=17)
        for name in models_with(RNNConfig)
    }
    mel = {
        f"{name} mel {likelihood} {head}": tiny(
            name, encoder="mel", likelihood=likelihood, head=head, head_window=window
        )
        for name in models_with(RNNConfig)
        for likelihood, head, window in (
            ("gaussian", "factorized", 4),
            ("gaussian_mixture", "autoregressive", 10),
            ("logistic_mixture", "autoregressive", 24),
        )
    }
    return windows | mel | {"samplernn window 24": tiny("samplernn", likelihood="logistic_mixture", sample_window=24)}


def sequences(*lengths: int, seed: int = 1, model: FrameModel | None = None) -> tuple[Tensor, Tensor, Tensor]:
    """Frames [batch, time, frame_size], lengths and latent noise of a padded batch.

    The frames are those of the model, or FRAME_SIZE whole 16-bit steps each. What stands on padding is junk.
    """
    if model is not None:
        frames, of_batch, _ = random_batch(model, *lengths, seed=seed)
        return frames, of_batch, torch.randn(len(lengths), max(lengths) - 1, LATENT_SIZE, dtype=torch.float64)
    torch.manual_seed(seed)
    shape = len(lengths), max(lengths)
    frames = QUANTIZER.round(torch.randn(*shape, FRAME_SIZE, dtype=torch.float64))
    noise = torch.randn(shape[0], shape[1] - 1, LATENT_SIZE, dtype=torch.float64)
    for row, length in enumerate(lengths):
        frames[row, length:] = 1e6 * torch.randn(shape[1] - length, FRAME_SIZE)
    return frames, torch.tensor(lengths), noise


def noise_for(model: FrameModel, noise: Tensor) -> Tensor:
    """Latent noise [..., LATENT_SIZE] as the model takes it: none of it where it has no latents."""
    return noise[..., : model.latent_noise(1).shape[-1]]
