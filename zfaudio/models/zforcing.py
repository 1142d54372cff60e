"""Z-forcing (Goyal et al., 2017, "Z-Forcing: Training Stochastic Recurrent Networks", equations 3 to 9).

Step t reads frame x_t and scores x_{t+1}:

    b_t = LSTM_b(x_{t+1}, b_{t+1})                      backward in time
    p(z_t | h_{t-1}) = N(mu_p, sigma_p)                 prior
    q(z_t | h_{t-1}, b_t) = N(mu_q, sigma_q)            posterior
    h_t = LSTM_f([embed(x_t), gen(z_t)], h_{t-1})       decoder state
    p(x_{t+1} | h_t) = N(mu_x, sigma_x)                 frame likelihood
    p(b_t | z_t) = N(tanh(mu_b), sigma_b)               auxiliary: z_t must tell the future
    p(x_t | b_t)                                        backward reconstruction, optional
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Generator, Tensor, nn

from zfaudio.distributions import DiagonalGaussian, gaussian_kl, split_gaussian
from zfaudio.models.base import FrameModel, FrameTerms
from zfaudio.ops import fast, plain
from zfaudio.ops.cells import ConditionalNormLSTMCell, LatentLSTMCell, State, initialise_recurrent
from zfaudio.ops.lstm import LSTM
from zfaudio.ops.networks import GaussianMLP
from zfaudio.ops.plain import LatentPath


@dataclass
class ModelConfig:
    """Sizes and variants of the model.

    Args:
        name: which model.
        hidden_size: units of the forward and of the backward LSTM.
        latent_size: dimensions of z_t.
        embedding_size: units of the linear embedding of a frame.
        mlp_size: hidden units of prior, posterior and auxiliary networks, and of gen.
        min_deviation: floor of the frame deviation, in deviations of the corpus; 0 is the published way.
        auxiliary: what the auxiliary network reads; `none` leaves the auxiliary cost out.
        auxiliary_cost: Gaussian log-density of b_t, or minus the squared error.
        backward_reconstruction: whether b_t also predicts x_t.
        conditional_layer_norm: z_t enters the decoder as gain and bias of a layer norm.
        core: how the loop over frames is computed: plain, which reads like the equations, or fast (ops/fast.py).
    """

    name: Literal["zforcing"] = "zforcing"
    hidden_size: int = 1024
    latent_size: int = 256
    embedding_size: int = 512
    mlp_size: int = 512
    min_deviation: float = 0.001
    auxiliary: Literal["none", "latent", "latent_and_state"] = "latent"
    auxiliary_cost: Literal["gaussian", "squared_error"] = "gaussian"
    backward_reconstruction: bool = False
    conditional_layer_norm: bool = False
    core: Literal["plain", "fast"] = "plain"


class ZForcing(FrameModel):
    """The model of this file's docstring."""

    bound = "elbo"

    def __init__(self, config: ModelConfig, frame_size: int) -> None:
        super().__init__()
        self.config = config
        self.frame_size = frame_size
        hidden, latent, mlp = config.hidden_size, config.latent_size, config.mlp_size
        cell = ConditionalNormLSTMCell if config.conditional_layer_norm else LatentLSTMCell

        self.embed = nn.Linear(frame_size, config.embedding_size)
        lstm = LSTM if config.core == "fast" else nn.LSTM
        self.backward_lstm = lstm(config.embedding_size, hidden, batch_first=True)
        initialise_recurrent(self.backward_lstm.get_parameter("weight_hh_l0"))
        self.prior = GaussianMLP(hidden, mlp, latent)
        self.posterior = GaussianMLP(2 * hidden, mlp, latent)
        self.decoder_cell = cell(config.embedding_size, latent, mlp, hidden)
        self.decoder_output = nn.Linear(hidden, 2 * frame_size)
        if config.auxiliary != "none":
            auxiliary_input = latent + (hidden if config.auxiliary == "latent_and_state" else 0)
            self.auxiliary = GaussianMLP(auxiliary_input, mlp, hidden)
        if config.backward_reconstruction:
            self.backward_output = nn.Linear(hidden, 2 * frame_size)

    def initial_state(self, batch_size: int) -> State:
        """Zeros, in float32 or better whatever the precision of the products."""
        zeros = self.decoder_output.weight.new_zeros(batch_size, self.config.hidden_size)
        return State(zeros, zeros)

    def latent_noise(self, steps: int, generator: Generator | None = None) -> Tensor:
        """Draws for one sequence, [steps, latent]; see `FrameModel.latent_noise`."""
        return torch.randn(steps, self.config.latent_size, generator=generator)

    def forward(
        self, frames: Tensor, lengths: Tensor, state: State | None = None, noise: Tensor | None = None
    ) -> FrameTerms:
        """Terms of the bound with one draw of z_1..z_{T-1} from the posterior; see `FrameModel.forward`."""
        batch, time, _ = frames.shape
        state = self.initial_state(batch) if state is None else state
        embedded = self.embed(frames)  # [B, T, E]
        backward = self._read_embedded_backward(embedded[:, 1:], lengths - 1)  # [B, T-1, H]
        if noise is None:
            noise = torch.randn(batch, time - 1, self.config.latent_size, device=frames.device)
        noise = noise.to(state.cell.dtype)
        latent_path = fast.latent_path if self.config.core == "fast" else plain.latent_path
        path = latent_path(self.posterior, self.decoder_cell, embedded[:, :-1], backward, noise, state)

        prior = self.prior(path.before)
        scored = torch.arange(time - 1, device=frames.device) < (lengths - 1).unsqueeze(1)  # [B, T-1]

        def mask(terms: Tensor) -> Tensor:
            # where, not a product: what stands on padding may be infinite
            return torch.where(scored, terms, 0)

        return FrameTerms(
            log_likelihood=mask(self._predict(path.hidden).log_prob(frames[:, 1:])),
            kl=mask(gaussian_kl(path.posterior, prior)),
            log_latent_ratio=mask(prior.log_prob(path.latent) - path.posterior.log_prob(path.latent)),
            log_auxiliary=mask(self._log_auxiliary(path, backward)) if self.config.auxiliary != "none" else None,
            log_backward=mask(self._log_backward(frames[:, :-1], backward))
            if self.config.backward_reconstruction
            else None,
            state=_state_at_end(path, lengths - 1),
        )

    def read_backward(self, frames: Tensor, lengths: Tensor) -> Tensor:
        """b_t for each step, [batch, time - 1, hidden]; see `FrameModel.read_backward`."""
        return self._read_embedded_backward(self.embed(frames[:, 1:]), lengths - 1)

    def step(
        self,
        frame: Tensor,
        state: State,
        latent_temperature: float = 1.0,
        backward: Tensor | None = None,
        noise: Tensor | None = None,
    ) -> tuple[DiagonalGaussian, State]:
        """One step of generation; see `FrameModel.step`."""
        latents = self.prior(state.hidden) if backward is None else self.posterior(state.hidden, backward)
        latent = latents.sample(latent_temperature) if noise is None else latents.at(noise, latent_temperature)
        state = self.decoder_cell(self.embed(frame), latent, state)
        return self._predict(state.hidden), state

    def _read_embedded_backward(self, embedded: Tensor, lengths: Tensor) -> Tensor:
        """Run LSTM_b from each sequence's own end to its start: embedded [B, S, E], lengths [B] -> [B, S, H]."""
        steps = torch.arange(embedded.shape[1], device=embedded.device)
        # Position s of the reversed sequence holds step length-1-s; padding stays where it is, after the end.
        order = torch.where(steps < lengths.unsqueeze(1), lengths.unsqueeze(1) - 1 - steps, steps).unsqueeze(-1)
        reversed_states, _ = self.backward_lstm(torch.take_along_dim(embedded, order, dim=1))
        return torch.take_along_dim(reversed_states, order, dim=1)

    def _predict(self, hidden: Tensor) -> DiagonalGaussian:
        """p(x_{t+1} | h_t): [..., H] -> [..., frame_size]."""
        return split_gaussian(self.decoder_output(hidden), min_deviation=self.config.min_deviation)

    def _log_auxiliary(self, path: LatentPath, backward: Tensor) -> Tensor:
        """log p(b_t | z_t), [B, S]. b_t is a target held fixed; z_t keeps its gradient, as in the published code."""
        target = backward.detach().to(path.latent.dtype)
        inputs = (path.latent, path.before) if self.config.auxiliary == "latent_and_state" else (path.latent,)
        predicted = self.auxiliary(*inputs)
        predicted.mean = torch.tanh(predicted.mean)
        if self.config.auxiliary_cost == "squared_error":
            return -(target - predicted.mean).square().sum(-1)
        return predicted.log_prob(target)

    def _log_backward(self, frames: Tensor, backward: Tensor) -> Tensor:
        """log p(x_t | b_t), [B, S]."""
        predicted = split_gaussian(self.backward_output(backward), min_deviation=self.config.min_deviation)
        return predicted.log_prob(frames)


def _state_at_end(path: LatentPath, steps: Tensor) -> State:
    """The state after each sequence's own last step: steps [B] -> rows [B, H]."""
    last = (steps - 1).view(-1, 1, 1)
    return State(
        torch.take_along_dim(path.hidden, last, dim=1).squeeze(1),
        torch.take_along_dim(path.cell, last, dim=1).squeeze(1),
    )
