"""The undocumented functions of torch against the fallbacks for versions and processors without them."""

from collections.abc import Callable, Iterator

import pytest
import torch
from closeness import TOLERANCE, assert_all_close, sizes, values_and_gradients
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_models import build, sequences, tiny
from torch import Tensor

from zfaudio.ops import torch_private
from zfaudio.ops.products import Products

PRIVATE = (
    "_ONEDNN_LINEAR",
    "_ONEDNN_LAYOUT",
    "_ONEDNN_CONVOLUTION",
    "_ONEDNN_CONVOLUTION_LAYOUT",
    "_SIGMOID_BACKWARD",
    "_TANH_BACKWARD",
    "_LEAKY_RELU_BACKWARD",
)


@pytest.fixture
def without_private(monkeypatch) -> Iterator[Callable[[], None]]:
    """A function that takes the undocumented functions away until the end of the test."""

    def remove() -> None:
        for name in PRIVATE:
            monkeypatch.setattr(torch_private, name, None)
        torch_private.onednn_multiplies.cache_clear()
        torch_private.convolution_is_faster.cache_clear()

    yield remove
    torch_private.onednn_multiplies.cache_clear()
    torch_private.convolution_is_faster.cache_clear()


def test_this_torch_has_the_private_functions():
    """Where this fails, the fallbacks still compute, only more slowly: look for the functions' new names."""
    assert [name for name in PRIVATE if getattr(torch_private, name) is None] == []


@pytest.mark.parametrize("given", [torch.float32, torch.bfloat16], ids=str)
def test_products_are_the_same_without_onednn(without_private, given):
    torch.manual_seed(0)
    rows, weight, bias = torch.randn(6, 20), torch.randn(9, 24)[:, 2:22], torch.randn(9)

    def outcome() -> list[Tensor]:
        products = Products(given, torch.float32)
        linear, packed = products.linear(rows, weight, bias), products.packed(weight)
        return [linear, packed(rows), products.packed(weight.t())(bias[None])]

    ours = outcome()
    without_private()
    assert not torch_private.onednn_applies(rows, weight)
    tolerance = {"rtol": 2**-7, "atol": 1e-4} if given == torch.bfloat16 else {"rtol": 1e-5, "atol": 1e-5}
    for private, fallback in zip(ours, outcome(), strict=True):
        torch.testing.assert_close(private, fallback, **tolerance)


def test_a_processor_that_cannot_run_onednn_takes_the_fallback(without_private, monkeypatch):
    without_private()

    def fail(*_):
        raise RuntimeError("could not create a primitive descriptor")

    monkeypatch.setattr(torch_private, "_ONEDNN_LINEAR", fail)
    monkeypatch.setattr(torch_private, "_ONEDNN_LAYOUT", lambda weight: weight)
    rows, weight = torch.randn(2, 3), torch.randn(4, 3)
    assert not torch_private.onednn_applies(rows)
    torch.testing.assert_close(torch_private.linear(rows, weight), rows @ weight.t())
    torch.testing.assert_close(torch_private.packed_product(weight)(rows), rows @ weight.t())


@given(n=sizes, k=sizes, m=sizes, cut=st.integers(0, 3), seed=st.integers(0, 99))
@settings(max_examples=40)
def test_products_by_a_convolution_are_those_of_a_linear_layer(n, k, m, cut, seed):
    """As on a processor without AVX-512, whatever the strides and for changing numbers of rows."""
    torch.manual_seed(seed)
    rows, weight = torch.randn(n, k + cut)[:, cut:], torch.randn(m, k + cut)[:, cut:]
    grad = torch.randn(m + cut, n)[cut:].t()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch_private, "convolution_is_faster", lambda: True)
        multiply, multiply_transposed = torch_private.packed_product(weight), torch_private.packed_product(weight.t())
    for chosen in (rows, rows[:1], rows.repeat(3, 1)):
        torch.testing.assert_close(multiply(chosen), chosen @ weight.t(), **TOLERANCE[torch.float32])
    torch.testing.assert_close(multiply_transposed(grad), grad @ weight, **TOLERANCE[torch.float32])


def leaky_relu(values: Tensor) -> Tensor:
    return torch.where(values > 0, values, 0.3 * values)


def leaky_relu_backward(grad: Tensor, activation: Tensor, out: Tensor) -> None:
    torch_private.leaky_relu_backward(grad, activation, 0.3, out)


@pytest.mark.parametrize(
    ("backward", "activate"),
    [
        (torch_private.sigmoid_backward, torch.sigmoid),
        (torch_private.tanh_backward, torch.tanh),
        (leaky_relu_backward, leaky_relu),
    ],
    ids=["sigmoid", "tanh", "leaky_relu"],
)
@pytest.mark.parametrize("private", [True, False])
def test_gradients_of_activations_are_autograds(without_private, backward, activate, private):
    torch.manual_seed(0)
    if not private:
        without_private()
    values = torch.randn(5, 8, dtype=torch.float64, requires_grad=True)
    activation, grad = activate(values), torch.randn(5, 8, dtype=torch.float64)
    (expected,) = torch.autograd.grad(activation, values, grad)
    out = torch.empty(5, 16, dtype=torch.float64)[:, ::2]
    backward(grad, activation.detach(), out=out)
    torch.testing.assert_close(out, expected)


@pytest.mark.parametrize("name", ["zforcing", "srnn"])
def test_a_model_has_the_same_terms_and_gradients_without_private_functions(without_private, name):
    model, (frames, lengths, noise) = build(tiny(name)).float(), sequences(6, 4)

    def outcome() -> list[Tensor]:
        terms = model(frames.float(), lengths, None, noise.float())
        values = [terms.log_likelihood, terms.kl, terms.log_auxiliary]
        return values_and_gradients([value for value in values if value is not None], list(model.parameters()))

    ours = outcome()
    without_private()
    assert_all_close(ours, outcome(), torch.float32)
