"""A base for models of tests that are only scored: they define `forward` and nothing else."""

import torch

from zfaudio.config import ModelConfig
from zfaudio.distributions import Quantizer
from zfaudio.models.base import FrameModel


class ScoredModel(FrameModel):
    """A model with latents as large as its frames, one parameter, and no steps of generation."""

    config_class = ModelConfig
    bound = "elbo"

    def __init__(self, frame_size: int) -> None:
        super().__init__(ModelConfig(), frame_size, Quantizer(mean=0.0, deviation=1.0))
        self.latent_size = frame_size
        self.unused = torch.nn.Parameter(torch.zeros(()))

    def initial_state(self, batch_size):
        return ()

    def forward(self, frames, lengths, state=None, noise=None, ablation="none"):
        raise NotImplementedError

    def read_future(self, frames, lengths):
        raise NotImplementedError

    def step(self, frame, state, latent_temperature=1.0, future=None, noise=None):
        raise NotImplementedError
