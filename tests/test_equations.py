"""The models against their equations in NumPy, each written from the model's docstring and not from its code."""

import dataclasses
from typing import Any

import numpy as np
import pytest
import srnn_equations
import vrnn_equations
import zforcing_equations
from equations import embed, log_output, torch_lstm, weights_of
from tiny_models import build, noise_for, sequences, tiny

ZFORCING = tiny("zforcing")
CASES = {
    "zforcing": (ZFORCING, zforcing_equations),
    "no auxiliary": (dataclasses.replace(ZFORCING, auxiliary="none"), zforcing_equations),
    "auxiliary sees the state": (dataclasses.replace(ZFORCING, auxiliary="latent_and_state"), zforcing_equations),
    "squared error": (dataclasses.replace(ZFORCING, auxiliary_cost="squared_error"), zforcing_equations),
    "backward reconstruction": (dataclasses.replace(ZFORCING, backward_reconstruction=True), zforcing_equations),
    "conditional layer norm": (dataclasses.replace(ZFORCING, conditional_layer_norm=True), zforcing_equations),
    "no floor": (dataclasses.replace(ZFORCING, min_deviation=0.0), zforcing_equations),
    "vrnn": (tiny("vrnn"), vrnn_equations),
    "srnn": (tiny("srnn"), srnn_equations),
    "srnn without residual": (tiny("srnn", residual_posterior=False), srnn_equations),
    "filtering srnn": (tiny("srnn", smoothing=False), srnn_equations),
}
EQUATIONS = {"zforcing": zforcing_equations, "vrnn": vrnn_equations, "srnn": srnn_equations}
OTHER_FRAMES: dict[str, dict[str, Any]] = {
    "pixels": {"likelihood": "bernoulli"},
    "words": {"likelihood": "categorical", "encoder": "lookup"},
}
CASES |= {
    f"{name}, {of}": (tiny(name, **OTHER_FRAMES[of]), EQUATIONS[name]) for name in EQUATIONS for of in OTHER_FRAMES
}
CASES |= {
    f"backward reconstruction, {of}": (tiny("zforcing", backward_reconstruction=True, **settings), zforcing_equations)
    for of, settings in OTHER_FRAMES.items()
}


@pytest.mark.parametrize(("config", "equations"), CASES.values(), ids=CASES.keys())
def test_terms_are_those_of_the_equations(config, equations):
    model = build(config)
    frames, lengths, noise = sequences(6, 4, model=model)
    terms = model(frames, lengths, noise=noise)
    for row, length in enumerate(lengths.tolist()):
        expected = equations.score_sequence(model, frames[row, :length].numpy(), noise[row, : length - 1].numpy())
        for name, values in expected.items():
            ours = getattr(terms, name)
            if len(values):
                np.testing.assert_allclose(ours[row, : length - 1].detach().numpy(), values, rtol=1e-10)
            else:
                assert ours is None


@pytest.mark.parametrize("settings", [{}, *OTHER_FRAMES.values()], ids=["recordings", *OTHER_FRAMES])
def test_an_rnns_terms_are_those_of_its_equations(settings):
    """h_t = LSTM(embed(x_t), h_{t-1}), p(x_{t+1} | h_t)."""
    model = build(tiny("rnn", **settings))
    frames, lengths, noise = sequences(6, model=model)
    terms = model(frames, lengths, noise=noise_for(model, noise))
    w, h, c, expected = weights_of(model), np.zeros(5), np.zeros(5), []
    for x, following in zip(frames[0, :-1].numpy(), frames[0, 1:].numpy(), strict=True):
        h, c = torch_lstm(w, "lstm", embed(w, x), h, c)
        expected.append(log_output(w, "output.linear", h, following, model.config))
    np.testing.assert_allclose(terms.log_likelihood[0].detach().numpy(), expected, rtol=1e-10)
