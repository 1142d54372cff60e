"""VRNN in NumPy, one sequence and one step at a time, as its equations read: the twin of the model.

h_t = LSTM([embed(x_t), gen(z_{t-1})], h_{t-1}),  z_0 = 0
p(z_t | h_t),  q(z_t | h_t, x_{t+1}),  p(x_{t+1} | decode([gen(z_t), h_t]))
"""

import numpy as np
from equations import (
    Arrays,
    activation,
    clamped_mlp,
    embed,
    kl,
    latent_lstm,
    linear,
    log_normal,
    log_output,
    weights_of,
)

from zfaudio.models.vrnn import VRNN


def score_sequence(model: VRNN, frames: np.ndarray, noise: np.ndarray) -> Arrays:
    """Terms of one sequence, frames [time, frame_size] and noise [time - 1, latent] -> arrays [time - 1]."""
    w, config = weights_of(model), model.config
    h, c, z = np.zeros(config.hidden_size), np.zeros(config.hidden_size), np.zeros(config.latent_size)
    terms: dict[str, list[float]] = {name: [] for name in ("log_likelihood", "kl", "log_latent_ratio")}
    for x, following, e in zip(frames[:-1], frames[1:], noise, strict=True):
        h, c = latent_lstm(w, "cell", embed(w, x), z, h, c)
        prior = clamped_mlp(w, "prior", h)
        posterior = clamped_mlp(w, "posterior", h, embed(w, following))
        z = posterior[0] + np.exp(posterior[1] / 2) * e
        decoded = activation(linear(w, "decode.0", linear(w, "cell.gen", z), h))
        terms["log_likelihood"].append(log_output(w, "output.linear", decoded, following, config))
        terms["kl"].append(kl(posterior, prior))
        terms["log_latent_ratio"].append(log_normal(z, *prior) - log_normal(z, *posterior))
    return {name: np.array(values) for name, values in terms.items()}
