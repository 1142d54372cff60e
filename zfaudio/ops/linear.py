"""nn.Linear whose products oneDNN computes in training and scoring on a CPU too.

torch multiplies float32 matrices by MKL, which leaves half of an AMD processor with AVX-512 unused. There oneDNN is
more than twice as fast: 220 GFLOP/s instead of 100 on one core of an EPYC of the Zen 5 generation.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from zfaudio.ops import torch_private

FEWEST_ROWS = 64  # with fewer, oneDNN spends its time on the layout of the weight


class Linear(nn.Linear):
    """nn.Linear."""

    def forward(self, values: Tensor) -> Tensor:
        """[..., in] -> [..., out]."""
        return linear(values, self.weight, self.bias)


def linear(values: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """F.linear: values [..., in], weight [out, in] and bias [out] -> [..., out]."""
    few = values.numel() < FEWEST_ROWS * values.shape[-1]
    float32 = values.dtype == weight.dtype == torch.float32 and not torch.is_autocast_enabled("cpu")
    if few or not float32 or not torch_private.onednn_applies(weight):
        return F.linear(values, weight, bias)
    rows: Tensor = _Linear.apply(values.flatten(0, -2), weight, bias)  # type: ignore[no-untyped-call]
    products: Tensor = rows.unflatten(0, values.shape[:-1])
    return products


class _Linear(torch.autograd.Function):
    """The three products of a layer: of rows [n, in], a weight [out, in] and a bias [out]."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """[n, out]."""
        ctx.save_for_backward(rows, weight)
        return torch_private.linear(rows, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of the arguments of `forward`, from that of its result, [n, out]."""
        rows, weight = ctx.saved_tensors
        of_rows, of_weight, of_bias = ctx.needs_input_grad
        return (
            torch_private.linear(grad, weight.t()) if of_rows else None,
            torch_private.linear(grad.t(), rows.t()) if of_weight else None,
            grad.sum(0) if of_bias else None,
        )
