"""Recorded steps of training, without a GPU: a recorder that repeats what a CUDA graph repeats, on the CPU.

It notes every operator below autograd with the very tensors it read and wrote, and runs them again on these tensors:
no Python of the model's, no new memory that another could see. What a graph would miss, it misses too.
"""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from small_runs import assert_same_weights, log_rows, run_here, small_run, small_shards
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from zfaudio.cuda_graph import Recorded
from zfaudio.errors import UserError
from zfaudio.gradients import recorded
from zfaudio.train import Training


class Operators(TorchDispatchMode):
    """Notes what is computed, to do it again."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple] = []

    def __torch_dispatch__(self, operator, types, args=(), kwargs=None):
        # A number of Python's would be the recording's for ever.
        assert operator.overloadpacket != torch.ops.aten._local_scalar_dense, "the CPU asks for a value"
        result = operator(*args, **(kwargs or {}))
        self.seen.append((operator, args, kwargs or {}, result))
        return result

    @torch.no_grad()
    def replay(self) -> None:
        for operator, args, kwargs, result in self.seen:
            for kept, again in zip(tensors(result), tensors(operator(*args, **kwargs)), strict=True):
                if kept.untyped_storage().data_ptr() != again.untyped_storage().data_ptr():  # else a view, or in place
                    kept.copy_(again)


def tensors(values: object) -> list[Tensor]:
    if isinstance(values, Tensor):
        return [values]
    return [one for value in values for one in tensors(value)] if isinstance(values, (list, tuple)) else []


def record_operators(work: Callable, inputs: tuple[Tensor, ...]) -> tuple[object, Callable[[], None]]:
    draws = torch.get_rng_state()
    operators = Operators()
    with operators:
        result = work(*inputs)
    torch.set_rng_state(draws)
    return result, operators.replay


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


VARIANTS = {
    "zforcing": {},
    "zforcing plain": {"model__core": "plain"},
    "zforcing conditional layer norm": {"model__conditional_layer_norm": True},
    "zforcing autoregressive": {"model__head": "autoregressive", "model__head_window": 4, "model__head_stride": 2},
    "zforcing all costs": {"model__auxiliary": "latent_and_state", "model__backward_reconstruction": True},
    "vrnn mixture": {"model__name": "vrnn", "model__likelihood": "logistic_mixture"},
    "sample_ar": {"model__name": "sample_ar", "model__head": "autoregressive", "model__head_window": 4},
}


@pytest.fixture(scope="module")
def shards(tmp_path_factory) -> str:
    return small_shards(tmp_path_factory.mktemp("shards"))


@pytest.fixture
def torch_products(monkeypatch) -> Iterator[None]:
    """Without oneDNN, as on a GPU: what it keeps for itself are no tensors that can be written to."""
    monkeypatch.setattr("zfaudio.ops.products.onednn_applies", lambda *_: False)
    monkeypatch.setattr("zfaudio.ops.lstm.onednn_applies", lambda *_: False)
    with torch.backends.mkldnn.flags(enabled=False):
        yield


def train_recorded(config, exp: Path) -> Training:
    training = Training(config, exp, resume=False)
    parameters = list(training.bare_model.parameters())
    training.gradients = recorded(training.gradients, parameters, record_operators)
    training.run()
    return training


@pytest.mark.parametrize("variant", VARIANTS.values(), ids=VARIANTS.keys())
def test_recorded_steps_train_as_others_do(shards, tmp_path, torch_products, variant):
    """State carried on, weights annealed, validations in between: the same bits."""
    config = small_run(shards, objective__kl_weight_step=0.05, **variant)
    run_here(config, tmp_path / "others")
    train_recorded(config, tmp_path / "recorded")
    assert_same_weights(tmp_path / "others", tmp_path / "recorded")
    timed = {"frames_per_second", "data_wait", "loop_overhead"}
    ours, theirs = (
        [{name: value for name, value in row.items() if name not in timed} for row in log_rows(tmp_path / exp)]
        for exp in ("recorded", "others")
    )
    assert ours == theirs


def test_a_recorded_step_that_is_not_finite_is_skipped_and_the_next_is_not(shards, tmp_path, torch_products):
    training = Training(small_run(shards), tmp_path / "exp", resume=False)
    gradients = recorded(training.gradients, list(training.bare_model.parameters()), record_operators)

    def sometimes_infinite(frames, lengths, state, weights):
        factor = float("inf") if training.step in (3, 4) else 1.0
        return gradients(frames * factor, lengths, state, weights)

    training.gradients = sometimes_infinite
    training.run()
    assert training.skipped == 2
    assert all(torch.isfinite(value).all() for value in training.bare_model.state_dict().values())


def test_an_infinite_loss_with_finite_gradients_is_not_finite(shards, tmp_path):
    training = Training(small_run(shards), tmp_path / "exp", resume=False)
    forward = training.model.forward

    def raised(*args):
        terms = forward(*args)
        terms.log_likelihood = terms.log_likelihood + float("inf")
        return terms

    training.model.forward = raised
    training.train_step()
    assert training.skipped == 1


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"model__name": "rnn"}, "not for model rnn"), ({}, "by one process on a GPU")],
)
def test_where_nothing_can_be_recorded_it_is_a_users_mistake(shards, tmp_path, settings, message):
    config = small_run(shards, train__cuda_graph=True, train__device="cpu", **settings)
    with pytest.raises(UserError, match=message):
        run_here(config, tmp_path / "exp")


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
