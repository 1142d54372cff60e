"""Trained on sequences of known likelihood, every model that can express them comes close to it, from below.

The data are a linear-Gaussian state-space model's (linear_gaussian.py): two latent dimensions, frames of three samples
whose forecast errors hang together. -3.77 nats a frame is the most that any model can get on average on the held-out
sequences, and -4.42 the most with samples that are independent within a frame given the past.
"""

import math

import numpy as np
import pytest
import torch
from linear_gaussian import LinearGaussian, factorized_log_likelihood, kalman_log_likelihood
from tiny_models import config_of

from zfaudio.config import FrameDensityConfig
from zfaudio.distributions import Quantizer
from zfaudio.models import FrameModel, build_model
from zfaudio.training.objective import Weights, training_loss

STEPS, BATCH, LEARNING_RATE = 600, 32, 0.01
SCORED, HELD_OUT, DRAWS = 20, 400, 8  # frames of a sequence; sequences; draws of each one's latents

ORACLE = LinearGaussian()


def settings(name: str, **others: object) -> FrameDensityConfig:
    sizes = {"hidden_size": 32, "latent_size": 2, "embedding_size": 16, "mlp_size": 32}
    return config_of(name, {**sizes, "auxiliary": "none", "min_deviation": 0.0}, **others)


HEAD = {"head": "autoregressive", "head_window": 3, "head_size": 64}
# The gap that is allowed, in nats a frame. Three seeds left 0.005 to 0.008 (VRNN), 0.011 to 0.014 (SRNN), 0.034 to
# 0.040 (Z-forcing), 0.057 to 0.062 (the head), 0.014 to 0.016 (SampleRNN), and 0.007 to 0.010 of the RNN's own limit.
# Errors are about 0.004.
CASES = {
    "vrnn": (settings("vrnn"), 0.02),
    "srnn": (settings("srnn"), 0.03),
    "filtering srnn": (settings("srnn", smoothing=False), 0.02),
    "zforcing": (settings("zforcing"), 0.06),
    "rnn autoregressive": (settings("rnn", **HEAD), 0.09),
    "samplernn": (settings("samplernn", middle_step=1, middle_size=32, sample_window=3, sample_size=64), 0.03),
}


def train(config: FrameDensityConfig) -> FrameModel:
    """Adam with a rate that falls to nothing, on sequences never seen before."""
    torch.manual_seed(0)
    # A step of 1: so large that the head's levels are smooth functions of the samples.
    model = build_model(config, ORACLE.frame_size, Quantizer(0.0, 1.0))
    optimizer = torch.optim.Adam(model.parameters(), lr=LEARNING_RATE)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, total_steps=STEPS, pct_start=0.1)
    lengths = torch.full((BATCH,), SCORED + 1)
    for step in range(STEPS):
        frames = ORACLE.sample(SCORED, seed=step, count=BATCH).float()
        (training_loss(model(frames, lengths), Weights(1.0, 0.0, 0.0)) / SCORED).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()
    return model.eval()


@torch.no_grad()
def bounds(model: FrameModel, frames: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
    """ELBO and importance-weighted bound of each sequence, in nats a frame."""
    lengths = torch.full((len(frames),), SCORED + 1)
    draws = [model(frames.float(), lengths) for _ in range(DRAWS)]
    elbos = torch.stack([terms.elbo.sum(1) for terms in draws]).mean(0)
    log_weights = torch.stack([(terms.log_likelihood + terms.log_latent_ratio).sum(1) for terms in draws])
    weighted = torch.logsumexp(log_weights, 0) - math.log(DRAWS)
    return elbos.double().numpy() / SCORED, weighted.double().numpy() / SCORED


def gap(limit: np.ndarray, bound: np.ndarray) -> tuple[float, float]:
    """Mean of limit - bound over the same sequences, and its standard error."""
    difference = limit - bound
    return float(difference.mean()), float(difference.std(ddof=1) / math.sqrt(len(difference)))


@pytest.fixture(scope="module")
def held_out() -> tuple[torch.Tensor, np.ndarray, np.ndarray]:
    """Sequences, their exact log-likelihoods, and those of the best factorized forecast, in nats a frame."""
    frames = ORACLE.sample(SCORED, seed=10**6, count=HELD_OUT)
    exact = np.array([kalman_log_likelihood(ORACLE, one[1:].numpy()) for one in frames]) / SCORED
    factorized = np.array([factorized_log_likelihood(ORACLE, one[1:].numpy()) for one in frames]) / SCORED
    return frames, exact, factorized


@pytest.mark.slow
@pytest.mark.parametrize(("config", "allowed"), CASES.values(), ids=CASES.keys())
def test_training_reaches_the_exact_likelihood_and_every_bound_is_below_it(config, allowed, held_out):
    frames, exact, _ = held_out
    elbos, weighted = bounds(train(config), frames)
    for bound in (elbos, weighted):
        mean, error = gap(exact, bound)
        assert error < 0.007
        assert -3 * error < mean < allowed
    tightened, error = gap(weighted, elbos)  # more draws can only help, in expectation
    assert tightened >= -3 * error


@pytest.mark.slow
def test_an_rnn_with_independent_samples_reaches_what_these_allow_and_no_more(held_out):
    """What latents or an autoregressive head are worth here is 0.65 nats a frame: the samples' mutual information."""
    frames, exact, factorized = held_out
    bound, _ = bounds(train(settings("rnn")), frames)
    mean, error = gap(factorized, bound)
    assert -3 * error < mean < 0.02
    assert gap(exact, bound)[0] > 0.6
