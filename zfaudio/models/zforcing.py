"""Z-forcing (Goyal et al., 2017, "Z-Forcing: Training Stochastic Recurrent Networks", equations 3 to 9).

Step t reads frame x_t and scores x_{t+1}:

    b_t = LSTM_b(x_{t+1}, b_{t+1})                      backward in time
    p(z_t | h_{t-1}) = N(mu_p, sigma_p)                 prior
    q(z_t | h_{t-1}, b_t) = N(mu_q, sigma_q)            posterior
    h_t = LSTM_f([embed(x_t), gen(z_t)], h_{t-1})       decoder state
    p(x_{t+1} | h_t) = N(mu_x, sigma_x)                 a frame likelihood and head of heads.py
    p(b_t | z_t) = N(tanh(mu_b), sigma_b)               auxiliary: z_t must predict the future (or its spectra)
    p(x_t | b_t)                                        backward reconstruction, optional
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import cast

import torch
from torch import Tensor, nn

from zfaudio.config import ZForcingConfig
from zfaudio.distributions import DiagonalGaussian
from zfaudio.models.base import (
    Ablation,
    FrameModel,
    FrameTerms,
    Latents,
    RecurrentState,
    draw,
    for_each_draw,
    latent_path,
    latent_terms,
    reverse,
    scored_steps,
    steps_of,
    zero_unscored,
)
from zfaudio.models.encoders import FrameEncoder, build_encoder
from zfaudio.models.frame_likelihoods import FrameDistribution, FrameLikelihood, build_likelihood
from zfaudio.models.heads import FrameHead, build_head
from zfaudio.models.input_dropout import InputDropout
from zfaudio.models.past import Signal, first_state, open_signal, past_of_chunks, zero_padding
from zfaudio.models.spectra_ahead import Spectra, SpectraAhead
from zfaudio.observations import EVERY_CONTENT, Observation, Quantizer
from zfaudio.ops.cells import ConditionalNormLSTMCell, LatentLSTMCell, State, at_end, zero_state
from zfaudio.ops.generation_step import latent_stepper
from zfaudio.ops.latent_path import LatentPath
from zfaudio.ops.lstm import LSTM
from zfaudio.ops.networks import GaussianMLP
from zfaudio.ops.packing import packed


class ZForcing(FrameModel):
    """Z-forcing; the equations are at the top of this file."""

    config_class = ZForcingConfig
    bound = "elbo"
    config: ZForcingConfig
    kinds = EVERY_CONTENT
    many_draws = True

    def __init__(self, config: ZForcingConfig, frame_size: int, observation: Observation) -> None:
        super().__init__(config, frame_size, observation)
        self.latent_size = config.latent_size
        hidden, latent, mlp = config.hidden_size, config.latent_size, config.mlp_size
        cell = ConditionalNormLSTMCell if config.conditional_layer_norm else LatentLSTMCell

        self.encoder = build_encoder(frame_size, config, observation)
        self.embed = nn.Linear(self.encoder.feature_size, config.embedding_size)
        self.input_dropout = InputDropout(config.input_dropout)
        self.backward_lstm = LSTM(config.embedding_size, hidden, config.core)
        self.prior = GaussianMLP(hidden, mlp, latent)
        self.posterior = GaussianMLP(2 * hidden, mlp, latent)
        self.decoder_cell = cell(config.embedding_size, latent, mlp, hidden)
        self.output = build_head(hidden, frame_size, config, observation)
        self.frame_noise_size = self.output.noise_size
        self.past = max(self.encoder.past, self.output.past)
        self.spectra_ahead: SpectraAhead | None = None
        if config.auxiliary != "none":
            auxiliary_input = latent + (hidden if config.auxiliary == "latent_and_state" else 0)
            if config.auxiliary_target == "mel":
                self.spectra_ahead = SpectraAhead(frame_size, config, observation)
                self.past = max(self.past, self.spectra_ahead.past)
            target = hidden if self.spectra_ahead is None else self.spectra_ahead.size
            self.auxiliary = GaussianMLP(auxiliary_input, mlp, target)
        if config.backward_reconstruction:
            self.backward_likelihood = build_reconstruction(config, frame_size, observation)
            self.backward_output = nn.Linear(hidden, self.backward_likelihood.parameters)

    def initial_state(self, batch_size: int) -> RecurrentState:
        """Zeros, in the precision of the weights."""
        return first_state(self._zero_state(batch_size), self.past)

    def forward(
        self,
        frames: Tensor,
        lengths: Tensor,
        state: RecurrentState | None = None,
        noise: Tensor | None = None,
        ablation: Ablation = "none",
        future_state: RecurrentState | None = None,
    ) -> FrameTerms:
        """The terms of the bound, with one draw of z_1..z_{T-1} from the posterior; see `FrameModel.forward`."""
        batch, time, _ = frames.shape
        frames = zero_padding(self.output.observe(frames), lengths)
        own, signal = open_signal(frames, self.initial_state(batch) if state is None else state, self.past)
        features = self.encoder(signal.heard(self.encoder.past))  # [B, T, size]
        future = self._read_backward(features[:, 1:], lengths - 1, future_state)  # [B, T-1, H]
        heard = self.input_dropout(features[:, :-1])
        noise = self.noise_or_new(frames, noise)
        draws = len(noise) // batch
        frames, lengths, heard, future = (for_each_draw(x, draws) for x in (frames, lengths, heard, future))
        own, signal = tuple(for_each_draw(part, draws) for part in own), signal.repeated(draws)
        path = latent_path(
            config=self.config,
            ablation=ablation,
            prior=self.prior,
            posterior=self.posterior,
            lstm_cell=self.decoder_cell,
            embed=self.embed,
            frames=heard,
            future=future,
            noise=noise,
            state=State(*own),
        )

        latents = Latents(self.prior(path.previous_hidden), path.posterior, path.latents)
        hidden = self._hidden_without_past(heard, path.latents) if ablation == "state" else path.hidden
        scored = scored_steps(lengths, time - 1)  # [B, T-1]
        log_likelihood = self.output(hidden, signal.heard(self.output.past, time - 1)).log_prob(frames[:, 1:])
        log_auxiliary = log_backward = None
        if self.config.auxiliary != "none":
            if self.spectra_ahead is None:
                log_auxiliary = self._log_auxiliary(path, future)
            else:
                log_auxiliary = self._log_spectra(path, signal, lengths, future_state)
            log_auxiliary = zero_unscored(log_auxiliary, scored)
        if self.config.backward_reconstruction:
            log_backward = zero_unscored(self._log_backward(frames[:, :-1], future), scored)
        return FrameTerms(
            log_likelihood=zero_unscored(log_likelihood, scored),
            **latent_terms(scored, latents),
            log_auxiliary=log_auxiliary,
            log_backward=log_backward,
            state=signal.after(State(at_end(path.hidden, lengths - 1), at_end(path.cell, lengths - 1)), lengths - 1),
            latents=latents,
            hidden=path.hidden,
        )

    def read_future(self, frames: Tensor, lengths: Tensor, future_state: RecurrentState | None = None) -> Tensor:
        """b_t for each step, [batch, time - 1, hidden]; see `FrameModel.read_future`."""
        before = self.initial_state(len(frames)) if future_state is None else future_state
        _, signal = open_signal(zero_padding(frames, lengths), before, self.past)
        features = self.encoder(signal.heard(self.encoder.past))
        return self._read_backward(features[:, 1:], lengths - 1, future_state)

    def future_states(self, chunks: Sequence[Tensor]) -> list[RecurrentState]:
        """The state of LSTM_b after each chunk, the spectra there, and the samples before the chunk.

        See `FrameModel.future_states`.
        """
        state = self._zero_state(1)
        beyond = () if self.spectra_ahead is None else self.spectra_ahead.nothing(1)
        pasts = list(past_of_chunks(chunks, self.past, self.output.observe))
        states: list[RecurrentState] = []
        for frames, past in zip(reversed(chunks), reversed(pasts), strict=True):
            states.append((*state, *beyond, *past))
            _, signal = open_signal(self.output.observe(frames), past, self.past)
            if self.spectra_ahead is not None:
                spectra = self.spectra_ahead.read(signal.heard(self.spectra_ahead.past), steps_of(frames) + 1)
                beyond = self.spectra_ahead.beyond([spectra, Spectra(*beyond)])
            backwards = self.encoder(signal.heard(self.encoder.past))[:, 1:].flip(1)
            _, state = self.backward_lstm.run(backwards, steps_of(frames), state, self.embed)
        return states[::-1]

    def step(
        self,
        frame: Tensor,
        state: RecurrentState,
        latent_temperature: float = 1.0,
        future: Tensor | None = None,
        noise: Tensor | None = None,
        latents: Tensor | None = None,
    ) -> tuple[FrameDistribution, RecurrentState]:
        """A step of generation; see `FrameModel.step`."""
        own, signal = open_signal(frame.unsqueeze(1), state, self.past)
        previous = State(*own)
        drawn_from = self.prior(previous.hidden) if future is None else self.posterior(previous.hidden, future)
        latents = draw(drawn_from, latent_temperature, noise) if latents is None else latents
        features = self.input_dropout(self.encoder(signal.heard(self.encoder.past))[:, 0])
        new_state: State = self.decoder_cell(self.embed(features), latents, previous)
        return self.output.step(new_state.hidden, signal.heard(self.output.past)), signal.after(new_state)

    def stepper(self) -> Callable[..., tuple[FrameDistribution, RecurrentState]]:
        """A faster `step`; see `FrameModel.stepper` and ops/generation_step.py."""
        if not isinstance(self.decoder_cell, LatentLSTMCell):
            return super().stepper()
        advance = latent_stepper(self.embed, self.prior, self.posterior, self.decoder_cell)
        with torch.no_grad():
            encoder, head = cast(FrameEncoder, packed(self.encoder)), cast(FrameHead, packed(self.output))

        @torch.no_grad()
        def step(
            frame: Tensor,
            state: RecurrentState,
            latent_temperature: float = 1.0,
            future: Tensor | None = None,
            noise: Tensor | None = None,
        ) -> tuple[FrameDistribution, RecurrentState]:
            own, signal = open_signal(frame.unsqueeze(1), state, self.past)
            features = self.input_dropout(encoder(signal.heard(self.encoder.past))[:, 0])
            new_state = advance(features, own, latent_temperature, future, noise)
            return head.step(new_state.hidden, signal.heard(head.past)), signal.after(new_state)

        return step

    def _read_backward(self, features: Tensor, steps: Tensor, future_state: RecurrentState | None) -> Tensor:
        """b_t [B, S, H] from what the encoder tells of x_{t+1} [B, S, size]; `steps` of each sequence, [B]."""
        backwards = reverse(features, steps)  # LSTM_b runs from the end of each sequence to its start
        if future_state is None:
            return reverse(self.backward_lstm.read(backwards, self.embed), steps)
        future, _ = self.backward_lstm.run(backwards, steps, State(*future_state[:2]), self.embed)
        return reverse(future, steps)

    def _zero_state(self, batch_size: int) -> State:
        """The state of the decoder, or of LSTM_b, before its first step."""
        return zero_state(self.embed.weight, batch_size, self.config.hidden_size)

    def _hidden_without_past(self, features: Tensor, latents: Tensor) -> Tensor:
        """h_t of a decoder whose state is zero before every frame: of x_t [B, S, size], z_t [B, S, Z] -> [B, S, H]."""
        zeros = self._zero_state(features.shape[0] * features.shape[1])
        state: State = self.decoder_cell(self.embed(features).flatten(0, 1), latents.flatten(0, 1), zeros)
        hidden: Tensor = state.hidden.unflatten(0, features.shape[:2])
        return hidden

    def _log_auxiliary(self, path: LatentPath, future: Tensor) -> Tensor:
        """log p(b_t | z_t), [B, S]. As in the published code, z_t keeps its gradient and the target b_t does not."""
        predicted = self._predict_auxiliary(path)
        predicted.mean = torch.tanh(predicted.mean)
        return self._log_target(predicted, future.detach().to(path.latents.dtype))

    def _log_spectra(
        self, path: LatentPath, signal: Signal, lengths: Tensor, future_state: RecurrentState | None
    ) -> Tensor:
        """log p(spectrum | z_t), averaged over those of the next frames that are known, [B, S]."""
        ahead = cast(SpectraAhead, self.spectra_ahead)
        spectra = ahead.read(signal.heard(ahead.past), lengths)
        beyond = ahead.nothing(len(lengths)) if future_state is None else Spectra(*future_state[2:4])
        target, known = ahead.targets(spectra, beyond)  # [B, S, K, bands], [B, S, K]
        predicted = self._predict_auxiliary(path).unflatten((target.shape[-2], target.shape[-1]))
        log_density = self._log_target(predicted, target.to(path.latents.dtype))  # [B, S, K]
        return zero_unscored(log_density, known > 0).sum(-1) / known.sum(-1).clamp(min=1)

    def _predict_auxiliary(self, path: LatentPath) -> DiagonalGaussian:
        """The density of the auxiliary cost's target, [B, S, size]."""
        with_state = self.config.auxiliary == "latent_and_state"
        inputs = [path.latents, path.previous_hidden] if with_state else [path.latents]
        predicted: DiagonalGaussian = self.auxiliary(*inputs)
        return predicted

    def _log_target(self, predicted: DiagonalGaussian, target: Tensor) -> Tensor:
        """The auxiliary cost of targets [..., size]: [...]."""
        if self.config.auxiliary_cost == "squared_error":
            return -(target - predicted.mean).square().sum(-1)
        return predicted.log_prob(target)

    def _log_backward(self, frames: Tensor, future: Tensor) -> Tensor:
        """log p(x_t | b_t), [B, S]."""
        return self.backward_likelihood.read(self.backward_output(future)).log_prob(frames)


def build_reconstruction(config: ZForcingConfig, frame_size: int, observation: Observation) -> FrameLikelihood:
    """The likelihood of p(x_t | b_t): a Gaussian of the samples of a recording, otherwise that of the decoder."""
    if isinstance(observation, Quantizer):
        config = dataclasses.replace(config, likelihood="gaussian")
        observation = Quantizer(observation.mean, observation.deviation)  # it has no part in the bound
    return build_likelihood(config, frame_size, observation)
