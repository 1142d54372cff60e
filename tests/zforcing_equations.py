"""Z-forcing in NumPy, one sequence and one step at a time, as design and paper write it: the twin of the model."""

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
    lstm,
    torch_lstm,
    weights_of,
)

from zfaudio.models.zforcing import ZForcing


def score_sequence(model: ZForcing, frames: np.ndarray, noise: np.ndarray) -> Arrays:
    """Terms of one sequence, frames [time, frame_size] and noise [time - 1, latent] -> arrays [time - 1]."""
    w = weights_of(model)
    config, steps = model.config, len(frames) - 1
    hidden = config.hidden_size
    embedded = np.stack([embed(w, x) for x in frames])

    b = np.zeros((steps, hidden))
    h, c = np.zeros(hidden), np.zeros(hidden)
    for t in reversed(range(steps)):
        h, c = torch_lstm(w, "backward_lstm", embedded[t + 1], h, c)
        b[t] = h

    terms: dict[str, list[float]] = {
        name: [] for name in ("log_likelihood", "kl", "log_latent_ratio", "log_auxiliary", "log_backward")
    }
    h, c = np.zeros(hidden), np.zeros(hidden)
    for t in range(steps):
        prior = clamped_mlp(w, "prior", h)
        posterior = clamped_mlp(w, "posterior", h, b[t])
        z = posterior[0] + np.exp(posterior[1] / 2) * noise[t]
        terms["kl"].append(kl(posterior, prior))
        terms["log_latent_ratio"].append(log_normal(z, *prior) - log_normal(z, *posterior))
        if config.auxiliary != "none":
            inputs = (z, h) if config.auxiliary == "latent_and_state" else (z,)
            mean, log_variance = clamped_mlp(w, "auxiliary", *inputs)
            mean = np.tanh(mean)
            squared = config.auxiliary_cost == "squared_error"
            cost = -((b[t] - mean) ** 2).sum() if squared else log_normal(b[t], mean, log_variance)
            terms["log_auxiliary"].append(cost)
        if config.conditional_layer_norm:
            h, c = lstm(normalised_gates(w, embedded[t], z, h), c)
        else:
            h, c = latent_lstm(w, "decoder_cell", embedded[t], z, h, c)
        terms["log_likelihood"].append(log_output(w, "output.linear", h, frames[t + 1], config))
        if config.backward_reconstruction:
            terms["log_backward"].append(log_output(w, "backward_output", b[t], frames[t], config))
    return {name: np.array(values) for name, values in terms.items()}


def normalised_gates(w: Arrays, embedded: np.ndarray, z: np.ndarray, h: np.ndarray) -> np.ndarray:
    """Gate sums of the variant with conditional layer norm."""
    entering = normalize(w["decoder_cell.input.weight"] @ embedded)
    entering = entering * w["decoder_cell.input_norm.weight"] + w["decoder_cell.input_norm.bias"]
    inner = activation(linear(w, "decoder_cell.gen.0", z))
    gain, bias = np.split(np.clip(linear(w, "decoder_cell.gen.2", inner), -3, 3), 2)
    return entering + (1 + gain) * normalize(w["decoder_cell.recurrent.weight"] @ h) + bias


def normalize(x: np.ndarray) -> np.ndarray:
    return (x - x.mean()) / np.sqrt(x.var() + 1e-5)
