"""nn.Linear with oneDNN's products: that it computes what nn.Linear does."""

import pytest
import torch
from torch import Tensor, nn

from zfaudio.ops import torch_private
from zfaudio.ops.linear import FEWEST_ROWS, Linear


def pair(dtype: torch.dtype = torch.float32, bias: bool = True) -> tuple[nn.Linear, nn.Linear]:
    torch.manual_seed(0)
    ours, theirs = Linear(7, 5, bias=bias).to(dtype), nn.Linear(7, 5, bias=bias).to(dtype)
    theirs.load_state_dict(ours.state_dict())
    return ours, theirs


def outcome(layer: nn.Linear, values: Tensor) -> list[Tensor]:
    """Products, and the gradients of a weighted sum of them."""
    products = layer(values)
    weights = torch.linspace(-1, 1, products.numel(), dtype=products.dtype).view_as(products)
    return [products, *torch.autograd.grad((weights * products).sum(), [values, *layer.parameters()])]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(3, 40), (2, 3, 11), (3,), (0,), (FEWEST_ROWS,)], ids=str)
def test_products_and_gradients_are_those_of_nn_linear(shape, bias, dtype):
    values = torch.randn(*shape, 7, dtype=dtype).requires_grad_()
    for ours, theirs in zip(*(outcome(layer, values) for layer in pair(dtype, bias)), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)


def test_values_need_no_order_in_memory():
    values = torch.randn(9, 90, 1).expand(9, 90, 14)[..., ::2].transpose(0, 1)
    ours, theirs = (layer(values) for layer in pair())
    torch.testing.assert_close(ours, theirs)


def test_values_without_a_gradient_get_none():
    ours, _ = pair()
    values = torch.randn(100, 7)
    ours(values).sum().backward()
    assert values.grad is None
    assert ours.weight.grad is not None


def test_autocast_computes_as_torch_does():
    ours, theirs = pair()
    values = torch.randn(100, 7)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(ours(values), theirs(values))


def test_few_rows_are_left_to_torch(monkeypatch):
    rows = []
    onednn = torch_private.linear
    monkeypatch.setattr(torch_private, "linear", lambda *tensors: rows.append(len(tensors[0])) or onednn(*tensors))
    monkeypatch.setattr(torch_private, "onednn_applies", lambda *tensors: tensors[0].dtype == torch.float32)
    for count in (FEWEST_ROWS - 1, FEWEST_ROWS):
        pair()[0](torch.randn(count, 7))
    assert rows == [FEWEST_ROWS]
