"""How near the values and gradients of two ways of computing must be."""

from collections.abc import Sequence

import pytest
import torch
from hypothesis import strategies as st
from torch import Tensor, nn

TOLERANCE = {torch.float64: {"rtol": 1e-10, "atol": 1e-10}, torch.float32: {"rtol": 1e-4, "atol": 1e-5}}

sizes = st.integers(1, 20)
dtypes = pytest.mark.parametrize("dtype", TOLERANCE, ids=str)


def shaken(module: nn.Module, dtype: torch.dtype) -> nn.Module:
    """The module with weights far from their start: no bias zero, some clamps reached."""
    module = module.to(dtype)
    for parameter in module.parameters():
        parameter.data.add_(0.4 * torch.randn_like(parameter))
    return module


def values_and_gradients(outputs: Sequence[Tensor], inputs: list[Tensor]) -> list[Tensor]:
    """Outputs, and gradients of a weighted sum of them all."""
    generator = torch.Generator().manual_seed(5)
    weights = [torch.randn(output.shape, generator=generator, dtype=torch.float64).to(output) for output in outputs]
    total = sum((output * weight).sum() for output, weight in zip(outputs, weights, strict=True))
    return [*outputs, *torch.autograd.grad(total, inputs)]


def assert_all_close(ours: list[Tensor], theirs: list[Tensor], dtype: torch.dtype, share: float = 1.0) -> None:
    tolerance = {name: share * value for name, value in TOLERANCE[dtype].items()}
    for one, other in zip(ours, theirs, strict=True):
        scale = other.abs().max().clamp(min=1)  # float32's rounding is that of the largest terms of a sum
        torch.testing.assert_close(one / scale, other / scale, **tolerance)


def relative_errors(values: list[Tensor], truth: list[Tensor]) -> list[float]:
    return [
        float(((one - other).norm() / other.norm().clamp(min=1e-3)).detach())
        for one, other in zip(values, truth, strict=True)
    ]
