"""Z-forcing's variants and its auxiliary cost. What every model must hold to is in test_models.py."""

import pytest
import torch
from tiny_models import LATENT_SIZE, build, sequences, tiny

from zfaudio.ops.latent_path import LatentPath
from zfaudio.training.objective import Weights, training_loss

VARIANTS = {
    "default": tiny(),
    "no auxiliary": tiny(auxiliary="none"),
    "auxiliary sees the state": tiny(auxiliary="latent_and_state"),
    "auxiliary predicts spectra": tiny(auxiliary_target="mel", auxiliary_frames=3),
    "squared error of spectra": tiny(auxiliary_target="mel", auxiliary_cost="squared_error", encoder="mel"),
    "squared error": tiny(auxiliary_cost="squared_error"),
    "backward reconstruction": tiny(backward_reconstruction=True),
    "conditional layer norm": tiny(conditional_layer_norm=True),
    "no floor": tiny(min_deviation=0.0),
}

variants = pytest.mark.parametrize("config", VARIANTS.values(), ids=VARIANTS.keys())


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
        torch.testing.assert_close(together.state[0][row], alone.state[0][0])
        torch.testing.assert_close(together.state[1][row], alone.state[1][0])


@variants
def test_gradients_agree_with_finite_differences(config):
    model = build(config)
    frames, lengths, noise = sequences(4, 3)
    # The auxiliary's target b_t is held fixed in the gradient, but moves with these two under finite differences.
    moves = config.auxiliary != "none" and config.auxiliary_target == "backward_state"
    moving_target = ("embed.", "backward_lstm.") if moves else ()
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
    model = build(tiny())
    frames, lengths, _ = sequences(6, 6)
    futures = model.read_future(frames, lengths)
    latent = torch.randn(2, 5, LATENT_SIZE, dtype=torch.float64, requires_grad=True)
    given = LatentPath(previous_hidden=futures, hidden=futures, cell=futures, posterior=None, latents=latent)
    model._log_auxiliary(given, futures).sum().backward()
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
            priors.append(model.prior(state[0]).mean)
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


def test_the_spectra_to_predict_are_those_of_the_next_frames_of_the_recording():
    model = build(tiny(auxiliary_target="mel", auxiliary_frames=3))
    frames, lengths, _ = sequences(6, 4)
    ahead = model.spectra_ahead
    samples = torch.cat([torch.zeros(2, ahead.past), frames.flatten(1)], dim=1)
    bands, known = ahead.targets(ahead.read(samples, lengths), ahead.nothing(2))
    for row, length in enumerate(lengths.tolist()):
        for step in range(length - 1):
            for k in range(3):
                frame = step + 1 + k
                assert known[row, step, k] == (frame < length)
                if frame < length:
                    heard = samples[row, : ahead.past + (frame + 1) * model.frame_size]
                    torch.testing.assert_close(bands[row, step, k], ahead.spectrum(heard))


def test_predicting_spectra_gives_the_latents_a_gradient_and_averages_over_what_is_known():
    model = build(tiny(auxiliary_target="mel", auxiliary_frames=2))
    frames, lengths, noise = sequences(5)
    terms = model(frames, lengths, noise=noise)
    terms.log_auxiliary.sum().backward()
    assert model.posterior.layers[0].weight.grad.abs().sum() > 0
    assert any(parameter.grad.abs().sum() > 0 for parameter in model.backward_lstm.parameters())  # through z_t
    shorter = model(frames[:, :4], torch.tensor([4]), noise=noise[:, :3])
    assert torch.isfinite(shorter.log_auxiliary).all()
    assert (terms.log_auxiliary != 0).all()
