"""The autoregressive head by itself: it predicts each sample from those before it, without state or latents.

    p(x_{t+1} | x_t) = prod_i p(x_{t+1,i} | the head_window samples before it)

It is the floor for models of frames: what it scores needs no memory beyond a few milliseconds.
"""

from collections.abc import Sequence

from torch import Tensor

from zfaudio.config import SampleARConfig
from zfaudio.models.base import (
    Ablation,
    FrameModel,
    FrameTerms,
    RecurrentState,
    scored_steps,
    zero_unscored,
)
from zfaudio.models.frame_likelihoods import FrameDistribution
from zfaudio.models.heads import build_head
from zfaudio.models.past import open_signal, zero_padding
from zfaudio.observations import RECORDINGS, Observation


class SampleAR(FrameModel):
    """The head by itself; the equation is at the top of this file."""

    config_class = SampleARConfig
    kinds = RECORDINGS
    bound = "exact"
    config: SampleARConfig

    def __init__(self, config: SampleARConfig, frame_size: int, observation: Observation) -> None:
        super().__init__(config, frame_size, observation)
        self.output = build_head(0, frame_size, config, observation)
        self.frame_noise_size, self.past = self.output.noise_size, self.output.past

    def initial_state(self, batch_size: int) -> RecurrentState:
        """No state but the samples that the head's window holds beyond a frame: zeros."""
        return (next(self.parameters()).new_zeros(batch_size, self.past),) if self.past else ()

    def forward(
        self,
        frames: Tensor,
        lengths: Tensor,
        state: RecurrentState | None = None,
        noise: Tensor | None = None,
        ablation: Ablation = "none",
        future_state: RecurrentState | None = None,
    ) -> FrameTerms:
        """The exact log-likelihood; see `FrameModel.forward`. There is nothing to leave out."""
        batch, time, _ = frames.shape
        frames = zero_padding(self.output.observe(frames), lengths)
        _, signal = open_signal(frames, self.initial_state(batch) if state is None else state, self.past)
        scored = scored_steps(lengths, time - 1)
        no_condition = frames[:, :-1, :0]
        log_likelihood = self.output(no_condition, signal.heard(self.past, time - 1)).log_prob(frames[:, 1:])
        return FrameTerms.exact(zero_unscored(log_likelihood, scored), signal.after((), lengths - 1))

    def future_states(self, chunks: Sequence[Tensor]) -> list[RecurrentState]:
        """Nothing: the model looks back only; see `FrameModel.future_states`."""
        return [() for _ in range(len(chunks))]

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
        _, signal = open_signal(frame.unsqueeze(1), state, self.past)
        no_condition = frame[:, :0]
        return self.output.step(no_condition, signal.heard(self.past)), signal.after(())
