"""Products with weights, and embeddings merged with the weight that follows them."""

import torch
from closeness import TOLERANCE, assert_all_close, dtypes, sizes, values_and_gradients
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from zfaudio.ops.products import Products, linear_of_embedding, merging_pays


@dtypes
@given(n=sizes, k=sizes, m=sizes, cut=st.integers(0, 3), seed=st.integers(0, 99))
@settings(max_examples=40)
def test_products_are_right_whatever_the_strides(dtype, n, k, m, cut, seed):
    torch.manual_seed(seed)
    rows, weight = torch.randn(n, k + cut, dtype=dtype)[:, cut:], torch.randn(m, k + cut, dtype=dtype)[:, cut:]
    bias, grad = torch.randn(m, dtype=dtype), torch.randn(m + cut, n, dtype=dtype)[cut:].t()
    products = Products(dtype, dtype)
    pairs = [
        (products.linear(rows, weight, bias), rows @ weight.t() + bias),
        (products.linear(rows, weight.t().contiguous().t()), rows @ weight.t()),
        (products.linear(grad, weight.t()), grad @ weight),
        (products.packed(weight)(rows), rows @ weight.t()),
        (products.packed(weight.t())(grad), grad @ weight),
        (products.weight_gradient(grad, rows), grad.t() @ rows),
    ]
    for ours, expected in pairs:
        torch.testing.assert_close(ours, expected, **TOLERANCE[dtype])


@given(n=sizes, k=sizes, m=sizes, seed=st.integers(0, 99))
@settings(max_examples=40)
def test_products_in_bfloat16_are_those_of_rounded_factors(n, k, m, seed):
    torch.manual_seed(seed)
    rows, weight, bias, grad = torch.randn(n, k), torch.randn(m, k), torch.randn(m), torch.randn(n, m)
    low_rows, low_weight, low_bias, low_grad = (tensor.bfloat16().float() for tensor in (rows, weight, bias, grad))
    products = Products(torch.bfloat16, torch.float32)
    pairs = [
        (products.linear(rows, weight, bias), low_rows @ low_weight.t() + low_bias),
        (products.linear(grad, weight.t()), low_grad @ low_weight),
        (products.packed(weight)(rows), low_rows @ low_weight.t()),
        (products.packed(weight.t())(grad), low_grad @ low_weight),
        (products.weight_gradient(grad, rows), low_grad.t() @ low_rows),
    ]
    for ours, expected in pairs:
        assert ours.dtype == torch.float32
        torch.testing.assert_close(ours, expected, rtol=2**-8, atol=1e-4)  # the result is rounded once


@given(batch=sizes, steps=sizes, samples=sizes, units=sizes, gates=sizes, seed=st.integers(0, 99))
@settings(max_examples=40)
def test_an_embedding_and_its_weight_are_the_same_merged_or_apart(batch, steps, samples, units, gates, seed):
    torch.manual_seed(seed)
    embed, layer = nn.Linear(samples, units).double(), nn.Linear(units, gates).double()
    frames = torch.randn(batch, steps, samples, dtype=torch.float64, requires_grad=True)
    inputs = [frames, *embed.parameters(), *layer.parameters()]
    ours = values_and_gradients((linear_of_embedding(frames, embed, layer.weight, layer.bias),), inputs)
    assert_all_close(ours, values_and_gradients((layer(embed(frames)),), inputs), torch.float64)


def test_an_embedding_is_merged_where_that_saves_multiplications():
    published = nn.Linear(200, 512)
    assert merging_pays(1280, published)
    assert not merging_pays(40, published)
    assert merging_pays(10_000, nn.Linear(300, 512), frames_need_gradient=True)
    assert not merging_pays(10**9, nn.Linear(512, 512), frames_need_gradient=True)
    assert not merging_pays(10**9, nn.Linear(200, 128))
