"""What the models' equations have in common, in NumPy: an LSTM, the small networks, densities."""

import numpy as np

from zfaudio.config import RNNConfig

Arrays = dict[str, np.ndarray]
Gaussian = tuple[np.ndarray, np.ndarray]  # mean, log-variance


def weights_of(model) -> Arrays:
    """A model's weights by name."""
    return {name: value.detach().numpy() for name, value in model.state_dict().items()}


def linear(w: Arrays, name: str, *inputs: np.ndarray) -> np.ndarray:
    return w[f"{name}.weight"] @ np.concatenate(inputs) + w[f"{name}.bias"]


def torch_lstm(w: Arrays, name: str, entering: np.ndarray, h: np.ndarray, c: np.ndarray) -> Gaussian:
    """One step of an nn.LSTM: h and c after it."""
    gates = (
        w[f"{name}.weight_ih_l0"] @ entering
        + w[f"{name}.bias_ih_l0"]
        + w[f"{name}.weight_hh_l0"] @ h
        + w[f"{name}.bias_hh_l0"]
    )
    return lstm(gates, c)


def lstm(gates: np.ndarray, c: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """h and c after a step."""
    i, f, g, o = np.split(gates, 4)
    c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
    return sigmoid(o) * np.tanh(c), c


def latent_lstm(w: Arrays, name: str, embedded: np.ndarray, z: np.ndarray, h: np.ndarray, c: np.ndarray) -> Gaussian:
    """LSTM([embedded, gen(z)], h): h and c after it."""
    gates = linear(w, f"{name}.input", embedded, linear(w, f"{name}.gen", z)) + w[f"{name}.recurrent.weight"] @ h
    return lstm(gates, c)


def clamped_mlp(w: Arrays, name: str, *inputs: np.ndarray) -> Gaussian:
    inner = activation(linear(w, f"{name}.layers.0", *inputs))
    mean, log_variance = np.split(np.clip(linear(w, f"{name}.layers.2", inner), -8, 8), 2)
    return mean, log_variance


def embed(w: Arrays, x: np.ndarray) -> np.ndarray:
    """embed(x) of a frame [frame_size], or of the vector of its word."""
    return linear(w, "embed", w["encoder.vectors.weight"][int(x[0])] if "encoder.vectors.weight" in w else x)


def log_output(w: Arrays, name: str, condition: np.ndarray, x: np.ndarray, config: RNNConfig) -> float:
    """Log-density of a frame, or probability of its pixels or word, whose parameters are linear in a condition."""
    if config.likelihood == "gaussian":
        return log_normal(x, *gaussian_output(w, name, condition, config.min_deviation))
    logits = linear(w, name, condition)
    if config.likelihood == "bernoulli":
        return float(np.log(np.where(x == 1, sigmoid(logits), 1 - sigmoid(logits))).sum())
    return float(logits[int(x[0])] - np.log(np.exp(logits).sum()))


def gaussian_output(w: Arrays, name: str, condition: np.ndarray, min_deviation: float) -> Gaussian:
    mean, log_variance = np.split(linear(w, name, condition), 2)
    return mean, np.log(np.exp(log_variance) + min_deviation**2)


def kl(left: Gaussian, right: Gaussian) -> float:
    (m1, v1), (m2, v2) = left, right
    return float(0.5 * (v2 - v1 + (np.exp(v1) + (m1 - m2) ** 2) / np.exp(v2) - 1).sum())


def log_normal(x: np.ndarray, mean: np.ndarray, log_variance: np.ndarray) -> float:
    return float((-0.5 * (np.log(2 * np.pi) + log_variance + (x - mean) ** 2 / np.exp(log_variance))).sum())


def activation(x: np.ndarray) -> np.ndarray:
    return np.clip(np.where(x > 0, x, x / 3), -3, 3)


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))
