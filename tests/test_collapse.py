from pathlib import Path

import pytest
import torch
from speech import make_shards
from tiny_models import config_of

from zfaudio.config import DataConfig, ObjectiveConfig, RunConfig, TrainConfig
from zfaudio.evaluation.collapse import collapse_warning, has_collapsed
from zfaudio.experiment.metrics import read_metrics
from zfaudio.training.run import Training


@pytest.mark.parametrize(
    ("kl", "weight", "collapsed"),
    [(0.01, 0.2, False), (0.01, 0.5, True), (0.01, 1.0, True), (0.05, 1.0, False), (float("nan"), 1.0, False)],
)
def test_a_low_kl_is_collapse_once_the_kl_weight_tells(kl, weight, collapsed):
    assert has_collapsed(kl, weight) is collapsed


def test_the_warning_is_one_line_with_what_to_try():
    warning = collapse_warning(0.0123)
    assert "\n" not in warning
    assert "0.012 nats a frame" in warning
    for setting in ("objective.kl_weight_start", "objective.aux_weight_end"):
        assert setting in warning


def run(folder: Path, name: str = "zforcing", kl_weight: float = 1.0, silenced: bool = True) -> list[str]:
    """The `collapsed` column of a run's validations; if `silenced`, its posterior equals its prior."""
    config = RunConfig(
        model=config_of(name, {"hidden_size": 8, "latent_size": 4, "embedding_size": 8, "mlp_size": 8}),
        objective=ObjectiveConfig(kl_weight_start=kl_weight),
        data=DataConfig(shards=make_shards(folder / "shards", frames=30, frame_size=20)),
        # With this learning rate, the weights stay as they are at the start.
        train=TrainConfig(
            max_steps=6, batch_size=2, segment_frames=5, validate_every=2, learning_rate=1e-12, device="cpu"
        ),
    )
    training = Training(config, folder / "exp", resume=False)
    if silenced:
        for network in (training.model.prior, training.model.posterior):
            for weight in network.parameters():
                torch.nn.init.zeros_(weight)
    training.run()
    return [row["collapsed"] for row in read_metrics(folder / "exp" / "metrics.csv") if row["split"] == "valid"]


def test_training_warns_of_collapse_once_and_notes_it_at_every_validation(tmp_path, capsys):
    assert run(tmp_path) == ["1", "1", "1"]
    assert capsys.readouterr().out.count("posterior collapse") == 1


def test_training_does_not_warn_while_the_kl_weight_is_low(tmp_path, capsys):
    assert run(tmp_path, kl_weight=0.2) == ["0", "0", "0"]
    assert "collapse" not in capsys.readouterr().out


def test_latents_at_work_are_no_collapse(tmp_path, capsys):
    assert run(tmp_path, silenced=False) == ["0", "0", "0"]
    assert "collapse" not in capsys.readouterr().out


def test_a_model_without_latents_cannot_collapse(tmp_path, capsys):
    assert run(tmp_path, name="rnn", silenced=False) == ["", "", ""]
    assert "collapse" not in capsys.readouterr().out
