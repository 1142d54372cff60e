"""Matrix products with weights, the way that is fastest where the tensors are.

On the CPU in float32, oneDNN multiplies both large matrices and few rows with a large weight faster than torch.mm's
BLAS does, and can lay a weight out once for many products (which BLAS does anew at every call, at a cost that matters
when there are 32 rows). Elsewhere these are torch's own products.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def onednn_applies(*tensors: Tensor) -> bool:
    """Whether these tensors can be multiplied by oneDNN's float32 kernels."""
    return torch.backends.mkldnn.is_available() and all(
        tensor.device.type == "cpu" and tensor.dtype == torch.float32 and tensor.numel() for tensor in tensors
    )


def product(rows: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """rows [n, k] times weight [m, k] transposed, plus bias [m]: [n, m]. Not differentiable; any strides."""
    if onednn_applies(rows, weight):
        # A weight cut from a wider one would go to oneDNN's reference kernel, a thousand times slower than a copy.
        if weight.stride(1) == 1:
            weight = weight.contiguous()
        elif not weight.t().is_contiguous():
            weight = weight.t().contiguous().t()
        return torch.ops.mkldnn._linear_pointwise(rows, weight, bias, "none", [], "")
    return F.linear(rows, weight, bias)


def packed_product(weight: Tensor) -> Callable[[Tensor], Tensor]:
    """A function that multiplies [n, k] by weight [m, k] transposed, the weight laid out once for all its calls."""
    if not onednn_applies(weight):
        return lambda values: values @ weight.t()
    # Not told the number of rows, it chooses a layout twice as fast for 32 of them as when told (oneDNN 3.10).
    packed = torch.ops.mkldnn._reorder_linear_weight(weight)
    return lambda values: torch.ops.mkldnn._linear_pointwise(values, packed, None, "none", [], "")


def packed_linear(linear: nn.Linear) -> Callable[[Tensor], Tensor]:
    """The layer [n, in] -> [n, out] with its weights as they are now, laid out once; without gradients."""
    multiply, bias = packed_product(linear.weight.detach()), linear.bias.detach()
    return lambda values: multiply(values).add_(bias)


def weight_gradient(grad: Tensor, rows: Tensor) -> Tensor:
    """Gradient of a weight [m, k] from those of its products, grad [n, m], and what it multiplied, rows [n, k]."""
    return product(grad.t(), rows.t())
