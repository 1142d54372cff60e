"""Matrix products with weights, the way that is fastest where the tensors are.

On the CPU in float32 and bfloat16, oneDNN multiplies both large matrices and few rows with a large weight faster than
torch.mm does, and can lay a weight out once for many products (which torch.mm does anew at every call, at a cost that
matters when there are 32 rows). Elsewhere these are torch's own products.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@dataclass(frozen=True)
class Products:
    """Products computed in one precision and given in another; factors may have either. Not differentiable."""

    computed: torch.dtype
    given: torch.dtype

    def __call__(self, rows: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        """rows [n, k] times weight [m, k] transposed, plus bias [m]: [n, m]; any strides."""
        rows, weight = rows.to(self.computed), weight.to(self.computed)
        bias = None if bias is None else bias.to(self.computed)
        if not onednn_applies(rows, weight):
            return F.linear(rows, weight, bias).to(self.given)
        # A weight cut from a wider one would go to oneDNN's reference kernel, a thousand times slower than a copy.
        if weight.stride(1) == 1:
            weight = weight.contiguous()
        elif not weight.t().is_contiguous():
            weight = weight.t().contiguous().t()
        return torch.ops.mkldnn._linear_pointwise(rows, weight, bias, "none", [], "").to(self.given)

    def packed(self, weight: Tensor) -> Callable[[Tensor], Tensor]:
        """A function that multiplies [n, k] by weight [m, k] transposed, the weight laid out once for all its calls.

        On a GPU, where a conversion is a kernel more, its products stay in the precision they are computed in.
        """
        weight = weight.to(self.computed)
        if weight.is_cuda:
            return lambda rows: rows.to(self.computed) @ weight.t()
        if not onednn_applies(weight):
            return lambda rows: (rows.to(self.computed) @ weight.t()).to(self.given)
        # Not told the number of rows, it chooses a layout twice as fast for 32 of them as when told (oneDNN 3.10).
        laid_out = torch.ops.mkldnn._reorder_linear_weight(weight)
        multiply = torch.ops.mkldnn._linear_pointwise
        return lambda rows: multiply(rows.to(self.computed), laid_out, None, "none", [], "").to(self.given)

    def weight_gradient(self, grad: Tensor, rows: Tensor) -> Tensor:
        """Gradient of a weight [m, k] from those of its products, grad [n, m], and what it multiplied, rows [n, k]."""
        # oneDNN's linear would copy both into another layout, which takes longer than its product gains.
        return (grad.to(self.computed).t() @ rows.to(self.computed)).to(self.given)


def own_products(like: Tensor) -> Products:
    """Products in the precision of `like`."""
    return Products(like.dtype, like.dtype)


def autocast_products(like: Tensor) -> Products:
    """Products computed in autocast's precision where it is on for the device of `like`; given in that of `like`."""
    device = like.device.type
    return Products(
        torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else like.dtype, given=like.dtype
    )


def onednn_applies(*tensors: Tensor) -> bool:
    """Whether these tensors, all of one precision, can be multiplied by oneDNN's kernels."""
    return torch.backends.mkldnn.is_available() and all(
        tensor.device.type == "cpu" and tensor.numel() and _onednn_knows(tensor.dtype) for tensor in tensors
    )


def _onednn_knows(dtype: torch.dtype) -> bool:
    if dtype == torch.bfloat16:
        return torch.ops.mkldnn._is_mkldnn_bf16_supported()
    return dtype == torch.float32


def packed_weight(weight: Tensor) -> Callable[[Tensor], Tensor]:
    """`Products.packed` in autocast's precision where it is on, given in that of the weight."""
    products = autocast_products(weight)
    multiply = products.packed(weight)
    return lambda rows: multiply(rows).to(products.given)


def packed_linear(linear: nn.Linear) -> Callable[[Tensor], Tensor]:
    """The layer [n, in] -> [n, out] with its weights as they are now, laid out once; without gradients.

    Products in autocast's precision where it is on.
    """
    multiply = packed_weight(linear.weight.detach())
    if linear.bias is None:
        return multiply
    bias = linear.bias.detach()
    return lambda rows: multiply(rows).add_(bias)
