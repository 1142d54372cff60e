"""The fast steps of generation against the steps of the models."""

import dataclasses

import pytest
import torch
from closeness import assert_all_close, dtypes, relative_errors, shaken, sizes
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_models import build, every_combination, far_hearing, sequences, tiny
from torch import nn

from zfaudio.config import RNNConfig, ZForcingConfig
from zfaudio.distributions import Quantizer
from zfaudio.models import build_model
from zfaudio.ops.cells import State
from zfaudio.ops.lstm import LSTM
from zfaudio.ops.packing import PackedLinear, PackedLSTM, packed

SMALL = ZForcingConfig(hidden_size=9, latent_size=3, embedding_size=5, mlp_size=7)


@dtypes
@given(batch=sizes, hidden=sizes, latent=sizes, mlp=sizes, embedding=sizes, seed=st.integers(0, 99))
@settings(max_examples=40)
def test_generations_step_is_the_models(dtype, batch, hidden, latent, mlp, embedding, seed):
    torch.manual_seed(seed)
    config = ZForcingConfig(hidden_size=hidden, latent_size=latent, embedding_size=embedding, mlp_size=mlp)
    model = shaken(build_model(config, 4, Quantizer()), dtype)
    step = model.stepper()
    assert step != model.step
    for future in (None, torch.randn(batch, hidden, dtype=dtype)):
        frame, noise = torch.randn(batch, 4, dtype=dtype), torch.randn(batch, latent, dtype=dtype)
        state = State(*torch.randn(2, batch, hidden, dtype=dtype))
        before = [part.clone() for part in (frame, noise, *state)]
        (ours, ours_after), (theirs, theirs_after) = (
            function(frame, state, 0.7, future, noise) for function in (step, model.step)
        )
        assert_all_close(
            [ours.mean, ours.log_variance, *ours_after], [theirs.mean, theirs.log_variance, *theirs_after], dtype
        )
        assert not ours.mean.requires_grad
        assert all(map(torch.equal, before, (frame, noise, *state)))


PACKED = (
    every_combination()
    | far_hearing()
    | {
        "conditional layer norm": tiny(conditional_layer_norm=True),
        "srnn filtering": tiny("srnn", smoothing=False),
    }
)


@dtypes
@pytest.mark.parametrize("from_posterior", [False, True])
@pytest.mark.parametrize("name", PACKED)
def test_every_models_step_is_the_same_with_packed_layers(monkeypatch, name, from_posterior, dtype):
    monkeypatch.setattr("zfaudio.ops.packing.MIN_PACKED_WEIGHTS", 0)
    model = build(PACKED[name]).to(dtype).eval()
    frames, lengths, _ = sequences(3, 3, model=model)
    frames = frames.to(dtype)
    futures = model.read_future(frames, lengths) if from_posterior else None
    future = None if futures is None else futures[:, 1].detach()
    state = tuple(part.add(torch.randn_like(part)) for part in model.initial_state(2))
    noise, drawn = torch.randn(2, model.latent_size).to(dtype), torch.randn(2, model.frame_noise_size).to(dtype)
    outcomes = []
    for step in (model.stepper(), model.step):
        density, after = step(frames[:, 0], state, 0.7, future, noise)
        outcomes.append([density.log_prob(frames[:, 1]), density.at(drawn), *after])
    assert not outcomes[0][0].requires_grad
    assert_all_close(*outcomes, dtype)


def test_only_large_layers_are_packed():
    model = build_model(RNNConfig(hidden_size=512, embedding_size=8), 16, Quantizer())
    step = packed(model)
    assert isinstance(step.lstm, PackedLSTM)
    assert isinstance(step.embed, nn.Linear)  # 128 weights
    assert isinstance(packed(nn.Sequential(nn.Linear(256, 256)))[0], PackedLinear)
    assert isinstance(model.lstm, LSTM)


@pytest.mark.parametrize(
    "config",
    [tiny("rnn", head="autoregressive"), tiny("rnn", head="tiered"), tiny("samplernn"), tiny("rnn", head="dilated")],
    ids=["autoregressive", "tiered", "samplernn", "dilated"],
)
def test_a_compiled_loop_reads_the_weights_of_packed_layers(monkeypatch, config):
    monkeypatch.setattr("zfaudio.ops.packing.MIN_PACKED_WEIGHTS", 0)
    model = build(config).eval()
    frame, drawn = (torch.randn(1, size).double() for size in (model.frame_size, model.frame_noise_size))
    with torch.no_grad():
        (ours, _), (theirs, _) = (function(frame, model.initial_state(1)) for function in (model.stepper(), model.step))
        torch.testing.assert_close(ours.at(drawn), theirs.at(drawn))


def test_generations_step_under_autocast_is_as_near_as_its_products():
    torch.manual_seed(6)
    model = build_model(ZForcingConfig(hidden_size=64, latent_size=16, embedding_size=32, mlp_size=32), 8, Quantizer())
    frame, noise, state = torch.randn(5, 8), torch.randn(5, 16), State(*torch.randn(2, 5, 64))
    for future in (None, torch.randn(5, 64)):
        outcomes = []
        for low in (False, True):
            with torch.autocast("cpu", torch.bfloat16, enabled=low):
                density, after = model.stepper()(frame, state, 1.0, future, noise)
            outcomes.append([density.mean, density.log_variance, *after])
        assert all(value.dtype == torch.float32 for value in outcomes[1])
        assert not torch.equal(outcomes[0][0], outcomes[1][0])
        assert max(relative_errors(outcomes[1], outcomes[0])) < 0.02


def test_generations_step_covers_what_it_can():
    for config, head in (
        (dataclasses.replace(SMALL, conditional_layer_norm=True), "factorized"),
        (SMALL, "autoregressive"),
    ):
        torch.manual_seed(0)
        model = build_model(dataclasses.replace(config, head=head, head_window=2), 4, Quantizer())
        frame, noise, state = torch.randn(2, 4), torch.randn(2, 3), State(*torch.randn(2, 2, 9))
        (ours, _), (theirs, _) = (
            function(frame, state, 1.0, None, noise) for function in (model.stepper(), model.step)
        )
        torch.testing.assert_close(ours.log_prob(frame), theirs.log_prob(frame))
