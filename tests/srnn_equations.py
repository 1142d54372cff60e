"""SRNN in NumPy, one sequence and one step at a time, as its equations read: the twin of the model.

d_t = LSTM(embed(x_t), d_{t-1})
a_t = LSTM_b([d_t, embed(x_{t+1})], a_{t+1}), or without smoothing [d_t, embed(x_{t+1})]
p(z_t | z_{t-1}, d_t),  q(z_t | z_{t-1}, a_t) with mu_q = mu_p + correction,  p(x_{t+1} | decode([z_t, d_t]))
"""

import numpy as np
from equations import (
    Arrays,
    activation,
    clamped_mlp,
    embed,
    kl,
    linear,
    log_normal,
    log_output,
    torch_lstm,
    weights_of,
)

from zfaudio.models.srnn import SRNN


def score_sequence(model: SRNN, frames: np.ndarray, noise: np.ndarray) -> Arrays:
    """Terms of one sequence, frames [time, frame_size] and noise [time - 1, latent] -> arrays [time - 1]."""
    w, config, steps = weights_of(model), model.config, len(frames) - 1
    d, c = [], np.zeros(config.hidden_size)
    for t in range(steps):
        h, c = torch_lstm(w, "lstm", embed(w, frames[t]), d[-1] if d else np.zeros(config.hidden_size), c)
        d.append(h)

    a = [np.concatenate([d[t], embed(w, frames[t + 1])]) for t in range(steps)]
    if config.smoothing:
        h, c = np.zeros(config.hidden_size), np.zeros(config.hidden_size)
        for t in reversed(range(steps)):
            h, c = torch_lstm(w, "backward_lstm", a[t], h, c)
            a[t] = h

    terms: dict[str, list[float]] = {name: [] for name in ("log_likelihood", "kl", "log_latent_ratio")}
    z = np.zeros(config.latent_size)
    for t in range(steps):
        prior = clamped_mlp(w, "prior", d[t], z)
        mean, log_variance = clamped_mlp(w, "posterior", a[t], z)
        posterior = mean + prior[0] if config.residual_posterior else mean, log_variance
        z = posterior[0] + np.exp(posterior[1] / 2) * noise[t]
        decoded = activation(linear(w, "decode.0", z, d[t]))
        terms["log_likelihood"].append(log_output(w, "output.linear", decoded, frames[t + 1], config))
        terms["kl"].append(kl(posterior, prior))
        terms["log_latent_ratio"].append(log_normal(z, *prior) - log_normal(z, *posterior))
    return {name: np.array(values) for name, values in terms.items()}
