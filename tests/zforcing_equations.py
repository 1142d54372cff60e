"""Z-forcing in NumPy, one sequence and one step at a time, as design and paper write it: the twin of the model."""

import numpy as np

from zfaudio.models.zforcing import ZForcing

Arrays = dict[str, np.ndarray]


def score_sequence(model: ZForcing, frames: np.ndarray, noise: np.ndarray) -> Arrays:
    """Terms of one sequence, frames [time, frame_size] and noise [time - 1, latent] -> arrays [time - 1]."""
    w = {name: value.detach().numpy() for name, value in model.state_dict().items()}
    config, steps = model.config, len(frames) - 1
    hidden = config.hidden_size
    embedded = frames @ w["embed.weight"].T + w["embed.bias"]

    b = np.zeros((steps, hidden))
    h, c = np.zeros(hidden), np.zeros(hidden)
    for t in reversed(range(steps)):
        gates = (
            w["backward_lstm.weight_ih_l0"] @ embedded[t + 1]
            + w["backward_lstm.bias_ih_l0"]
            + w["backward_lstm.weight_hh_l0"] @ h
            + w["backward_lstm.bias_hh_l0"]
        )
        h, c = lstm(gates, c)
        b[t] = h

    terms: dict[str, list[float]] = {name: [] for name in ("log_likelihood", "kl", "ratio", "auxiliary", "backward")}
    h, c = np.zeros(hidden), np.zeros(hidden)
    for t in range(steps):
        prior = clamped_mlp(w, "prior", h)
        posterior = clamped_mlp(w, "posterior", np.concatenate([h, b[t]]))
        z = posterior[0] + np.exp(posterior[1] / 2) * noise[t]
        terms["kl"].append(kl(posterior, prior))
        terms["ratio"].append(log_normal(z, *prior) - log_normal(z, *posterior))
        if config.auxiliary != "none":
            inputs = np.concatenate([z, h]) if config.auxiliary == "latent_and_state" else z
            mean, log_variance = clamped_mlp(w, "auxiliary", inputs)
            mean = np.tanh(mean)
            squared = config.auxiliary_cost == "squared_error"
            terms["auxiliary"].append(-((b[t] - mean) ** 2).sum() if squared else log_normal(b[t], mean, log_variance))
        h, c = lstm(decoder_gates(model, w, embedded[t], z, h), c)
        terms["log_likelihood"].append(log_normal(frames[t + 1], *output(w, "decoder_output", h, config.min_deviation)))
        if config.backward_reconstruction:
            terms["backward"].append(log_normal(frames[t], *output(w, "backward_output", b[t], config.min_deviation)))
    return {name: np.array(values) for name, values in terms.items()}


def decoder_gates(model: ZForcing, w: Arrays, embedded: np.ndarray, z: np.ndarray, h: np.ndarray) -> np.ndarray:
    recurrent = w["decoder_cell.recurrent.weight"] @ h
    if not model.config.conditional_layer_norm:
        gen = w["decoder_cell.gen.weight"] @ z + w["decoder_cell.gen.bias"]
        return (
            w["decoder_cell.input.weight"] @ np.concatenate([embedded, gen]) + w["decoder_cell.input.bias"] + recurrent
        )
    entering = normalise(w["decoder_cell.input.weight"] @ embedded)
    entering = entering * w["decoder_cell.input_norm.weight"] + w["decoder_cell.input_norm.bias"]
    inner = activation(w["decoder_cell.gen.0.weight"] @ z + w["decoder_cell.gen.0.bias"])
    gain, bias = np.split(np.clip(w["decoder_cell.gen.2.weight"] @ inner + w["decoder_cell.gen.2.bias"], -3, 3), 2)
    return entering + (1 + gain) * normalise(recurrent) + bias


def lstm(gates: np.ndarray, c: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    i, f, g, o = np.split(gates, 4)
    c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
    return sigmoid(o) * np.tanh(c), c


def clamped_mlp(w: Arrays, name: str, inputs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    inner = activation(w[f"{name}.layers.0.weight"] @ inputs + w[f"{name}.layers.0.bias"])
    mean, log_variance = np.split(np.clip(w[f"{name}.layers.2.weight"] @ inner + w[f"{name}.layers.2.bias"], -8, 8), 2)
    return mean, log_variance


def output(w: Arrays, name: str, h: np.ndarray, min_deviation: float) -> tuple[np.ndarray, np.ndarray]:
    mean, log_variance = np.split(w[f"{name}.weight"] @ h + w[f"{name}.bias"], 2)
    return mean, np.log(np.exp(log_variance) + min_deviation**2)


def kl(left: tuple[np.ndarray, np.ndarray], right: tuple[np.ndarray, np.ndarray]) -> float:
    (m1, v1), (m2, v2) = left, right
    return float(0.5 * (v2 - v1 + (np.exp(v1) + (m1 - m2) ** 2) / np.exp(v2) - 1).sum())


def log_normal(x: np.ndarray, mean: np.ndarray, log_variance: np.ndarray) -> float:
    return float((-0.5 * (np.log(2 * np.pi) + log_variance + (x - mean) ** 2 / np.exp(log_variance))).sum())


def normalise(x: np.ndarray) -> np.ndarray:
    return (x - x.mean()) / np.sqrt(x.var() + 1e-5)


def activation(x: np.ndarray) -> np.ndarray:
    return np.clip(np.where(x > 0, x, x / 3), -3, 3)


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))
