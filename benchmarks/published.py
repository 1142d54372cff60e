"""Z-forcing computed the published way, as its authors would write it today.

Follows model.py of the published code (Goyal et al., 2017): prior, posterior, auxiliary network, gen and LSTM cell all
run inside the loop over frames, with the terms of the bound; autograd adds up each weight's gradient frame by frame.
As there, the embedding and the output layer are one call over all frames, and the backward LSTM is nn.LSTM. The
published auxiliary network multiplies h_{t-1} by zero and reads it; here it reads z_t alone, which is less work.

It computes with the modules of a `ZForcing` model, so that both are the same function of the same weights.
"""

import torch
from torch import Tensor

from zfaudio.distributions import gaussian_kl
from zfaudio.models.zforcing import ZForcing
from zfaudio.ops.cells import State
from zfaudio.training.objective import Weights


def published_loss(model: ZForcing, frames: Tensor, noise: Tensor, weights: Weights) -> Tensor:
    """The training loss of whole sequences from a zero state.

    Args:
        model: its default variant, the auxiliary network reading z_t.
        frames: [batch, time, frame_size], all of the same length.
        noise: standard normal, [batch, time - 1, latent].
        weights: of the objective's terms.
    """
    embedded = model.embed(frames[:, :-1])
    backward_states, _ = model.backward_lstm(model.embed(frames[:, 1:].flip(1)))
    backward_states = backward_states.flip(1)

    state = State(*model.initial_state(len(frames)))
    hidden, kls, log_auxiliaries, log_priors, log_posteriors = [], [], [], [], []
    for embedded_t, backward, noise_t in zip(
        embedded.unbind(1), backward_states.unbind(1), noise.unbind(1), strict=True
    ):
        prior = model.prior(state.hidden)
        posterior = model.posterior(state.hidden, backward)
        latent = posterior.at(noise_t)
        predicted = model.auxiliary(latent)
        predicted.mean = torch.tanh(predicted.mean)
        state = model.decoder_cell(embedded_t, latent, state)
        hidden.append(state.hidden)
        kls.append(gaussian_kl(posterior, prior))
        log_auxiliaries.append(predicted.log_prob(backward.detach()))
        log_priors.append(prior.log_prob(latent))
        log_posteriors.append(posterior.log_prob(latent))

    log_likelihood = model.output(torch.stack(hidden, 1), frames[:, :-1].flatten(1)).log_prob(frames[:, 1:])
    # log p(z) and log q(z) are computed and given back in the published code too, but not trained on.
    objective = log_likelihood - weights.kl * torch.stack(kls, 1) + weights.auxiliary * torch.stack(log_auxiliaries, 1)
    return -objective.sum() / len(frames)


@torch.no_grad()
def published_speech(model: ZForcing, voices: int, samples: int) -> Tensor:
    """Speech from the prior, frame by frame: standardized samples [voices, samples], on the CPU."""
    state = State(*model.initial_state(voices))
    frame = model.embed.weight.new_zeros(voices, model.frame_size)
    frames = []
    for _ in range(samples // model.frame_size):
        latent = model.prior(state.hidden).sample()
        state = model.decoder_cell(model.embed(frame), latent, state)
        predicted = model.output.step(state.hidden, frame)
        frame = predicted.at(torch.randn_like(frame))
        frames.append(frame)
    return torch.cat(frames, dim=1).cpu()
