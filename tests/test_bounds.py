"""The bounds that scoring computes, against a model whose likelihood is known exactly."""

import itertools

import numpy as np
import pytest
import torch
from linear_gaussian import LinearGaussian, kalman_log_likelihood

from zfaudio.data.loader import Batch
from zfaudio.evaluation.scoring import UtteranceScore, score_utterances

LENGTHS = [13, 9, 5]


def utterances(model: LinearGaussian) -> list[torch.Tensor]:
    return [model.sample(length - 1, seed=i) for i, length in enumerate(LENGTHS)]


def exact(model: LinearGaussian) -> np.ndarray:
    return np.array([kalman_log_likelihood(model, frames[1:].numpy()) for frames in utterances(model)])


def batch_of(sequences: list[torch.Tensor], names: list[str]) -> Batch:
    frames = torch.nn.utils.rnn.pad_sequence(sequences, batch_first=True)
    lengths = torch.tensor([len(sequence) for sequence in sequences])
    return Batch(frames, lengths, torch.ones(len(sequences), dtype=torch.bool), names)


def score(model: LinearGaussian, draws: int, weighted: bool, frames_per_pass: int = 4096, seed: int = 0) -> np.ndarray:
    batch = batch_of(utterances(model), ["a", "b", "c"])
    scores = score_utterances(
        model, [batch], torch.device("cpu"), draws, weighted, seed=seed, frames_per_pass=frames_per_pass
    )
    return np.array([one.nats for one in scores])


def test_kalman_filter_agrees_with_the_joint_gaussian():
    model = LinearGaussian()
    steps, size = 4, model.latent_size
    frames = model.sample(steps, seed=5)[1:]
    # x = C B w with w the stacked state noise: z_t = sum_s A^(t-s) w_s
    blocks = [
        [
            torch.linalg.matrix_power(model.A, t - s) if s <= t else torch.zeros(size, size, dtype=torch.float64)
            for s in range(steps)
        ]
        for t in range(steps)
    ]
    spread = torch.block_diag(*[model.C] * steps) @ torch.cat([torch.cat(row, 1) for row in blocks])
    covariance = spread @ torch.block_diag(*[model.Q] * steps) @ spread.T + torch.block_diag(*[model.R] * steps)
    joint = torch.distributions.MultivariateNormal(torch.zeros(len(covariance), dtype=torch.float64), covariance)
    assert kalman_log_likelihood(model, frames.numpy()) == pytest.approx(joint.log_prob(frames.reshape(-1)).item())


def test_importance_weight_of_the_exact_posterior_is_the_likelihood_at_every_draw():
    model = LinearGaussian()
    for seed in range(3):
        np.testing.assert_allclose(score(model, 1, weighted=True, seed=seed), exact(model), rtol=1e-10)


def test_elbo_with_the_exact_posterior_is_the_likelihood():
    """The ELBO's KL in closed form leaves the draws' noise in; its average over draws must be the likelihood."""
    model = LinearGaussian()
    blocks = np.stack([score(model, 400, weighted=False, seed=seed) for seed in range(8)])
    error = blocks.std(0, ddof=1) / np.sqrt(len(blocks))
    np.testing.assert_array_less(np.abs(blocks.mean(0) - exact(model)), 4 * error)
    assert (error < 0.15).all()


def test_importance_weighted_bound_stays_below_the_likelihood_and_closes_in_as_draws_grow():
    model = LinearGaussian(precision_factor=0.5)
    truth = exact(model).sum()
    bounds = [np.mean([score(model, k, weighted=True, seed=seed).sum() for seed in range(100)]) for k in (1, 8, 64)]
    assert all(earlier < later for earlier, later in itertools.pairwise(bounds))
    assert bounds[-1] <= truth + 0.1
    assert truth - bounds[-1] < 0.1 * (truth - bounds[0])
    elbo = np.mean([score(model, 64, weighted=False, seed=seed).sum() for seed in range(100)])
    assert elbo < bounds[1]


@pytest.mark.parametrize("frames_per_pass", [1, 40, 100_000])
@pytest.mark.parametrize("weighted", [True, False])
def test_a_score_does_not_depend_on_the_batch_or_on_how_draws_are_chunked(frames_per_pass, weighted):
    model = LinearGaussian(precision_factor=0.7)
    together = score(model, 5, weighted)
    alone = []
    for sequence, name in zip(utterances(model), ["a", "b", "c"], strict=True):
        batches = [batch_of([sequence], [name])]
        alone += score_utterances(model, batches, torch.device("cpu"), 5, weighted, frames_per_pass=frames_per_pass)
    np.testing.assert_allclose([one.nats for one in alone], together, rtol=1e-10)


def test_frame_scores_sum_to_the_elbo_and_count_no_padding():
    model = LinearGaussian()
    batch = batch_of(utterances(model), ["a", "b", "c"])
    scores: list[UtteranceScore] = list(score_utterances(model, [batch], torch.device("cpu"), draws=3))
    assert [one.frames for one in scores] == [length - 1 for length in LENGTHS]
    assert [len(one.frame_nats) for one in scores] == [length - 1 for length in LENGTHS]
    for one in scores:
        assert one.frame_nats.sum() == pytest.approx(one.nats)
