"""Recorded steps of training and generation, replayed on the CPU by operators.py and on a GPU as CUDA graphs."""

from collections.abc import Iterator

import pytest
import torch
from experiment import make_experiment
from operators import record_operators
from small_runs import assert_same_weights, log_rows, run_here, small_run, small_shards
from tiny_models import build, every_combination, far_hearing, sequences

from zfaudio.errors import UserError
from zfaudio.generation.generate import generate
from zfaudio.generation.sampling import Temperatures, draw_noise, generate_frames
from zfaudio.models.autoregressive_head import AutoregressiveHead
from zfaudio.models.dilated_head import DilatedHead
from zfaudio.models.samplernn import SampleRNN
from zfaudio.models.tiered_head import TieredHead
from zfaudio.ops.cuda_graph import Recorded
from zfaudio.training.gradients import recorded
from zfaudio.training.run import Training

# The flag that switches oneDNN off warns about this.
pytestmark = pytest.mark.filterwarnings("ignore:TF32 acceleration")


def test_a_recording_follows_its_inputs_and_draws_anew():
    double = Recorded(lambda one, other: (2 * one + other[:1].clone(), torch.rand(3)), record_operators)
    results = []
    for first in (1.0, 5.0):
        torch.manual_seed(int(first))
        doubled, drawn = (part.clone() for part in double(torch.full((2,), first), torch.tensor([1.0, 9.0])))
        assert doubled.tolist() == [2 * first + 1] * 2
        torch.manual_seed(int(first))
        assert torch.equal(drawn, torch.rand(3))
        results.append(drawn)
    assert not torch.equal(*results)


def test_work_that_asks_for_a_value_cannot_be_recorded():
    with pytest.raises(AssertionError, match="asks for a value"):
        Recorded(lambda one: one if one.sum() > 0 else -one, record_operators)(torch.ones(2))


def test_inputs_of_another_shape_are_not_broadcast():
    double = Recorded(lambda one: 2 * one, record_operators)
    double(torch.ones(3))
    with pytest.raises(ValueError, match=r"recorded with \(3,\), called with \(1,\)"):
        double(torch.ones(1))


VARIANTS = {
    "zforcing": {},
    "zforcing plain": {"model__core": "plain"},
    "zforcing conditional layer norm": {"model__conditional_layer_norm": True},
    "zforcing autoregressive": {"model__head": "autoregressive", "model__head_window": 4, "model__head_stride": 2},
    "zforcing all costs": {"model__auxiliary": "latent_and_state", "model__backward_reconstruction": True},
    "vrnn mixture": {"model__name": "vrnn", "model__likelihood": "logistic_mixture"},
    "rnn": {"model__name": "rnn"},
    "srnn": {"model__name": "srnn"},
    "zforcing mel": {"model__encoder": "mel", "model__encoder_bands": 8},
    "rnn mel": {"model__name": "rnn", "model__encoder": "mel", "model__encoder_bands": 8},
    "samplernn": {"model__name": "samplernn", "model__middle_step": 5, "model__sample_stride": 5},
    "sample_ar": {"model__name": "sample_ar", "model__head": "autoregressive", "model__head_window": 4},
    "wavenet": {
        "model__name": "wavenet",
        "model__head_dilations": 3,
        "model__head_channels": 4,
        "model__head_stride": 2,
    },
}


@pytest.fixture(scope="module")
def shards(tmp_path_factory) -> str:
    return small_shards(tmp_path_factory.mktemp("shards"))


@pytest.fixture
def torch_products(monkeypatch) -> Iterator[None]:
    """Without oneDNN, as on a GPU: the recorder cannot write to tensors in oneDNN's own layout."""
    monkeypatch.setattr("zfaudio.ops.torch_private.onednn_applies", lambda *_: False)
    monkeypatch.setattr("zfaudio.ops.lstm.onednn_applies", lambda *_: False)
    with torch.backends.mkldnn.flags(enabled=False):
        yield


@pytest.mark.parametrize("variant", VARIANTS.values(), ids=VARIANTS.keys())
def test_recorded_steps_train_as_others_do(shards, tmp_path, torch_products, variant):
    """The same bits, with state carried between segments, annealed weights and validations in between."""
    config = small_run(shards, objective__kl_weight_step=0.05, **variant)
    for name in ("others", "recorded"):
        training = Training(config, tmp_path / name, resume=False)
        training.model.use_fixed_shapes()
        if name == "recorded":
            training.gradients = recorded(training.gradients, record_operators)
        training.run()
    assert_same_weights(tmp_path / "others", tmp_path / "recorded")
    timed = {"frames_per_second", "data_wait", "loop_overhead"}
    ours, theirs = (
        [{name: value for name, value in row.items() if name not in timed} for row in log_rows(tmp_path / exp)]
        for exp in ("recorded", "others")
    )
    assert ours == theirs


def test_a_recorded_step_that_is_not_finite_is_skipped_and_the_next_is_not(shards, tmp_path, torch_products):
    training = Training(small_run(shards), tmp_path / "exp", resume=False)
    gradients = recorded(training.gradients, record_operators)

    def sometimes_infinite(frames, lengths, state, weights):
        factor = float("inf") if training.progress.step in (3, 4) else 1.0
        return gradients(frames * factor, lengths, state, weights)

    training.gradients = sometimes_infinite
    training.run()
    assert training.progress.skipped == 2
    assert all(torch.isfinite(value).all() for value in training.model.state_dict().values())


def test_an_infinite_loss_with_finite_gradients_is_not_finite(shards, tmp_path):
    training = Training(small_run(shards), tmp_path / "exp", resume=False)
    forward = training.model.forward

    def raised(*args):
        terms = forward(*args)
        terms.log_likelihood = terms.log_likelihood + float("inf")
        return terms

    training.model.forward = raised
    training.train_step()
    assert training.progress.skipped == 1


def test_training_recorded_on_a_cpu_is_a_users_mistake(shards, tmp_path):
    with pytest.raises(UserError, match="by one process on a GPU"):
        run_here(small_run(shards, train__cuda_graph=True, train__device="cpu"), tmp_path / "exp")
    assert not (tmp_path / "exp").exists()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("variant", VARIANTS.values(), ids=VARIANTS.keys())
def test_a_cuda_graph_trains_as_steps_without_it_do(shards, tmp_path, variant, precision):
    rows = []
    for name, graph in (("graph", True), ("eager", False)):
        config = small_run(shards, train__device="cuda", train__precision=precision, train__cuda_graph=graph, **variant)
        run_here(config, tmp_path / name)
        rows.append([float(row["nats_per_frame"]) for row in log_rows(tmp_path / name)])
    assert rows[0] == pytest.approx(rows[1], rel=1e-2, abs=1e-2)


RECORDED = every_combination() | far_hearing()


@pytest.mark.parametrize("name", RECORDED)
@pytest.mark.parametrize("from_posterior", [False, True])
def test_recorded_frames_are_those_made_one_by_one(torch_products, name, from_posterior):
    model = build(RECORDED[name]).eval()
    frames, lengths, _ = sequences(9, model=model)
    for part in model.modules():
        if isinstance(part, (AutoregressiveHead, DilatedHead, TieredHead, SampleRNN)):
            part.compiled = False  # as on a GPU
    futures = model.read_future(frames, lengths) if from_posterior else None
    # At a temperature near 1 nearly every level of mu-law that an untrained model draws is 0.
    temperatures = Temperatures(0.7, 100.0 if "mulaw" in name else 0.9)
    runs = []
    for record in (None, record_operators):
        noise = draw_noise(model, seed=3, first=0, batch=2)
        noise = ((latent.double(), frame.double()) for latent, frame in noise)
        start = torch.zeros(2, model.frame_size).double(), model.initial_state(2)
        future = None if futures is None else futures[0]
        with torch.inference_mode():
            step = model.stepper()
            runs.append(list(generate_frames(step, *start, noise, temperatures, 8, future, record)))
    assert all(map(torch.equal, *runs))
    assert not torch.equal(runs[1][0], runs[1][1])


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_asking_for_a_graph_of_generation_without_a_gpu_is_a_users_mistake(tmp_path):
    with pytest.raises(UserError, match="is for a GPU"):
        generate(make_experiment(tmp_path), out=tmp_path / "out", cuda_graph=True)
