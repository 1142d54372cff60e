import dataclasses

import numpy as np
import pytest
import torch
from zforcing_equations import score_sequence

from zfaudio.models import ModelConfig, build_model
from zfaudio.models.zforcing import ZForcing
from zfaudio.objective import Weights, training_loss
from zfaudio.ops.plain import LatentPath

TINY = ModelConfig(hidden_size=5, latent_size=3, embedding_size=4, mlp_size=6)
VARIANTS = {
    "default": TINY,
    "no auxiliary": dataclasses.replace(TINY, auxiliary="none"),
    "auxiliary sees the state": dataclasses.replace(TINY, auxiliary="latent_and_state"),
    "squared error": dataclasses.replace(TINY, auxiliary_cost="squared_error"),
    "backward reconstruction": dataclasses.replace(TINY, backward_reconstruction=True),
    "conditional layer norm": dataclasses.replace(TINY, conditional_layer_norm=True),
    "no floor": dataclasses.replace(TINY, min_deviation=0.0),
}
FRAME_SIZE = 7

variants = pytest.mark.parametrize("config", VARIANTS.values(), ids=VARIANTS.keys())


def build(config: ModelConfig = TINY) -> ZForcing:
    torch.manual_seed(0)
    model = build_model(config, FRAME_SIZE).double()
    for parameter in model.parameters():  # so that no bias is zero and no clamp out of reach
        parameter.data.add_(0.3 * torch.randn_like(parameter))
    return model


def sequences(*lengths: int, seed: int = 1) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Frames, lengths and noise of a padded batch; what stands on padding is junk."""
    torch.manual_seed(seed)
    shape = len(lengths), max(lengths)
    frames = torch.randn(*shape, FRAME_SIZE, dtype=torch.float64)
    noise = torch.randn(shape[0], shape[1] - 1, TINY.latent_size, dtype=torch.float64)
    return frames, torch.tensor(lengths), noise


@variants
def test_terms_are_those_of_the_equations(config):
    model = build(config)
    frames, lengths, noise = sequences(6, 4)
    terms = model(frames, lengths, noise=noise)
    for row, length in enumerate(lengths.tolist()):
        expected = score_sequence(model, frames[row, :length].numpy(), noise[row, : length - 1].numpy())
        ours = {
            "log_likelihood": terms.log_likelihood,
            "kl": terms.kl,
            "ratio": terms.log_latent_ratio,
            "auxiliary": terms.log_auxiliary,
            "backward": terms.log_backward,
        }
        for name, values in expected.items():
            if len(values):
                np.testing.assert_allclose(ours[name][row, : length - 1].detach().numpy(), values, rtol=1e-10)
            else:
                assert ours[name] is None


@variants
def test_an_utterance_scores_the_same_alone_and_in_a_padded_batch(config):
    model = build(config)
    frames, lengths, noise = sequences(9, 3, 6)
    together = model(frames, lengths, noise=noise)
    for row, length in enumerate(lengths.tolist()):
        alone = model(frames[row : row + 1, :length], lengths[row : row + 1], noise=noise[row : row + 1, : length - 1])
        for name in ("log_likelihood", "kl", "log_latent_ratio", "log_auxiliary", "log_backward"):
            ours, theirs = getattr(together, name), getattr(alone, name)
            if theirs is not None:
                torch.testing.assert_close(ours[row, : length - 1], theirs[0])
                assert (ours[row, length - 1 :] == 0).all()
        torch.testing.assert_close(together.state.hidden[row], alone.state.hidden[0])
        torch.testing.assert_close(together.state.cell[row], alone.state.cell[0])


def test_what_stands_on_padding_cannot_spoil_a_gradient():
    model = build()
    frames, lengths, noise = sequences(5, 2)
    frames[1, 2:] = 1e30
    training_loss(model(frames, lengths, noise=noise), Weights(1.0, 0.1, 1.0)).backward()
    assert all(torch.isfinite(parameter.grad).all() for parameter in model.parameters())


@variants
def test_gradients_agree_with_finite_differences(config):
    model = build(config)
    frames, lengths, noise = sequences(4, 3)
    # The auxiliary's target b_t is held fixed in the gradient, but moves with these two under finite differences.
    moving_target = ("embed.", "backward_lstm.") if config.auxiliary != "none" else ()
    names = [name for name, _ in model.named_parameters() if not name.startswith(moving_target)]

    def loss(*values: torch.Tensor) -> torch.Tensor:
        terms = torch.func.functional_call(
            model, dict(zip(names, values, strict=True)), (frames, lengths), {"noise": noise}
        )
        return training_loss(terms, Weights(kl=0.7, auxiliary=0.3, backward=0.5))

    parameters = dict(model.named_parameters())
    values = [parameters[name].detach().clone().requires_grad_() for name in names]
    assert torch.autograd.gradcheck(loss, values, fast_mode=True)


def test_auxiliary_cost_sends_no_gradient_into_the_backward_lstm_through_its_target():
    """With the latents given, all that the auxiliary cost sees of b_t is the target."""
    model = build()
    frames, lengths, _ = sequences(6, 6)
    backward = model.read_backward(frames, lengths)
    latent = torch.randn(2, 5, TINY.latent_size, dtype=torch.float64, requires_grad=True)
    given = LatentPath(before=backward, hidden=backward, cell=backward, posterior=None, latent=latent)
    model._log_auxiliary(given, backward).sum().backward()
    assert (latent.grad != 0).all()
    assert all(parameter.grad is None for parameter in model.backward_lstm.parameters())


@variants
@pytest.mark.parametrize("k", [1, 3, 5])
def test_changing_a_frame_changes_nothing_generative_before_it(config, k):
    """With latents drawn from the prior, only x_k's own score and what follows may depend on x_k."""
    model = build(config)
    frames, _, _ = sequences(7)
    changed = frames.clone()
    changed[0, k] += 1.0

    def rollout(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        torch.manual_seed(3)
        state, means, priors, scores = model.initial_state(1), [], [], []
        for t in range(6):
            priors.append(model.prior(state.hidden).mean)
            predicted, state = model.step(x[:, t], state)
            means.append(predicted.mean)
            scores.append(predicted.log_prob(x[:, t + 1]))
        return torch.cat(means), torch.cat(priors), torch.cat(scores)

    means, priors, scores = rollout(frames)
    new_means, new_priors, new_scores = rollout(changed)
    assert torch.equal(means[:k], new_means[:k])  # row t predicts x_{t+1} from x_0..x_t
    assert torch.equal(priors[: k + 1], new_priors[: k + 1])
    assert torch.equal(scores[: k - 1], new_scores[: k - 1])
    assert not torch.equal(scores[k - 1], new_scores[k - 1])
    assert not torch.equal(means[k], new_means[k])


@pytest.mark.parametrize("k", [0, 2, 4, 6])
def test_backward_states_depend_on_later_frames_alone(k):
    model = build()
    frames, lengths, _ = sequences(7)
    changed = frames.clone()
    changed[0, k] += 1.0
    before, after = model.read_backward(frames, lengths)[0], model.read_backward(changed, lengths)[0]
    moved = (before != after).any(-1)
    assert moved[:k].all()  # b_t for t < k has read x_k
    assert not moved[k:].any()


def test_a_sequence_in_pieces_with_the_state_carried_on_scores_as_the_whole():
    model = build(dataclasses.replace(TINY, auxiliary="none"))
    # A piece's b_t cannot see past its end; a posterior that does not look at b_t makes pieces and whole comparable.
    model.posterior.layers[0].weight.data[:, TINY.hidden_size :] = 0
    frames, lengths, noise = sequences(9)
    whole = model(frames, lengths, noise=noise)
    first = model(frames[:, :5], torch.tensor([5]), noise=noise[:, :4])
    second = model(frames[:, 4:], torch.tensor([5]), state=first.state, noise=noise[:, 4:])
    for name in ("log_likelihood", "kl", "log_latent_ratio"):
        pieces = torch.cat([getattr(first, name), getattr(second, name)], dim=1)
        torch.testing.assert_close(pieces, getattr(whole, name))
    torch.testing.assert_close(second.state.hidden, whole.state.hidden)
    torch.testing.assert_close(second.state.cell, whole.state.cell)


def test_step_with_the_posterior_follows_forward():
    """forward's decoder, step by step: same latents, same predictions."""
    model = build()
    frames, lengths, noise = sequences(6)
    terms = model(frames, lengths, noise=noise)
    backward = model.read_backward(frames, lengths)
    state, scores = model.initial_state(1), []
    for t in range(5):
        predicted, state = model.step(frames[:, t], state, backward=backward[:, t], noise=noise[:, t])
        scores.append(predicted.log_prob(frames[:, t + 1]))
    torch.testing.assert_close(torch.stack(scores, 1), terms.log_likelihood)
    torch.testing.assert_close(state.hidden, terms.state.hidden)
