"""Settings of every model. What a model does not have, it does not read."""

from dataclasses import dataclass
from typing import Literal

from zfaudio.errors import UserError

ModelName = Literal["zforcing", "rnn", "vrnn", "srnn", "sample_ar"]
Likelihood = Literal["gaussian", "gaussian_mixture", "logistic_mixture"]


@dataclass
class ModelConfig:
    """Sizes and variants of the model.

    Args:
        name: which model; `sample_ar` has none of the sizes below but those of the head.
        hidden_size: units of each LSTM.
        latent_size: dimensions of z_t.
        embedding_size: units of the embedding of a frame.
        mlp_size: hidden units of prior, posterior and auxiliary networks, and of what the latent goes through.
        likelihood: density of a frame: Gaussian, a mixture of Gaussians, or a mixture of logistics integrated over
            each 16-bit step (discretized).
        components: of a mixture.
        head: how a frame's samples hang together given the state: not at all (factorized), or each predicted from
            those before it (autoregressive).
        head_window: samples before it that the autoregressive head reads.
        head_size: units of its two layers.
        head_stride: in training, one in so many samples of a frame is scored, at random, and counted so many times:
            samples tell much the same, and steps are what learning takes. Scores are always of all samples.
        min_deviation: floor of the Gaussians' deviation, in deviations of the corpus; 0 is the published way.
        auxiliary: zforcing: what the auxiliary network reads; `none` leaves the auxiliary cost out.
        auxiliary_cost: zforcing: Gaussian log-density of b_t, or minus the squared error.
        backward_reconstruction: zforcing: whether b_t also predicts x_t.
        conditional_layer_norm: zforcing: z_t enters the decoder as gain and bias of a layer norm.
        smoothing: srnn: whether the posterior reads the future, or x_{t+1} alone.
        residual_posterior: srnn: whether the posterior's mean is a correction of the prior's.
        core: how loops over frames and samples are computed: fast (ops/fast.py) where it applies, or plain, as the
            equations read.
    """

    name: ModelName = "zforcing"
    hidden_size: int = 1024
    latent_size: int = 256
    embedding_size: int = 512
    mlp_size: int = 512
    likelihood: Likelihood = "gaussian"
    components: int = 10
    head: Literal["factorized", "autoregressive"] = "factorized"
    head_window: int = 64
    head_size: int = 192
    head_stride: int = 1
    min_deviation: float = 0.001
    auxiliary: Literal["none", "latent", "latent_and_state"] = "latent"
    auxiliary_cost: Literal["gaussian", "squared_error"] = "gaussian"
    backward_reconstruction: bool = False
    conditional_layer_norm: bool = False
    smoothing: bool = True
    residual_posterior: bool = True
    core: Literal["plain", "fast"] = "fast"

    def __post_init__(self) -> None:
        sizes = ("hidden_size", "latent_size", "embedding_size", "mlp_size", "components")
        for name in (*sizes, "head_window", "head_size", "head_stride"):
            least = 2 if name == "head_window" else 1  # the head reads the changes within its window
            if getattr(self, name) < least:
                raise UserError(f"model.{name} is {getattr(self, name)}; it must be at least {least}")
        if self.name == "sample_ar" and self.head != "autoregressive":
            raise UserError("model.name sample_ar is the autoregressive head by itself; set model.head autoregressive")
