"""The recipes' settings, read as `zfaudio train --config` reads them."""

import functools
from pathlib import Path

import pytest
import torch

from zfaudio.command import run_command
from zfaudio.config import RunConfig
from zfaudio.distributions import Quantizer
from zfaudio.models import build_model
from zfaudio.observations import Binary, MuLaw, Tokens
from zfaudio.training.objective import weights_at
from zfaudio.training.options import with_model_settings
from zfaudio.training.train import train

RECIPES = Path(__file__).parents[1] / "recipes"
FILES = [
    path
    for name in ("timit", "blizzard", "custom", "corpus", "demo", "digits")
    for path in sorted(RECIPES.glob(f"{name}/conf/*.yaml"))
]
OF_MULAW = sorted(RECIPES.glob("sc09/conf/*.yaml"))
OF_OTHERS = [path for name in ("mnist", "imdb") for path in sorted(RECIPES.glob(f"{name}/conf/*.yaml"))]
# Rows of the published table: the model, its likelihood, whether it has an auxiliary cost, whether its KL is annealed.
PUBLISHED = {
    "rnn-gauss": ("rnn", "gaussian", False, False),
    "rnn-gmm": ("rnn", "gaussian_mixture", False, False),
    "vrnn-gauss": ("vrnn", "gaussian", False, False),
    "vrnn-gmm": ("vrnn", "gaussian_mixture", False, False),
    "srnn": ("srnn", "gaussian", False, False),
    "zforcing": ("zforcing", "gaussian", False, False),
    "zforcing-kl": ("zforcing", "gaussian", False, True),
    "zforcing-aux": ("zforcing", "gaussian", True, False),
    "zforcing-aux-kl": ("zforcing", "gaussian", True, True),
}


OPEN = RECIPES / "intents/conf/default.yaml"  # what the rows of the open comparison share


def read(*confs: Path) -> RunConfig:
    """What training would be called with; later files win."""
    runs = []

    @functools.wraps(train)
    def catch(data, model, objective, train, **others):
        runs.append(RunConfig(model, objective, data, train))

    options = [word for conf in confs for word in ("--config", str(conf))]
    command, arguments = with_model_settings(catch, [*options, "--data.shards", "shards"])
    run_command(command, arguments, prog="zfaudio train")
    return runs[0]


@pytest.mark.parametrize("conf", FILES, ids=lambda path: f"{path.parts[-3]} {path.stem}")
def test_training_reads_it_and_the_model_can_be_built(conf):
    run = read(conf)
    if getattr(run.model, "sample_rate", None) == 0:
        run.model.sample_rate = 16000  # training fills in that of the shards
    with torch.device("meta"):
        assert build_model(run.model, 200, Quantizer(0.0, 700.0)).frame_size == 200


@pytest.mark.parametrize("conf", OF_MULAW, ids=lambda path: f"{path.parts[-3]} {path.stem}")
def test_a_row_of_mulaw_scores_all_of_a_recording(conf):
    run = read(conf)
    if getattr(run.model, "sample_rate", None) == 0:
        run.model.sample_rate = 16000
    with torch.device("meta"):
        model = build_model(run.model, 200, MuLaw(0.0, 700.0))
    assert run.model.likelihood == "mulaw"
    assert run.data.score_first_frame
    if conf.stem == "paper":
        assert sum(model.output.dilations) == 4092  # how far the published baseline reaches back


@pytest.mark.parametrize("conf", OF_OTHERS, ids=lambda path: f"{path.parts[-3]} {path.stem}")
def test_a_row_of_pixels_or_words_differs_from_the_others_of_its_layout_in_model_and_objective_alone(conf):
    run = read(conf)
    rows = conf.stem.startswith("rows")
    default = read(conf.with_name("rows-zforcing-aux.yaml" if rows else "default.yaml"))
    observation, frame_size = (Tokens(100), 1) if "imdb" in conf.parts else (Binary(), 28 if rows else 1)
    with torch.device("meta"):
        assert build_model(run.model, frame_size, observation).frame_size == frame_size
    assert run.data == default.data
    assert run.data.score_first_frame
    assert run.model.head == default.model.head == ("autoregressive" if rows else "factorized")
    if conf.stem != "paper":
        assert run.train == default.train
        assert run.model.hidden_size == default.model.hidden_size


@pytest.mark.parametrize("row", sorted(set(RECIPES.glob("intents/conf/*.yaml")) - {OPEN}), ids=lambda path: path.stem)
def test_a_row_of_the_open_comparison_differs_from_the_others_in_model_and_objective_alone(row):
    run, default = read(OPEN, row), read(OPEN)
    assert (run.train, run.data) == (default.train, default.data)
    assert default.model.hidden_size == 256
    if run.model.name != "sample_ar":
        assert run.model.hidden_size == 256
    with torch.device("meta"):
        build_model(run.model, 200, Quantizer(0.0, 700.0))


@pytest.mark.parametrize("corpus", ["timit", "blizzard"])
@pytest.mark.parametrize("row", PUBLISHED)
def test_a_row_of_the_published_table_differs_from_the_others_in_model_and_objective_alone(corpus, row):
    run, default = read(RECIPES / corpus / "conf" / f"{row}.yaml"), read(RECIPES / corpus / "conf/default.yaml")
    assert run.train == default.train
    assert run.data == default.data
    assert (run.model.hidden_size, run.model.embedding_size) == (
        default.model.hidden_size,
        default.model.embedding_size,
    )
    name, likelihood, auxiliary, annealed = PUBLISHED[row]
    assert (run.model.name, run.model.likelihood, run.model.head) == (name, likelihood, "factorized")
    assert run.model.min_deviation == default.model.min_deviation
    if likelihood == "gaussian_mixture":
        assert run.model.components == 20
    if name == "rnn":
        return
    assert (run.model.latent_size, run.model.mlp_size) == (default.model.latent_size, default.model.mlp_size)
    first = weights_at(run.objective, 0)
    assert first.kl == (0.2 if annealed else 1.0)
    assert weights_at(run.objective, 10**6).kl == 1.0
    if name == "srnn":
        assert run.model.smoothing
        assert run.model.residual_posterior
    if name == "zforcing":
        assert run.model.auxiliary == ("latent" if auxiliary else "none")
    if auxiliary and annealed:
        assert (run.model, run.objective) == (default.model, default.objective)
