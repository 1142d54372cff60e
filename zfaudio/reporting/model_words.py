"""Models and likelihoods in words."""

from typing import Any

LIKELIHOODS = {
    "gaussian": "Gaussian",
    "gaussian_mixture": "Gaussian mixture",
    "logistic_mixture": "discretized logistics",
    "mulaw": "8-bit mu-law",
    "bernoulli": "Bernoulli",
}

MODELS = {
    "zforcing": "Z-forcing",
    "vrnn": "VRNN",
    "srnn": "SRNN",
    "rnn": "RNN",
    "sample_ar": "Sample-level autoregressive model",
    "samplernn": "SampleRNN",
    "wavenet": "WaveNet",
}


def describe_model(settings: dict[str, Any]) -> str:
    """A model in words, from its settings: for example "Z-forcing, Gaussian". Empty if they do not name one."""
    name = str(settings.get("name", ""))
    words = MODELS.get(name, name.rpartition(".")[2])
    likelihood = describe_likelihood(str(settings.get("likelihood", "")), settings.get("head"))
    return ", ".join(part for part in (words, likelihood) if part)


def describe_likelihood(likelihood: str, head: object) -> str:
    """A frame likelihood and its head in words, such as "discretized logistics, autoregressive"."""
    words = [LIKELIHOODS.get(likelihood, likelihood), "autoregressive" if head == "autoregressive" else ""]
    return ", ".join(word for word in words if word)
