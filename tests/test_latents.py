"""What latents and state contribute, on a model whose numbers are known in closed form, and through the command."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from experiment import FRAME_SIZE, make_experiment
from safetensors.torch import load_file, save_file
from scored_model import ScoredModel
from speech import make_shards

from zfaudio.command import run_command
from zfaudio.config import SampleARConfig
from zfaudio.data.batches import Batch
from zfaudio.distributions import DiagonalGaussian, Quantizer
from zfaudio.errors import UserError
from zfaudio.evaluation.ablation import LatentTotals, ablation_loss, latent_usage, run_passes, total_latents
from zfaudio.evaluation.evaluate import evaluate
from zfaudio.evaluation.latents import latents, read_latents
from zfaudio.experiment.checkpoint import load_checkpoint, save_checkpoint
from zfaudio.models import build_model
from zfaudio.models.base import FrameTerms, Latents, latent_terms, scored_steps, zero_unscored

SPREAD = 0.1  # deviation of z given the frame, and of the frame given z
CONSTANT = 0.3  # the predicted mean of a frame without the state


class Copying(ScoredModel):
    """z_t is the frame plus noise; the frame is z_t plus noise; the prior knows nothing.

    In the last `dead` dimensions of z_t, the posterior is the prior. Without the "state", frames are CONSTANT.
    """

    def __init__(self, size: int, dead: int = 0) -> None:
        super().__init__(size)
        self.dead = dead

    def forward(self, frames, lengths, state=None, noise=None, ablation="none"):
        targets = frames[:, 1:]
        prior = DiagonalGaussian(torch.zeros_like(targets), torch.zeros_like(targets))
        alive = torch.arange(self.latent_size) < self.latent_size - self.dead
        posterior = DiagonalGaussian(
            torch.where(alive, targets, 0), torch.where(alive, 2 * math.log(SPREAD), 0.0).expand_as(targets)
        )
        used = Latents(prior, prior if ablation == "posterior" else posterior, None)
        used = used._replace(drawn=used.posterior.at(noise))
        mean = used.drawn if ablation != "state" else torch.full_like(targets, CONSTANT)
        density = DiagonalGaussian(mean, torch.full_like(targets, 2 * math.log(SPREAD)))
        scored = scored_steps(lengths, targets.shape[1])
        return FrameTerms(
            log_likelihood=zero_unscored(density.log_prob(targets), scored),
            **latent_terms(scored, used),
            log_auxiliary=None,
            log_backward=None,
            state=(),
            latents=used,
            hidden=targets,
        )


def padded_batch(lengths: list[int], size: int, seed: int = 0) -> Batch:
    """A batch of random frames, with large values on padding."""
    torch.manual_seed(seed)
    frames = torch.randn(len(lengths), max(lengths), size)
    for row, length in enumerate(lengths):
        frames[row, length:] = 1e6
    names = [f"u{row}" for row in range(len(lengths))]
    return Batch(frames, torch.tensor(lengths), torch.ones(len(lengths), dtype=torch.bool), names)


def log_normal(squared: np.ndarray) -> np.ndarray:
    """Log-density of a Gaussian with deviation SPREAD at squared distances from its mean, summed over the last axis."""
    return (-0.5 * math.log(2 * math.pi * SPREAD**2) - squared / (2 * SPREAD**2)).sum(-1)


def test_each_pass_leaves_out_what_it_says():
    batch = padded_batch([400, 250], size=3)
    terms, _ = run_passes(Copying(3), batch, seed=0)
    assert [len(one.kl) for one in terms] == [399, 249]
    targets = np.concatenate([batch.frames[0, 1:], batch.frames[1, 1:250]]).astype(float)
    full, kl, prior_drawn, state_cut = np.concatenate(terms, axis=1)
    expected_kl = 0.5 * (SPREAD**2 + targets**2 - 1) - math.log(SPREAD)
    np.testing.assert_allclose(kl, expected_kl.sum(-1), rtol=1e-4)
    np.testing.assert_allclose(state_cut, log_normal((targets - CONSTANT) ** 2), rtol=1e-4)
    # The expectation of (z - x)² over z is SPREAD² under the posterior, and 1 + x² under the prior.
    np.testing.assert_allclose(full.mean(), log_normal(np.full((1, 3), SPREAD**2))[0], rtol=0.05)
    np.testing.assert_allclose(prior_drawn.mean(), log_normal(1 + targets**2).mean(), rtol=0.1)


def test_latents_are_counted_by_what_they_do():
    batch = padded_batch([500, 300], size=5)
    _, sums = run_passes(Copying(5, dead=2), batch, seed=0)
    usage = latent_usage(sums)
    targets = np.concatenate([batch.frames[0, 1:], batch.frames[1, 1:300]]).astype(float)[:, :3]
    expected = (0.5 * (SPREAD**2 + targets**2 - 1) - math.log(SPREAD)).mean(0)
    np.testing.assert_allclose(usage.kl_per_dimension, [*np.sort(expected)[::-1], 0, 0], rtol=1e-4, atol=1e-6)
    assert usage.kl_per_frame == pytest.approx(expected.sum(), rel=1e-4)
    assert (usage.latent_size, usage.active_by_variance, usage.active_by_kl) == (5, 3, 3)
    assert usage.dimensions_of_90_percent == 3
    assert not usage.collapsed


def test_a_posterior_that_follows_a_moving_prior_is_active_by_variance_alone():
    torch.manual_seed(0)
    same = DiagonalGaussian(torch.randn(2, 50, 4), torch.zeros(2, 50, 4))
    usage = latent_usage(total_latents(Latents(same, same, same.mean), torch.ones(2, 50, dtype=torch.bool)))
    assert (usage.active_by_variance, usage.active_by_kl) == (4, 0)
    assert usage.dimensions_of_90_percent == 0
    assert usage.collapsed


@pytest.mark.parametrize(("kl", "dimensions"), [([9.0, 1.0, 0.0], 1), ([5.0, 4.5, 0.5], 2), ([1.0] * 20, 18)])
def test_the_fewest_dimensions_that_carry_nine_tenths(kl, dimensions):
    sums = LatentTotals(10, 10 * np.array(kl[::-1]), np.zeros(len(kl)), np.zeros(len(kl)))
    assert latent_usage(sums).dimensions_of_90_percent == dimensions


def test_totals_of_two_batches_add_up():
    first, second = padded_batch([40, 30], 3, seed=1), padded_batch([20], 3, seed=2)
    model = Copying(3)
    totals = run_passes(model, first, 0)[1] + run_passes(model, second, 0)[1]
    targets = np.concatenate([first.frames[0, 1:], first.frames[1, 1:30], second.frames[0, 1:]])
    assert totals.frames == 39 + 29 + 19
    np.testing.assert_allclose(totals.mean, targets.sum(0), rtol=1e-4)
    np.testing.assert_allclose(totals.squared_mean, np.square(targets).sum(0), rtol=1e-4)


def test_losses_are_averaged_over_frames_and_stand_beside_the_gain():
    bound, without = [np.full(30, 5.0), np.full(10, 1.0)], [np.full(30, 3.0), np.full(10, 1.0)]
    loss = ablation_loss(bound, without, gaussian=-6.0)
    assert loss.nats_per_frame == pytest.approx(2.5)
    assert loss.lost_nats_per_frame == pytest.approx(1.5)
    assert loss.lost_median_frame_nats == pytest.approx(2.0)
    assert loss.lost_fraction == pytest.approx(1.5 / 10)
    low, high = loss.lost_nats_per_frame_ci95
    assert low == pytest.approx(0)  # an average over the second utterance alone
    assert high == pytest.approx(2)
    assert ablation_loss(bound, without, gaussian=4.0).lost_fraction is None
    assert (loss.change, loss.change_at_median, loss.change_ci95) == (-1.5, -2.0, (-high, -low))
    assert loss.share_lost == "15.0 %"
    gain = ablation_loss(without, bound, gaussian=-20.0)
    assert (gain.change, gain.share_lost) == (1.5, "none")


def result_of(exp: Path, **options: object) -> dict:
    returned = latents(str(exp), device="cpu", **options)
    assert read_latents(exp / "latents.json") == returned
    return json.loads((exp / "latents.json").read_text())


@pytest.mark.parametrize("model", ["zforcing", "vrnn", "srnn"])
def test_the_bound_is_that_of_evaluate_whatever_the_batches(tmp_path, model):
    exp = make_experiment(tmp_path, model=model)
    result = result_of(exp)
    assert result["model"] == model
    evaluate(exp, json=tmp_path / "e.json", draws=1, device="cpu")
    scored = json.loads((tmp_path / "e.json").read_text())
    assert result["nats_per_frame"] == pytest.approx(scored["nats_per_frame"], rel=1e-6)
    assert result["usage"]["kl_per_frame"] == pytest.approx(scored["kl_per_frame"], rel=1e-5)
    assert result["frames"] == scored["frames"]
    assert result["iid_gaussian_nats_per_frame"] == scored["references"]["iid_gaussian_nats_per_frame"]
    assert sum(result["usage"]["kl_per_dimension"]) == pytest.approx(result["usage"]["kl_per_frame"])
    assert len(result["usage"]["kl_per_dimension"]) == result["usage"]["latent_size"] == 4
    again = result_of(exp, frames_per_batch=70)
    for name in ("prior_drawn", "state_cut"):
        assert again[name]["nats_per_frame"] == pytest.approx(result[name]["nats_per_frame"], rel=1e-5)
        full, ablated = result["nats_per_frame"], result[name]["nats_per_frame"]
        assert result[name]["lost_nats_per_frame"] == pytest.approx(full - ablated)
        assert ablated != full


def test_a_decoder_deaf_to_its_latents_loses_nothing_when_they_are_drawn_from_the_prior(tmp_path):
    exp = make_experiment(tmp_path)
    deafen(exp, ("decoder_cell.gen.", "decoder_cell.latent"))
    result = result_of(exp)
    assert result["prior_drawn"]["lost_nats_per_frame"] == pytest.approx(-result["usage"]["kl_per_frame"], rel=1e-3)


def deafen(exp: Path, names: tuple[str, ...]) -> None:
    """Set to zero, in the checkpoint of an experiment, the weights whose names begin with one of these."""
    path = load_checkpoint(exp).path / "model.safetensors"
    weights = load_file(path)
    chosen = [name for name in weights if name.startswith(names)]
    assert chosen
    save_file({name: 0 * value if name in chosen else value for name, value in weights.items()}, path)


def test_a_model_without_latents_says_so_and_has_its_state_cut(tmp_path, capsys):
    result = result_of(make_experiment(tmp_path, model="rnn"))
    assert result["usage"] is None
    assert result["prior_drawn"] is None
    assert result["state_cut"]["lost_nats_per_frame"] != 0
    assert "rnn has no latents" in capsys.readouterr().out


def test_a_collapsed_model_is_warned_of(tmp_path, capsys):
    exp = make_experiment(tmp_path)
    deafen(exp, ("prior.", "posterior."))
    result = result_of(exp)
    assert result["usage"]["collapsed"]
    assert result["usage"]["active_by_variance"] == 0
    assert result["prior_drawn"]["lost_nats_per_frame"] == pytest.approx(0, abs=1e-6)
    assert "posterior collapse" in capsys.readouterr().out


def test_a_checkpoint_gets_a_result_only_where_asked(tmp_path):
    exp = make_experiment(tmp_path)
    latents(exp / "best", device="cpu")
    assert not list(tmp_path.rglob("latents.json"))
    latents(exp / "best", json=tmp_path / "made" / "l.json", device="cpu")
    assert json.loads((tmp_path / "made" / "l.json").read_text())["checkpoint_step"] == 500


def test_mistakes_are_one_line(tmp_path, capsys):
    exp = make_experiment(tmp_path)
    for options, said in (
        (["--split", "nope"], "nope"),
        (["--frames-per-batch", "0"], "--frames-per-batch"),
        (["--shards", make_shards(tmp_path / "other", frame_size=FRAME_SIZE + 5)], "frame_size 25"),
        (["--phones", str(tmp_path)], "phones.ctm"),
    ):
        with pytest.raises(SystemExit) as stop:
            run_command(latents, [str(exp), "--device", "cpu", *options], prog="zfaudio latents")
        assert stop.value.code == 1
        error = capsys.readouterr().err.splitlines()[-1]
        assert error.startswith("zfaudio latents: error: ")
        assert said in error


def test_a_sample_predictor_has_nothing_to_leave_out(tmp_path):
    exp = make_experiment(tmp_path)
    trained = load_checkpoint(exp)
    trained.config.model = SampleARConfig(head_window=4, head_size=4)
    model = build_model(trained.config.model, FRAME_SIZE, Quantizer(0.0, 1000.0))
    path = save_checkpoint(exp, 600, model.state_dict(), trained.config, trained.manifest, training={})
    with pytest.raises(UserError, match="sample_ar has neither latents nor a state h_t"):
        latents(path, device="cpu")


def test_the_terminal_shows_what_the_file_holds(tmp_path, capsys):
    result = result_of(make_experiment(tmp_path))
    printed = capsys.readouterr().out
    assert f"{result['nats_per_frame']:.2f} nats a frame" in printed
    lost = f"{-result['state_cut']['lost_nats_per_frame']:+.2f}"
    assert f"{result['state_cut']['nats_per_frame']:.2f} (change {lost}, 95 %" in printed
    assert f"active units                       {result['usage']['active_by_variance']} by" in printed
