"""How close the values and gradients of two ways to compute the same must be."""

from collections.abc import Sequence

import pytest
import torch
from hypothesis import strategies as st
from torch import Tensor, nn

TOLERANCE = {torch.float64: {"rtol": 1e-10, "atol": 1e-10}, torch.float32: {"rtol": 1e-4, "atol": 1e-5}}

sizes = st.integers(1, 20)
dtypes = pytest.mark.parametrize("dtype", TOLERANCE, ids=str)


def shaken(module: nn.Module, dtype: torch.dtype) -> nn.Module:
    """The module with weights far from their initial values: no bias is zero, and some values are clamped."""
    module = module.to(dtype)
    for parameter in module.parameters():
        parameter.data.add_(0.4 * torch.randn_like(parameter))
    return module


def values_and_gradients(outputs: Sequence[Tensor], inputs: list[Tensor]) -> list[Tensor]:
    """The outputs, and the gradients of a weighted sum of all of them."""
    generator = torch.Generator().manual_seed(5)
    weights = [torch.randn(output.shape, generator=generator, dtype=torch.float64).to(output) for output in outputs]
    total = sum((output * weight).sum() for output, weight in zip(outputs, weights, strict=True))
    return [*outputs, *torch.autograd.grad(total, inputs)]


def assert_all_close(ours: list[Tensor], theirs: list[Tensor], dtype: torch.dtype, share: float = 1.0) -> None:
    tolerance = {name: share * value for name, value in TOLERANCE[dtype].items()}
    for our, their in zip(ours, theirs, strict=True):
        scale = their.abs().max().clamp(min=1)  # a sum is rounded relative to its largest terms
        torch.testing.assert_close(our / scale, their / scale, **tolerance)


def relative_errors(values: list[Tensor], truth: list[Tensor]) -> list[float]:
    return [
        float(((value - expected).norm() / expected.norm().clamp(min=1e-3)).detach())
        for value, expected in zip(values, truth, strict=True)
    ]
