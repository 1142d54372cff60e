"""How many parameters each model has at the published sizes, by hand, by building it, and in the table of the docs."""

from pathlib import Path

import pytest
import torch
from tiny_models import config_of

from zfaudio.config import FrameDensityConfig, LikelihoodConfig, SampleRNNConfig
from zfaudio.distributions import Quantizer
from zfaudio.models import build_model

FRAME_SIZE = 200
SIZES = {
    "TIMIT": {"hidden_size": 1024, "latent_size": 256, "embedding_size": 512, "mlp_size": 512},
    "Blizzard": {"hidden_size": 2048, "latent_size": 256, "embedding_size": 1024, "mlp_size": 1024},
}
# As the table of docs/models.md names them.
ROWS = {
    "RNN-Gauss": {"name": "rnn"},
    "RNN-GMM": {"name": "rnn", "likelihood": "gaussian_mixture", "components": 20},
    "VRNN-Gauss": {"name": "vrnn"},
    "VRNN-GMM": {"name": "vrnn", "likelihood": "gaussian_mixture", "components": 20},
    "SRNN": {"name": "srnn"},
    "Z-forcing, no auxiliary cost": {"name": "zforcing", "auxiliary": "none"},
    "Z-forcing": {"name": "zforcing"},
    "RNN, autoregressive head": {"name": "rnn", "head": "autoregressive", "likelihood": "logistic_mixture"},
    "SampleRNN": {"name": "samplernn", "likelihood": "logistic_mixture"},
    "WaveNet": {"name": "wavenet", "likelihood": "logistic_mixture"},
    "sample_ar": {"name": "sample_ar", "likelihood": "logistic_mixture"},
}

cases = pytest.mark.parametrize(("row", "corpus"), [(row, corpus) for row in ROWS for corpus in SIZES])


def dense(entering: int, leaving: int) -> int:
    """A weight matrix and a bias."""
    return (entering + 1) * leaving


def lstm(entering: int, hidden: int) -> int:
    """Two weight matrices and, as nn.LSTM has it, two biases."""
    return 4 * hidden * (entering + hidden + 2)


def latent_lstm(embedding: int, latent: int, mlp: int, hidden: int) -> int:
    """The latent's map and an LSTM with one bias."""
    return dense(latent, mlp) + dense(embedding + mlp, 4 * hidden) + 4 * hidden**2


def gaussian_mlp(entering: int, mlp: int, leaving: int) -> int:
    return dense(entering, mlp) + dense(mlp, 2 * leaving)


def output(condition: int, config: FrameDensityConfig) -> int:
    """A frame's density: a mixture shares its weights over the frame; logistics are a mixture for each sample."""
    size = FRAME_SIZE if config.head == "factorized" else 1
    numbers = {
        "gaussian": 2 * size,
        "gaussian_mixture": config.components * (1 + 2 * size),
        "logistic_mixture": 3 * config.components * size,
    }[config.likelihood]
    if config.head == "factorized":
        return dense(condition, numbers)
    read, units = config.head_window + 2, config.head_size  # changes, the last sample, two logarithms of levels
    adapting = dense(condition, 2 * units) if condition else 0
    return dense(read, units) + adapting + dense(units, units) + dense(units, numbers) + read * numbers


def samplernn(config: SampleRNNConfig) -> int:
    """Each recurrent tier reads samples twice, scaled and companded, and their level."""
    h, e, m, units = config.hidden_size, config.embedding_size, config.middle_size, config.sample_size
    step, read, numbers = config.middle_step, config.sample_window + 3, 3 * config.components
    upper = dense(2 * FRAME_SIZE + 1, e) + lstm(e, h)
    middle = FRAME_SIZE // step * h * m + dense(2 * step + 1, m) + 2 * dense(m, 3 * m)
    return upper + middle + step * m * units + dense(read, units) + dense(units, units) + dense(units + read, numbers)


def wavenet(config: FrameDensityConfig) -> int:
    """Its first layer hears three numbers at each sample."""
    layers, channels, units = config.head_dilations * config.head_stacks, config.head_channels, config.head_size
    convolutions = layers * dense(2 * channels, 2 * channels) + (layers - 1) * dense(channels, channels)
    numbers = 3 * config.components
    behind = dense(layers * channels, units) + dense(units, units) + dense(units + config.head_window - 1, numbers)
    return dense(3, channels) + convolutions + behind


def parameters_by_hand(config: LikelihoodConfig) -> int:
    if isinstance(config, SampleRNNConfig):
        return samplernn(config)
    if config.name == "wavenet":
        return wavenet(config)
    if config.name == "sample_ar":
        return output(0, config)
    h, e = config.hidden_size, config.embedding_size
    embed = dense(FRAME_SIZE, e)
    if config.name == "rnn":
        return embed + lstm(e, h) + output(h, config)
    z, m = config.latent_size, config.mlp_size
    if config.name == "vrnn":
        networks = gaussian_mlp(h, m, z) + gaussian_mlp(h + e, m, z) + dense(m + h, m)
        return embed + networks + latent_lstm(e, z, m, h) + output(m, config)
    if config.name == "srnn":
        networks = gaussian_mlp(h + z, m, z) + gaussian_mlp(h + z, m, z) + dense(z + h, m)
        return embed + networks + lstm(e, h) + lstm(h + e, h) + output(m, config)
    auxiliary = gaussian_mlp(z, m, h) if config.auxiliary == "latent" else 0
    networks = gaussian_mlp(h, m, z) + gaussian_mlp(2 * h, m, z) + auxiliary
    return embed + networks + lstm(e, h) + latent_lstm(e, z, m, h) + output(h, config)


@cases
def test_a_model_has_as_many_parameters_as_its_equations_say(row, corpus):
    config = config_of(ROWS[row]["name"], SIZES[corpus], **ROWS[row])
    with torch.device("meta"):
        model = build_model(config, FRAME_SIZE, Quantizer())
    assert sum(parameter.numel() for parameter in model.parameters()) == parameters_by_hand(config)


@cases
def test_the_docs_say_how_many(row, corpus):
    page = (Path(__file__).parents[1] / "docs/models.md").read_text(encoding="utf-8")
    (line,) = (line for line in page.splitlines() if line.startswith(f"| {row} |"))
    stated = dict(zip(SIZES, line.strip("| ").split(" | ")[1:], strict=True))
    assert int(stated[corpus].replace(",", "")) == parameters_by_hand(
        config_of(ROWS[row]["name"], SIZES[corpus], **ROWS[row])
    )
